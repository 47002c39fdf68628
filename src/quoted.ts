/**
 * Texts in quotation marks, as messages show what others have chosen.
 *
 * @module
 */

/** What moves a cursor, turns the direction of writing, or shows as nothing: C1 controls, and format characters. */
const UNSEEN = /[\x7f-\x9f\p{Cf}\p{Zl}\p{Zp}]/gu;

/** A text with whatever a terminal could be misled by replaced, such as an escape by `\\u001b`. */
export function visible(text: string): string {
  return text.replaceAll(/[^\P{Cc}\t\n]/gu, escaped).replaceAll(UNSEEN, escaped);
}

function escaped(character: string): string {
  return character.split("").map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join("");
}

/** A text as JSON has it, with nothing in it that a terminal could be misled by. */
export function quoted(text: string): string {
  return JSON.stringify(text).replaceAll(UNSEEN, escaped);
}

/** Whether a text is shown as it is, without quotation marks. */
export function isPlain(text: string): boolean {
  return `"${text}"` === quoted(text) && !text.includes("\ufffd");
}
