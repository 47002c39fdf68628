/**
 * A small model of Linux: as much of a process as plans change. It answers the calls that plans make as Linux does where
 * nothing is in the way: permissions are not modelled, {@linkcode Fault} stands for all refusals.
 *
 * @module
 */

import {
  CLONE_NEWCGROUP,
  CLONE_NEWIPC,
  CLONE_NEWNET,
  CLONE_NEWNS,
  CLONE_NEWPID,
  CLONE_NEWTIME,
  CLONE_NEWUSER,
  CLONE_NEWUTS,
} from "../abi/clone.ts";
import { errnoNumber } from "../abi/errno.ts";
import { MS_PRIVATE } from "../abi/mount.ts";
import type { SyscallName } from "../abi/syscalls.ts";

/** An argument as the kernel reads it: `null` for a null pointer, bytes where it is a struct. */
export type Decoded = number | string | null | readonly string[] | Uint8Array;

/** Who makes a call: the process that runs plans, a helper of it, its child, or another thread of it that is moved. */
export type Actor = "parent" | "helper" | "child" | "thread";

/** A call as it came to the kernel. */
export interface Attempt {
  readonly by: Actor;
  readonly call: SyscallName;
  readonly args: readonly Decoded[];
}

/** A call, and what was answered. */
export interface SimulatedCall extends Attempt {
  /** A value, or minus an errno. */
  readonly result: number;
}

/**
 * Refuses calls: returns the name of an errno, or undefined where the model is to answer. An older kernel is one that says
 * `"ENOSYS"` to what it does not know.
 *
 * @param attempt The call.
 * @param nth How many calls the same actor has made before, since the simulator was made; a helper's are its parent's.
 */
export type Fault = (attempt: Attempt, nth: number) => string | undefined;

/** A mount, by what mount(2) was given. */
export interface SimulatedMount {
  readonly source: string | null;
  readonly target: string;
  readonly type: string | null;
  readonly flags: number;
  readonly data: string | null;
}

/** A namespace, with what there is in it. Two processes are in the same one when it is the same object. */
export interface SimulatedNamespace {
  /** Its file in /proc/<pid>/ns. */
  readonly kind: string;
  /** In a mount namespace. */
  readonly mounts: SimulatedMount[];
  /** Where what is mounted shows besides: in the namespace that a mount namespace is a copy of, until all is private. */
  peer: SimulatedNamespace | undefined;
  /** Hostname and domainname, a loopback that is up, the content of files that were written. */
  readonly facts: Map<string, string>;
}

/** An open file. */
interface Description {
  readonly path: string;
  readonly namespace?: SimulatedNamespace | undefined;
  readonly ofProcess?: SimulatedProcess | undefined;
}

interface Descriptor {
  readonly description: Description;
  closedByExec: boolean;
}

/** File in /proc/<pid>/ns, and its flag. */
const KINDS: readonly (readonly [string, number])[] = [
  ["mnt", CLONE_NEWNS],
  ["pid", CLONE_NEWPID],
  ["net", CLONE_NEWNET],
  ["ipc", CLONE_NEWIPC],
  ["uts", CLONE_NEWUTS],
  ["user", CLONE_NEWUSER],
  ["cgroup", CLONE_NEWCGROUP],
  ["time", CLONE_NEWTIME],
];

const AT_FDCWD = -100;
const O_CLOEXEC = 0o2000000;
const CLOSE_RANGE_CLOEXEC = 4;
const F_DUPFD = 0;
const F_DUPFD_CLOEXEC = 1030;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const FUTEX_WAKE_OP = 5;
const PR_SET_NO_NEW_PRIVS = 38;

/** One process, or one thread of it where threads differ. */
export class SimulatedProcess {
  readonly fds: Map<number, Descriptor>;
  readonly namespaces: Map<string, SimulatedNamespace>;
  cwd: string;
  uid: number;
  gid: number;
  /** What has been executed; undefined before. */
  program: string | undefined;
  /** Whether it dies with its parent. */
  bound = false;
  /** Whether execve(2) gives it no privileges. */
  noNewPrivs = false;
  /** The child that it is making, whose folder in /proc it may open. */
  making: SimulatedProcess | undefined;

  /**
   * @param parent Whose child it is; one without is the first.
   * @param cloneFlags CLONE_NEW* for which it gets namespaces of its own.
   */
  constructor(parent?: SimulatedProcess, cloneFlags = 0) {
    const inherited = parent?.fds ??
      new Map([0, 1, 2].map((fd) => [fd, { description: { path: "outer" }, closedByExec: false }]));
    this.fds = new Map([...inherited].map(([fd, descriptor]) => [fd, { ...descriptor }]));
    this.namespaces = new Map(
      KINDS.map(([kind]) => [kind, parent?.namespaces.get(kind) ?? makeNamespace(kind)]),
    );
    this.cwd = parent?.cwd ?? "/home";
    this.uid = parent?.uid ?? 0;
    this.gid = parent?.gid ?? 0;
    this.unshare(cloneFlags);
  }

