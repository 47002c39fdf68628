/**
 * From a refused step, its errno, and facts about the machine, to the cause and the remedy. Errnos say little: one
 * EPERM has a dozen causes, and which it is can be seen in /proc. Pure: facts in, text out.
 *
 * Other texts than this one's own are in double quotes, so that the command line can tell names of options from them.
 *
 * @module
 */

import { WAIT_FOR_PARENT } from "../plan/lifetime.ts";
import type { Argument, Named, Step } from "../plan/step.ts";
import { executionCause, folderCause } from "./execution.ts";
import {
  type Facts,
  hasCapability,
  isChrooted,
  isInitialUser,
  limitOf,
  type Mount,
  mountsOf,
  statusOf,
  sysctl,
} from "./facts.ts";
import { helperCause } from "./helper.ts";
import { overlayCause, viewCause } from "./view.ts";
import { cgroupCause } from "./cgroup.ts";
import { landlockCause, ruledOut } from "./landlock.ts";
import { memoryLimit, type Refusal, tooManyProcesses } from "./limits.ts";
import { terminalCause } from "./terminal.ts";

/** The likely cause of a refusal and what can be done about it; undefined where nothing is known but the errno. */
export function findCause(refusal: Refusal, facts: Facts): string | undefined {
  const { step, code } = refusal;
  return noDescriptors(code, facts) ?? causeOf(refusal, facts) ?? anyCall(step, code, facts);
}

/** Whatever was to be opened: it is not the reason. */
function noDescriptors(code: string, facts: Facts): string | undefined {
  switch (code) {
    case "EMFILE": {
      const limit = limitOf(facts, "Max open files"); // Not to be had where this process can open nothing more.
      return `This process has as many files open as it may (RLIMIT_NOFILE${limit === undefined ? "" : `: ${limit}`}). \
Close some, or raise it with "ulimit -n".`;
    }
    case "ENFILE":
      return `The system has as many files open as it may. Raise it: sysctl fs.file-max.`;
    default:
      return undefined;
  }
}

function causeOf(refusal: Refusal, facts: Facts): string | undefined {
  const { step, code } = refusal;
  if (/ new[ug]idmap\b/.test(step.what)) return helperCause(refusal, facts);
  if (step.option === "tty") return terminalCause(refusal, facts);
  const isOfCgroup = step.option?.split(/, |\./).includes("cgroup") === true;
  const ofCgroup = isOfCgroup ? cgroupCause(refusal, facts) : undefined;
  if (ofCgroup !== undefined) return ofCgroup;
  switch (step.call) {
    case "clone":
    case "unshare":
      return namespaceCause(step, code, facts);
    case "openat":
    case "write":
      if (step.option === "privateTime") return clockCause(code);
      if (step.option === "oomScoreAdj" && (code === "EACCES" || code === "EPERM")) {
        return `To be ended later than its parent takes CAP_SYS_RESOURCE outside of any user namespace. Give oomScoreAdj a value \
that is not below the caller's, which is ${
          facts.text("/proc/self/oom_score_adj")?.trim() ?? "in /proc/self/oom_score_adj"
        }.`;
      }
      return /(?:[ug]id_map|setgroups|folder in \/proc|user ids|group ids|setgroups\(2\))/.test(step.what)
        ? mapCause(refusal, facts)
        : folderCause(refusal, facts);
    case "mount":
      return mountCause(refusal, facts);
    case "socket":
    case "ioctl":
    case "sethostname":
    case "setdomainname":
      return code === "EPERM" || code === "EACCES" ? blockedBy(facts, code) : undefined;
    case "setns":
      return setnsCause(code, facts);
    case "prctl":
    case "capset":
      if (step.option !== "capabilities" || code !== "EPERM") return undefined;
      if (step.what.startsWith("give CAP_")) {
        return `Only a capability that this process has, and that is in its bounding set, can be given: see CapPrm and CapBnd \
of /proc/self/status. Run it as root, or with privateUser, which has all in what belongs to its own namespaces.`;
      }
      return `To give up capabilities for good takes CAP_SETPCAP, to keep one takes it: run as root, or with privateUser.`;
    case "prlimit64":
      if (code !== "EPERM") return undefined;
      return `To raise a hard limit takes CAP_SYS_RESOURCE outside of any user namespace. Ask for no more than "ulimit -Ha" tells.`;
    case "setpriority":
      if (code !== "EACCES" && code !== "EPERM") return undefined;
      return `To go before others takes CAP_SYS_NICE outside of any user namespace, or a limit that allows it (RLIMIT_NICE). \
Run it as root, or give nice a value that is not below the caller's.`;
    case "sched_setaffinity":
      return code === "EINVAL" ? `None of these CPUs is there, or is in this cgroup's cpuset: see "nproc".` : undefined;
    case "setresuid":
    case "setresgid":
    case "setgroups":
      return identityCause(refusal, facts);
    case "chdir":
      return folderCause(refusal, facts);
    case "dup3":
    case "fcntl":
      return step.option === "fds" && code === "EBADF"
        ? `The caller has nothing open there. A shell opens it before, as in: COMMAND 5</etc/hosts.`
        : undefined;
    case "faccessat":
    case "fallocate":
    case "fchdir":
    case "fsopen":
    case "mount_setattr":
    case "move_mount":
    case "open_tree":
    case "openat2":
    case "pivot_root":
    case "remount_tree":
      return viewCause(refusal, facts);
    case "seccomp":
      return filterCause(code, facts);
    case "landlock_create_ruleset":
    case "landlock_add_rule":
    case "landlock_restrict_self":
      return landlockCause(refusal, facts);
    case "execve":
    case "execveat":
      return executionCause(refusal, facts) ?? ruledOut(refusal);
    default:
      return undefined;
  }
}

