/**
 * The score by which the kernel chooses whom to kill when memory is short: this process's own, while a child sets its.
 *
 * @module
 */

import { stepError } from "../errors.ts";
import { library } from "../machine/library.ts";
import { AT_FDCWD, O_RDWR_CLOEXEC } from "../plan/files.ts";
import type { Step } from "../plan/step.ts";

const OWN: Step = {
  call: "openat",
  args: [AT_FDCWD, "/proc/self/oom_score_adj", O_RDWR_CLOEXEC],
  what: "keep this process's own score for being killed when memory is short",
  option: "oomScoreAdj",
};

/**
 * Does something after which this process has the score that it had. The kernel gives all processes in one memory the same
 * score (`__set_oom_adj` of fs/proc/base.c), and a child is in its parent's until it executes its program. Another child
 * that another thread makes at the same moment may get the score, too.
 *
 * @throws {NamespaceError} When the score cannot be set.
 */
export function keepingOwnScore<Result>(work: () => Result): Result {
  const shim = library();
  const opened = shim.execute([OWN]);
  if ("step" in opened) throw stepError(opened.step, opened.errno);
  const fd = opened.results[0]!;
  const buffer = new Uint8Array(16);
  const score = buffer.slice(0, Math.max(shim.read(fd, buffer), 0));
  try {
    return work();
  } finally {
    shim.write(fd, score); // Nobody is refused the score that it has had.
    shim.close(fd);
  }
}