  /** Gets namespaces of its own. */
  unshare(flags: number): void {
    for (const [kind, flag] of KINDS) {
      if ((flags & flag) !== 0) this.namespaces.set(kind, makeNamespace(kind, this.namespaces.get(kind)));
    }
  }

  /** The lowest number that is free, now taken. */
  open(description: Description, closedByExec: boolean, least = 0): number {
    let fd = least;
    while (this.fds.has(fd)) fd++;
    this.fds.set(fd, { description, closedByExec });
    return fd;
  }

  /** Enters the namespace that a descriptor leads to. Says whether that is one. */
  enter(fd: number): boolean {
    const namespace = this.fds.get(fd)?.description.namespace;
    if (namespace === undefined) return false;
    this.namespaces.set(namespace.kind, namespace);
    if (namespace.kind === "mnt") this.cwd = "/"; // setns(2): root and current folder become the new root.
    return true;
  }

  /** Becomes another program. */
  execute(path: string): void {
    this.program = path;
    for (const [fd, { closedByExec }] of this.fds) if (closedByExec) this.fds.delete(fd);
  }
}

function makeNamespace(kind: string, copied?: SimulatedNamespace): SimulatedNamespace {
  const copies = kind === "mnt" || kind === "uts";
  return {
    kind,
    mounts: copies ? [...copied?.mounts ?? []] : [],
    peer: kind === "mnt" ? copied : undefined,
    facts: new Map(copies ? copied?.facts : []),
  };
}

/** What is there, for paths that plans do not make themselves. */
export interface Files {
  /** Whether a path can be executed. @default {all can} */
  readonly isExecutable?: ((path: string) => boolean) | undefined;
  /** Whether a path leads to a file that is no folder. @default {none does} */
  readonly isFile?: ((path: string) => boolean) | undefined;
  /** Whether there is something to be mounted, or to mount on. @default {there is} */
  readonly isThere?: ((path: string) => boolean) | undefined;
  /** Whether a folder is there, inside. @default {all are} */
  readonly isFolder?: ((path: string) => boolean) | undefined;
}

/**
 * Answers a call as Linux does.
 *
 * @param word What the word holds that a futex(2) is about.
 * @returns A value, or minus an errno. An execve that has succeeded does not return on Linux; here it is 0.
 */
export function answer(
  process: SimulatedProcess,
  call: SyscallName,
  args: readonly Decoded[],
  word: number | undefined,
  files: Files,
): number {
  const [a, b, c, d] = args;
  const numbers = args as readonly number[];
  switch (call) {
    case "openat":
      return open(process, a as number, b as string, c as number);
    case "close":
      return process.fds.delete(a as number) ? 0 : no("EBADF");
    case "dup3": {
      const from = process.fds.get(a as number);
      if (from === undefined) return no("EBADF");
      if (a === b) return no("EINVAL");
      process.fds.set(b as number, { description: from.description, closedByExec: c === O_CLOEXEC });
      return b as number;
    }
    case "fcntl": {
      const from = process.fds.get(a as number);
      if (from === undefined) return no("EBADF");
      if (b === F_SETFD) {
        from.closedByExec = c === FD_CLOEXEC;
        return 0;
      }
      if (b === F_DUPFD) return process.open(from.description, false, c as number);
      return b === F_DUPFD_CLOEXEC ? process.open(from.description, true, c as number) : no("EINVAL");
    }
    case "fallocate":
    case "fchmod":
    case "fchown":
    case "ioctl":
      if (!process.fds.has(a as number)) return no("EBADF");
      if (call === "ioctl" && c !== null) fact(process, "net", "loopback", "up");
      return 0;
    case "close_range":
      for (const [fd, descriptor] of process.fds) {
        if (fd < numbers[0]! || fd > numbers[1]!) continue;
        if (c === CLOSE_RANGE_CLOEXEC) descriptor.closedByExec = true;
        else process.fds.delete(fd);
      }
      return 0;
    case "read": // What is read is left as it is: nothing in a file of this model.
      return process.fds.has(a as number) ? 0 : no("EBADF");
    case "write":
      return write(process, a as number, b as Uint8Array);
    case "socket":
      return process.open({ path: "socket" }, (numbers[1]! & O_CLOEXEC) !== 0);
    case "mount": {
      const namespace = process.namespaces.get("mnt")!;
      if ((numbers[3]! & MS_PRIVATE) !== 0) namespace.peer = undefined;
      else mount(namespace, args as [string, string, string | null, number, string | null]);
      return 0;
    }
    case "unshare":
      process.unshare(a as number);
      return 0;
    case "setns":
      return process.enter(a as number) ? 0 : no("EBADF");
    case "chdir":
      if (files.isFolder?.(a as string) === false) return no("ENOENT");
      process.cwd = a as string;
      return 0;
    case "fchdir": {
      const path = process.fds.get(a as number)?.description.path;
      if (path === undefined) return no("EBADF");
      process.cwd = path;
      return 0;
    }
    case "sethostname":
    case "setdomainname":
      fact(process, "uts", call, a as string);
      return 0;
    case "setresuid":
      process.uid = a as number;
      process.bound = false; // prctl(2), PR_SET_PDEATHSIG.
      return 0;
    case "setresgid":
      process.gid = a as number;
      process.bound = false;
      return 0;
    case "prctl":
      if (a === PR_SET_NO_NEW_PRIVS) process.noNewPrivs = true;
      else process.bound = true;
      return 0;
    case "landlock_create_ruleset":
      return process.open({ path: "ruleset" }, true);
    case "landlock_add_rule":
      return process.fds.has(a as number) ? 0 : no("EBADF");
    case "landlock_restrict_self":
      if (!process.fds.has(a as number)) return no("EBADF");
      return process.noNewPrivs ? 0 : no("EPERM");
    case "seccomp":
      return process.noNewPrivs ? 0 : no("EACCES");
    case "futex":
      if (b === FUTEX_WAKE_OP) return 0; // Nobody waits.
      if (word !== c) return no("EAGAIN");
      return d === null ? 0 : no("ETIMEDOUT"); // Woken by the parent, or nobody is left to do that.
    case "execve":
    case "execveat": {
      const path = call === "execve" ? a as string : process.fds.get(a as number)?.description.path;
      if (path === undefined) return no("EBADF");
      if (files.isExecutable?.(path) === false) return no("ENOENT");
      process.execute(path);
      return 0;
    }
    case "open_tree":
    case "openat2":
    case "fsmount":
    case "fsopen":
      return openMount(process, call, args, files);
    case "faccessat": {
      const path = process.fds.get(a as number)?.description.path;
      if (path === undefined) return no("EBADF");
      return files.isFile?.(path) === true ? no("ENOTDIR") : 0;
    }
    case "fchmodat":
    case "mkdirat":
    case "mknodat":
    case "mount_setattr":
    case "remount_tree":
    case "fsconfig":
      return hasFolder(process, a as number) ? 0 : no("EBADF");
    case "symlinkat":
      return hasFolder(process, b as number) ? 0 : no("EBADF");
    case "move_mount":
      return hasFolder(process, a as number) && hasFolder(process, c as number) ? 0 : no("EBADF");
    case "chroot":
    case "pivot_root":
    case "umount2":
    case "setsid":
    case "setpriority":
    case "sched_setaffinity":
    case "prlimit64":
    case "keyctl":
    case "capget":
    case "capset":
    case "setgroups":
    case "rt_sigprocmask":
      return 0;
    case "getegid":
      return process.gid;
    case "geteuid":
      return process.uid;
    case "umask":
      return 0o22;
    default:
      return no("ENOSYS");
  }
}

