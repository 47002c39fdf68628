/**
 * Extended attributes of what is in a copy-on-write view, and of what is under it: xattr(7).
 *
 * @module
 */

import { attributeCall, attributeNames, attributes, type BytePath, pathArgument } from "../machine/files.ts";
import type { Bytes, Step } from "../plan/step.ts";

/** Attributes of a file by their names. */
export type Attributes = ReadonlyMap<BytePath, Uint8Array<ArrayBuffer>>;

const OPTION = "ephemeral";
/** Those that are the overlay's own. */
const OVERLAYS = /^(trusted|user)\.overlay\./;
/** Those that somebody has set: others, such as labels, the system gives to whatever is made. */
const SET_ON_PURPOSE = /^(user\.|trusted\.|security\.capability$|system\.posix_acl_)/;
/** XATTR_SIZE_MAX of linux/limits.h. */
const VALUE_SIZE = 1 << 16;

/** The attributes of files, but for the overlay's: see {@linkcode attributeCall} for which they are. */
export function attributesOf(from: number, places: readonly BytePath[]): readonly Attributes[] {
  return attributeNames(from, places, OPTION).map((names, index) => {
    const found = new Map<BytePath, Uint8Array<ArrayBuffer>>();
    for (const name of names) {
      if (OVERLAYS.test(name)) continue;
      const [value] = attributes(from, [places[index]!], name, VALUE_SIZE, OPTION);
      if (value !== undefined) found.set(name, value.slice());
    }
    return found;
  });
}

/** Those that somebody has set. */
export function setOnPurpose(attributes: Attributes): Attributes {
  return new Map([...attributes].filter(([name]) => SET_ON_PURPOSE.test(name)));
}

/** Whether what somebody has set is the same. */
export function isSameAttributes(now: Attributes, before: Attributes): boolean {
  const [is, was] = [setOnPurpose(now), setOnPurpose(before)];
  return [...new Set([...is.keys(), ...was.keys()])].every((name) => {
    const [value, previous] = [is.get(name), was.get(name)];
    return value?.length === previous?.length && value?.every((byte, index) => byte === previous![index]) === true;
  });
}

/** What gives an open file attributes, and takes away what it has and is not to have of those that somebody sets. */
export function setAttributes(
  file: number,
  wanted: Attributes,
  why: Pick<Step, "what" | "option">,
  present: Attributes = new Map(),
): readonly Step[] {
  const surplus = [...setOnPurpose(present).keys()].filter((name) => !wanted.has(name));
  const { call: remove, path } = attributeCall("removexattr", file, "");
  const { call: set } = attributeCall("setxattr", file, "");
  return [
    ...surplus.map((name): Step => ({ call: remove, args: [path, pathArgument(name)], ...why })),
    ...[...wanted].map(([name, value]): Step => {
      const bytes: Bytes = { bytes: value, name: `<${value.length} bytes>` };
      const step: Step = { call: set, args: [path, pathArgument(name), bytes, value.length, 0], ...why };
      // What a system has given a file of its own accord, such as "btrfs.compression", another may know nothing of.
      return SET_ON_PURPOSE.test(name) ? step : { ...step, tolerate: [["EOPNOTSUPP", 0]] };
    }),
  ];
}
