/**
 * What a command may do and use: the options about privileges and limits, and how they are checked.
 *
 * @module
 */

import { checkNames, id, integer, object, octal, oneOf, optionalBoolean, scaled, shown, wrongType } from "./checks.ts";
import { CAPABILITIES, type CapabilityName } from "./abi/capabilities.ts";
import { type ResourceName, RESOURCES } from "./abi/resources.ts";

/** Which capabilities a command has: see capabilities(7). */
export interface CapabilityOptions {
  /** These, as far as they can be had, and no others: in all five sets, so that any program has them. */
  keep?: CapabilityName[] | undefined;
  /** All but these, which no program can have any more. */
  drop?: CapabilityName[] | undefined;
  /**
   * These beside those it has without: for a command that is not root inside, which has none otherwise. In all five sets,
   * so that any program has them, and by the user namespace that it is in: with one of its own, they are about what
   * belongs to that. The caller must have them, as it does in a user namespace of its own. Not together with
   * {@linkcode keep}.
   */
  add?: CapabilityName[] | undefined;
}

/** A limit: bytes, a number, a string such as `"16m"`, or `"unlimited"`. */
export type LimitValue = number | string;

/** Limits by name: one value, or soft and hard. */
export type LimitOptions = { [Name in ResourceName]?: LimitValue | [soft: LimitValue, hard: LimitValue] | undefined };

/** The options that are checked here. */
export interface PrivilegeOptions {
  /**
   * No program can give more privileges than there are: set-user-ID bits and file capabilities are ignored, for good. See
   * PR_SET_NO_NEW_PRIVS(2const).
   *
   * By default that is so where there is a user namespace of its own, asked for or not, and the command is not user 0 in
   * it: nobody there is root, and nobody becomes it. Root inside, such as with `privateUser: true`, can still be made
   * others by set-user-ID programs, and so can a command without a user namespace of its own, whoever it is: `uid` alone
   * is no wall, as with setpriv(1). `false` cannot be had beside `seccomp` and `landlock`.
   *
   * @default {true for who is not root in a user namespace of its own, false for anybody else}
   */
  noNewPrivs?: boolean | undefined;
  /**
   * Which capabilities the command has. Without it the command has what its user has: all of them as root, in a user
   * namespace those that are about it, and none as anybody else. `"none"`: none, root or not.
   *
   * @example A server on port 80 that is not root
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   *
   * const ns = new Namespace({
   *   privateNet: true,
   *   privateUser: { uid: 1000, gid: 1000 },
   *   capabilities: { add: ["CAP_NET_BIND_SERVICE"] },
   * });
   * const { success } = await ns.command("perl", {
   *   args: ["-MIO::Socket", "-e", "IO::Socket::INET->new(Listen => 1, LocalPort => 80) or die"],
   * }).output();
   * ```
   */
  capabilities?: "none" | CapabilityOptions | undefined;
  /**
   * No user namespace can be made inside, which is where ordinary users meet most of the kernel's bugs. It needs a
   * `privateUser` with a `uid` other than 0; or any other `privateUser`, where `"self"` and maps count as root, and
   * CAP_SYS_RESOURCE in `capabilities.drop`: that could undo it. Sets user.max_user_namespaces of that namespace to 0.
   *
   * @default {false}
   */
  disableUserNamespaces?: boolean | undefined;
  /**
   * Supplementary groups, as seen inside; `[]` gives up all. Left out, they are the caller's, and are given up where the
   * command becomes another user or group. To have others takes CAP_SETGID.
   */
  groups?: number[] | undefined;
  /**
   * Limits by name, such as `{ nofile: 64, as: "1g", core: 0, nproc: [100, 200] }`: see getrlimit(2). To raise a hard limit
   * takes CAP_SYS_RESOURCE.
   */
  rlimits?: LimitOptions | undefined;
  /** The permissions that new files do not get: a number such as `0o077`, or the same in octal digits. @default {the caller's} */
  umask?: number | string | undefined;
  /** A session of its own, so that it is no part of the caller's terminal: no Ctrl-C, no TIOCSTI. @default {false} */
  newSession?: boolean | undefined;
  /** A session keyring of its own: see keyrings(7). @default {false} */
  privateKeyring?: boolean | undefined;
  /** How the command is scheduled: from -20, first, to 19, last. To lower it takes CAP_SYS_NICE. @default {the caller's} */
  nice?: number | undefined;
  /**
   * Which CPUs it may run on, by number. The command can ask for others itself: {@linkcode CgroupOptions.cpusetCpus} is a
   * limit. @default {the caller's}
   */
  cpuAffinity?: number[] | undefined;
  /**
   * From -1000, never, to 1000, first, to be killed when memory is short. The command can change it itself, as far
   * as the caller may. @default {the caller's}
   */
  oomScoreAdj?: number | undefined;
}

