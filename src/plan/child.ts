/**
 * Settings to a plan: everything that a child does between clone and exec, in the one order that works.
 *
 * @module
 */

import {
  CLONE_NEWCGROUP,
  CLONE_NEWIPC,
  CLONE_NEWNET,
  CLONE_NEWNS,
  CLONE_NEWPID,
  CLONE_NEWUSER,
  CLONE_NEWUTS,
} from "../abi/clone.ts";
import type { NamespaceKind, Settings } from "../options.ts";
import type { Caller } from "./caller.ts";
import {
  enterFolder,
  enterFolderAgain,
  execute,
  executeInit,
  executeOpened,
  openProgram,
  type Program,
  UNBLOCK_SIGNALS,
} from "./exec.ts";
import { ENTER_CGROUP_NAMESPACE, INTO_CGROUP } from "./cgroup.ts";
import { changeIds } from "./identity.ts";
import { restrict } from "./landlock.ts";
import { DIE_WITH_PARENT, WAIT_FOR_PARENT } from "./lifetime.ts";
import { makePrivate, mountProc, mountTmp } from "./mounts.ts";
import { loopbackUp } from "./net.ts";
import {
  CLOSE_THE_REST,
  closeFrom,
  connectStdio,
  type Extra,
  keepOpen,
  moveExtra,
  placeExtra,
  type Stdio,
} from "./stdio.ts";
import { installFilter } from "./seccomp.ts";
import { type Bytes, type CallerFolder, flags, type Named, type Plan, type Step } from "./step.ts";
import { afterIds, beforeIds, beforeMounts, noNewPrivileges } from "./privileges.ts";
import { giveTerminal, TAKE_TERMINAL } from "./terminal.ts";
import { enterTime } from "./time.ts";
import { furnishView, type Furniture } from "./view.ts";
import { deniesSetgroups, stayMapped, uidInside, writeUserMaps } from "./user.ts";
import { setNames } from "./uts.ts";

/** One child: what to execute, and how it differs from its parent beyond the namespaces. */
export interface ChildSettings extends Program, Place {
  readonly stdio: readonly [Stdio, Stdio, Stdio];
  /** Whether its stdin is a terminal that is to be its own. */
  readonly tty?: boolean;
  /** The launcher that is to be PID 1, and the command its child. */
  readonly init?: Init | undefined;
}

/** PID 1: see shim/init.zig. */
export interface Init {
  /** Descriptor of the launcher. */
  readonly launcher: number | Named;
  /** Descriptor that it writes its reports to. */
  readonly report: number | Named;
  readonly onMainExit: "kill" | "wait";
}

/** Where and as whom a child executes its program, and with what. */
export interface Place {
  /** Descriptors of the parent that the child has at 3, 4 and so on; undefined where it has none. */
  readonly extra?: readonly (Extra | undefined)[];
  /** The option that asked for them. */
  readonly extraOption?: "fds" | undefined;
  /** The folder that was asked for. */
  readonly cwd: string | undefined;
  /** The caller's folder, where it has one; as bytes where its path is no UTF-8. */
  readonly callerCwd: string | Bytes | CallerFolder | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
  /** The executable outside that is to be run: a path, to be opened before anything can hide it, or a descriptor. */
  readonly fromOutside?: string | number | undefined;
}

/** Which flag of clone(2) makes which namespace. There is none for time: see `enterTime`. */
const CLONE_FLAGS: readonly (readonly [NamespaceKind, number, string])[] = [
  ["user", CLONE_NEWUSER, "CLONE_NEWUSER"],
  ["mount", CLONE_NEWNS, "CLONE_NEWNS"],
  ["pid", CLONE_NEWPID, "CLONE_NEWPID"],
  ["net", CLONE_NEWNET, "CLONE_NEWNET"],
  ["ipc", CLONE_NEWIPC, "CLONE_NEWIPC"],
  ["uts", CLONE_NEWUTS, "CLONE_NEWUTS"],
  ["cgroup", CLONE_NEWCGROUP, "CLONE_NEWCGROUP"],
];

const FLAG_NAMES: ReadonlyMap<number, string> = new Map(CLONE_FLAGS.map(([, flag, name]) => [flag, name]));

/** What is the same for every child of the same settings and caller. */
interface World {
  readonly cloneFlags: Named;
  readonly cloneOption: string | undefined;
  /** The parent's steps. */
  readonly parent: readonly Step[];
  /** The child's: everything inside but the child's own affairs. */
  readonly steps: readonly Step[];
  /** Whether the steps can hide the folder that the child is in. */
  readonly hidesFolders: boolean;
}

/** The last world of each settings, since most programs are one caller all their life. */
const worlds = new WeakMap<
  Settings,
  { readonly caller: Caller; readonly hasTerminal: boolean; readonly world: World }
>();

