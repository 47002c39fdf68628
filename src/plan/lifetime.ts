/**
 * How a child's life is tied to its parent's, and how the two meet before the child execs.
 *
 * @module
 */

import type { Named, Step } from "./step.ts";

/** Signal 9, whose default cannot be changed. */
const SIGKILL = { value: 9, name: "SIGKILL" };
const PR_SET_PDEATHSIG = { value: 1, name: "PR_SET_PDEATHSIG" };
/** Answers EAGAIN at once where the word is another, and otherwise ETIMEDOUT with {@linkcode NO_TIME}. */
export const FUTEX_WAIT = { value: 0, name: "FUTEX_WAIT" };
/** The kernel sets it in `Words.parent` when the parent's thread has ended: see `ParentWatch` in shim/spawn.zig. */
const FUTEX_OWNER_DIED = { value: 0x4000_0000, name: "FUTEX_OWNER_DIED" };
/** A timespec of 0: not to wait. */
export const NO_TIME = { bytes: new Uint8Array(16), name: "{tv_sec=0, tv_nsec=0}" };

/**
 * The child dies with its parent, kill -9 included. The kernel is asked to, and then it is made sure that the parent
 * was still there when it was: FUTEX_WAIT answers EAGAIN while the word does not say that its owner died.
 *
 * Changing ids clears the request (prctl(2), PR_SET_PDEATHSIG), so it is made again after them.
 */
export const DIE_WITH_PARENT: readonly Step[] = dieWithParent(SIGKILL, "be killed when the parent dies");

/** The same by another signal. */
export function dieWithParent(signal: Named, what: string): readonly Step[] {
  return [
    { call: "prctl", args: [PR_SET_PDEATHSIG, signal], what },
    {
      call: "futex",
      args: [{ word: "parent" }, FUTEX_WAIT, FUTEX_OWNER_DIED, NO_TIME],
      what: "make sure that the parent is alive",
      tolerate: [["EAGAIN", 0]],
    },
  ];
}

/** Waits until the parent's steps are done. */
export const WAIT_FOR_PARENT: Step = {
  call: "futex",
  args: [{ word: "go" }, FUTEX_WAIT, 0, null],
  what: "wait for the parent",
  tolerate: [["EAGAIN", 0]], // It was faster.
};