/** Soft and hard; Infinity is no limit. */
export interface LimitSettings {
  readonly name: ResourceName;
  readonly soft: number;
  readonly hard: number;
}

/** Which capabilities a command has. */
export interface CapabilitySettings {
  /** Those that are left in the bounding set. */
  readonly left: ReadonlySet<CapabilityName>;
  /** Whether the command is to have all of these. */
  readonly isKept: boolean;
  /** Those that it is to have beside its own. */
  readonly added: ReadonlySet<CapabilityName>;
}

/** The options, checked. */
export interface PrivilegeSettings {
  /** undefined where it depends on who the command is. */
  readonly noNewPrivs: boolean | undefined;
  readonly capabilities: CapabilitySettings | undefined;
  readonly disableUserNamespaces: boolean;
  readonly groups: readonly number[] | undefined;
  readonly rlimits: readonly LimitSettings[];
  readonly umask: number | undefined;
  readonly newSession: boolean;
  readonly privateKeyring: boolean;
  readonly nice: number | undefined;
  readonly cpuAffinity: readonly number[] | undefined;
  readonly oomScoreAdj: number | undefined;
}

/** Names of the options here. */
export const PRIVILEGE_OPTION_NAMES = [
  "noNewPrivs",
  "capabilities",
  "disableUserNamespaces",
  "groups",
  "rlimits",
  "umask",
  "newSession",
  "privateKeyring",
  "nice",
  "cpuAffinity",
  "oomScoreAdj",
] as const satisfies readonly (keyof PrivilegeOptions)[];

/** CPU_SETSIZE of sched.h. */
const CPU_MAX = 1023;

/** What the options come to; undefined where none is given. */
export function privilegeSettings(options: PrivilegeOptions): PrivilegeSettings | undefined {
  if (PRIVILEGE_OPTION_NAMES.every((name) => options[name] === undefined)) return undefined;
  const number = (name: "nice" | "oomScoreAdj", least: number, most: number, what: string) =>
    options[name] === undefined ? undefined : integer(options[name], name, least, most, what);
  return {
    noNewPrivs: optionalBoolean(options.noNewPrivs, "noNewPrivs"),
    capabilities: capabilitySettings(options.capabilities),
    disableUserNamespaces: optionalBoolean(options.disableUserNamespaces, "disableUserNamespaces") ?? false,
    groups: ids(options.groups),
    rlimits: limitSettings(options.rlimits),
    umask: options.umask === undefined ? undefined : Number.parseInt(octal(options.umask, "umask"), 8),
    newSession: optionalBoolean(options.newSession, "newSession") ?? false,
    privateKeyring: optionalBoolean(options.privateKeyring, "privateKeyring") ?? false,
    nice: number("nice", -20, 19, "a nice value"),
    cpuAffinity: cpus(options.cpuAffinity),
    oomScoreAdj: number("oomScoreAdj", -1000, 1000, "a score"),
  };
}