/** Installing a filter: see seccomp(2). */
function filterCause(code: string, facts: Facts): string | undefined {
  switch (code) {
    case "EINVAL":
      return statusOf(facts, "Seccomp") === undefined
        ? `This kernel has no filters of system calls: it was built without CONFIG_SECCOMP_FILTER. Leave seccomp out, or \
change the kernel.`
        : `A program that is given as bytes is checked by the kernel: it must be of instructions that seccomp(2) allows, \
jump forward only and within itself, and end in a return. Correct it, or give seccomp rules.`;
    case "ENOMEM":
      return `All filters of a process together may have 32768 instructions, and each before counts 4 more; or there is too \
little memory${memoryLimit(facts)}. Give it fewer rules, or run it under fewer filters.`;
    default:
      return undefined;
  }
}

/** Causes that are the same whatever the call was. */
function anyCall(step: Step, code: string, facts: Facts): string | undefined {
  switch (code) {
    case "ENOSYS":
      return isFiltered(facts) ? SECCOMP : tooOld(step, facts);
    case "EPERM":
      return isFiltered(facts) ? SECCOMP : undefined;
    case "EINVAL":
      return step.call === "close_range" ? tooOld(step, facts) : undefined;
    case "ENOMEM":
      return step.call === "mmap"
        ? `There is too little memory${memoryLimit(facts)}, or this process has as much as it may (ulimit -v).`
        : undefined;
    case "EROFS":
      return step.call === "openat"
        ? `What is to be written is on a read-only mount: mount it anew, or ${UNMASK}.`
        : undefined;
    default:
      return undefined;
  }
}

/** Since which Linux there is what steps need. */
const SINCE: ReadonlyMap<string, string> = new Map([
  ["close_range", "5.9"],
  ["execveat", "3.19"],
  ["fsopen", "5.2"],
  ["move_mount", "5.2"],
  ["open_tree", "5.2"],
  ["openat2", "5.6"],
  ["seccomp", "3.17"],
]);

function tooOld(step: Step, facts: Facts): string {
  const release = facts.text("/proc/sys/kernel/osrelease")?.trim();
  const since = SINCE.get(step.call);
  const has = release === undefined ? "" : `: it is Linux ${release}`;
  return `This kernel does not know the call${has}${since === undefined ? "" : `, and it takes ${since}`}. \
Run it on Linux 5.9 or newer.`;
}