function no(errno: string): number {
  return -errnoNumber(errno);
}

function fact(process: SimulatedProcess, kind: string, name: string, value: string): void {
  process.namespaces.get(kind)!.facts.set(name, value);
}

function mount(
  namespace: SimulatedNamespace,
  [source, target, type, flags, data]: readonly [string, string, string | null, number, string | null],
): void {
  namespace.mounts.push({ source, target, type, flags, data });
  namespace.peer?.mounts.push({ source, target, type, flags, data });
}

function open(process: SimulatedProcess, folder: number, path: string, flags: number): number {
  const base = process.fds.get(folder)?.description;
  if (folder >= 0 && base === undefined) return no("EBADF");
  const [, kind] = /^\/proc\/(?:thread-)?self\/ns\/(\w+?)(?:_for_children)?$/.exec(path) ?? [];
  const whole = base !== undefined ? `${base.path}/${path}` : path === "." ? process.cwd : path;
  const description: Description = {
    path: whole,
    namespace: kind === undefined ? undefined : process.namespaces.get(kind),
    ofProcess: base?.ofProcess ?? (/^\/proc\/\d+$/.test(path) ? process.making : undefined),
  };
  return process.open(description, (flags & O_CLOEXEC) !== 0);
}

/** Whether paths can begin at a descriptor. */
function hasFolder(process: SimulatedProcess, fd: number): boolean {
  return fd === AT_FDCWD || process.fds.has(fd);
}

/** Descriptors of mounts, and of what is in them, keep the path that they were opened by. */
function openMount(
  process: SimulatedProcess,
  call: SyscallName,
  [a, b]: readonly Decoded[],
  { isThere }: Files,
): number {
  if (call === "fsopen") return process.open({ path: a as string }, true);
  if (!hasFolder(process, a as number)) return no("EBADF");
  const base = process.fds.get(a as number)?.description.path;
  if (call !== "fsmount" && isThere?.(b as string) === false) return no("ENOENT");
  return process.open({ path: call === "fsmount" ? base! : b as string }, true);
}

function write(process: SimulatedProcess, fd: number, bytes: Uint8Array): number {
  const description = process.fds.get(fd)?.description;
  if (description === undefined) return no("EBADF");
  const file = description.path.slice(description.path.lastIndexOf("/") + 1);
  const owner = description.ofProcess ?? process;
  fact(owner, file === "timens_offsets" ? "time" : "user", file, new TextDecoder().decode(bytes));
  return bytes.length;
}
