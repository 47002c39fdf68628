/**
 * System call numbers of the calls that plans make, and of a few others.
 *
 * @see `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h` of Linux
 * @module
 */

/** An architecture that plans can be made for: the values of `Deno.build.arch`. */
export type Architecture = "x86_64" | "aarch64";

/** Name → number on x86_64, number on aarch64. */
const NUMBERS = {
  capget: [125, 90],
  capset: [126, 91],
  chdir: [80, 49],
  chroot: [161, 51],
  clone: [56, 220],
  clone3: [435, 435],
  close: [3, 57],
  close_range: [436, 436],
  dup3: [292, 24],
  epoll_create1: [291, 20],
  eventfd2: [290, 19],
  execve: [59, 221],
  execveat: [322, 281],
  exit_group: [231, 94],
  faccessat: [269, 48],
  fallocate: [285, 47],
  fchdir: [81, 50],
  fchmod: [91, 52],
  fchmodat: [268, 53],
  fchownat: [260, 54],
  fchown: [93, 55],
  fcntl: [72, 25],
  fstat: [5, 80],
  ftruncate: [77, 46],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fsopen: [430, 430],
  futex: [202, 98],
  getdents64: [217, 61],
  getegid: [108, 177],
  geteuid: [107, 175],
  getxattr: [191, 8],
  gettid: [186, 178],
  ioctl: [16, 29],
  keyctl: [250, 219],
  landlock_add_rule: [445, 445],
  landlock_create_ruleset: [444, 444],
  landlock_restrict_self: [446, 446],
  lgetxattr: [192, 9],
  linkat: [265, 37],
  listxattr: [194, 11],
  llistxattr: [195, 12],
  lremovexattr: [198, 15],
  lseek: [8, 62],
  lsetxattr: [189, 6],
  memfd_create: [319, 279],
  mkdirat: [258, 34],
  mknodat: [259, 33],
  mmap: [9, 222],
  mount: [165, 40],
  mount_setattr: [442, 442],
  move_mount: [429, 429],
  open_tree: [428, 428],
  openat: [257, 56],
  openat2: [437, 437],
  pidfd_open: [434, 434],
  pidfd_send_signal: [424, 424],
  pipe2: [293, 59],
  pivot_root: [155, 41],
  prctl: [157, 167],
  prlimit64: [302, 261],
  read: [0, 63],
  readlinkat: [267, 78],
  renameat2: [316, 276],
  removexattr: [197, 14],
  remount_tree: [0x4e53_0000, 0x4e53_0000], // Ours: see shim/remount.zig.
  rt_sigprocmask: [14, 135],
  sched_setaffinity: [203, 122],
  seccomp: [317, 277],
  sendfile: [40, 71],
  setdomainname: [171, 162],
  setgroups: [116, 159],
  sethostname: [170, 161],
  setns: [308, 268],
  setpriority: [141, 140],
  setresgid: [119, 149],
  setresuid: [117, 147],
  setsid: [112, 157],
  setxattr: [188, 5],
  socket: [41, 198],
  statx: [332, 291],
  symlinkat: [266, 36],
  umask: [95, 166],
  umount2: [166, 39],
  unlinkat: [263, 35],
  unshare: [272, 97],
  utimensat: [280, 88],
  write: [1, 64],
} as const satisfies Record<string, readonly [number, number]>;

/** The name of a system call that is known here. */
export type SyscallName = keyof typeof NUMBERS;

/** The number of a system call on an architecture. */
export function syscallNumber(name: SyscallName, architecture: Architecture): number {
  return NUMBERS[name][architecture === "x86_64" ? 0 : 1];
}

/** The ELF machine number by which a plan says which architecture's call numbers it holds. */
export function elfMachine(architecture: Architecture): number {
  return architecture === "x86_64" ? 62 : 183;
}
