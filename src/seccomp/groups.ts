/**
 * System calls by what they are for, under the names that systemd.exec(5) has for them; and the default profile.
 *
 * @module
 */

import type { SeccompProfile } from "../options_seccomp.ts";
import { allCalls } from "./syscalls.ts";

/** Calls, and groups in groups. What only other architectures have is left out. */
const GROUPS: Readonly<Record<string, string>> = {
  "@aio": "io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit @io-uring",
  "@basic-io":
    "close close_range dup dup2 dup3 lseek pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readv write " +
    "writev",
  "@chown": "chown fchown fchownat lchown",
  "@clock": "adjtimex clock_adjtime clock_settime settimeofday",
  "@cpu-emulation": "modify_ldt",
  "@debug": "lookup_dcookie perf_event_open pidfd_getfd ptrace",
  "@default": "arch_prctl brk clock_getres clock_gettime clock_nanosleep execve exit exit_group futex futex_waitv " +
    "get_robust_list get_thread_area getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getrandom " +
    "getresgid getresuid getrlimit getsid gettid gettimeofday getuid membarrier mmap mprotect munmap nanosleep " +
    "pause prlimit64 restart_syscall rseq rt_sigreturn sched_getaffinity sched_yield set_robust_list " +
    "set_thread_area set_tid_address time uretprobe",
  "@file-system":
    "access chdir chmod close creat faccessat faccessat2 fallocate fchdir fchmod fchmodat fchmodat2 fcntl " +
    "fgetxattr flistxattr fremovexattr fsetxattr fstat fstatfs ftruncate futimesat getcwd getdents getdents64 " +
    "getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lgetxattr link linkat listxattr " +
    "llistxattr lremovexattr lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open openat openat2 " +
    "readlink readlinkat removexattr rename renameat renameat2 rmdir setxattr stat statfs statx symlink " +
    "symlinkat truncate unlink unlinkat utime utimensat utimes",
  "@io-event":
    "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old " +
    "eventfd eventfd2 poll ppoll pselect6 select",
  "@io-uring": "io_uring_enter io_uring_register io_uring_setup",
  "@ipc": "memfd_create mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv " +
    "msgsnd pipe pipe2 process_madvise process_vm_readv process_vm_writev semctl semget semop semtimedop shmat " +
    "shmctl shmdt shmget",
  "@keyring": "add_key keyctl request_key",
  "@memlock": "mlock mlock2 mlockall munlock munlockall",
  "@module": "create_module delete_module finit_module init_module",
  "@mount":
    "chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree open_tree_attr pivot_root " +
    "umount2",
  "@network-io":
    "accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg " +
    "sendmsg sendto setsockopt shutdown socket socketpair",
  "@obsolete": "_sysctl afs_syscall create_module get_kernel_syms getpmsg nfsservctl putpmsg query_module security " +
    "sysfs tuxcall uselib ustat vserver",
  "@pkey": "pkey_alloc pkey_free pkey_mprotect",
  "@privileged": "@chown @clock @module @raw-io @reboot @swap _sysctl acct bpf capset chroot fanotify_init " +
    "fanotify_mark nfsservctl open_by_handle_at pivot_root quotactl quotactl_fd setdomainname setfsuid setgroups " +
    "sethostname setresuid setreuid setuid vhangup",
  "@process": "capget clone clone3 execveat fork getrusage kill pidfd_open pidfd_send_signal prctl rt_sigqueueinfo " +
    "rt_tgsigqueueinfo setns tgkill times tkill unshare vfork wait4 waitid",
  "@raw-io": "ioperm iopl",
  "@reboot": "kexec_file_load kexec_load reboot",
  "@resources": "ioprio_set mbind migrate_pages move_pages prlimit64 sched_setaffinity sched_setattr sched_setparam " +
    "sched_setscheduler set_mempolicy set_mempolicy_home_node setpriority setrlimit",
  "@sandbox": "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp",
  "@setuid": "setgid setgroups setregid setresgid setresuid setreuid setuid",
  "@signal": "rt_sigaction rt_sigpending rt_sigprocmask rt_sigsuspend rt_sigtimedwait sigaltstack signalfd signalfd4",
  "@swap": "swapoff swapon",
  "@sync": "fdatasync fsync msync sync sync_file_range syncfs",
  "@system-service":
    "capget capset copy_file_range fadvise64 flock get_mempolicy getcpu getpriority ioctl ioprio_get kcmp " +
    "madvise mremap name_to_handle_at personality readahead remap_file_pages sched_get_priority_max " +
    "sched_get_priority_min sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_yield " +
    "sendfile setfsgid setfsuid setpgid setsid splice sysinfo tee umask uname userfaultfd vmsplice @aio " +
    "@basic-io @chown @default @file-system @io-event @ipc @keyring @memlock @network-io @process @resources " +
    "@setuid @signal @sync @timer",
  "@timer": "alarm getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime timer_settime " +
    "timerfd_create timerfd_gettime timerfd_settime times",
};

