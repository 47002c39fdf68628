/**
 * Engages namespaces in this process, in all of its threads, or in none.
 *
 * @module
 */

import { CLONE_NEWNS } from "../abi/clone.ts";
import { errnoName } from "../abi/errno.ts";
import { NamespaceError, stepError } from "../errors.ts";
import { type Library, library, type Target } from "../machine/library.ts";
import type { Settings } from "../options.ts";
import type { Caller } from "../plan/caller.ts";
import { goBack, planSetup } from "../plan/setup.ts";
import type { Step } from "../plan/step.ts";

/** What executes the steps: the shim, or a simulated one. */
export interface Executor extends Pick<Library, "execute" | "moveThreads" | "close"> {
  /** As far as it is looked at: a simulated one may be for anybody. */
  context(): { readonly caller: Caller };
}

/** Where a thread is: its namespaces of some kinds, and its current folder. */
interface Place {
  readonly targets: readonly Target[];
  readonly folder: number;
}

/**
 * Moves this process into namespaces of its own, for good.
 *
 * @throws {TypeError} When a running process cannot enter what was asked for.
 * @throws {NamespaceError} When the kernel refuses a step; then everything is as it was.
 */
export function setup(
  settings: Settings,
  trace: ((line: string) => void) | undefined,
  shim: Executor = library(),
): void {
  const { open, enter, kinds } = planSetup(settings, shim.context().caller);
  if (enter.length === 0) return;
  const outside = openPlace(shim, open, kinds, trace);
  try {
    const outcome = shim.execute(enter, trace);
    if ("step" in outcome) {
      if (outcome.step !== enter[0]) leave(shim, outside, trace); // An unshare that was refused has changed nothing.
      throw stepError(outcome.step, outcome.errno, outcome.section);
    }
    const inside = openInside(shim, open, kinds, outside, trace);
    try {
      moveOtherThreads(shim, inside, outside, trace);
    } finally {
      closePlace(shim, inside);
    }
  } finally {
    closePlace(shim, outside);
  }
}

/** Opens where the calling thread is now, or takes it back. */
function openInside(
  shim: Executor,
  open: readonly Step[],
  kinds: readonly number[],
  outside: Place,
  trace: ((line: string) => void) | undefined,
): Place {
  try {
    return openPlace(shim, open, kinds, trace);
  } catch (error) {
    leave(shim, outside, trace);
    throw error;
  }
}

function moveOtherThreads(
  shim: Executor,
  inside: Place,
  outside: Place,
  trace: ((line: string) => void) | undefined,
): void {
  const errno = shim.moveThreads(inside.targets, folderOf(inside));
  trace?.(`move all other threads: ${errno === 0 ? "done" : errnoName(errno)}`);
  if (errno === 0) return;
  leave(shim, outside, trace);
  shim.moveThreads(outside.targets, folderOf(outside));
  throw new NamespaceError({
    errno,
    syscall: "setns",
    step: "setns(…) in every other thread",
    what: "move all threads of this process",
    hint: "Everything is as it was. A thread could not move, or did not answer a signal within five seconds.",
  });
}

/** Takes the calling thread back. */
function leave(shim: Executor, outside: Place, trace: ((line: string) => void) | undefined): void {
  const outcome = shim.execute(goBack(outside.targets, outside.folder), trace);
  if ("step" in outcome) throw stepError(outcome.step, outcome.errno, outcome.section);
}

function openPlace(
  shim: Executor,
  open: readonly Step[],
  kinds: readonly number[],
  trace: ((line: string) => void) | undefined,
): Place {
  const outcome = shim.execute(open, trace);
  const fds = outcome.results.filter((result) => result !== undefined && result >= 0) as number[];
  if ("step" in outcome) {
    for (const fd of fds) shim.close(fd);
    throw stepError(outcome.step, outcome.errno, outcome.section);
  }
  return { targets: kinds.map((kind, index) => ({ fd: fds[index]!, kind })), folder: fds.at(-1)! };
}

/** Other threads share the calling one's folder; only another mount namespace takes them out of it. */
function folderOf({ targets, folder }: Place): number {
  return targets.some(({ kind }) => kind === CLONE_NEWNS) ? folder : -1;
}

function closePlace(shim: Executor, { targets, folder }: Place): void {
  for (const { fd } of targets) shim.close(fd);
  shim.close(folder);
}
