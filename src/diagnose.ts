/**
 * What this machine allows this user: tried in throw-away children, and read where trying would leave something behind.
 * Needs `--allow-ffi`.
 *
 * ```ts
 * import { diagnose } from "@sys-linux/namespace/diagnose";
 *
 * const { works, checks } = await diagnose();
 * for (const check of checks) if (!check.works) console.log(check.name, check.detail, check.remedy);
 * console.log(works ? "Everything that is needed works." : "Something that is needed does not work.");
 * ```
 *
 * @module
 */

import { errnoName, errnoText } from "./abi/errno.ts";
import {
  cgroupFolders,
  type Facts,
  hasCapability,
  limitOf,
  mountOf,
  statusOf,
  subordinateRanges,
  sysctl,
} from "./diagnosis/facts.ts";
import { noController } from "./diagnosis/cgroup.ts";
import { NamespaceError, stepError } from "./errors.ts";
import { facts, perform } from "./machine/facts.ts";
import { library } from "./machine/library.ts";
import { type NamespaceOptions, validate } from "./options.ts";
import { planChild } from "./plan/child.ts";
import { AT_FDCWD } from "./plan/files.ts";
import type { Step } from "./plan/step.ts";
import { locate } from "./process/cgroup.ts";
import { Command } from "./process/command.ts";

/** One thing that was looked at. */
export interface Check {
  /** What it is, such as `"pid namespace"`. */
  readonly name: string;
  /** Whether it works for this user. */
  readonly works: boolean;
  /** Whether it was done, in a child that is gone again, or only read from what the system says of itself. */
  readonly how: "tried" | "read";
  /** What was found: the error where it does not work, a version or a range where it does. */
  readonly detail: string | undefined;
  /** What can be done where it does not work, in the names of the library's options. */
  readonly remedy: string | undefined;
}

/** What kind of machine and process this is. */
export interface System {
  /** The kernel's release, such as `"6.12.4"`. */
  readonly kernel: string;
  /** The architecture, such as `"x86_64"`. */
  readonly architecture: string;
  /** The effective user id. */
  readonly uid: number;
  /** Whether this process has CAP_SYS_ADMIN, so that no user namespace is needed. */
  readonly privileged: boolean;
  /** The security modules that are active, as far as they can be seen. */
  readonly securityModules: readonly string[];
  /** What a security module knows this process by, such as an AppArmor profile. */
  readonly securityLabel: string | undefined;
  /** Whether a seccomp filter looks at this process's system calls. */
  readonly filtered: boolean;
  /** Whether this process can gain no privileges by executing a set-user-ID program. */
  readonly noNewPrivileges: boolean;
  /** Limits by name, such as `user.max_user_namespaces`; those that are not known, or that there are not, are left out. */
  readonly limits: Readonly<Record<string, number>>;
}

/** What {@linkcode diagnose} found. */
export interface Diagnosis {
  /** Whether processes, /tmp, network, IPC, names and users can all be private at once, as this user. */
  readonly works: boolean;
  /** The machine and this process. */
  readonly system: System;
  /** What this package uses: each namespace, and what is mounted in it. */
  readonly checks: readonly Check[];
  /** What the system has beyond that. */
  readonly features: readonly Check[];
}

/** What is tried, and the options that ask for it. Each gets a user namespace around it where this user needs one. */
const TRIALS: readonly (readonly [name: string, options: NamespaceOptions])[] = [
  ["user namespace", { privateUser: true }],
  ["mount namespace", { privateMount: true }],
  ["private /tmp", { privateTmp: true }],
  ["pid namespace", { privatePid: true, noProc: true }],
  ["pid namespace with its own /proc", { privatePid: true }],
  ["network namespace with a loopback", { privateNet: true }],
  ["IPC namespace", { privateIpc: true }],
  ["UTS namespace", { hostname: "box" }],
  ["cgroup namespace", { privateCgroup: true }],
  ["time namespace", { privateTime: { boottime: 1 } }],
];

const ALL: NamespaceOptions = {
  privatePid: true,
  privateTmp: true,
  privateNet: true,
  privateIpc: true,
  privateUts: true,
  privateUser: true,
};

/**
 * Finds out what this machine allows this user, namespace by namespace, and what is in the way of the rest.
 *
 * @returns What was found. Nothing of what was tried is left.
 * @throws {Deno.errors.NotSupported} On anything but Linux on x86_64 or aarch64.
 * @throws {Deno.errors.NotCapable} Without `--allow-ffi`.
 *
 * @example What is in the way
 * ```ts
 * import { diagnose } from "@sys-linux/namespace/diagnose";
 * import { assert } from "@std/assert";
 *
 * const { works, checks, system } = await diagnose();
 * assert(works, `User ${system.uid}: ${checks.find((check) => !check.works)?.remedy}`);
 * ```
 */
