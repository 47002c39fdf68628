/**
 * Files that are in memory alone: memfd_create(2).
 *
 * @module
 */

import { stepError } from "../errors.ts";
import { library } from "../machine/library.ts";
import type { Bytes, Named, Step } from "../plan/step.ts";

const F_ADD_SEALS: Named = { value: 1033, name: "F_ADD_SEALS" };
/** Of memfd_create(2): it can be sealed, and is closed by execve. */
export const MFD_SEALING: Named = { value: 3, name: "MFD_CLOEXEC|MFD_ALLOW_SEALING" };
/** Nothing can be written to it, nor its size changed, nor a seal taken away. */
export const EVERY_SEAL: Named = { value: 0xf, name: "F_SEAL_SEAL|F_SEAL_SHRINK|F_SEAL_GROW|F_SEAL_WRITE" };
/** The same, and whether it can be executed stays as it is. Since Linux 6.3. */
export const EVERY_SEAL_AND_EXEC: Named = {
  value: 0x2f,
  name: `F_SEAL_SEAL|F_SEAL_SHRINK|F_SEAL_GROW|F_SEAL_WRITE|F_SEAL_EXEC`,
};

/**
 * A file in memory that nobody can change any more.
 *
 * @param flags Of memfd_create(2); MFD_ALLOW_SEALING among them.
 * @param why What it is for, in the words of a step.
 * @param seals What cannot be changed.
 * @throws {NamespaceError} When the kernel refuses a step; then there is no file.
 */
export function sealedMemory(
  content: Bytes,
  flags: Named,
  why: Pick<Step, "what" | "option">,
  seals = EVERY_SEAL,
): number {
  const shim = library();
  const create: Step = { call: "memfd_create", args: ["sys-linux-namespace", flags], ...why };
  const fd = { resultOf: create };
  const outcome = shim.execute([
    create,
    { call: "write", args: [fd, content, content.bytes.length], ...why },
    { call: "fcntl", args: [fd, F_ADD_SEALS, seals], ...why },
  ]);
  const made = outcome.results[0]!;
  if (!("step" in outcome)) return made;
  if (made >= 0) shim.close(made);
  throw stepError(outcome.step, outcome.errno);
}