function worldOf(settings: Settings, caller: Caller, hasTerminal: boolean): World {
  const known = worlds.get(settings);
  if (known?.caller === caller && known.hasTerminal === hasTerminal) return known.world;
  const world = planWorld(settings, caller, hasTerminal);
  worlds.set(settings, { caller, hasTerminal, world });
  return world;
}

/**
 * What is done inside, once the namespaces are there, whoever does it.
 *
 * @param hasTerminal Whether a terminal of its own is there already.
 */
export function furnish(
  settings: Settings,
  hasUser: boolean,
  hasTerminal: boolean,
): readonly Step[] {
  const { namespaces } = settings;
  const steps: Step[] = [];
  if (settings.cgroup !== undefined && namespaces.has("cgroup")) steps.push(ENTER_CGROUP_NAMESPACE);
  if (namespaces.has("mount")) steps.push(makePrivate(namespaces.get("mount")));
  if (settings.time !== undefined) steps.push(...enterTime(settings.time));
  steps.push(...setNames(settings));
  if (namespaces.has("net")) steps.push(...loopbackUp());
  const furniture: Furniture[] = [];
  if (settings.tmp !== undefined) furniture.push({ target: "/tmp", mount: mountTmp(settings.tmp) });
  if (settings.proc) furniture.push({ target: "/proc", mount: mountProc() });
  if (settings.view === undefined) steps.push(...furniture.map(({ mount }) => mount));
  else steps.push(...furnishView(settings.view, furniture, hasUser, hasTerminal));
  return steps;
}

/** Whether a caller's child is in a user namespace of its own, asked for or not. */
export function hasUserNamespace({ namespaces, userIfNeeded }: Settings, caller: Caller): boolean {
  const needsUser = userIfNeeded && namespaces.size > 0 && !caller.capabilities.has("CAP_SYS_ADMIN");
  return needsUser || namespaces.has("user");
}

function planWorld(settings: Settings, caller: Caller, hasTerminal: boolean): World {
  const { namespaces } = settings;
  const hasUser = hasUserNamespace(settings, caller);
  const { cgroup } = settings;
  const isMade = (kind: NamespaceKind): boolean => namespaces.has(kind) && (kind !== "cgroup" || cgroup === undefined);
  const made = CLONE_FLAGS.filter(([kind]) => kind === "user" ? hasUser : isMade(kind));
  const asked = new Set<string>(made.flatMap(([kind]) => namespaces.get(kind) ?? []));
  if (cgroup !== undefined) asked.add("cgroup");
  const named = flags(made.reduce((all, [, flag]) => all | flag, 0), FLAG_NAMES);

  return {
    // The flag itself comes with the cgroup: see `Library.spawn`.
    cloneFlags: cgroup === undefined
      ? named
      : { ...named, name: named.value === 0 ? INTO_CGROUP : `${named.name}|${INTO_CGROUP}` },
    cloneOption: asked.size === 0 ? undefined : [...asked].join(", "),
    parent: hasUser ? writeUserMaps(settings.user, caller, namespaces.get("user")) : [],
    steps: furnish(settings, hasUser, hasTerminal),
    hidesFolders: settings.tmp !== undefined || settings.proc || settings.view !== undefined,
  };
}

/** The last plan of each settings: a program that runs one command again and again plans it once. */
const plans = new WeakMap<Settings, { readonly child: ChildSettings; readonly caller: Caller; readonly plan: Plan }>();

/** Plans a child for a caller. The same plan as before for the same child. */
export function planChild(settings: Settings, child: ChildSettings, caller: Caller): Plan {
  const last = plans.get(settings);
  if (last?.caller === caller && isSameChild(last.child, child)) return last.plan;
  const plan = planNewChild(settings, child, caller);
  plans.set(settings, { child, caller, plan });
  return plan;
}

function isSameChild(a: ChildSettings, b: ChildSettings): boolean {
  return a.command === b.command && a.environment === b.environment && a.argv0 === b.argv0 && a.cwd === b.cwd &&
    a.callerCwd === b.callerCwd && a.uid === b.uid && a.gid === b.gid && isSameList(a.stdio, b.stdio) &&
    a.fromOutside === b.fromOutside && a.tty === b.tty && a.init?.report === b.init?.report &&
    isSameList(a.args, b.args) &&
    isSameList(a.extra ?? [], b.extra ?? []);
}

function isSameList(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index]);
}

function planNewChild(settings: Settings, child: ChildSettings, caller: Caller): Plan {
  const outside = child.fromOutside === undefined ? [] : openOutside(child.fromOutside, (child.extra?.length ?? 0) + 2); // Init has two more.
  const opened = outside.at(-1);
  const first = [...outside, ...connectStdio(child.stdio)];
  if (child.tty === true) first.push(...TAKE_TERMINAL);
  if (child.init !== undefined) return planInit(settings, child, child.init, caller, { opened, first });
  const plan = planUpToProgram(settings, child, caller, first, opened);
  const program = opened === undefined ? execute(child) : executeOpened(child, opened, firstFree(child));
  return { ...plan, child: [...plan.child, UNBLOCK_SIGNALS, ...program] };
}