export async function diagnose(): Promise<Diagnosis> {
  const checks: Check[] = [];
  for (const [name, options] of [...TRIALS, ["all of these but cgroup and time at once", ALL] as const]) {
    checks.push(tried(name, await refusalOf(options)));
  }
  const features = [
    calls("clone3", { call: "clone3", args: [null, 0], what: "ask for clone3" }, "5.3"),
    calls(
      "mount_setattr",
      { call: "mount_setattr", args: [-1, "", 0, null, 0], what: "ask for mount_setattr" },
      "5.12",
    ),
    seccompFilters(),
    landlock(),
    tried("overlayfs in a user namespace", overlayRefusal(), "Linux 5.11 or newer has it: see modprobe overlay."),
    idmappedMounts(),
    ...await cgroups(),
    idRanges(),
  ];
  return { works: checks.at(-1)!.works, system: systemOf(facts), checks, features };
}

function tried(name: string, refusal: NamespaceError | undefined, otherwise: string = UNKNOWN): Check {
  if (refusal === undefined) return { name, works: true, how: "tried", detail: undefined, remedy: undefined };
  const [detail] = refusal.message.split("\n");
  return { name, works: false, how: "tried", detail, remedy: refusal.hint ?? otherwise };
}

const UNKNOWN = "No more is known here. The kernel's log may say why: dmesg | tail";

/** Runs a command there. It comes to execve(2) only when all the rest was done; which program there is does not matter. */
async function refusalOf(options: NamespaceOptions): Promise<NamespaceError | undefined> {
  try {
    await new Command(validate(options), "true", {}, () => undefined).output();
    return undefined;
  } catch (error) {
    const refusal = error instanceof Error && !(error instanceof NamespaceError) ? error.cause : error;
    if (!(refusal instanceof NamespaceError)) throw error;
    return refusal.syscall === "execve" ? undefined : refusal;
  }
}

/** The step that is refused when overlayfs is mounted on folders of a tmpfs, in a child that then executes nothing. */
function overlayRefusal(): NamespaceError | undefined {
  const shim = library();
  const { caller, environment } = shim.context();
  const settings = validate({ privateTmp: true, privateUser: true });
  const child = {
    command: "",
    args: [],
    argv0: undefined,
    environment,
    stdio: ["null", "null", "null"],
    cwd: undefined,
    callerCwd: undefined,
    uid: undefined,
    gid: undefined,
  } as const;
  const plan = planChild(settings, child, caller);
  const at = plan.child.findIndex(({ args: [, target] }) => target === "/tmp");
  const folders = ["/tmp/lower", "/tmp/upper", "/tmp/work"].map((path): Step => ({
    call: "mkdirat",
    args: [AT_FDCWD, path, 0o700],
    what: `make the folder "${path}"`,
  }));
  const data = "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work,userxattr";
  const mount: Step = { call: "mount", args: ["overlay", "/tmp", "overlay", 0, data], what: `mount overlay at "/tmp"` };
  const nothing = plan.child.find(({ call }) => call === "execve")!;
  const steps = [...plan.child.slice(0, at + 1), ...folders, mount, nothing];
  const outcome = shim.spawn({ ...plan, child: steps });
  if (!("step" in outcome)) throw new Error("Cannot be: an empty path was executed");
  return outcome.step === nothing ? undefined : stepError(outcome.step, outcome.errno, outcome.section);
}

/** Whether the kernel knows a call, and lets it be made: refused are only its arguments. */
function calls(name: string, step: Step, since: string): Check {
  const errno = -perform(step);
  const works = errnoName(errno) !== "ENOSYS" && errnoName(errno) !== "EPERM";
  return {
    name,
    works,
    how: "tried",
    detail: works ? undefined : described(errno),
    remedy: works
      ? undefined
      : `It takes Linux ${since}, and a seccomp filter, where there is one, that lets it through.`,
  };
}

function described(errno: number): string {
  return `${errnoText(errno)} (${errnoName(errno)})`;
}

function seccompFilters(): Check {
  const SECCOMP_GET_ACTION_AVAIL = { value: 2, name: "SECCOMP_GET_ACTION_AVAIL" };
  const userNotification = { bytes: Uint8Array.of(0, 0, 0xc0, 0x7f), name: "[SECCOMP_RET_USER_NOTIF]" };
  const result = perform({
    call: "seccomp",
    args: [SECCOMP_GET_ACTION_AVAIL, 0, userNotification],
    what: "ask for seccomp filters",
  });
  return {
    name: "seccomp filters with notification",
    works: result === 0,
    how: "tried",
    detail: result === 0 ? undefined : described(-result),
    remedy: result === 0 ? undefined : "It takes Linux 5.0 with CONFIG_SECCOMP_FILTER.",
  };
}

function landlock(): Check {
  const LANDLOCK_CREATE_RULESET_VERSION = { value: 1, name: "LANDLOCK_CREATE_RULESET_VERSION" };
  const version = perform({
    call: "landlock_create_ruleset",
    args: [null, 0, LANDLOCK_CREATE_RULESET_VERSION],
    what: "ask for Landlock",
  });
  const works = version > 0;
  return {
    name: "Landlock",
    works,
    how: "tried",
    detail: works ? `ABI ${version}` : described(-version),
    remedy: works
      ? undefined
      : errnoName(-version) === "EOPNOTSUPP"
      ? "It is switched off: boot with lsm=landlock,… before the modules that /sys/kernel/security/lsm lists."
      : "It takes Linux 5.13 with CONFIG_SECURITY_LANDLOCK.",
  };
}

