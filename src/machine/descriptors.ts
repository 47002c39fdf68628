/**
 * What this process has of its own for its children: pipes, and what waits for them.
 *
 * @module
 */

import { stepError } from "../errors.ts";
import type { Bytes, Named, Step } from "../plan/step.ts";
import { type Ends, library } from "./library.ts";

const CLOEXEC = 0o2000000;
const ENDS: Bytes = { bytes: new Uint8Array(8), name: "<ends>" };
const PIPE: Step = { call: "pipe2", args: [ENDS, named("O_CLOEXEC")], what: "make a pipe" };
const EPOLL: Step = { call: "epoll_create1", args: [named("EPOLL_CLOEXEC")], what: "wait for a child" };
const EVENT_COUNTER: Step = { call: "eventfd2", args: [0, named("EFD_CLOEXEC")], what: "end a wait" };

/**
 * A pipe, close-on-exec, whose end for this process (0 to read, 1 to write, 2 neither) does not block.
 *
 * @throws {NamespaceError} When there are no descriptors left.
 */
export function makePipe(ours: 0 | 1 | 2): Ends {
  const ends = library().pipe(ours);
  if (typeof ends === "number") throw stepError(PIPE, ends);
  return ends;
}

/**
 * An epoll instance, close-on-exec.
 *
 * @throws {NamespaceError} When there are no descriptors left.
 */
export function makeEpoll(): number {
  return made(library().epollCreate(), EPOLL);
}

/**
 * A descriptor that is always ready to be written, close-on-exec.
 *
 * @throws {NamespaceError} When there are no descriptors left.
 */
export function makeEventCounter(): number {
  return made(library().eventCounter(), EVENT_COUNTER);
}

function made(result: number, step: Step): number {
  if (result < 0) throw stepError(step, -result);
  return result;
}

function named(name: string): Named {
  return { value: CLOEXEC, name };
}
