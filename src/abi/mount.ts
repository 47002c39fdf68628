/**
 * The flags of mount(2) and umount2(2).
 *
 * @see {@link https://man7.org/linux/man-pages/man2/mount.2.html | mount(2)}
 * @see {@link https://man7.org/linux/man-pages/man2/umount2.2.html | umount2(2)}
 * @module
 */

/** Mount read-only. With {@linkcode MS_BIND} it has an effect only together with {@linkcode MS_REMOUNT}. */
export const MS_RDONLY = 1;
/** Ignore set-user-ID and set-group-ID bits and file capabilities. */
export const MS_NOSUID = 2;
/** Do not allow access to devices. */
export const MS_NODEV = 4;
/** Do not allow programs to be executed. */
export const MS_NOEXEC = 8;
/** Make writes synchronous. */
export const MS_SYNCHRONOUS = 16;
/** Change the flags of an existing mount. */
export const MS_REMOUNT = 32;
/** Allow mandatory locks. Without effect since Linux 5.15. */
export const MS_MANDLOCK = 64;
/** Make changes of folders synchronous. */
export const MS_DIRSYNC = 128;
/** Do not follow symbolic links. Since Linux 5.10. */
export const MS_NOSYMFOLLOW = 256;
/** Do not update access times. */
export const MS_NOATIME = 1024;
/** Do not update access times of folders. */
export const MS_NODIRATIME = 2048;
/** Bind mount: make a file or folder visible at another place. */
export const MS_BIND = 4096;
/** Move a mount to another place. */
export const MS_MOVE = 8192;
/** Apply to every mount below as well: with {@linkcode MS_BIND} and the changes of propagation. */
export const MS_REC = 16384;
/** Say less in the kernel's log. */
export const MS_SILENT = 32768;
/** Apply POSIX access control lists. */
export const MS_POSIXACL = 1 << 16;
/** Make the mount unbindable. */
export const MS_UNBINDABLE = 1 << 17;
/** Make the mount private: mounts and unmounts do not propagate to it or from it. */
export const MS_PRIVATE = 1 << 18;
/** Make the mount a slave: mounts and unmounts propagate to it, not from it. */
export const MS_SLAVE = 1 << 19;
/** Make the mount shared: mounts and unmounts propagate both ways. */
export const MS_SHARED = 1 << 20;
/** Update access times only when they are older than the times of change. */
export const MS_RELATIME = 1 << 21;
/** Count changes in the inode's version. */
export const MS_I_VERSION = 1 << 23;
/** Always update access times. */
export const MS_STRICTATIME = 1 << 24;
/** Keep changes of times in memory until they must be written. */
export const MS_LAZYTIME = 1 << 25;

/** Detach at once for new users; unmount when the mount is no longer in use. */
export const MNT_DETACH = 2;
/** Mark as expired; unmount when it was so marked before and not used since. */
export const MNT_EXPIRE = 4;
/** Unmount even where it is in use, which can lose data. */
export const MNT_FORCE = 1;
/** Do not follow a symbolic link at the target. */
export const UMOUNT_NOFOLLOW = 8;

/** The names of the flags of mount(2), for what a person reads. */
export const MOUNT_FLAG_NAMES: ReadonlyMap<number, string> = new Map([
  [MS_RDONLY, "MS_RDONLY"],
  [MS_NOSUID, "MS_NOSUID"],
  [MS_NODEV, "MS_NODEV"],
  [MS_NOEXEC, "MS_NOEXEC"],
  [MS_SYNCHRONOUS, "MS_SYNCHRONOUS"],
  [MS_REMOUNT, "MS_REMOUNT"],
  [MS_MANDLOCK, "MS_MANDLOCK"],
  [MS_DIRSYNC, "MS_DIRSYNC"],
  [MS_NOSYMFOLLOW, "MS_NOSYMFOLLOW"],
  [MS_NOATIME, "MS_NOATIME"],
  [MS_NODIRATIME, "MS_NODIRATIME"],
  [MS_BIND, "MS_BIND"],
  [MS_MOVE, "MS_MOVE"],
  [MS_REC, "MS_REC"],
  [MS_SILENT, "MS_SILENT"],
  [MS_POSIXACL, "MS_POSIXACL"],
  [MS_UNBINDABLE, "MS_UNBINDABLE"],
  [MS_PRIVATE, "MS_PRIVATE"],
  [MS_SLAVE, "MS_SLAVE"],
  [MS_SHARED, "MS_SHARED"],
  [MS_RELATIME, "MS_RELATIME"],
  [MS_I_VERSION, "MS_I_VERSION"],
  [MS_STRICTATIME, "MS_STRICTATIME"],
  [MS_LAZYTIME, "MS_LAZYTIME"],
]);
