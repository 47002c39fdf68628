/**
 * Constants of openat(2). Those used here are the same on x86_64 and aarch64.
 *
 * @module
 */

import type { Named } from "./step.ts";

/** Relative paths begin at the current folder. */
export const AT_FDCWD: Named = { value: -100, name: "AT_FDCWD" };
/** Read only, closed by execve. */
export const O_CLOEXEC_RDONLY: Named = { value: 0o2000000, name: "O_RDONLY|O_CLOEXEC" };
/** Read only what is there, closed by execve: who opens a pipe does not wait for somebody to write to it. */
export const O_NONBLOCK_RDONLY: Named = { value: 0o2004000, name: "O_RDONLY|O_NONBLOCK|O_CLOEXEC" };
/** Write only, closed by execve. */
export const O_CLOEXEC_WRONLY: Named = { value: 0o2000001, name: "O_WRONLY|O_CLOEXEC" };
/** Read and write. */
export const O_RDWR: Named = { value: 2, name: "O_RDWR" };
/** Read and write, closed by execve. */
export const O_RDWR_CLOEXEC: Named = { value: 0o2000002, name: "O_RDWR|O_CLOEXEC" };
/** No more than a place to begin paths at, closed by execve. */
export const O_CLOEXEC_PATH: Named = { value: 0o12000000, name: "O_RDONLY|O_CLOEXEC|O_PATH" };
/** A copy of a descriptor at the first free number from another on, closed by execve: fcntl(2). */
export const F_DUPFD_CLOEXEC: Named = { value: 1030, name: "F_DUPFD_CLOEXEC" };
/** The same, left open by execve. */
export const F_DUPFD: Named = { value: 0, name: "F_DUPFD" };
/** The first number that no option can give a command; the same as in shim/descriptors.zig. */
export const ABOVE_GIVEN = 256;
/** From the beginning of a file on: lseek(2). */
export const SEEK_SET: Named = { value: 0, name: "SEEK_SET" };