/** Steps of which the last has an executable of the outside open, out of the way of what the child has from 3 on. */
export function openOutside(from: string | number, extraCount: number): readonly Step[] {
  if (typeof from === "number") return [keepOpen(from, extraCount)];
  const open = openProgram(from);
  return [open, keepOpen(open, extraCount)];
}

/** All signals stay blocked: init waits for them, and none is lost on the way to it. */
function planInit(
  settings: Settings,
  child: ChildSettings,
  { launcher: from, report, onMainExit }: Init,
  caller: Caller,
  { opened, first: before }: { readonly opened: Step | undefined; readonly first: readonly Step[] },
): Plan {
  const given = child.extra ?? [];
  const extra = [...given, report, ...(opened === undefined ? [] : [opened])];
  // Where descriptors have any number, one of them may be the launcher's.
  const moved = child.extraOption === undefined ? undefined : keepOpen(from, extra.length);
  const launcher = moved ?? from;
  const first = moved === undefined ? before : [moved, ...before];
  const plan = planUpToProgram(settings, { ...child, extra }, caller, first, launcher);
  const reportFd = 3 + given.length;
  const executable = opened === undefined ? "-" : String(reportFd + 1);
  const argv0 = child.argv0 ?? child.command;
  const args = [String(reportFd), onMainExit, executable, child.command, argv0, ...child.args];
  return { ...plan, child: [...plan.child, ...executeInit(launcher, firstFree({ extra }), args, child.environment)] };
}

/** The first descriptor that a child has not at its program's start. */
function firstFree({ extra = [] }: Pick<Place, "extra">): number {
  return 3 + extra.length;
}

/**
 * Plans all that a child does before it executes its program.
 *
 * @param first What is to be done while everything is still as it is outside.
 * @param kept The descriptor to be executed, where it is one.
 */
export function planUpToProgram(
  settings: Settings,
  place: Place,
  caller: Caller,
  first: readonly Step[],
  kept?: Extra,
): Plan {
  const hasTerminal = first.includes(TAKE_TERMINAL[0]!);
  const world = worldOf(settings, caller, hasTerminal);
  const user = hasUserNamespace(settings, caller) ? settings.user : undefined;
  const steps: Step[] = [...DIE_WITH_PARENT];
  if (world.parent.length > 0) steps.push(WAIT_FOR_PARENT);
  const { privileges } = settings;
  if (privileges !== undefined) steps.push(...beforeMounts(privileges));
  const { extra = [], extraOption } = place;
  const changesIds = place.uid !== undefined || place.gid !== undefined;
  const moved = moveExtra(extra, extraOption);
  // What is the parent's is taken before stdio takes its place; what a step opens, after that step.
  const isOpened = (index: number): boolean => first.includes(extra[index] as Step);
  steps.push(...moved.filter((step, index) => step !== undefined && !isOpened(index)) as Step[], ...first);
  steps.push(...moved.filter((step, index) => step !== undefined && isOpened(index)) as Step[]);
  steps.push(...placeExtra(moved, extra, extraOption, changesIds), ...world.steps);
  if (world.hidesFolders && place.cwd?.startsWith("/") !== true) {
    steps.push(...enterFolderAgain(place.callerCwd, place.cwd !== undefined));
  }
  if (privileges !== undefined) steps.push(...beforeIds(privileges, hasTerminal, changesIds));
  if (hasTerminal && place.uid !== undefined) steps.push(giveTerminal(place.uid));
  const stays = user === undefined ? [] : stayMapped(user, caller, place);
  if (changesIds || stays.length > 0 || privileges?.groups !== undefined) {
    steps.push(
      ...stays,
      ...changeIds(
        place.uid,
        place.gid,
        privileges?.groups,
        !deniesSetgroups(caller, user),
      ),
      ...DIE_WITH_PARENT,
    );
  }
  if (place.cwd !== undefined) steps.push(enterFolder(place.cwd));
  if (privileges !== undefined) steps.push(...afterIds(privileges));
  steps.push(...noNewPrivileges(privileges?.noNewPrivs, user && (place.uid ?? uidInside(user, caller))));
  if (settings.landlock !== undefined) steps.push(...restrict(settings.landlock));
  steps.push(...(extra.length === 0 && kept === undefined ? CLOSE_THE_REST : closeFrom(firstFree(place), kept)));
  if (settings.seccomp !== undefined) steps.push(...installFilter(settings.seccomp));
  const { cloneFlags, cloneOption, parent } = world;
  const ownMemory = settings.time !== undefined || changesIds || stays.length > 0 ||
    privileges?.oomScoreAdj !== undefined;
  return { cloneFlags, cloneOption, ownMemory, parent, child: steps };
}
