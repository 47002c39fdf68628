/**
 * The descriptors of a child that are not pipes of its stdio: others by their numbers, and a terminal.
 *
 * @module
 */

import type { DescriptorOption, TerminalSettings } from "../command_options.ts";
import { stepError } from "../errors.ts";
import { library } from "../machine/library.ts";
import type { ChildSettings } from "../plan/child.ts";
import type { Named } from "../plan/step.ts";
import { openTerminal } from "../plan/terminal.ts";

/** What a plan is told of the descriptors; `pipe` makes the child's end of a pipe for number `fd`. */
export function extraOf(
  descriptors: readonly (DescriptorOption | undefined)[],
  pipe: (way: "input" | "output", fd: number) => number | Named,
): Pick<ChildSettings, "extra" | "extraOption"> {
  if (descriptors.length === 0) return {};
  const extra = descriptors.map((from, index) => {
    if (typeof from === "number") return { inherited: from };
    return from === undefined || from === "inherit" ? undefined : pipe(from, 3 + index);
  });
  return { extra, extraOption: "fds" };
}

/** The two sides of a terminal; that of this process twice, neither of which blocks. */
export interface Terminal {
  readonly read: number;
  readonly write: number;
  readonly peer: number;
}

/**
 * Opens a terminal.
 *
 * @throws {NamespaceError} When the kernel has none to give.
 */
export function makeTerminal(size: TerminalSettings): Terminal {
  const outcome = library().execute(openTerminal(size));
  const [read, write, , peer] = outcome.results as readonly [number, number, number, number];
  if (!("step" in outcome)) return { read, write, peer };
  for (const fd of [read, write, peer]) if (fd !== undefined && fd >= 0) library().close(fd);
  throw stepError(outcome.step, outcome.errno);
}