/** What namespaces are called in the kernel: CLONE_* flag, file in /proc/self/ns, sysctl, word of the configuration. */
const KINDS = [
  ["CLONE_NEWUSER", "user", "user", "USER_NS"],
  ["CLONE_NEWNS", "mnt", "mnt", "NAMESPACES"],
  ["CLONE_NEWPID", "pid", "pid", "PID_NS"],
  ["CLONE_NEWNET", "net", "net", "NET_NS"],
  ["CLONE_NEWIPC", "ipc", "ipc", "IPC_NS"],
  ["CLONE_NEWUTS", "uts", "uts", "UTS_NS"],
  ["CLONE_NEWCGROUP", "cgroup", "cgroup", "CGROUPS"],
  ["CLONE_NEWTIME", "time", "time", "TIME_NS"],
] as const;

function namespaceCause(step: Step, code: string, facts: Facts): string | undefined {
  const flags = isNamed(step.args[0]) ? step.args[0].name.split("|") : [];
  const kinds = KINDS.filter(([flag]) => flags.includes(flag));
  switch (code) {
    case "EPERM":
    case "EACCES":
      return kinds.length === 0
        ? undefined
        : flags.includes("CLONE_NEWUSER")
        ? userRefused(facts, code)
        : namespacesRefused(facts, code);
    case "ENOSPC":
    case "EUSERS":
      return limitReached(kinds, facts);
    case "EINVAL":
      return notBuiltIn(kinds, facts);
    case "EAGAIN":
      return tooManyProcesses(facts);
    case "ENOMEM":
      return noMemory(facts);
    default:
      return undefined;
  }
}

/** A user namespace was asked for: which of the things that forbid them it is. */
function userRefused(facts: Facts, code: string): string {
  const isRoot = hasCapability(facts, "CAP_SYS_ADMIN") === true;
  if (!isRoot && sysctl(facts, "kernel.unprivileged_userns_clone") === 0) {
    return `User namespaces are for root alone here: kernel.unprivileged_userns_clone is 0. As root: \
sysctl -w kernel.unprivileged_userns_clone=1; or run this as root.`;
  }
  if (isChrooted(facts) === true) {
    return `This process is in a chroot, where nobody can make user namespaces. Enter that folder by pivot_root(2) \
instead, run it outside, or as root without privateUser.`;
  }
  const unmapped = unmappedCaller(facts);
  if (unmapped !== undefined) return unmapped;
  return blockedBy(facts, code) ??
    `The system does not let this user make user namespaces, and does not say why. Run it as root, or ask who runs the \
system: a security module or a chroot can do this.`;
}

/** create_user_ns() of kernel/user_namespace.c wants both ids of the caller to be mapped. */
function unmappedCaller(facts: Facts): string | undefined {
  for (const [name, file] of [["Uid", "uid_map"], ["Gid", "gid_map"]] as const) {
    const id = Number(statusOf(facts, name)?.split("\t")[1]);
    const map = facts.text(`/proc/self/${file}`);
    if (Number.isNaN(id) || map === undefined || covers(readMap(map), id)) continue;
    return `The caller's ${name === "Uid" ? "user" : "group"} id is not mapped in the user namespace that it is in: it \
shows as ${id}, which /proc/self/${file} does not have. Whoever made that namespace must map it.`;
  }
  return undefined;
}

/** No user namespace was asked for, and the others were refused. */
function namespacesRefused(facts: Facts, code: string): string | undefined {
  if (hasCapability(facts, "CAP_SYS_ADMIN") === true) return blockedBy(facts, code);
  return `Namespaces need CAP_SYS_ADMIN, or a user namespace around them. Run it as root; or leave privateUser out \
rather than refuse it, and one is made.`;
}

function limitReached(kinds: readonly (typeof KINDS)[number][], facts: Facts): string {
  const values = kinds.map((
    [, , name],
  ) => [`user.max_${name}_namespaces`, sysctl(facts, `user.max_${name}_namespaces`)])
    .filter((pair): pair is [string, number] => pair[1] !== undefined);
  const none = values.filter(([, value]) => value === 0).map(([name]) => name);
  if (none.length > 0) {
    return `No disk is full: ${none.join(" and ")} ${none.length === 1 ? "is" : "are"} 0, so this kind of namespace is \
not allowed. As root: ${none.map((name) => `sysctl -w ${name}=10000`).join("; ")}.`;
  }
  const limits = values.filter(([, value]) => value < UNLIMITED).map(([name, value]) => `${name} is ${value}`);
  const own = limits.length === 0 ? [] : [`this user has as many namespaces as it may have (${limits.join(", ")})`];
  const around = isInitialUser(facts) ? [] : [
    `a user namespace around this one has a limit of its own that is reached (sandboxes set user.max_user_namespaces there, \
such as bwrap --disable-userns)`,
  ];
  const causes = [...own, ...around, "they are nested too deep: user and pid namespaces can be nested 32 deep"];
  return `No disk is full: ${
    causes.join("; or ")
  }. End what holds namespaces (lsns shows them), raise the limit where it is \
(sysctl -w as root), or run this outside.`;
}

