/**
 * The command's own cgroup: the option, and how it is checked.
 *
 * @module
 */

import { checkNames, integer, object, scaled, shown, text, wrongType } from "./checks.ts";

/** How much of the CPUs' time, by the microsecond. */
export interface CpuQuota {
  /** Microseconds of all CPUs together that may be used in each period. At least 1000. */
  quota: number;
  /** Microseconds, from 1000 to 1000000. @default {100_000} */
  period?: number | undefined;
}

/**
 * A cgroup of the command's own, of version 2: limits for the command and all that it starts, together; and a sure end, as
 * all that is in it is killed with the command, wherever it is.
 *
 * Who may write to the files of cgroups can leave it: a command with their owner as its user, or root's, that sees a
 * writable /sys/fs/cgroup. Give it another `uid`, or a view without that, as {@linkcode Namespace.sandbox} has;
 * {@linkcode NamespaceOptions.init} beside it ends what has left.
 *
 * Each limit takes a controller, which the cgroup around it must have: see cgroups(7). Bytes are a number, a string such as
 * `"16m"` (k, m, g, t), or `"max"` for no limit.
 *
 * @example Nothing that the command has started outlives it
 * ```ts
 * import { Namespace } from "@sys-linux/namespace";
 * import { assertEquals } from "@std/assert";
 *
 * const ns = new Namespace({ cgroup: true });
 * const { code, usage } = await ns.command("sh", { args: ["-c", "setsid sleep 1000 & exit 3"] }).output();
 * assertEquals([code, (usage?.cpuTime ?? 0) > 0], [3, true]);
 * ```
 *
 * @example Limits
 * ```ts ignore
 * import { Namespace } from "@sys-linux/namespace";
 *
 * const ns = new Namespace({ cgroup: { pidsMax: 64, memoryMax: "256m", cpuMax: 0.5 } });
 * const { code, usage } = await ns.command("make", { args: ["test"] }).output();
 * console.log(code, usage?.memoryPeak, usage?.oomKills);
 * ```
 */
export interface CgroupOptions {
  /**
   * The folder of the cgroup that it is made in, such as `"/sys/fs/cgroup/jobs"`. Controllers that are needed and not
   * enabled for what is below are enabled there, and stay so.
   *
   * @default {the cgroup of this process, or the one around that where that has the controllers enabled}
   */
  parent?: string | undefined;
  /** The most processes and threads at a time. */
  pidsMax?: number | "max" | undefined;
  /** The most memory, page cache included. Who would take more is killed. */
  memoryMax?: number | string | undefined;
  /** Memory from which on the kernel slows down and takes back. */
  memoryHigh?: number | string | undefined;
  /** The most swap; 0 for none. */
  memorySwapMax?: number | string | undefined;
  /** The most CPU time: as a number of CPUs, such as 0.5 or 2, or by the microsecond. */
  cpuMax?: number | CpuQuota | "max" | undefined;
  /** The share of CPU time beside others, from 1 to 10000. @default {100} */
  cpuWeight?: number | undefined;
  /** The share of the disks' time beside others, from 1 to 10000. @default {100} */
  ioWeight?: number | undefined;
  /** Which CPUs, such as `"0-3,5"`. */
  cpusetCpus?: string | undefined;
  /** Which memory nodes, such as `"0"`. */
  cpusetMems?: string | undefined;
  /** The most huge pages, in bytes, by their size as the kernel writes it: `{ "2MB": "64m" }`. */
  hugetlbMax?: Record<string, number | string> | undefined;
}

/** A limit: what is written to which file, and what asked for it. */
export interface CgroupLimit {
  readonly file: string;
  readonly controller: string;
  readonly value: string;
  readonly name: string;
}

/** The option, checked. */
export interface CgroupSettings {
  readonly parent: string | undefined;
  readonly limits: readonly CgroupLimit[];
}

/** PID_MAX_LIMIT of linux/threads.h. */
const PIDS_MAX = 2 ** 22;
const WEIGHT_MAX = 10_000;
const CPUS_MAX = 8192;
const PERIOD_US = 100_000;
const QUOTA_LEAST_US = 1000;
const PERIOD_MAX_US = 1_000_000;
const QUOTA_MAX_US = CPUS_MAX * PERIOD_MAX_US;

