/**
 * Options at random, the same for the same seed.
 *
 * @module
 */

import type { CommandOptions, NamespaceOptions } from "../../mod.ts";

/** The next number, from 0 to less than 1. */
export type Random = () => number;

/** Numbers that look random, by the generator mulberry32. */
export function seeded(seed: number): Random {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function oneOf<T>(random: Random, choices: readonly T[]): T {
  return choices[Math.floor(random() * choices.length)]!;
}

/** Each is chosen with its own probability; what is undefined is left out. */
function some<T extends object>(random: Random, choices: { readonly [Key in keyof T]: readonly T[Key][] }): T {
  const chosen: Partial<T> = {};
  for (const key of Object.keys(choices) as (keyof T)[]) {
    if (random() < 0.4) chosen[key] = oneOf(random, choices[key]);
  }
  return chosen as T;
}

const NAMES = ["a", "box", "example.org", "x".repeat(63)];
const MAPS = {
  uidMap: [{ inside: 0, outside: 0, count: 3 }, { inside: 9, outside: 65534 }],
  gidMap: [{ inside: 0, outside: 0 }, { inside: 9, outside: 65534 }],
};

/** Options that contradict each other in no way. */
export function randomOptions(random: Random): NamespaceOptions {
  const options: NamespaceOptions = some<NamespaceOptions>(random, {
    privateMount: [true],
    privateTmp: [true, { size: "1m" }, { mode: 0, nrInodes: 5 }, { uid: 1, gid: 2, huge: "advise" }],
    privatePid: [true],
    privateNet: [true],
    privateIpc: [true],
    privateUser: [true, false, "self", { uid: 3 }, { gid: 4 }, MAPS],
    privateUts: [true],
    hostname: NAMES,
    domainname: NAMES,
    privateSysvsem: [true],
    privateCgroup: [true],
    privateTime: [true, { monotonic: 5 }, { boottime: -1.5 }, { monotonic: 0.000000001, boottime: 4_611_686_018 }],
    termChild: [false],
    termGraceMs: [0, 5],
  });
  if (options.privatePid === true && random() < 0.3) options.noProc = true;
  if (random() < 0.2) options.init = true;
  return options;
}

/** A command with options. */
export function randomCommand(random: Random): [string, CommandOptions] {
  const stdio = ["inherit", "null", "piped"] as const;
  const options = some<CommandOptions>(random, {
    args: [["a"], ["", "ü", "x".repeat(200)]],
    cwd: ["/", "/tmp", "relative"],
    env: [{}, { PATH: "/a:/b:/c" }, { PATH: "" }, { A: "ü" }],
    uid: [0, 1, 65534],
    gid: [0, 1, 65534],
    stdin: stdio,
    stdout: stdio,
    stderr: stdio,
    argv0: ["", "other"],
  });
  return [oneOf(random, ["/bin/true", "true", "", "./here"]), options];
}
