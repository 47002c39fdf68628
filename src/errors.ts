/**
 * The error of everything that the kernel refuses, and what can be done about it.
 *
 * @module
 */

import { errnoName, errnoText } from "./abi/errno.ts";
import { findCause } from "./diagnosis/diagnosis.ts";
import { facts } from "./machine/facts.ts";
import { visible } from "./quoted.ts";
import { describeCall } from "./plan/describe.ts";
import type { Step } from "./plan/step.ts";

/** What a {@linkcode NamespaceError} is made of. */
export interface NamespaceErrorDetails {
  /** The error number of the kernel. */
  errno: number;
  /** The system call that was refused. */
  syscall: string;
  /** That call with its arguments, as strace(1) would print it. */
  step: string;
  /** What the call was for, in words that can follow "Cannot". */
  what: string;
  /** The option that asked for it, where one did. */
  option?: string | undefined;
  /** The likely cause and what can be done, where they are known. */
  hint?: string | undefined;
}

/**
 * The kernel refused a step. Nothing of what was begun is left.
 *
 * @example Telling what went wrong
 * ```ts
 * import { Namespace, NamespaceError } from "@sys-linux/namespace";
 *
 * try {
 *   new Namespace({ privatePid: true }).command("/bin/true").outputSync();
 * } catch (error) {
 *   if (!(error instanceof NamespaceError)) throw error;
 *   console.error(error.message, error.code, error.step);
 * }
 * ```
 */
export class NamespaceError extends Error {
  /** `"NamespaceError"`. */
  override readonly name = "NamespaceError";
  /** The name of the error number, such as `"EPERM"`. */
  readonly code: string;
  /** The error number, such as 1. */
  readonly errno: number;
  /** The system call that was refused, such as `"mount"`. */
  readonly syscall: string;
  /** That call with its arguments, such as `mount("proc", "/proc", "proc", MS_NOSUID|MS_NODEV|MS_NOEXEC, NULL)`. */
  readonly step: string;
  /** The option that asked for it, such as `"privatePid"`, where one did. */
  readonly option: string | undefined;
  /** The likely cause and what can be done, where they are known. */
  readonly hint: string | undefined;

  /** Makes the error from what is known of the refused step. */
  constructor(details: NamespaceErrorDetails) {
    const { errno, what, option, hint } = details;
    const reason = option === undefined ? "" : ` for ${option}`;
    super(`Cannot ${what}${reason}: ${errnoText(errno)} (${errnoName(errno)})${hint === undefined ? "" : `\n${hint}`}`);
    this.code = errnoName(errno);
    this.errno = errno;
    this.syscall = details.syscall;
    this.step = details.step;
    this.option = option;
    this.hint = hint;
  }
}

/**
 * The error of a step that was refused, with its cause as far as it can be seen now.
 *
 * @param section The steps around it.
 * @param remark What else can be done, which is known to who asked for the step.
 */
export function stepError(
  step: Step,
  errno: number,
  section: readonly Step[] = [step],
  remark?: string,
): NamespaceError {
  const cause = findCause({ step, code: errnoName(errno), section }, facts);
  const hint = cause === undefined || remark === undefined ? cause ?? remark : `${cause} ${remark}`;
  return new NamespaceError({
    errno,
    syscall: step.call,
    step: describeCall(step),
    what: visible(step.what),
    option: step.option,
    hint: hint === undefined ? undefined : visible(hint), // It may tell of what others have written.
  });
}