/** What the sysctls are in a user namespace where nobody has set them. */
const UNLIMITED = 2 ** 31 - 1;

function notBuiltIn(kinds: readonly (typeof KINDS)[number][], facts: Facts): string | undefined {
  const missing = kinds.filter(([, file]) => !facts.allows(`/proc/self/ns/${file}`, "exist"));
  if (missing.length > 0 && facts.allows("/proc/self/ns", "exist")) {
    const release = facts.text("/proc/sys/kernel/osrelease")?.trim() ?? "";
    return `This kernel (Linux ${release}) has no ${
      missing.map(([, file]) => file).join(", ")
    } namespaces: it was built \
without ${
      missing.map(([, , , config]) => `CONFIG_${config}`).join(", ")
    }, or is too old (cgroup namespaces take 4.6, time \
namespaces 5.6). Leave that option out, or change the kernel.`;
  }
  if (kinds.some(([flag]) => flag === "CLONE_NEWUSER" || flag === "CLONE_NEWTIME") && threadsOf(facts) > 1) {
    return `A process with threads, as Deno is, cannot enter a new user namespace. Use command(), whose child is alone.`;
  }
  return undefined;
}

function threadsOf(facts: Facts): number {
  return Number(statusOf(facts, "Threads") ?? 1);
}

function noMemory(facts: Facts): string {
  const [own, children] = [
    facts.place("/proc/thread-self/ns/pid"),
    facts.place("/proc/thread-self/ns/pid_for_children"),
  ];
  const sameInode = own?.inode === children?.inode;
  if (own !== undefined && children !== undefined && !sameInode) {
    return `Children of this process are born in another pid namespace, and that one's PID 1 has ended: then there is no \
place for them. It comes of unshare --pid without --fork. Add --fork, or use privatePid here instead.`;
  }
  return `There is too little memory for a process${
    memoryLimit(facts)
  }, or PID 1 of the pid namespace that it would be in \
has ended.`;
}

const FOREIGN_PROC = `/proc does not show this process's own children: it is not mounted, or of another pid namespace. \
Mount it anew (mount -t proc proc /proc), or leave out noProc of what this runs in.`;

/** Writing uid_map, gid_map and setgroups: see user_namespaces(7). */
function mapCause({ step, code, section }: Refusal, facts: Facts): string | undefined {
  if (code === "ENOENT" || code === "ENOTDIR") return FOREIGN_PROC;
  if (code === "EROFS") {
    return `/proc is mounted read-only, so maps cannot be written. Run it as root, without privateUser.`;
  }
  if (code === "EINVAL") return `A map can have 340 lines and 4095 characters. Make it of fewer, longer ranges.`;
  if (code !== "EPERM" && code !== "EACCES") return undefined;
  const shown = statusOf(facts, "Tgid");
  if (shown !== undefined && shown !== String(facts.pid)) return FOREIGN_PROC;
  if (isBlockedByAppArmor(facts)) return appArmor(facts);
  const group = /gid_map|group ids/.test(step.what);
  const map = writtenMap(section, group ? "group" : "user");
  return mapRefused(facts, map, group);
}

