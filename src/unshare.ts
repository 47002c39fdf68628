/**
 * unshare(2) and setns(2): the successor of Linux::Clone and Sys::Linux::Unshare.
 *
 * The calls act on **the calling thread alone**, which in Deno is the thread that runs JavaScript. What Deno does
 * synchronously and the commands that it starts then see the new namespaces; its other threads, which do what is
 * asynchronous, do not. They need CAP_SYS_ADMIN, and `--allow-ffi`.
 *
 * ```ts
 * import { CLONE_NEWUTS, setns, unshare } from "@sys-linux/namespace/unshare";
 *
 * unshare(CLONE_NEWUTS);
 * setns(`/proc/${Deno.ppid}/ns/uts`, CLONE_NEWUTS); // Into that of the parent process.
 * ```
 *
 * @module
 */

import * as clone from "./abi/clone.ts";
import { perform } from "./calls.ts";
import { text } from "./checks.ts";
import { AT_FDCWD, O_CLOEXEC_RDONLY } from "./plan/files.ts";
import { flags as namedFlags, type Named, type Step } from "./plan/step.ts";

export * from "./abi/clone.ts";

const FLAG_NAMES: ReadonlyMap<number, string> = new Map(Object.entries(clone).map(([name, flag]) => [flag, name]));

/** These concern what threads share, and cannot be taken from a thread that runs among others. */
const NEEDS_ONE_THREAD: readonly (readonly [number, string])[] = [
  [clone.CLONE_NEWUSER, "a process with threads, as Deno is, cannot enter a user namespace"],
  [clone.CLONE_NEWPID, "Deno could then start no thread any more"],
];

/**
 * Takes the calling thread out of namespaces and into new ones.
 *
 * @param flags CLONE_NEW*, CLONE_FS, CLONE_FILES, CLONE_SYSVSEM, combined with `|`.
 * @throws {TypeError} When a flag can do nothing but harm here: CLONE_NEWUSER, CLONE_NEWPID.
 * @throws {NamespaceError} When the kernel refuses.
 * @see {@link https://man7.org/linux/man-pages/man2/unshare.2.html | unshare(2)}
 */
export function unshare(flags: number): void {
  const named = checkFlags(flags);
  perform([{ call: "unshare", args: [named], what: `unshare ${named.name}` }]);
}

/**
 * Moves the calling thread into a namespace that there is.
 *
 * @param path Where the namespace is: `/proc/<pid>/ns/net`, or a file that it is bound to, such as `/run/netns/blue`.
 * @param type Which one it must be, a CLONE_NEW* flag; 0 for any.
 * @throws {TypeError} When it is of a kind that a thread of Deno cannot enter: CLONE_NEWUSER, CLONE_NEWPID.
 * @throws {NamespaceError} When there is no such file, or the kernel refuses.
 * @see {@link https://man7.org/linux/man-pages/man2/setns.2.html | setns(2)}
 */
export function setns(path: string, type = 0): void {
  const named = checkFlags(type);
  const what = `enter the namespace "${path}"`;
  const open: Step = { call: "openat", args: [AT_FDCWD, text(path, "path"), O_CLOEXEC_RDONLY], what, opens: true };
  perform([open, { call: "setns", args: [{ resultOf: open }, named], what }]);
}

function checkFlags(flags: number): Named {
  if (!Number.isInteger(flags) || flags < 0 || flags >= 2 ** 31) {
    throw new TypeError(`Option "flags" must be CLONE_* flags combined with "|": got ${flags}`);
  }
  const named = namedFlags(flags, FLAG_NAMES);
  for (const [flag, reason] of NEEDS_ONE_THREAD) {
    if ((flags & flag) !== 0) {
      throw new TypeError(
        `Cannot use ${named.name}: ${reason}. Use Namespace.command(), whose child is alone when it does.`,
      );
    }
  }
  return named;
}