function capabilitySettings(value: unknown): PrivilegeSettings["capabilities"] {
  if (value === undefined) return undefined;
  if (value === "none") return { left: new Set(), isKept: true, added: new Set() };
  const given: Partial<Record<"keep" | "drop" | "add", unknown>> = object(
    value,
    "capabilities",
    `"none", { keep: [...] }, { drop: [...] } or { add: [...] }`,
  );
  checkNames(given, ["keep", "drop", "add"], "capabilities.");
  const [keep, drop, add] = (["keep", "drop", "add"] as const).map((name) =>
    names(given[name], `capabilities.${name}`)
  );
  if (keep === undefined && drop === undefined && add === undefined) {
    throw new TypeError(`Option "capabilities" must have one of "keep", "drop" and "add"`);
  }
  if (keep !== undefined && (drop ?? add) !== undefined) {
    throw new TypeError(`Option "capabilities" must have nothing beside "keep", which says all of them`);
  }
  const both = [...add ?? []].find((name) => drop?.has(name));
  if (both !== undefined) throw new TypeError(`Option "capabilities" must not have "${both}" in both "drop" and "add"`);
  return {
    left: keep ?? new Set(CAPABILITIES.filter((name) => drop?.has(name) !== true)),
    isKept: keep !== undefined,
    added: add ?? new Set(),
  };
}

function names(list: unknown, name: string): ReadonlySet<CapabilityName> | undefined {
  if (list === undefined) return undefined;
  if (!Array.isArray(list)) throw wrongType(name, `an array such as ["CAP_NET_BIND_SERVICE"]`, list);
  return new Set(Array.from(list, (one, index) => oneOf(one, `${name}[${index}]`, CAPABILITIES)));
}

function limitSettings(value: unknown): readonly LimitSettings[] {
  if (value === undefined) return [];
  const given = object(value, "rlimits", "an object such as { nofile: 64 }");
  checkNames(given, RESOURCES, "rlimits.");
  return Object.entries(given).filter(([, limit]) => limit !== undefined).map(([name, limit]) => {
    const option = `rlimits.${name}`;
    const pair = Array.isArray(limit) ? limit : [limit, limit];
    if (pair.length !== 2) {
      throw new TypeError(`Option "${option}" must be a limit or [soft, hard]: got ${shown(limit)}`);
    }
    const [soft, hard] = Array.from(pair, (one) => limitValue(one, option)) as [number, number];
    if (soft > hard) {
      throw new RangeError(`Option "${option}" must not have a soft limit above the hard one: ${soft} > ${hard}`);
    }
    return { name: name as ResourceName, soft, hard };
  });
}

function limitValue(value: unknown, name: string): number {
  if (value === "unlimited") return Infinity;
  if (typeof value === "number") return integer(value, name, 0, Number.MAX_SAFE_INTEGER, "a limit");
  if (typeof value === "string" && /^\d{1,15}[kmgt]?$/i.test(value)) {
    const limit = scaled(value);
    if (limit <= Number.MAX_SAFE_INTEGER) return limit;
    throw new RangeError(`Option "${name}" must be at most ${Number.MAX_SAFE_INTEGER}, or "unlimited": got "${value}"`);
  }
  throw wrongType(name, `a number from 0 on, a string such as "16m", or "unlimited"`, value);
}

/** NGROUPS_MAX of linux/limits.h. */
const GROUPS_MAX = 65536;

function ids(value: unknown): readonly number[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || value.length > GROUPS_MAX) throw wrongType("groups", "an array of group ids", value);
  return Array.from(value, (group, index) => id(group, `groups[${index}]`));
}

function cpus(value: unknown): readonly number[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw wrongType("cpuAffinity", "an array such as [0, 1]", value);
  if (value.length === 0) throw new RangeError(`Option "cpuAffinity" must have at least one CPU: got an empty array`);
  return Array.from(value, (cpu, index) => integer(cpu, `cpuAffinity[${index}]`, 0, CPU_MAX, "a CPU"));
}