/** Every call that is known here. */
const KNOWN = "@known";
/** The groups that there are. */
export const GROUP_NAMES: readonly string[] = [...Object.keys(GROUPS), KNOWN];

/** The calls of a group; undefined where there is none of that name. */
export function callsOf(group: string): readonly string[] | undefined {
  if (group === KNOWN) return allCalls();
  return GROUPS[group]?.split(" ").flatMap((name) => name.startsWith("@") ? callsOf(name)! : [name]);
}

/** An int, as the kernel reads it: what is in the upper half does not count. */
const INT = 0xffff_ffff;
const EPERM = { errno: "EPERM" };
/** CLONE_NEW*, but for the one of time, which clone(2) cannot make. */
const NEW_NAMESPACES = 0x7e02_0000;
/** PER_LINUX and PER_LINUX32, both with UNAME26 and without, and the question which it is. */
const PERSONALITIES = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];
const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;
const AF_VSOCK = 40;
/** S_ISUID and S_ISGID. */
const SET_IDS = 0o6000;
/** O_CREAT, and what O_TMPFILE has beside O_DIRECTORY: without either, open(2) reads no mode. */
const CREATES = 0o2000_0100;
/** Calls that give a file permissions, and which argument these are. Of a new folder they make no program. */
const MODES = [
  { calls: ["chmod", "creat", "fchmod", "mknod"], index: 1 },
  { calls: ["fchmodat", "fchmodat2", "mknodat"], index: 2 },
  { calls: ["open"], index: 2, flags: 1 },
  { calls: ["openat"], index: 3, flags: 2 },
];

/**
 * What container engines refuse: what changes the system itself, or is a large piece of the kernel that ordinary
 * programs do without. And set-user-ID and set-group-ID bits, which count for all outside in a file that is bound: where
 * root is the caller, the command's files are root's there. It says nothing of file capabilities, which take CAP_SETFCAP.
 */
export function defaultProfile(): SeccompProfile {
  return {
    default: "allow",
    rules: [
      {
        calls: [
          ..."@clock @cpu-emulation @io-uring @keyring @module @obsolete @raw-io @reboot @swap".split(" "),
          ...callsOf("@mount")!.filter((name) => name !== "chroot"),
          ...("acct bpf fanotify_init lookup_dcookie open_by_handle_at perf_event_open quotactl quotactl_fd setns syslog " +
            "unshare userfaultfd vhangup").split(" "),
        ],
        action: EPERM,
      },
      // The C library goes on with clone(2), whose flags can be seen.
      { calls: ["clone3"], action: { errno: "ENOSYS" } },
      { calls: ["clone"], action: EPERM, args: [{ index: 0, op: "&", value: NEW_NAMESPACES }] },
      ...PERSONALITIES.map((value) => ({
        calls: ["personality"],
        action: "allow" as const,
        args: [{ index: 0, op: "==" as const, value, mask: INT }],
      })),
      { calls: ["personality"], action: EPERM },
      ...[TIOCSTI, TIOCLINUX].map((value) => ({
        calls: ["ioctl"],
        action: EPERM,
        args: [{ index: 1, op: "==" as const, value, mask: INT }],
      })),
      ...MODES.map(({ calls, index, flags }) => ({
        calls,
        action: EPERM,
        args: [
          ...flags === undefined ? [] : [{ index: flags, op: "&" as const, value: CREATES }],
          { index, op: "&" as const, value: SET_IDS },
        ],
      })),
      // Its mode cannot be seen; who uses it goes on with openat(2).
      { calls: ["openat2"], action: { errno: "ENOSYS" } },
      { calls: ["socket", "socketpair"], action: EPERM, args: [{ index: 0, op: "==", value: AF_VSOCK, mask: INT }] },
    ],
  };
}
