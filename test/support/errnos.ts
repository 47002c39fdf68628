/**
 * With which errnos each call may be refused: those of its man page in section 2, and ENOSYS, which an older kernel or a
 * seccomp filter answers to any.
 *
 * @module
 */

import type { SyscallName } from "../../src/abi/syscalls.ts";

/** What leads on to the next step, where a plan has one for that case, comes first. */
const TABLE = {
  chdir: "ENOENT ENOTDIR EACCES EFAULT EIO ELOOP ENAMETOOLONG ENOMEM",
  clone: "EAGAIN EACCES EBUSY EEXIST EINVAL ENOMEM ENOSPC EOPNOTSUPP EPERM EUSERS",
  close_range: "EINVAL EMFILE ENOMEM",
  dup3: "EINVAL EBADF EBUSY EINTR EMFILE",
  execve:
    "ENOEXEC ENOENT E2BIG EACCES EAGAIN EFAULT EINVAL EIO EISDIR ELIBBAD ELOOP EMFILE ENAMETOOLONG ENFILE ENOMEM " +
    "ENOTDIR EPERM ETXTBSY",
  execveat: "EBADF EINVAL ELOOP ENOENT ENOTDIR E2BIG EACCES EAGAIN EFAULT EIO EISDIR ELIBBAD EMFILE ENAMETOOLONG " +
    "ENFILE ENOEXEC ENOMEM EPERM ETXTBSY",
  fchdir: "EACCES EBADF EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR",
  fchmod: "EACCES EBADF EFAULT EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR EPERM EROFS",
  fcntl: "EACCES EAGAIN EBADF EBUSY EDEADLK EFAULT EINTR EINVAL EMFILE ENOLCK EPERM",
  futex: "EAGAIN EACCES EFAULT EINTR EINVAL ETIMEDOUT",
  ioctl: "EBADF EFAULT EINVAL ENOTTY EPERM ENODEV",
  mount: "EACCES EBUSY EFAULT EINVAL ELOOP EMFILE ENAMETOOLONG ENODEV ENOENT ENOMEM ENOTBLK ENOTDIR ENXIO EPERM EROFS",
  openat: "EACCES EAGAIN EBADF EBUSY EDQUOT EEXIST EFAULT EFBIG EINTR EINVAL EISDIR ELOOP EMFILE ENAMETOOLONG ENFILE " +
    "ENODEV ENOENT ENOMEM ENOSPC ENOTDIR ENXIO EOPNOTSUPP EOVERFLOW EPERM EROFS ETXTBSY",
  prctl: "EACCES EBADF EBUSY EFAULT EINVAL ENODEV ENXIO EOPNOTSUPP EPERM",
  rt_sigprocmask: "EFAULT EINVAL",
  setdomainname: "EFAULT EINVAL EPERM",
  setgroups: "EFAULT EINVAL ENOMEM EPERM",
  sethostname: "EFAULT EINVAL ENAMETOOLONG EPERM",
  setns: "EBADF EINVAL ENOMEM EPERM ESRCH EUSERS",
  setresgid: "EAGAIN EINVAL EPERM",
  setresuid: "EAGAIN EINVAL EPERM",
  socket: "EACCES EAFNOSUPPORT EINVAL EMFILE ENFILE ENOBUFS ENOMEM EPROTONOSUPPORT",
  unshare: "EINVAL ENOMEM ENOSPC EPERM EUSERS",
  write: "EAGAIN EBADF EDESTADDRREQ EDQUOT EFAULT EFBIG EINTR EINVAL EIO ENOSPC EPERM EPIPE",
} as const satisfies Partial<Record<SyscallName, string>>;

/**
 * The errnos of a call.
 *
 * @throws {RangeError} When the table does not know it: then it is to be added.
 */
export function errnosOf(call: SyscallName): readonly string[] {
  const errnos = (TABLE as Partial<Record<SyscallName, string>>)[call];
  if (errnos === undefined) throw new RangeError(`No errnos for ${call}(2)`);
  return [...errnos.split(" "), "ENOSYS"];
}
