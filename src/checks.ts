/**
 * One check each: what is wrong with a value is said with the option's name and what it should be.
 *
 * @module
 */

import { nearest } from "./nearest.ts";
import { quoted, visible } from "./quoted.ts";

/** The user and group ids that there are; 2^32 - 1 means "no id" to the kernel. */
export const ID_MAX = 0xffff_fffe;

/**
 * Refuses names that are not among the known ones, with the nearest of those.
 *
 * @param prefix What comes before the name in the message, such as `"privateTmp."`.
 * @throws {TypeError} When `given` is no object or a name in it is not known.
 */
export function checkNames(given: object, known: readonly string[], prefix: string): void {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new TypeError(`Options must be an object: got ${shown(given)}`);
  }
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    const guess = nearest(name, known);
    const hint = guess === undefined ? `known are ${known.join(", ")}` : `did you mean "${prefix}${guess}"?`;
    throw new TypeError(`Unknown option "${prefix}${visible(name)}": ${hint}`);
  }
}

/**
 * Refuses strings that the kernel would cut short at a NUL, or that would be others in UTF-8.
 *
 * @throws {TypeError} When `value` is no string, or has a NUL or half a surrogate pair in it.
 */
export function text(value: unknown, name: string): string {
  if (typeof value !== "string") throw wrongType(name, "a string", value);
  if (value.includes("\0")) {
    throw new TypeError(`Option "${name}" must not contain a NUL character: got ${shown(value)}`);
  }
  if (!value.isWellFormed()) {
    throw new TypeError(`Option "${name}" must not contain half a surrogate pair: got ${shown(value)}`);
  }
  return value;
}

/**
 * Refuses what is no user or group id.
 *
 * @throws {TypeError} When `value` is no number.
 * @throws {RangeError} When it is no integer from 0 to 2^32 - 2.
 */
export function id(value: unknown, name: string): number {
  return integer(value, name, 0, ID_MAX, "an id");
}

/**
 * Refuses what is no integer in a range.
 *
 * @param what What the number is, in the message.
 * @throws {TypeError} When `value` is no number.
 * @throws {RangeError} When it is no integer from `least` to `most`.
 */
export function integer(value: unknown, name: string, least: number, most: number, what: string): number {
  if (typeof value !== "number") throw wrongType(name, `a number (${what})`, value);
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`Option "${name}" must be an integer from ${least} to ${most} (${what}): got ${value}`);
  }
  return value;
}

/** Refuses what is no boolean; `undefined` is none that was given. */
export function optionalBoolean(value: unknown, name: string): boolean | undefined {
  if (value === undefined || typeof value === "boolean") return value;
  throw wrongType(name, "true or false", value);
}

/** Permissions as octal digits. */
export function octal(value: unknown, name: string): string {
  if (typeof value === "string" && /^0?[0-7]{1,4}$/.test(value)) return value;
  if (typeof value === "string") {
    throw new RangeError(`Option "${name}" must be one to four octal digits such as "1777": got ${shown(value)}`);
  }
  return integer(value, name, 0, 0o7777, "permissions, such as 0o1777").toString(8);
}

const UNITS: Readonly<Record<string, number>> = {
  k: 2 ** 10,
  m: 2 ** 20,
  g: 2 ** 30,
  t: 2 ** 40,
  "%": 2 ** 40, // Of the memory: the kernel multiplies that.
};

/** What a number with a unit behind it comes to. Above Number.MAX_SAFE_INTEGER the kernel's 64 bits could overflow. */
export function scaled(value: string): number {
  return Number.parseInt(value) * (UNITS[value.at(-1)!.toLowerCase()] ?? 1);
}

/** A positive number, or a string of one with a unit. */
export function amount(value: unknown, name: string, pattern: RegExp, example: string): string {
  if (typeof value === "number") return String(integer(value, name, 1, Number.MAX_SAFE_INTEGER, "an amount"));
  if (typeof value !== "string") throw wrongType(name, `a number or a string such as ${example}`, value);
  if (!pattern.test(value) || scaled(value) > Number.MAX_SAFE_INTEGER) {
    throw new RangeError(
      `Option "${name}" must be a positive number or a string such as ${example}, below 2^53: got ${shown(value)}`,
    );
  }
  return value;
}

/** Refuses what is not among the words that there are. */
export function oneOf<T extends string>(value: unknown, name: string, known: readonly T[]): T {
  const found = known.find((one) => one === value);
  if (found !== undefined) return found;
  const guess = typeof value === "string" ? nearest(value, known) : undefined;
  const hint = guess === undefined ? "" : `, did you mean "${guess}"?`;
  throw new TypeError(`Option "${name}" must be one of ${listed(known)}: got ${shown(value)}${hint}`);
}

/** A dozen words at most. */
function listed(words: readonly string[]): string {
  const some = words.slice(0, words.length > 12 ? 3 : undefined).map((word) => `"${word}"`).join(", ");
  return words.length > 12 ? `${some} and ${words.length - 3} others` : some;
}

/** Refuses what is no object. */
// deno-lint-ignore no-explicit-any -- what is inside is checked name by name.
export function object(value: unknown, name: string, expected: string): any {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw wrongType(name, expected, value);
}

/**
 * Refuses what is no name of a variable of an environment.
 *
 * @throws {TypeError} When it is no string, empty, or has a "=" or a NUL in it.
 */
export function variable(name: unknown, option: string): string {
  const given = text(name, option);
  if (given !== "" && !given.includes("=")) return given;
  throw new TypeError(`Option "${option}" has a name that cannot be: ${shown(given)} is empty or has a "=" in it`);
}

/**
 * Variables of an environment, by their names.
 *
 * @throws {TypeError} When a name or a value cannot be.
 */
export function variables(value: unknown, option: string): ReadonlyMap<string, string> {
  const given = object(value ?? {}, option, `an object such as { LANG: "C" }`);
  return new Map(
    Object.entries(given).map(([name, value]) => [variable(name, option), text(value, `${option}.${name}`)]),
  );
}

/** The error about a value of the wrong type. */
export function wrongType(name: string, expected: string, value: unknown): TypeError {
  return new TypeError(`Option "${name}" must be ${expected}: got ${shown(value)}`);
}

/** A value as messages show it. */
export function shown(value: unknown): string {
  if (typeof value === "string") return quoted(value);
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" && value !== null ? "an object" : String(value);
}
