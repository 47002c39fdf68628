/**
 * mount(2) and umount2(2): the successor of Sys::Linux::Mount.
 *
 * The calls act on the mount namespace of the calling thread, which in Deno is the thread that runs JavaScript: all that
 * is synchronous sees the same. They need CAP_SYS_ADMIN, and `--allow-ffi`.
 *
 * ```ts
 * import { mount, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_REC, umount } from "@sys-linux/namespace/mount";
 * import { CLONE_NEWNS, unshare } from "@sys-linux/namespace/unshare";
 *
 * unshare(CLONE_NEWNS);
 * mount("none", "/", null, { flags: MS_REC | MS_PRIVATE });
 * mount("tmpfs", "/mnt", "tmpfs", { flags: MS_NOSUID | MS_NODEV, data: { size: "16m", mode: "0755" } });
 * umount("/mnt");
 * ```
 *
 * @module
 */

import { MNT_DETACH, MNT_EXPIRE, MNT_FORCE, MOUNT_FLAG_NAMES, UMOUNT_NOFOLLOW } from "./abi/mount.ts";
import { perform } from "./calls.ts";
import { checkNames, text } from "./checks.ts";
import { flags as namedFlags } from "./plan/step.ts";

export * from "./abi/mount.ts";

/** How a file system is mounted. */
export interface MountOptions {
  /** MS_* flags, combined with `|`. @default {0} */
  flags?: number | undefined;
  /** The file system's own options: a string as mount(2) takes it, or names and values. @default {none} */
  data?: string | Readonly<Record<string, string | number | true>> | undefined;
}

const UMOUNT_FLAG_NAMES: ReadonlyMap<number, string> = new Map([
  [MNT_FORCE, "MNT_FORCE"],
  [MNT_DETACH, "MNT_DETACH"],
  [MNT_EXPIRE, "MNT_EXPIRE"],
  [UMOUNT_NOFOLLOW, "UMOUNT_NOFOLLOW"],
]);

/**
 * Mounts a file system, or changes a mount, for the calling thread's mount namespace.
 *
 * @param source A device, a folder for MS_BIND, or any word for file systems that need none.
 * @param target Where: an absolute path, which exists.
 * @param type The file system, such as `"tmpfs"`; `null` where the flags say what is to be done (MS_BIND, MS_REMOUNT …).
 * @param options Flags and the file system's own options.
 * @throws {TypeError} When the target is not absolute, an option of the file system has a comma in it, or a string a NUL.
 * @throws {NamespaceError} When the kernel refuses.
 * @see {@link https://man7.org/linux/man-pages/man2/mount.2.html | mount(2)}
 */
export function mount(source: string, target: string, type: string | null, options: MountOptions = {}): void {
  checkNames(options, ["flags", "data"], "");
  const at = absolute(target);
  const flags = namedFlags(checkFlags(options.flags ?? 0), MOUNT_FLAG_NAMES);
  const args = [text(source, "source"), at, type === null ? null : text(type, "type"), flags, mountData(options.data)];
  perform([{ call: "mount", args, what: `mount ${type ?? source} at "${at}"` }]);
}

/**
 * Unmounts what is mounted at a place, in the calling thread's mount namespace.
 *
 * @param target An absolute path.
 * @param flags MNT_* and UMOUNT_NOFOLLOW, combined with `|`.
 * @throws {TypeError} When the target is not absolute.
 * @throws {NamespaceError} When the kernel refuses.
 * @see {@link https://man7.org/linux/man-pages/man2/umount2.2.html | umount2(2)}
 */
export function umount(target: string, flags = 0): void {
  const at = absolute(target);
  perform([{ call: "umount2", args: [at, namedFlags(checkFlags(flags), UMOUNT_FLAG_NAMES)], what: `unmount "${at}"` }]);
}

function absolute(target: string): string {
  const path = text(target, "target");
  if (!path.startsWith("/")) {
    throw new TypeError(`Option "target" must be an absolute path: got ${JSON.stringify(path)}`);
  }
  return path;
}

function checkFlags(flags: number): number {
  if (Number.isInteger(flags) && flags >= 0 && flags < 2 ** 32) return flags;
  throw new TypeError(`Option "flags" must be flags combined with "|": got ${flags}`);
}

function mountData(data: MountOptions["data"]): string | null {
  if (data === undefined) return null;
  if (typeof data === "string") return text(data, "data");
  return Object.entries(data).map(([name, value]) => {
    const option = value === true ? name : `${name}=${value}`;
    if (option.includes(",")) {
      throw new TypeError(`Option "data.${name}" must not contain a comma: got ${JSON.stringify(value)}`);
    }
    return text(option, `data.${name}`);
  }).join(",");
}
