/**
 * The child's descriptors: 0, 1 and 2, and nothing else.
 *
 * @module
 */

import { AT_FDCWD, F_DUPFD_CLOEXEC, O_RDWR } from "./files.ts";
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

const F_SETFD = { value: 2, name: "F_SETFD" };
const FD_CLOEXEC = { value: 1, name: "FD_CLOEXEC" };
/** Everybody may open it again: a pipe belongs to who made it, and the child may become somebody else. */
const RW_ALL = { value: 0o666, name: "0666" };

/** A descriptor that somebody else has opened, and that is to be left as it is. */
export interface Inherited {
  readonly inherited: number;
}

/** A descriptor of the parent's, which can have a name, or the step that opens one. */
export type Extra = number | Named | Inherited | Step;

/** As an argument of a call. */
export function descriptorOf(from: Extra): number | Named | ResultOf {
  if (typeof from === "number" || "value" in from) return from;
  return "inherited" in from ? from.inherited : { resultOf: from };
}

/** Descriptors for 3, 4 and so on, moved out of each other's way; undefined where there is to be none. */
export type Moved = readonly (Step | undefined)[];

/** Moves descriptors out of each other's way. `option` is what asked for them. */
export function moveExtra(extra: readonly (Extra | undefined)[], option: string | undefined): Moved {
  return extra.map((from, index) => {
    if (from === undefined) return undefined;
    const args = [descriptorOf(from), F_DUPFD_CLOEXEC, 3 + extra.length];
    return { call: "fcntl", args, what: connecting(index, option), option };
  });
}

/** Puts moved descriptors at 3, 4 and so on. */
export function placeExtra(
  moved: Moved,
  extra: readonly (Extra | undefined)[],
  option: string | undefined,
  changesIds: boolean,
): readonly Step[] {
  const steps: Step[] = [];
  for (const [index, step] of moved.entries()) {
    const fd = 3 + index;
    if (step === undefined) {
      const tolerate = [["EBADF", 0]] as const; // There is none.
      steps.push({
        call: "fcntl",
        args: [fd, F_SETFD, FD_CLOEXEC],
        what: `keep descriptor ${fd} out`,
        option,
        tolerate,
      });
      continue;
    }
    const what = connecting(index, option);
    steps.push({ call: "dup3", args: [{ resultOf: step }, fd, 0], what, option });
    const from = extra[index]!;
    const isPipe = typeof from === "number" || "value" in from;
    if (changesIds && isPipe) steps.push({ call: "fchmod", args: [fd, RW_ALL], what, option });
  }
  return steps;
}

function connecting(index: number, option: string | undefined): string {
  return option === undefined ? "connect the channel" : `connect descriptor ${3 + index}`;
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