function mapRefused(facts: Facts, map: readonly IdLine[], group: boolean): string {
  const [word, file, capability] = group
    ? ["group", "gid_map", "CAP_SETGID"] as const
    : ["user", "uid_map", "CAP_SETUID"] as const;
  const own = readMap(facts.text(`/proc/self/${file}`) ?? "");
  const outside = own.length === 0 ? undefined : map.find((line) => !covers(own, line.outside, line.count));
  if (outside !== undefined) {
    return `There is no ${word} ${outside.outside}${
      outside.count === 1 ? "" : ` and the ${outside.count - 1} after it`
    } in \
the user namespace that this runs in: see /proc/self/${file}. Map ids that are there.`;
  }
  if (group && hasCapability(facts, "CAP_SETGID") === false) {
    return `Without CAP_SETGID the caller's own group id can be mapped only where setgroups(2) is given up. Leave setgroups \
out of privateUser, or run it as root.`;
  }
  if (!group && map.some(({ outside }) => outside === 0) && hasCapability(facts, "CAP_SETFCAP") === false) {
    return `To map user 0 of the outside takes CAP_SETFCAP since Linux 5.12, and this process has not got it. Give it \
(docker run --cap-add SETFCAP), or run it as another user than root.`;
  }
  return blockedBy(facts, "EPERM") ??
    `The kernel lets this process not write that map: it takes ${capability}, CAP_SETFCAP for user 0, and ids that are there \
outside. Map the caller alone, or run it as root.`;
}

