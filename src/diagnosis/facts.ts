/**
 * What a diagnosis may ask about the machine and this process, and how the kernel's answers are read. Nothing here looks
 * for itself: src/machine/facts.ts does, and tests give what was recorded elsewhere.
 *
 * @module
 */

import type { Architecture } from "../abi/syscalls.ts";

/** Where a file is: the mount that it is reached through, and its inode. Of a namespace's file, the namespace. */
export interface Place {
  readonly mount: number;
  readonly inode: number;
}

/** The machine and this process, as far as diagnoses look at them. Each fact is looked up when it is asked for. */
export interface Facts {
  readonly architecture: Architecture;
  /** The path of the program that runs this, which security modules know it by. */
  readonly executable: string | undefined;
  /** The pid of this process. */
  readonly pid: number;
  /** A file of text, such as one of /proc; undefined where it cannot be read. */
  text(path: string): string | undefined;
  /** The first 4 KiB of a file. */
  head(path: string): Uint8Array | undefined;
  /** Where a path leads. */
  place(path: string): Place | undefined;
  /** access(2). */
  allows(path: string, access: "exist" | "read" | "write" | "execute"): boolean;
}

/** The facts of a machine that nobody has seen. */
export function nothingKnown(architecture: Architecture): Facts {
  const unknown = (): undefined => undefined;
  return {
    architecture,
    executable: undefined,
    pid: 0,
    text: unknown,
    head: unknown,
    place: unknown,
    allows: () => true,
  };
}

/** A line of /proc/self/mountinfo: see proc_pid_mountinfo(5). */
export interface Mount {
  readonly id: number;
  readonly point: string;
  readonly options: readonly string[];
  readonly type: string;
  /** Options of the file system, in which cgroup v1 has its controllers. */
  readonly superOptions: readonly string[];
  /** Which folder of the file system is seen there. */
  readonly root: string;
}

/** A line of /proc/thread-self/status, such as `Seccomp`. */
export function statusOf(facts: Facts, name: string): string | undefined {
  return new RegExp(`^${name}:\\s*(.*)$`, "m").exec(facts.text("/proc/thread-self/status") ?? "")?.[1];
}

/** Bits of capability sets, from linux/capability.h. */
const CAPABILITY_BITS = { CAP_SETGID: 6n, CAP_SETUID: 7n, CAP_SYS_ADMIN: 21n, CAP_SETFCAP: 31n } as const;

/** Whether a capability is effective; undefined where that cannot be read. */
export function hasCapability(facts: Facts, name: keyof typeof CAPABILITY_BITS): boolean | undefined {
  const set = statusOf(facts, "CapEff");
  return set === undefined ? undefined : (BigInt(`0x${set}`) >> CAPABILITY_BITS[name] & 1n) === 1n;
}

/** The effective user id. */
export function userOf(facts: Facts): number | undefined {
  const ids = statusOf(facts, "Uid")?.split("\t");
  return ids?.[1] === undefined ? undefined : Number(ids[1]);
}

/** A sysctl by its name, such as `kernel.pid_max`, where it is there and a number. */
export function sysctl(facts: Facts, name: string): number | undefined {
  const value = Number.parseInt(facts.text(`/proc/sys/${name.replaceAll(".", "/")}`) ?? "");
  return Number.isNaN(value) ? undefined : value;
}

/** The soft limit of a line of /proc/self/limits, such as `Max processes`; undefined where it is unlimited. */
export function limitOf(facts: Facts, name: string): number | undefined {
  const value = new RegExp(`^${name}\\s+(\\d+)`, "m").exec(facts.text("/proc/self/limits") ?? "")?.[1];
  return value === undefined ? undefined : Number(value);
}

/** The mounts that this process sees. */
export function mountsOf(facts: Facts): readonly Mount[] {
  const lines = (facts.text("/proc/thread-self/mountinfo") ?? "").split("\n").filter((line) => line.includes(" - "));
  return lines.map((line) => {
    const [left, right] = line.split(" - ") as [string, string];
    const [id, , , root, point, options] = left.split(" ") as [string, string, string, string, string, string];
    const [type, , superOptions = ""] = right.split(" ") as [string, string, string | undefined];
    return {
      id: Number(id),
      point: point.replaceAll(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))),
      options: options.split(","),
      type,
      superOptions: superOptions.split(","),
      root,
    };
  });
}

/** Whether this process is in a chroot; undefined where it may be, and cannot see. */
export function isChrooted(facts: Facts): boolean | undefined {
  const mounts = mountsOf(facts);
  if (mounts.length > 0 && !mounts.some(({ point }) => point === "/")) return true;
  const [root, ofInit] = [facts.place("/"), facts.place("/proc/1/root")];
  if (root === undefined || ofInit === undefined) return undefined;
  const isElsewhere = root.mount !== ofInit.mount || root.inode !== ofInit.inode;
  return isElsewhere &&
    facts.place("/proc/1/ns/mnt")?.inode === facts.place("/proc/self/ns/mnt")?.inode;
}

/** Whether the caller is in the user namespace that the machine began with. */
export function isInitialUser(facts: Facts): boolean {
  return /^\s*0\s+0\s+4294967295\s*$/.test(facts.text("/proc/self/uid_map") ?? "");
}

/**
 * The folders of this process's cgroup of a controller, the innermost first: version 1 where it has it, or 2, which it is
 * without a controller.
 */
export function cgroupFolders(facts: Facts, controller?: string): readonly string[] {
  const lines = (facts.text("/proc/self/cgroup") ?? "").split("\n").map((line) => line.split(":"));
  const one = controller === undefined
    ? undefined
    : lines.find(([, controllers]) => controllers?.split(",").includes(controller));
  const line = one ?? lines.find(([number]) => number === "0");
  const mount = mountsOf(facts).find(({ type, superOptions }) =>
    one === undefined ? type === "cgroup2" : type === "cgroup" && superOptions.includes(controller!)
  );
  if (line === undefined || mount === undefined) return [];
  const path = line.slice(2).join(":");
  const inside = mount.root !== "/" && path.startsWith(mount.root) ? path.slice(mount.root.length) : path;
  const names = inside.split("/").filter((name) => name !== "");
  return Array.from({ length: names.length + 1 }, (_, up) => {
    return [mount.point, ...names.slice(0, names.length - up)].join("/");
  });
}

/** Ids in a row that somebody may map: a line of /etc/subuid. */
export interface SubordinateRange {
  readonly first: number;
  readonly count: number;
}

/**
 * The ranges of ids that a file such as /etc/subuid gives a user: see subuid(5). Names are those of /etc/passwd.
 *
 * @param user Its id; this process's where it is not given.
 */
export function subordinateRanges(
  facts: Facts,
  file: "/etc/subuid" | "/etc/subgid",
  user: number | undefined = userOf(facts),
): readonly SubordinateRange[] {
  const lines = (path: string) => (facts.text(path) ?? "").split("\n").map((line) => line.split(":"));
  const owners = lines("/etc/passwd").flatMap(([name, , id]) => name && id === String(user) ? [name] : []);
  owners.push(String(user));
  return lines(file).filter(([owner = "", ...range]) => owners.includes(owner) && /^\d+:\d+$/.test(range.join(":")))
    .map(([, first, count]) => ({ first: Number(first), count: Number(count) }));
}

/** The mount that a path leads through. */
export function mountOf(facts: Facts, path: string): Mount | undefined {
  const place = facts.place(path);
  return place === undefined ? undefined : mountsOf(facts).find(({ id }) => id === place.mount);
}
