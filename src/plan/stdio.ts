/**
 * The child's descriptors: 0, 1 and 2, and nothing else.
 *
 * @module
 */

import { AT_FDCWD, O_RDWR } from "./files.ts";
import type { Named, ResultOf, Step } from "./step.ts";

/** Where one of 0, 1, 2 comes from: the parent's own, /dev/null, or a descriptor above 2, which can have a name. */
export type Stdio = "inherit" | "null" | number | Named;

const NAMES = ["stdin", "stdout", "stderr"] as const;

/** Puts the three in place. They come before any mount, which could hide /dev/null. */
export function connectStdio(stdio: readonly [Stdio, Stdio, Stdio]): readonly Step[] {
  const steps: Step[] = [];
  // Not close-on-exec: where the parent has one of 0 to 2 closed, this may get just that number.
  const devNull: Step = {
    call: "openat",
    args: [AT_FDCWD, "/dev/null", O_RDWR],
    what: "open /dev/null",
    option: "stdin",
  };
  if (stdio.includes("null")) steps.push(devNull);
  for (const [fd, from] of stdio.entries()) {
    if (from === "inherit") continue;
    const option = NAMES[fd];
    if (from === "null") {
      const tolerate = [["EINVAL", 0]] as const; // dup3(2): both are the same, so it is in place.
      steps.push({
        call: "dup3",
        args: [{ resultOf: devNull }, fd, 0],
        what: `make /dev/null ${option}`,
        option,
        tolerate,
      });
    } else {
      steps.push({ call: "dup3", args: [from, fd, 0], what: `connect ${option}`, option });
    }
  }
  return steps;
}

const F_DUPFD_CLOEXEC = { value: 1030, name: "F_DUPFD_CLOEXEC" };
/** Everybody may open it again: a pipe belongs to who made it, and the child may become somebody else. */
const RW_ALL = { value: 0o666, name: "0666" };

/** A descriptor of the parent's, which can have a name, or the step that opens one. */
export type Extra = number | Named | Step;

/** As an argument of a call. */
export function descriptorOf(from: Extra): number | Named | ResultOf {
  return typeof from === "number" || "value" in from ? from : { resultOf: from };
}

/** Puts descriptors at 3, 4 and so on. They are first moved out of each other's way. */
export function connectExtra(extra: readonly Extra[], changesIds: boolean): readonly Step[] {
  const what = "connect the channel";
  const moved = extra.map((from): Step => {
    return { call: "fcntl", args: [descriptorOf(from), F_DUPFD_CLOEXEC, 3 + extra.length], what };
  });
  const steps = [...moved];
  for (const [index, step] of moved.entries()) {
    steps.push({ call: "dup3", args: [{ resultOf: step }, 3 + index, 0], what });
    const from = extra[index]!;
    const isPipe = typeof from === "number" || "value" in from;
    if (changesIds && isPipe) steps.push({ call: "fchmod", args: [3 + index, RW_ALL], what });
  }
  return steps;
}

/** A descriptor to be executed, out of the way of what the child has at 3 and so on. */
export function keepOpen(from: Extra, extraCount: number): Step {
  const fd = descriptorOf(from);
  return { call: "fcntl", args: [fd, F_DUPFD_CLOEXEC, 3 + extraCount], what: "keep the executable open" };
}

const O_CLOEXEC = { value: 0o2000000, name: "O_CLOEXEC" };
const CLOSE_RANGE_CLOEXEC = { value: 4, name: "CLOSE_RANGE_CLOEXEC" };
const LAST = { value: 0xffff_ffff, name: "~0U" };

/**
 * Lets nothing through execve from a descriptor on, whoever opened it.
 *
 * @param kept What is to be executed. Where all have to be closed here and now it is put at `first`.
 */
export function closeFrom(first: number, kept?: Extra): readonly Step[] {
  const markAll: Step[] = [
    {
      call: "close_range",
      args: [first, LAST, CLOSE_RANGE_CLOEXEC],
      what: `mark all descriptors above ${first - 1} close-on-exec`,
      tolerate: [["EINVAL", 0]], // The flag is there since Linux 5.11, the call since 5.9.
      skip: kept === undefined ? 1 : 2,
    },
  ];
  const closed = kept === undefined ? first : first + 1;
  const closeAll: Step = {
    call: "close_range",
    args: [closed, LAST, 0],
    what: `close all descriptors above ${closed - 1}`,
  };
  if (kept === undefined) return [...markAll, closeAll];
  const tolerate = [["EINVAL", 0]] as const; // dup3(2): it is there.
  const what = "keep the executable open";
  return [...markAll, { call: "dup3", args: [descriptorOf(kept), first, O_CLOEXEC], what, tolerate }, closeAll];
}

/** Lets nothing above 2 through execve, whoever opened it. */
export const CLOSE_THE_REST: readonly Step[] = closeFrom(3);
