/**
 * A plan before it is encoded: system calls in order, with the reason for each.
 *
 * @module
 */

import type { Architecture, SyscallName } from "../abi/syscalls.ts";

/** A number with the name that a person knows it by, such as `MS_REC|MS_PRIVATE`. */
export interface Named {
  readonly value: number;
  readonly name: string;
}

/** Bytes that a call reads or writes, with what a person is shown in their place. */
export interface Bytes {
  readonly bytes: Uint8Array;
  readonly name: string;
  /** Where in them is what is known only when the plan runs. */
  readonly slots?: readonly Slot[];
  /** Whether what a call leaves in them is to be had: for steps that are executed in the calling thread. */
  readonly filled?: true;
}

/** A place for an id of who runs the plan: {@linkcode SLOT_SIZE} bytes. */
export interface Slot {
  readonly kind: "uid" | "gid";
  readonly at: number;
}

/** As long as an id in decimal can be: `id_text_size` of shim/plan.zig. */
export const SLOT_SIZE = 10;

/** The path of the current folder of who runs the plan, known only then. */
export interface CallerFolder {
  readonly callerFolder: true;
}

/** The path of the command's terminal in /dev/pts outside, known only when the plan runs. */
export interface TerminalFile {
  readonly terminalFile: true;
}

/** A NULL-terminated array of strings: argv or envp. */
export interface Strings {
  /** Strings, or one block in which each string ends with a NUL. */
  readonly strings: readonly (string | ChildPid)[] | Uint8Array;
}

/** The child's pid in decimal, known only when the plan runs. */
export interface ChildPid {
  readonly childPid: true;
}

/** A `struct sock_fprog`: a program that the kernel runs on every system call, as its records. */
export interface FilterProgram {
  filter(architecture: Architecture): Uint8Array;
}

/** A place in bytes that calls read or write. */
export interface PartOf {
  readonly in: Bytes;
  readonly at: number;
}

/** What an earlier step of the same section returned. */
export interface ResultOf {
  readonly resultOf: Step;
}

/** The path of the child's folder in /proc, known only when the plan runs. */
export interface ChildFolder {
  readonly childFolder: true;
}

/** One of the two words of the handshake between parent and child: `Words` in shim/plan.zig. */
export interface Word {
  readonly word: "parent" | "go";
}

/** An argument of a system call. Strings are passed as NUL-terminated UTF-8, `null` as 0. */
export type Argument =
  | number
  | string
  | null
  | Named
  | Bytes
  | PartOf
  | Strings
  | ResultOf
  | ChildFolder
  | CallerFolder
  | TerminalFile
  | FilterProgram
  | Word;

/** One system call. */
export interface Step {
  readonly call: SyscallName;
  readonly args: readonly Argument[];
  /** What it does, in words that can follow "Cannot": `mount proc at "/proc"`. */
  readonly what: string;
  /** The option that asked for it, where one did. */
  readonly option?: string | undefined;
  /** Errnos that are no failure, and how many of the following steps to leave out then. */
  readonly tolerate?: readonly (readonly [errno: string, skip: number])[];
  /** An errno after which it is made again, up to 128 times: the call tells so of a race elsewhere on the system. */
  readonly again?: string | undefined;
  /** How many of the following steps to leave out when it succeeds. */
  readonly skip?: number;
  /** Where what it returns is put when it succeeds, as an int: a later call reads it there. It has five arguments at most. */
  readonly stores?: PartOf;
  /**
   * Whether it is a clone(2) that makes a helper, for a program that is done when the plan goes on: the next
   * {@linkcode skip} steps are the helper's, the last of which execute it. What it returns is 0 where the program has
   * ended well, and otherwise EPERM.
   */
  readonly helper?: boolean;
  /** Whether it returns a file descriptor that is not needed after the section, which then closes it. */
  readonly opens?: boolean;
}

/** What is to be done: by the parent, and by the child that it clones. */
export interface Plan {
  /** What the parent does before it clones the child, for who tells of it: it is executed by itself. */
  readonly before?: readonly Step[];
  /** CLONE_NEW* of the child. */
  readonly cloneFlags: Named;
  /** What is said to be the option that asked for those flags. */
  readonly cloneOption: string | undefined;
  /**
   * Whether the child is not to share memory with its parent until it executes its program: as another user it would let
   * others of that user look into it (ptrace(2)), and it shares what belongs to a memory and not to a process.
   */
  readonly ownMemory?: boolean;
  /** Executed by the parent once the child exists, before the child is let go on. */
  readonly parent: readonly Step[];
  /** Executed by the child; the last one is an execve. */
  readonly child: readonly Step[];
}

/** The call that makes a plan's child, as a step, for who tells of it. */
export function cloneStep({ cloneFlags, cloneOption }: Plan): Step {
  const what = cloneFlags.value === 0 ? "make a process" : "make namespaces";
  return { call: "clone", args: [cloneFlags], what, option: cloneOption };
}

/** A value made of flags, named from a table; what the table does not know is shown in hexadecimal. */
export function flags(value: number, names: ReadonlyMap<number, string>): Named {
  const known = [...names].filter(([flag]) => (value & flag) !== 0);
  const rest = known.reduce((left, [flag]) => left & ~flag, value) >>> 0;
  const parts = known.map(([, name]) => name);
  if (rest !== 0 || parts.length === 0) parts.push(rest === 0 ? "0" : `0x${rest.toString(16)}`);
  return { value, name: parts.join("|") };
}
