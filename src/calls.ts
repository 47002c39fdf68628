/**
 * Single system calls, made by the calling thread.
 *
 * @module
 */

import { stepError } from "./errors.ts";
import { library } from "./machine/library.ts";
import type { Step } from "./plan/step.ts";

/**
 * Makes the calls in order; what they opened for one another is closed again.
 *
 * @throws {NamespaceError} When the kernel refuses one.
 */
export function perform(steps: readonly Step[]): void {
  const outcome = library().execute(steps);
  if ("step" in outcome) throw stepError(outcome.step, outcome.errno, outcome.section);
}
