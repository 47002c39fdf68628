/**
 * The error of everything that the kernel refuses, and what can be done about it.
 *
 * @module
 */

import { errnoName, errnoText } from "./abi/errno.ts";
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

/** The error of a step that was refused. */
export function stepError(step: Step, errno: number): NamespaceError {
  return new NamespaceError({
    errno,
    syscall: step.call,
    step: describeCall(step),
    what: step.what,
    option: step.option,
    hint: diagnose(step.call, step.option, errnoName(errno)),
  });
}

/** The likely cause of a refusal, and the remedy. The call's meaning is known here, so its errno can be given one. */
export function diagnose(syscall: string, option: string | undefined, code: string): string | undefined {
  for (const [calls, codes, options, hint] of DIAGNOSES) {
    if (calls.includes(syscall) && codes.includes(code) && (options === undefined || options.includes(option ?? ""))) {
      return hint;
    }
  }
  return undefined;
}

const USER_REFUSED =
  `The system does not let this user make user namespaces. See that user.max_user_namespaces (and on Debian \
kernel.unprivileged_userns_clone) are not 0, that kernel.apparmor_restrict_unprivileged_userns (Ubuntu) is 0 or an AppArmor \
profile allows it, and that a container's seccomp profile does; or run as root.`;

/** Calls, errnos, options (any where undefined), hint; the first that fits is taken. */
const DIAGNOSES: readonly (readonly [readonly string[], readonly string[], readonly string[] | undefined, string])[] = [
  [
    ["clone", "unshare"],
    ["EPERM"],
    undefined,
    `Namespaces need CAP_SYS_ADMIN, or a user namespace around them: leave \
privateUser out rather than refuse it. ${USER_REFUSED}`,
  ],
  [
    ["clone", "unshare"],
    ["ENOSPC", "EUSERS"],
    undefined,
    `No disk is full: a limit on namespaces is reached. See \
/proc/sys/user/max_*_namespaces; and namespaces can be nested 32 deep.`,
  ],
  [
    ["clone", "unshare"],
    ["EINVAL"],
    undefined,
    `The kernel was built without one of these namespaces, or this process is \
one that may not make it: a chroot cannot make user namespaces, and a process with threads cannot enter them.`,
  ],
  [
    ["clone"],
    ["EAGAIN"],
    undefined,
    `A limit on processes is reached: RLIMIT_NPROC (ulimit -u), the cgroup's pids.max, or \
kernel.pid_max.`,
  ],
  [
    ["clone"],
    ["ENOMEM"],
    undefined,
    `There is too little memory, or this process is in a pid namespace whose PID 1 has ended.`,
  ],
  [
    ["write", "openat"],
    ["EPERM", "EACCES"],
    ["privateUser"],
    `Without CAP_SETUID and CAP_SETGID only the caller's own ids can \
be mapped, one of each; and to map user 0 of the outside, root needs CAP_SETFCAP (Linux 5.12). Ubuntu's AppArmor \
restriction (kernel.apparmor_restrict_unprivileged_userns) shows here too.`,
  ],
  [["write"], ["EPERM", "EACCES"], [""], USER_REFUSED],
  [
    ["write"],
    ["ERANGE"],
    ["privateTime"],
    `The clock would stand before 0 or overflow: a negative offset can be no larger \
than the clock's present value.`,
  ],
  [
    ["mount"],
    ["EPERM"],
    ["privatePid"],
    `In a user namespace the kernel mounts a new /proc only where the outer one is \
fully visible: container engines cover parts of it. Let the container have an unmasked /proc, or set noProc.`,
  ],
  [
    ["mount"],
    ["EPERM", "EACCES"],
    undefined,
    `Mounting needs CAP_SYS_ADMIN in the mount namespace's user namespace; a seccomp \
or AppArmor profile of a container can take it away.`,
  ],
  [["mount"], ["ENOSPC"], undefined, `No disk is full: the limit on mounts is reached. See /proc/sys/fs/mount-max.`],
  [
    ["mount"],
    ["EINVAL"],
    ["privateTmp"],
    `The kernel does not know one of the tmpfs's options; "huge" needs \
CONFIG_TRANSPARENT_HUGEPAGE, ids must be mapped in the user namespace, and the size must not be too large.`,
  ],
  [
    ["setresuid", "setresgid"],
    ["EINVAL"],
    undefined,
    `That id is not mapped in the user namespace. Give privateUser a uidMap and \
a gidMap that have it, or leave the id out.`,
  ],
  [
    ["setresuid", "setresgid", "setgroups"],
    ["EPERM"],
    undefined,
    `Becoming someone else needs CAP_SETUID and CAP_SETGID: \
run as root, or with privateUser: true.`,
  ],
  [
    ["execve"],
    ["E2BIG"],
    undefined,
    `The arguments and the environment together are too large: see RLIMIT_STACK, a quarter of \
which they may take, and 128 KiB for each string. Pass the data by stdin or a file.`,
  ],
];
