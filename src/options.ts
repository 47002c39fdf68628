/**
 * What a user may ask of a namespace, and the one place where it is checked: {@linkcode validate} turns options into
 * settings, or refuses them before any system call is made.
 *
 * @module
 */

import {
  amount,
  checkNames,
  id,
  ID_MAX,
  integer,
  object,
  octal,
  oneOf,
  optionalBoolean,
  shown,
  text,
  variables,
  wrongType,
} from "./checks.ts";
import {
  PRIVILEGE_OPTION_NAMES,
  type PrivilegeOptions,
  type PrivilegeSettings,
  privilegeSettings,
} from "./options_privileges.ts";
import {
  type EphemeralOptions,
  type EphemeralSettings,
  ephemeralSettings,
  type MountOptions,
  type OverlayRoot,
  type ViewSettings,
  viewSettings,
} from "./options_mounts.ts";
import { type CgroupOptions, type CgroupSettings, cgroupSettings } from "./options_cgroup.ts";
import { type LandlockOptions, type LandlockSettings, landlockSettings } from "./options_landlock.ts";
import { type SeccompProfile, type SeccompSettings, seccompSettings } from "./options_seccomp.ts";

/** How the tmpfs of {@linkcode NamespaceOptions.privateTmp} is made. */
export interface TmpOptions {
  /**
   * The most it may hold: bytes, or a string with a unit such as `"16m"` (k, m, g) or `"10%"` of the memory.
   *
   * @default {"50%"}
   */
  size?: number | string | undefined;
  /**
   * The permissions of its top folder: a number such as `0o1777`, or the same in octal digits, `"1777"`.
   *
   * @default {0o1777}
   */
  mode?: number | string | undefined;
  /** The most inodes (files and folders) it may hold; a number, or a string such as `"10k"`. */
  nrInodes?: number | string | undefined;
  /** The owner of its top folder, as seen inside. */
  uid?: number | undefined;
  /** The group of its top folder, as seen inside. */
  gid?: number | undefined;
  /** Whether it uses huge pages: see tmpfs(5). */
  huge?: "never" | "always" | "within_size" | "advise" | undefined;
}

/** Who the caller is inside a user namespace. */
export interface UserIds {
  /** The caller's user id inside. @default {the caller's own} */
  uid?: number | undefined;
  /** The caller's group id inside. @default {the caller's own} */
  gid?: number | undefined;
  /**
   * Whether setgroups(2) can be called inside, to give up supplementary groups or take others on: see
   * user_namespaces(7). `"allow"` needs CAP_SETGID outside. With `"deny"`, who changes its ids inside keeps its groups.
   *
   * @default {"allow" with CAP_SETGID, "deny" without}
   */
  setgroups?: "allow" | "deny" | undefined;
}

/** One line of a uid map or gid map: see user_namespaces(7). */
export interface IdMapping {
  /** The first id inside. */
  inside: number;
  /** The first id outside, as the caller sees it. */
  outside: number;
  /**
   * How many ids in a row.
   *
   * @default {1}
   */
  count?: number | undefined;
}

/**
 * The maps of a user namespace. With CAP_SETUID and CAP_SETGID they are written as they are. Without, the caller's own ids
 * can be, each alone; anything else newuidmap(1) and newgidmap(1) write, of the package uidmap, as far as /etc/subuid and
 * /etc/subgid give those ids to the caller. Those two programs are executed with nothing of this process.
 *
 * Maps without the caller's own id are for commands with a `uid` and a `gid` of those that are there, and refused to others:
 * who is not mapped is the caller still to all that is outside.
 */