function idmappedMounts(): Check {
  const [major, minor] = kernelOf(facts).split(".").map((part) => Number.parseInt(part)) as [number, number];
  const isNew = major > 5 || (major === 5 && minor >= 12);
  const isRoot = hasCapability(facts, "CAP_SYS_ADMIN") === true;
  const works = isNew && isRoot;
  return {
    name: "idmapped mounts",
    works,
    how: "read",
    detail: works ? "for file systems that support them" : undefined,
    remedy: works ? undefined : isNew ? "They take CAP_SYS_ADMIN: run it as root." : "They take Linux 5.12.",
  };
}

/** A cgroup is made and removed; which limits it could have is read, because a controller that is enabled stays so. */
async function cgroups(): Promise<readonly Check[]> {
  const made = tried("cgroup of a command's own", await refusalOf({ cgroup: true }));
  if (!made.works) return [made];
  const lacking = ["pids", "memory", "cpu"].filter((controller) => !canHave(controller));
  const [own] = cgroupFolders(facts);
  const works = lacking.length === 0;
  return [made, {
    name: "cgroup limits on processes, memory and CPU time",
    works,
    how: "read",
    detail: works ? undefined : `none on ${lacking.join(", ")}`,
    remedy: works ? undefined : noController(lacking[0]!, own!, facts),
  }];
}

/** Whether there is a place for a cgroup that has a controller. */
function canHave(controller: string): boolean {
  const place = locate({ parent: undefined, limits: [{ controller }] }, facts);
  const enabled = (facts.text(`${place?.folder}/cgroup.subtree_control`) ?? "").split(/\s+/);
  return place?.enable.includes(controller) === true || enabled.includes(controller);
}

/** Whether this user can have more ids than its own in a user namespace. */
function idRanges(): Check {
  const name = "ranges of ids (newuidmap, subuid)";
  if (hasCapability(facts, "CAP_SETUID") === true && hasCapability(facts, "CAP_SETGID") === true) {
    return { name, works: true, how: "read", detail: "not needed: CAP_SETUID and CAP_SETGID", remedy: undefined };
  }
  const folders = ["/run/wrappers/bin", "/usr/local/bin", "/usr/bin"];
  const program = folders.map((folder) => `${folder}/newuidmap`).find((path) => facts.allows(path, "execute"));
  const ranges = [...subordinateRanges(facts, "/etc/subuid"), ...subordinateRanges(facts, "/etc/subgid")];
  const barred = statusOf(facts, "NoNewPrivs") === "1" ||
    (program !== undefined && mountOf(facts, program)?.options.includes("nosuid") === true);
  const works = program !== undefined && ranges.length > 1 && !barred;
  return {
    name,
    works,
    how: "read",
    detail: `${program ?? "no newuidmap"}, ${
      ranges.length === 0 ? "no range" : ranges.map(({ first, count }) => `${first}:${count}`).join(", ")
    }`,
    remedy: works
      ? undefined
      : program === undefined
      ? "Install newuidmap: the package uidmap or shadow-utils."
      : barred
      ? `"${program}" is set-user-ID, and may not be here: it is on a mount with nosuid, or NoNewPrivs is set. Run it outside.`
      : "As root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER.",
  };
}

const NAMESPACES = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"] as const;

function kernelOf(facts: Facts): string {
  return facts.text("/proc/sys/kernel/osrelease")?.trim() ?? "unknown";
}

function systemOf(facts: Facts): System {
  const limits: Record<string, number | undefined> = {};
  for (const name of NAMESPACES) {
    limits[`user.max_${name}_namespaces`] = sysctl(facts, `user.max_${name}_namespaces`);
  }
  for (const name of ["fs.mount-max", "kernel.pid_max", "kernel.threads-max"]) limits[name] = sysctl(facts, name);
  limits.RLIMIT_NPROC = limitOf(facts, "Max processes");
  limits.RLIMIT_NOFILE = limitOf(facts, "Max open files");
  for (const name of ["pids", "memory"]) {
    limits[`${name}.max`] = cgroupFolders(facts, name).map((folder) =>
      Number.parseInt(facts.text(`${folder}/${name}.max`) ?? "")
    )
      .find((limit) => !Number.isNaN(limit));
  }
  const label = facts.text("/proc/thread-self/attr/current")?.replaceAll("\0", "").trim();
  return {
    kernel: kernelOf(facts),
    architecture: facts.architecture,
    uid: library().context().caller.uid,
    privileged: hasCapability(facts, "CAP_SYS_ADMIN") === true,
    securityModules: facts.text("/sys/kernel/security/lsm")?.trim().split(",") ?? [],
    securityLabel: label === "" ? undefined : label,
    filtered: statusOf(facts, "Seccomp") === "2",
    noNewPrivileges: statusOf(facts, "NoNewPrivs") === "1",
    limits: Object.fromEntries(
      Object.entries(limits).filter((entry): entry is [string, number] => entry[1] !== undefined),
    ),
  };
}
