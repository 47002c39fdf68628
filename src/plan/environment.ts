/**
 * Environments as blocks: strings `NAME=value`, each with a NUL at its end, one after the other. Bytes that are no UTF-8
 * pass through untouched.
 *
 * @module
 */

const utf8 = new TextEncoder();
const EQUALS = "=".charCodeAt(0);

type Changes = ReadonlyMap<string, string | undefined>;

/** What was last made of an environment: a program that runs one command again and again plans it once. */
const last = new WeakMap<Uint8Array, { readonly changes: Changes; readonly merged: Uint8Array }>();

/**
 * An environment with some variables set anew, or left out where they are undefined, over what is inherited. The same block
 * as before for the same changes.
 */
export function mergeEnvironment(inherited: Uint8Array, changes: Changes): Uint8Array {
  if (changes.size === 0) return inherited;
  const known = last.get(inherited);
  if (known !== undefined && isSame(known.changes, changes)) return known.merged;
  const merged = mergeNew(inherited, changes);
  last.set(inherited, { changes: new Map(changes), merged });
  return merged;
}

/** In another order they make another block. */
function isSame(a: Changes, b: Changes): boolean {
  if (a.size !== b.size) return false;
  const others = b.entries();
  for (const [name, value] of a) {
    const [other, otherValue] = others.next().value!;
    if (name !== other || value !== otherValue) return false;
  }
  return true;
}

function mergeNew(inherited: Uint8Array, changes: Changes): Uint8Array {
  const decoder = new TextDecoder();
  const parts: Uint8Array[] = [];
  for (let start = 0; start < inherited.length;) {
    const end = inherited.indexOf(0, start) + 1;
    const entry = inherited.subarray(start, end);
    const equals = entry.indexOf(EQUALS);
    if (equals < 0 || !changes.has(decoder.decode(entry.subarray(0, equals)))) parts.push(entry);
    start = end;
  }
  for (const [name, value] of changes) if (value !== undefined) parts.push(utf8.encode(`${name}=${value}\0`));
  const merged = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    merged.set(part, at);
    at += part.length;
  }
  return merged;
}