/** A line of a uid map or gid map. */
interface IdLine {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

function readMap(text: string): readonly IdLine[] {
  return text.split("\n").filter((line) => line.trim() !== "").map((line) => {
    const [inside, outside, count] = line.trim().split(/\s+/).map(Number) as [number, number, number];
    return { inside, outside, count };
  });
}

function covers(map: readonly IdLine[], first: number, count = 1): boolean {
  return map.some((line) => first >= line.inside && first + count <= line.inside + line.count);
}

/** The map that steps write. */
function writtenMap(section: readonly Step[], word: "user" | "group"): readonly IdLine[] {
  const write = section.find(({ what }) => what.startsWith(`map ${word} ids`));
  const content = write?.args[1];
  return isObject(content) && "bytes" in content ? readMap(new TextDecoder().decode(content.bytes)) : [];
}

function clockCause(code: string): string | undefined {
  if (code === "ERANGE") {
    return `The clock would stand before 0 or overflow: a negative offset can be no larger than the clock's present value. \
See /proc/uptime for what it is.`;
  }
  if (code === "ENOENT") {
    return `This kernel has no time namespaces (Linux 5.6, CONFIG_TIME_NS). Leave privateTime out.`;
  }
  if (code === "EROFS") {
    return `/proc is mounted read-only, so the clocks cannot be set. Use privateTime without offsets.`;
  }
  return undefined;
}

/** What shows of which namespace. */
const OWNERS: ReadonlyMap<string, string> = new Map([
  ["proc", "privatePid"],
  ["sysfs", "privateNet"],
  ["mqueue", "privateIpc"],
]);

function mountCause({ step, code, section }: Refusal, facts: Facts): string | undefined {
  const [source, target, type, , data] = step.args;
  const ofLayers = type === "overlay" ? overlayCause(code, String(data ?? ""), facts) : undefined;
  if (ofLayers !== undefined) return ofLayers;
  switch (code) {
    case "EBUSY":
      return typeof type === "string" && step.option === "mounts"
        ? `The same ${type} is mounted there already. Bind it onto itself to give it other flags.`
        : undefined;
    case "EPERM":
    case "EACCES":
      if (code === "EPERM" && type === "proc" && hasCapability(facts, "CAP_SYS_ADMIN") !== undefined) {
        const covered = procCovered(facts);
        if (covered !== undefined) return covered;
      }
      if (code === "EPERM" && step.option === "mounts" && typeof type === "string") {
        const owner = OWNERS.get(type);
        if (owner !== undefined && !section.some(({ option }) => option === owner)) {
          return `In a user namespace the kernel mounts ${type} only where the namespace that it shows was made there, too. \
Set ${owner}; or bind the one of the outside.`;
        }
      }
      return blockedBy(facts, code) ??
        (step.option === undefined
          ? `Mounting takes CAP_SYS_ADMIN in the user namespace that this mount namespace belongs to. Run it as root; or in \
a Namespace with privateUser and privateMount.`
          : undefined);
    case "ENOSPC":
      return `No disk is full: a mount namespace can have ${sysctl(facts, "fs.mount-max") ?? "no more"} mounts \
(fs.mount-max). Unmount some, or raise it as root: sysctl -w fs.mount-max=200000.`;
    case "EINVAL":
      if (typeof type === "string" && type === "tmpfs") return tmpfsCause(String(data ?? ""), facts);
      if (target === "/" && isChrooted(facts) !== false) {
        return `/ is not a mount of its own here: this process is in a chroot, or in an initial ramfs. Make the folder a \
mount before it is entered (mount --bind DIR DIR), or enter it by pivot_root(2).`;
      }
      return undefined;
    case "ENODEV":
      return typeof type !== "string"
        ? undefined
        : `This kernel has no file system "${type}": see /proc/filesystems. Load its module as root (modprobe ${type}), \
or do without.`;
    case "ENOENT":
    case "ENOTDIR":
      if (typeof target === "string" && !facts.allows(target, "exist")) {
        return `There is no "${target}" to mount on. Make it: mkdir -p "${target}".`;
      }
      return typeof source === "string" && source.startsWith("/") && !facts.allows(source, "exist")
        ? `There is no "${source}".`
        : undefined;
    case "ENOMEM":
      return `There is too little memory${memoryLimit(facts)}.`;
    default:
      return undefined;
  }
}

function tmpfsCause(data: string, facts: Facts): string {
  if (data.includes("huge=") && !facts.allows("/sys/kernel/mm/transparent_hugepage", "exist")) {
    return `This kernel has no huge pages for tmpfs (CONFIG_TRANSPARENT_HUGEPAGE). Leave "huge" out.`;
  }
  if (/\b[ug]id=/.test(data)) {
    return `The owner of a tmpfs must be mapped in the user namespace. Give privateUser a uidMap and a gidMap that have \
that id, or leave it out.`;
  }
  return `The kernel does not know one of the tmpfs's options, or a number is too large: "${data}". Leave out what is not \
needed.`;
}

/**
 * Why the kernel says "mount too revealing": mount_too_revealing() of fs/namespace.c. Whoever is root in a user namespace
 * alone gets no fresh /proc that would show what was covered in the old one.
 */
function procCovered(facts: Facts): string | undefined {
  const mounts = mountsOf(facts);
  const covers = mounts.map(({ point }) => point).filter((point) =>
    point.startsWith("/proc/") && point !== "/proc/sys/fs/binfmt_misc"
  );
  const proc = mounts.findLast(({ point, type }) => point === "/proc" && type === "proc");
  const reason = covers.length > 0
    ? `here ${list([...new Set(covers)])} ${
      covers.length === 1 ? "is" : "are"
    } covered by other mounts, as container engines do`
    : proc === undefined
    ? "here there is none at /proc"
    : isPartial(proc)
    ? "here only a part of it is mounted, or read-only"
    : undefined;
  return reason === undefined
    ? undefined
    : `In a user namespace the kernel mounts a new /proc only where the outer one is \
fully visible, and ${reason}. Set noProc; or ${UNMASK}; or run it as root without a user namespace.`;
}

function isPartial({ root, options, superOptions }: Mount): boolean {
  return root !== "/" || options.includes("ro") || superOptions.includes("subset=pid");
}

const UNMASK = `give the container all of /proc (docker run --security-opt systempaths=unconfined, podman run \
--security-opt unmask=ALL, Kubernetes procMount: Unmasked)`;

function list(names: readonly string[]): string {
  const shown = names.slice(0, 4).map((name) => `"${name}"`);
  return names.length > shown.length ? `${shown.join(", ")} and ${names.length - shown.length} more` : shown.join(", ");
}

function setnsCause(code: string, facts: Facts): string | undefined {
  if (code === "EPERM") {
    return hasCapability(facts, "CAP_SYS_ADMIN") === true
      ? blockedBy(facts, code) ?? `It takes CAP_SYS_ADMIN in the user namespace that the other namespace belongs to.`
      : `To enter a namespace takes CAP_SYS_ADMIN. Run it as root.`;
  }
  if (code === "EINVAL") return `The file is no namespace, or one of another kind than was said.`;
  return undefined;
}

/** See credentials(7), and user_namespaces(7) for who has a user namespace. */
function identityCause({ step, code, section }: Refusal, facts: Facts): string | undefined {
  if (code === "EINVAL") {
    return `That id is not mapped in the user namespace. Give privateUser that uid and gid, or a uidMap and a gidMap that \
have it; or leave the id out.`;
  }
  if (code === "EAGAIN") return tooManyProcesses(facts);
  if (code !== "EPERM") return undefined;
  const hasUser = section.includes(WAIT_FOR_PARENT);
  if (step.call === "setgroups" && hasUser) {
    return `Groups cannot be changed in a user namespace where setgroups(2) is given up: that is so with "deny", and \
where the caller's own group is mapped without CAP_SETGID. Let uidMap and gidMap be "auto", or leave the groups as they are.`;
  }
  const capability = step.call === "setresuid" ? "CAP_SETUID" : "CAP_SETGID";
  if (hasUser || hasCapability(facts, capability) === true) return blockedBy(facts, code);
  return step.call === "setgroups"
    ? `To change groups takes CAP_SETGID: run as root, or let uidMap and gidMap be "auto".`
    : `Becoming someone else needs CAP_SETUID and CAP_SETGID: run as root, or give privateUser that uid and gid.`;
}

/** What takes away what this process may otherwise do. */
function blockedBy(facts: Facts, code: string): string | undefined {
  if (isBlockedByAppArmor(facts)) return appArmor(facts);
  const label = labelOf(facts);
  const confined = label !== undefined && / \((?:enforce|kill)\)$/.test(label);
  const byModule = confined
    ? `This process is confined by the AppArmor profile "${
      label.replace(/ \(\w+\)$/, "")
    }", which forbids it. Change that \
profile; for a container: docker run --security-opt apparmor=unconfined.`
    : sysctlOfSelinux(facts) === 1
    ? `SELinux is enforcing, and this process is "${
      label ?? "confined"
    }": ausearch -m avc shows whether it forbade this. For \
a container: podman run --security-opt label=disable.`
    : undefined;
  // AppArmor answers EACCES, filters mostly EPERM.
  if (code === "EACCES") return byModule ?? (isFiltered(facts) ? SECCOMP : undefined);
  return isFiltered(facts) ? SECCOMP : byModule;
}

function sysctlOfSelinux(facts: Facts): number {
  return Number.parseInt(facts.text("/sys/fs/selinux/enforce") ?? "0");
}

function labelOf(facts: Facts): string | undefined {
  return facts.text("/proc/thread-self/attr/current")?.replaceAll("\0", "").trim();
}

/** Whether a seccomp filter looks at this process's calls. */
function isFiltered(facts: Facts): boolean {
  return statusOf(facts, "Seccomp") === "2";
}

const SECCOMP =
  `A seccomp filter looks at this process's system calls (Seccomp: 2 in /proc/self/status) and seems to refuse \
this one: container engines do. For a container: docker run --cap-add SYS_ADMIN, or --security-opt seccomp=PROFILE with one \
that allows clone, unshare, setns, mount and pivot_root (seccomp=unconfined allows all).`;

/**
 * Since 23.10 Ubuntu takes the capabilities from user namespaces of programs that no profile speaks of. The namespace is
 * made, and the first thing that needs a capability fails; what is in such a namespace already has a label that says so.
 */
function isBlockedByAppArmor(facts: Facts): boolean {
  const label = labelOf(facts) ?? "unconfined";
  return label.startsWith("unprivileged_userns") ||
    (sysctl(facts, "kernel.apparmor_restrict_unprivileged_userns") === 1 && label.startsWith("unconfined") &&
      hasCapability(facts, "CAP_SYS_ADMIN") !== true);
}

/** What to type on such a system. */
function appArmor(facts: Facts): string {
  const path = facts.executable ?? "/path/to/deno";
  const profile =
    `abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile deno "${path}" flags=(unconfined) {\\n  userns,\\n}\\n`;
  return `AppArmor takes all capabilities from the user namespaces of programs without a profile \
(kernel.apparmor_restrict_unprivileged_userns is 1, as Ubuntu has it since 23.10). Give this program one: \
printf '${profile}' | sudo tee /etc/apparmor.d/deno-userns && sudo apparmor_parser -r /etc/apparmor.d/deno-userns; or allow it \
to all: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; or run it as root.`;
}

function isNamed(argument: Argument | undefined): argument is Named {
  return isObject(argument) && "name" in argument && "value" in argument;
}

function isObject(argument: Argument | undefined): argument is Exclude<Argument, number | string | null> {
  return typeof argument === "object" && argument !== null;
}