export interface UserMaps {
  /**
   * Which user ids there are inside. `"auto"`: the caller's at {@linkcode uid}, and its ranges of /etc/subuid at all others
   * from 0 on, in the order of that file, as far as they go. With a range of 65536 ids, that is 0 to 65536. The ranges are
   * those with the caller's user id, or a name that /etc/passwd has for it: who is known by other means, such as LDAP,
   * needs a line with the id. Refused where there is none, and for what {@linkcode Namespace.build} makes: whoever runs
   * that is not known yet.
   */
  uidMap: IdMapping[] | "auto";
  /** The same for group ids, {@linkcode gid} and /etc/subgid, whose lines are those of the caller's user. */
  gidMap: IdMapping[] | "auto";
  /** The caller's user id inside, with a {@linkcode uidMap} that is `"auto"`. @default {0} */
  uid?: number | undefined;
  /** The caller's group id inside, with a {@linkcode gidMap} that is `"auto"`. @default {0} */
  gid?: number | undefined;
  /**
   * Whether setgroups(2) can be called inside, to give up supplementary groups or take others on: see
   * user_namespaces(7). `"allow"` needs CAP_SETGID outside. With `"deny"`, who changes its ids inside keeps its groups.
   *
   * @default {"allow" with CAP_SETGID, and where newgidmap(1) writes the map, otherwise "deny"}
   */
  setgroups?: "allow" | "deny" | undefined;
}

/** By how much the clocks inside differ: see time_namespaces(7). */
export interface TimeOffsets {
  /** Seconds added to CLOCK_MONOTONIC; may be negative and have a fraction. @default {0} */
  monotonic?: number | undefined;
  /** Seconds added to CLOCK_BOOTTIME (the uptime); may be negative and have a fraction. @default {0} */
  boottime?: number | undefined;
}