/** What each limit is written to, and as what. The file's name begins with its controller's. */
const LIMITS = [
  ["pidsMax", "pids.max", (value, name) => value === "max" ? value : integer(value, name, 1, PIDS_MAX, "processes")],
  ["memoryMax", "memory.max", (value, name) => bytes(value, name, 1)],
  ["memoryHigh", "memory.high", (value, name) => bytes(value, name, 1)],
  ["memorySwapMax", "memory.swap.max", (value, name) => bytes(value, name, 0)],
  ["cpuMax", "cpu.max", cpuTime],
  ["cpuWeight", "cpu.weight", (value, name) => integer(value, name, 1, WEIGHT_MAX, "a weight")],
  ["ioWeight", "io.weight", (value, name) => `default ${integer(value, name, 1, WEIGHT_MAX, "a weight")}`],
  ["cpusetCpus", "cpuset.cpus", numbers],
  ["cpusetMems", "cpuset.mems", numbers],
] as const satisfies readonly (readonly [
  keyof CgroupOptions,
  string,
  (value: unknown, name: string) => string | number,
])[];

/**
 * Checks the option. `true` is a cgroup without limits.
 *
 * @throws {TypeError} When it has the wrong type.
 * @throws {RangeError} When there can be no such limit.
 */
export function cgroupSettings(value: unknown): CgroupSettings | undefined {
  if (value === undefined || value === false) return undefined;
  const given: CgroupOptions = value === true
    ? {}
    : object(value, "cgroup", "true, false or an object such as { pidsMax: 64 }");
  checkNames(given, ["parent", ...LIMITS.map(([name]) => name), "hugetlbMax"], "cgroup.");
  const limits = LIMITS.flatMap(([name, file, read]): CgroupLimit[] => {
    if (given[name] === undefined) return [];
    return [limit(file, String(read(given[name], `cgroup.${name}`)), name)];
  });
  const huge = given.hugetlbMax === undefined
    ? {}
    : object(given.hugetlbMax, "cgroup.hugetlbMax", `an object such as { "2MB": "64m" }`);
  for (const [size, most] of Object.entries(huge)) {
    if (!/^\d+[KMG]B$/.test(size)) {
      throw new TypeError(`Option "cgroup.hugetlbMax" must have sizes such as "2MB": got ${shown(size)}`);
    }
    limits.push(limit(`hugetlb.${size}.max`, bytes(most, `cgroup.hugetlbMax.${size}`, 0), "hugetlbMax"));
  }
  return { parent: given.parent === undefined ? undefined : folder(given.parent), limits };
}

function limit(file: string, value: string, name: string): CgroupLimit {
  return { file, controller: file.slice(0, file.indexOf(".")), value, name };
}

function bytes(value: unknown, name: string, least: number): string {
  if (value === "max") return value;
  const what = `bytes, or a string such as "16m", or "max"`;
  if (typeof value === "number") return String(integer(value, name, least, Number.MAX_SAFE_INTEGER, what));
  if (typeof value !== "string") throw wrongType(name, `a number of bytes, a string such as "16m", or "max"`, value);
  const count = /^\d{1,15}[kmgt]?$/i.test(value) ? scaled(value) : NaN;
  if (count >= least && count <= Number.MAX_SAFE_INTEGER) return String(count);
  throw new RangeError(`Option "${name}" must be a number of ${what}, from ${least} on: got ${shown(value)}`);
}

function cpuTime(value: unknown, name: string): string {
  if (value === "max") return value;
  if (typeof value === "number") {
    const quota = Math.round(value * PERIOD_US);
    if (quota >= QUOTA_LEAST_US && value <= CPUS_MAX) return `${quota} ${PERIOD_US}`;
    const least = QUOTA_LEAST_US / PERIOD_US;
    throw new RangeError(`Option "${name}" must be from ${least} to ${CPUS_MAX} (a number of CPUs): got ${value}`);
  }
  const given: CpuQuota = object(value, name, `a number of CPUs, "max" or an object such as { quota: 50000 }`);
  checkNames(given, ["quota", "period"], `${name}.`);
  const what = "microseconds";
  const quota = integer(given.quota, `${name}.quota`, QUOTA_LEAST_US, QUOTA_MAX_US, what);
  return `${quota} ${integer(given.period ?? PERIOD_US, `${name}.period`, QUOTA_LEAST_US, PERIOD_MAX_US, what)}`;
}

function numbers(value: unknown, name: string): string {
  const given = text(value, name);
  if (/^\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*$/.test(given)) return given;
  throw new RangeError(`Option "${name}" must be numbers such as "0-3,5": got ${shown(given)}`);
}

function folder(value: unknown): string {
  const path = text(value, "cgroup.parent");
  if (path.startsWith("/")) return path;
  throw new TypeError(`Option "cgroup.parent" must be the path of a folder, from / on: got ${shown(path)}`);
}
