/**
 * The flags of clone(2), unshare(2) and setns(2) that stand for namespaces and for what a process can unshare.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/clone.2.html | clone(2)}
 * @see {@link https://man7.org/linux/man-pages/man2/unshare.2.html | unshare(2)}
 * @module
 */

/** Share the table of open files; with `unshare`, stop sharing it. */
export const CLONE_FILES = 0x00000400;
/** Share root, current folder and umask; with `unshare`, stop sharing them. */
export const CLONE_FS = 0x00000200;
/** A new cgroup namespace: see cgroup_namespaces(7). */
export const CLONE_NEWCGROUP = 0x02000000;
/** A new IPC namespace: see ipc_namespaces(7). */
export const CLONE_NEWIPC = 0x08000000;
/** A new network namespace: see network_namespaces(7). */
export const CLONE_NEWNET = 0x40000000;
/** A new mount namespace: see mount_namespaces(7). */
export const CLONE_NEWNS = 0x00020000;
/** A new pid namespace, for the children: see pid_namespaces(7). */
export const CLONE_NEWPID = 0x20000000;
/** A new time namespace, for the children: see time_namespaces(7). Since Linux 5.6; unshare(2) and setns(2) only. */
export const CLONE_NEWTIME = 0x00000080;
/** A new user namespace: see user_namespaces(7). */
export const CLONE_NEWUSER = 0x10000000;
/** A new UTS namespace: see uts_namespaces(7). */
export const CLONE_NEWUTS = 0x04000000;
/**
 * Share the list of System V semaphore undo values; with `unshare`, leave it for an empty one.
 * To *clone* it means sharing, which is why no plan ever passes it there.
 */
export const CLONE_SYSVSEM = 0x00040000;