/** Which namespaces are private, and what is in them. Nothing is private unless it is asked for. */
export interface NamespaceOptions extends PrivilegeOptions {
  /** A mount namespace of its own, with every mount in it made private first. @default {false} */
  privateMount?: boolean | undefined;
  /** A fresh tmpfs on /tmp. Implies {@linkcode privateMount}. @default {false} */
  privateTmp?: boolean | TmpOptions | undefined;
  /**
   * A pid namespace of its own, in which the command is PID 1, with a fresh /proc.
   * Implies {@linkcode privateMount}, unless {@linkcode noProc} is set.
   *
   * @default {false}
   */
  privatePid?: boolean | undefined;
  /** Leave /proc as it is, with {@linkcode privatePid}. @default {false} */
  noProc?: boolean | undefined;
  /**
   * PID 1 is a small init of ours, and the command its child: it reaps every orphan, forwards signals, and ends as the
   * command does. Without it the command is PID 1, which few programs are made to be: the kernel keeps from PID 1 the
   * signals that it does not handle, and leaves to it the zombies of others. Implies {@linkcode privatePid}.
   *
   * @default {false}
   */
  init?: boolean | undefined;
  /**
   * What becomes of what the command has started and not waited for, with {@linkcode init}: `"kill"` ends it with the
   * command, `"wait"` lets it end by itself, and only then is the command said to have ended.
   *
   * @default {"kill"}
   */
  onMainExit?: "kill" | "wait" | undefined;
  /** A network namespace of its own, with nothing in it but a loopback that is up. @default {false} */
  privateNet?: boolean | undefined;
  /** System V IPC and POSIX message queues of its own. @default {false} */
  privateIpc?: boolean | undefined;
  /**
   * A user namespace of its own. `true` makes the caller root inside, `"self"` leaves it who it is, and an object says
   * who it is or gives the maps. Left out, there is one, as `"self"`, exactly where the caller needs it: when it asks for
   * any other namespace and has no CAP_SYS_ADMIN. `false` never makes one.
   */
  privateUser?: boolean | "self" | UserIds | UserMaps | undefined;
  /** A hostname and domainname of its own. @default {false} */
  privateUts?: boolean | undefined;
  /** The hostname inside. Implies {@linkcode privateUts}. */
  hostname?: string | undefined;
  /** The NIS domainname inside. Implies {@linkcode privateUts}. */
  domainname?: string | undefined;
  /**
   * System V semaphores that nobody else touches, and an undo list of its own.
   * Implies {@linkcode privateIpc}, which is what keeps that promise.
   *
   * @default {false}
   */
  privateSysvsem?: boolean | undefined;
  /** A cgroup namespace: the caller's own cgroup is the root of what is seen. @default {false} */
  privateCgroup?: boolean | undefined;
  /** A time namespace; an object sets its clocks. Since Linux 5.6. @default {false} */
  privateTime?: boolean | TimeOffsets | undefined;
  /**
   * What is at `/` inside: `"host"`, what is there outside; `"empty"`, a tmpfs with nothing in it but what
   * {@linkcode mounts} puts there; the path of a folder; or an overlay. By pivot_root(2): nothing of the old root is left
   * inside. {@linkcode privateTmp} and the /proc of {@linkcode privatePid} are mounted in it, before {@linkcode mounts}. Any
   * other than `"host"` implies {@linkcode privateMount}.
   *
   * @default {"host"}
   */
  root?: string | OverlayRoot | undefined;
  /**
   * What is mounted inside, in this order. What is named as a source is looked up outside, whatever is mounted over it;
   * targets are inside, and no symbolic link leads out of there. Folders on the way to a target, and the target, are made
   * where they are in something new (an `"empty"` root, a tmpfs, an overlay with an upper layer), and never in a folder of
   * the outside. Implies {@linkcode privateMount}. @default {[]}
   */
  mounts?: MountOptions[] | undefined;
  /**
   * A copy-on-write view of the whole file system: what commands write, remove or rename is seen by the next command of
   * this namespace, and not outside. What {@linkcode mounts} bind is in that view as well. {@linkcode Namespace.changes} lists it, {@linkcode Namespace.commit} does it outside,
   * too, and {@linkcode Namespace.discard} drops it. What is no ordinary file system is read-only, /dev is small and new,
   * and /proc has no writable settings of the system. It is about files alone, and no boundary to who is root without a
   * user namespace. One command runs at a time, and what it leaves running ends with it: implies {@linkcode init}, unless
   * {@linkcode privatePid} is `false`. Implies {@linkcode privateMount}; takes Linux 5.10, and 5.11 in a user namespace.
   * A `root`, and maps of ids, cannot be given beside it. @default {false}
   */
  ephemeral?: boolean | EphemeralOptions | undefined;
  /**
   * Which system calls can be made: `"default"` refuses with EPERM what container engines do (mounts, namespaces, kernel
   * modules, keyrings, bpf(2), io_uring and the like, typing into terminals) and set-user-ID and set-group-ID bits (and so
   * openat2(2), with ENOSYS), an object says it by rules, and bytes are a BPF program of `struct sock_filter`, for the
   * architecture that it runs on, which is installed as it is. Calls of another architecture, such as of 32-bit programs,
   * end the process. The filter is there from before the command's execve(2), holds for init and all descendants, and
   * cannot be taken off. It comes with no_new_privs: no program gains privileges by its set-user-ID bit or capabilities.
   * See seccomp(2). @default {false}
   */
  seccomp?: "default" | false | Uint8Array | SeccompProfile | undefined;
  /**
   * Which files and TCP ports can be used, by paths and numbers; all others are refused, to root as well, to the command and
   * all that it starts. It comes with no_new_privs, and lets nobody mount anything or look into processes that are not
   * under it. See landlock(7).
   */
  landlock?: LandlockOptions | undefined;
  /**
   * A cgroup of the command's own, with limits for it and all that it starts: see {@linkcode CgroupOptions}. `true` is one
   * without limits. It is made before the command and removed after it; all that is in it when the command ends, or this
   * process, is killed. With {@linkcode privateCgroup} the command sees it as `/`. Takes Linux 5.14, and a cgroup that this
   * user may write to. @default {false}
   */
  cgroup?: boolean | CgroupOptions | undefined;
  /**
   * Variables that each command has, in place of those that it would inherit; a command's own `env` and `unsetEnv` come
   * first, and `clearEnv` leaves them. @default {{}}
   */
  env?: Record<string, string> | undefined;
  /**
   * A signal to this process (HUP, INT, QUIT, USR1, USR2, ALRM, TERM) while a command runs ends the command instead:
   * it gets SIGTERM, and SIGKILL after {@linkcode termGraceMs}. With `false`, signals do to this process what they
   * always do. Either way the command dies when this process does. A worker is a command that runs while it has calls.
   *
   * @default {true}
   */
  termChild?: boolean | undefined;
  /** Milliseconds from SIGTERM to SIGKILL. @default {200} */
  termGraceMs?: number | undefined;
}

/** The namespaces that there are. */
export type NamespaceKind = "user" | "mount" | "pid" | "net" | "ipc" | "uts" | "cgroup" | "time";

/** One line of a map, with nothing left out. */
export interface IdRange {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

/** A map of the caller's own id, and its subordinate ids around it. */
export interface AutoMap {
  /** What the caller's own is. */
  readonly inside: number;
}

/** A user namespace as asked for: who the caller is inside, or the maps. */
export type UserSettings =
  & { readonly setgroups?: "allow" | "deny" | undefined }
  & (
    | { readonly ids: { readonly uid: number | "self"; readonly gid: number | "self" } }
    | { readonly uidMap: readonly IdRange[] | AutoMap; readonly gidMap: readonly IdRange[] | AutoMap }
  );

/** A tmpfs's mount options, in the kernel's words and order. */
export type TmpSettings = readonly (readonly [key: string, value: string])[];

/** Clock offsets as the kernel wants them. */
export interface TimeSettings {
  readonly monotonic: { readonly seconds: number; readonly nanoseconds: number };
  readonly boottime: { readonly seconds: number; readonly nanoseconds: number };
}

/** Options that were checked, with all that they imply. */
export interface Settings {
  /** Each namespace that is to be made, and the option that asked for it. */
  readonly namespaces: ReadonlyMap<NamespaceKind, keyof NamespaceOptions>;
  /** Whether a user namespace may be added for a caller that cannot do without. */
  readonly userIfNeeded: boolean;
  readonly user: UserSettings;
  readonly proc: boolean;
  readonly tmp: TmpSettings | undefined;
  readonly hostname: string | undefined;
  readonly domainname: string | undefined;
  readonly time: TimeSettings | undefined;
  /** What is seen of the file system; undefined where that is the outside's as it is. */
  readonly view: ViewSettings | undefined;
  /** Where writing goes elsewhere; what is seen depends on the machine then. */
  readonly ephemeral: EphemeralSettings | undefined;
  /** What the command may do and use; undefined where nothing was asked for. */
  readonly privileges: PrivilegeSettings | undefined;
  /** Whether PID 1 is the launcher, and what it does when the command has ended. */
  readonly init: "kill" | "wait" | undefined;
  readonly seccomp: SeccompSettings | undefined;
  readonly landlock: LandlockSettings | undefined;
  readonly cgroup: CgroupSettings | undefined;
  /** Variables that each command has, unless it says otherwise. */
  readonly environment: ReadonlyMap<string, string>;
  readonly termChild: boolean;
  readonly termGraceMs: number;
}

/** Names of all options. */
export const OPTION_NAMES = [
  "privateMount",
  "privateTmp",
  "privatePid",
  "noProc",
  "init",
  "onMainExit",
  "privateNet",
  "privateIpc",
  "privateUser",
  "privateUts",
  "hostname",
  "domainname",
  "privateSysvsem",
  "privateCgroup",
  "privateTime",
  "root",
  "mounts",
  "ephemeral",
  ...PRIVILEGE_OPTION_NAMES,
  "seccomp",
  "landlock",
  "cgroup",
  "env",
  "termChild",
  "termGraceMs",
] as const satisfies readonly (keyof NamespaceOptions)[];

/** __NEW_UTS_LEN of linux/utsname.h. */
const UTS_NAME_MAX = 64;
/** More lines make no sense to the kernel: UID_GID_MAP_MAX_EXTENTS, since Linux 4.15. */
const ID_MAPPINGS_MAX = 340;
/** KTIME_SEC_MAX / 2: the kernel refuses clocks that could overflow. */
const CLOCK_OFFSET_MAX = 4_611_686_018;

const SELF = { ids: { uid: "self", gid: "self" } } as const satisfies UserSettings;
const ROOT = { ids: { uid: 0, gid: 0 } } as const satisfies UserSettings;

/**
 * Checks options and works out what they imply.
 *
 * @param options What a user asked for; anything at all may be in it.
 * @returns The settings that plans are made of.
 * @throws {TypeError} When an option is unknown, has the wrong type, or contradicts another.
 * @throws {RangeError} When an option has the right type but a value that cannot be.
 */
export function validate(options: NamespaceOptions = {}): Settings {
  checkNames(options, OPTION_NAMES, "");
  const flag = (name: keyof NamespaceOptions): boolean | undefined => optionalBoolean(options[name], name);
  const hostname = optionalUtsName(options.hostname, "hostname");
  const domainname = optionalUtsName(options.domainname, "domainname");
  const tmp = tmpSettings(options.privateTmp);
  const time = timeSettings(options.privateTime);
  const ephemeral = ephemeralSettings(options.ephemeral);
  // What a command leaves running could change what was looked at.
  const endsAll = ephemeral !== undefined && options.privatePid !== false;
  const init = flag("init") ?? endsAll;
  const pid = flag("privatePid") ?? init;
  const noProc = flag("noProc") ?? false;
  if (noProc && !pid) {
    throw new TypeError(`Option "noProc" means something only together with "privatePid"`);
  }
  if (options.onMainExit !== undefined && !init) {
    throw new TypeError(`Option "onMainExit" means something only together with "init"`);
  }
  const onMainExit = oneOf(options.onMainExit ?? "kill", "onMainExit", ["kill", "wait"]);

  const namespaces = new Map<NamespaceKind, keyof NamespaceOptions>();
  const want = (
    kind: NamespaceKind,
    main: keyof NamespaceOptions,
    wanted: Partial<Record<keyof NamespaceOptions, boolean>>,
  ) => {
    const own = flagOf(options[main]);
    const asked = (Object.keys(wanted) as (keyof NamespaceOptions)[]).find((name) => wanted[name]);
    if (own === false && asked !== undefined) {
      throw new TypeError(
        `Options "${asked}" and "${main}: false" contradict each other: "${asked}" implies "${main}"`,
      );
    }
    if (own === true) namespaces.set(kind, main);
    else if (asked !== undefined) namespaces.set(kind, asked);
  };
  for (const name of ["privateMount", "privateNet", "privateIpc", "privateUts", "privateCgroup"] as const) flag(name);
  const user = userSettings(options.privateUser);
  if (user !== undefined) namespaces.set("user", "privateUser");
  const proc = pid && !noProc;
  const view = viewSettings(options.root, options.mounts);
  const hasRoot = view !== undefined && options.root !== undefined && options.root !== "host";
  if (ephemeral !== undefined && hasRoot) {
    throw new TypeError(`Options "ephemeral" and "root" contradict each other: "ephemeral" makes a root of its own`);
  }
  if (ephemeral !== undefined && user !== undefined && !("ids" in user)) {
    throw new TypeError(
      `Options "ephemeral" and "privateUser.uidMap" contradict each other: what is written belongs to the caller alone. ` +
        `Give "privateUser" the ids of the caller inside`,
    );
  }
  const written = view?.mounts.findIndex((mount) => mount.type === "overlay" && typeof mount.layers.upper === "object");
  if (ephemeral !== undefined && written !== undefined && written >= 0) {
    throw new TypeError(
      `Options "ephemeral" and "mounts[${written}].upper" contradict each other: what is written there would be outside. ` +
        `Give "upper" as "tmpfs", or leave it out`,
    );
  }
  want("mount", "privateMount", {
    ephemeral: ephemeral !== undefined,
    privateTmp: tmp !== undefined,
    privatePid: proc,
    root: hasRoot,
    mounts: view !== undefined,
  });
  want("pid", "privatePid", { ephemeral: endsAll && init, init });
  want("net", "privateNet", {});
  want("ipc", "privateIpc", { privateSysvsem: flag("privateSysvsem") ?? false });
  want("uts", "privateUts", { hostname: hostname !== undefined, domainname: domainname !== undefined });
  want("cgroup", "privateCgroup", {});
  if (time !== undefined) namespaces.set("time", "privateTime");

  const privileges = privilegeSettings(options);
  const seccomp = seccompSettings(options.seccomp, init);
  const landlock = landlockSettings(options.landlock);
  const needsNoNewPrivs = seccomp !== undefined ? "seccomp" : landlock !== undefined ? "landlock" : undefined;
  if (privileges?.noNewPrivs === false && needsNoNewPrivs !== undefined) {
    throw new TypeError(
      `Options "noNewPrivs: false" and "${needsNoNewPrivs}" contradict each other: "${needsNoNewPrivs}" comes with ` +
        `no_new_privs`,
    );
  }
  if (privileges?.disableUserNamespaces) refuseUndoing(user, privileges);

  return {
    namespaces,
    userIfNeeded: options.privateUser === undefined,
    user: user ?? SELF,
    proc,
    tmp,
    hostname,
    domainname,
    time,
    view,
    ephemeral,
    privileges,
    init: init ? onMainExit : undefined,
    seccomp,
    landlock,
    cgroup: cgroupSettings(options.cgroup),
    environment: variables(options.env, "env"),
    termChild: flag("termChild") ?? true,
    termGraceMs: integer(options.termGraceMs ?? 200, "termGraceMs", 0, 2 ** 31 - 1, "milliseconds"),
  };
}

/** Outside of a user namespace of its own it would be said of the whole system, and who could undo it does not need it. */
function refuseUndoing(
  user: UserSettings | undefined,
  { capabilities }: PrivilegeSettings,
): void {
  if (user === undefined) {
    throw new TypeError(
      `Option "disableUserNamespaces" must have "privateUser.uid" beside it, an id other than 0: it is said in that user ` +
        `namespace, and root of it could undo it`,
    );
  }
  const isRoot = !("ids" in user) || user.ids.uid === 0 || user.ids.uid === "self"; // Who that is is not known here.
  const had = isRoot || capabilities?.isKept ? capabilities?.left : capabilities?.added ?? new Set();
  if (had?.has("CAP_SYS_RESOURCE") !== false) {
    throw new TypeError(
      `Option "disableUserNamespaces" could be undone by who has CAP_SYS_RESOURCE inside, as root has ("self" and maps count ` +
        `as root): let "privateUser.uid" be an id other than 0, or have CAP_SYS_RESOURCE in "capabilities.drop"`,
    );
  }
}

function flagOf(value: unknown): boolean | undefined {
  return typeof value === "boolean" ? value : undefined;
}

function tmpSettings(value: NamespaceOptions["privateTmp"]): TmpSettings | undefined {
  if (value === undefined || value === false) return undefined;
  const given: TmpOptions = value === true
    ? {}
    : object(value, "privateTmp", `true, false or an object such as { size: "16m" }`);
  checkNames(given, ["size", "mode", "nrInodes", "uid", "gid", "huge"], "privateTmp.");
  const settings: [string, string][] = [["mode", octal(given.mode ?? 0o1777, "privateTmp.mode")]];
  if (given.size !== undefined) {
    settings.push(["size", amount(given.size, "privateTmp.size", /^[1-9]\d*[kmg%]?$/i, `"16m" or "10%"`)]);
  }
  if (given.nrInodes !== undefined) {
    settings.push(["nr_inodes", amount(given.nrInodes, "privateTmp.nrInodes", /^[1-9]\d*[kmg]?$/i, `"10k"`)]);
  }
  if (given.uid !== undefined) settings.push(["uid", String(id(given.uid, "privateTmp.uid"))]);
  if (given.gid !== undefined) settings.push(["gid", String(id(given.gid, "privateTmp.gid"))]);
  if (given.huge !== undefined) {
    settings.push(["huge", oneOf(given.huge, "privateTmp.huge", ["never", "always", "within_size", "advise"])]);
  }
  return settings;
}

function userSettings(value: NamespaceOptions["privateUser"]): UserSettings | undefined {
  if (value === undefined || value === false) return undefined;
  if (value === true) return ROOT;
  if (value === "self") return SELF;
  const given = object(value, "privateUser", `true, false, "self", { uid, gid } or { uidMap, gidMap }`);
  checkNames(given, ["uid", "gid", "uidMap", "gidMap", "setgroups"], "privateUser.");
  const policy = given.setgroups === undefined
    ? {}
    : { setgroups: oneOf(given.setgroups, "privateUser.setgroups", ["allow", "deny"]) };
  if ("uidMap" in given || "gidMap" in given) {
    const map = (kind: "uid" | "gid"): readonly IdRange[] | AutoMap => {
      const [name, own] = [`privateUser.${kind}Map`, given[kind]];
      if (given[`${kind}Map`] === "auto") return { inside: own === undefined ? 0 : id(own, `privateUser.${kind}`) };
      if (kind in given) {
        throw new TypeError(
          `Options "privateUser.${kind}" and "${name}" contradict each other: give either ids or maps, or "auto"`,
        );
      }
      return idMap(given[`${kind}Map`], name);
    };
    return { uidMap: map("uid"), gidMap: map("gid"), ...policy };
  }
  const uid = given.uid === undefined ? "self" : id(given.uid, "privateUser.uid");
  const gid = given.gid === undefined ? "self" : id(given.gid, "privateUser.gid");
  return { ids: { uid, gid }, ...policy };
}

function idMap(value: unknown, name: string): readonly IdRange[] {
  if (!Array.isArray(value)) throw wrongType(name, `"auto" or an array such as [{ inside: 0, outside: 1000 }]`, value);
  if (value.length < 1 || value.length > ID_MAPPINGS_MAX) {
    throw new RangeError(`Option "${name}" must have 1 to ${ID_MAPPINGS_MAX} entries: got ${value.length}`);
  }
  const map = Array.from(value, (entry: unknown, index): IdRange => {
    const given: Partial<IdMapping> = object(
      entry,
      `${name}[${index}]`,
      "an object such as { inside: 0, outside: 1000 }",
    );
    checkNames(given, ["inside", "outside", "count"], `${name}[${index}].`);
    const inside = id(given.inside, `${name}[${index}].inside`);
    const outside = id(given.outside, `${name}[${index}].outside`);
    const most = ID_MAX + 1 - Math.max(inside, outside);
    return { inside, outside, count: integer(given.count ?? 1, `${name}[${index}].count`, 1, most, "ids") };
  });
  for (const side of ["inside", "outside"] as const) {
    const sorted = [...map].sort((a, b) => a[side] - b[side]);
    sorted.forEach((entry, index) => {
      const next = sorted[index + 1];
      if (next !== undefined && entry[side] + entry.count > next[side]) {
        throw new RangeError(`Option "${name}" has entries that overlap: id ${next[side]} is ${side} twice`);
      }
    });
  }
  return map;
}

function timeSettings(value: NamespaceOptions["privateTime"]): TimeSettings | undefined {
  if (value === undefined || value === false) return undefined;
  const given: TimeOffsets = value === true
    ? {}
    : object(value, "privateTime", "true, false or an object such as { boottime: 3600 }");
  checkNames(given, ["monotonic", "boottime"], "privateTime.");
  return {
    monotonic: clockOffset(given.monotonic ?? 0, "privateTime.monotonic"),
    boottime: clockOffset(given.boottime ?? 0, "privateTime.boottime"),
  };
}

function clockOffset(value: unknown, name: string): { seconds: number; nanoseconds: number } {
  if (typeof value !== "number") throw wrongType(name, "a number of seconds", value);
  if (!(Math.abs(value) <= CLOCK_OFFSET_MAX)) {
    throw new RangeError(
      `Option "${name}" must be between -${CLOCK_OFFSET_MAX} and ${CLOCK_OFFSET_MAX} seconds: got ${value}`,
    );
  }
  const seconds = Math.floor(value);
  const nanoseconds = Math.round((value - seconds) * 1e9);
  return nanoseconds === 1e9 ? { seconds: seconds + 1, nanoseconds: 0 } : { seconds, nanoseconds };
}

/** hostname(7): letters, digits, hyphens and dots; labels do not begin or end with a hyphen. */
function optionalUtsName(value: unknown, name: string): string | undefined {
  if (value === undefined) return undefined;
  const given = text(value, name);
  if (given.length < 1 || given.length > UTS_NAME_MAX) {
    throw new RangeError(`Option "${name}" must be 1 to ${UTS_NAME_MAX} characters long: got ${given.length}`);
  }
  if (!/^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i.test(given)) {
    throw new RangeError(
      `Option "${name}" must be letters, digits, "-" and ".", each part beginning and ending with a letter or digit: got ${
        shown(given)
      }`,
    );
  }
  return given;
}
