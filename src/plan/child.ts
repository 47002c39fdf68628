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
  executeOpened,
  openProgram,
  type Program,
  UNBLOCK_SIGNALS,
} from "./exec.ts";
import { changeIds } from "./identity.ts";
import { DIE_WITH_PARENT, WAIT_FOR_PARENT } from "./lifetime.ts";
import { makePrivate, mountProc, mountTmp } from "./mounts.ts";
import { loopbackUp } from "./net.ts";
import { CLOSE_THE_REST, closeFrom, connectExtra, connectStdio, type Stdio } from "./stdio.ts";
import { flags, type Named, type Plan, type Step } from "./step.ts";
import { enterTime } from "./time.ts";
import { deniesSetgroups, writeUserMaps } from "./user.ts";
import { setNames } from "./uts.ts";

/** One child: what to execute, and how it differs from its parent beyond the namespaces. */
export interface ChildSettings extends Program {
  readonly stdio: readonly [Stdio, Stdio, Stdio];
  /** Descriptors of the parent that the child has at 3, 4 and so on. */
  readonly extra?: readonly number[];
  /** Whether the command is the path of an executable outside, to be opened before anything can hide it. */
  readonly fromOutside?: boolean;
  /** The folder that was asked for. */
  readonly cwd: string | undefined;
  /** The caller's folder, where it has one. */
  readonly callerCwd: string | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
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
const worlds = new WeakMap<Settings, { readonly caller: Caller; readonly world: World }>();

function worldOf(settings: Settings, caller: Caller): World {
  const known = worlds.get(settings);
  if (known?.caller === caller) return known.world;
  const world = planWorld(settings, caller);
  worlds.set(settings, { caller, world });
  return world;
}

/** What is done inside, once the namespaces are there, whoever does it. */
export function furnish(settings: Settings): readonly Step[] {
  const { namespaces } = settings;
  const steps: Step[] = [];
  if (namespaces.has("mount")) steps.push(makePrivate(namespaces.get("mount")));
  if (settings.time !== undefined) steps.push(...enterTime(settings.time));
  steps.push(...setNames(settings));
  if (namespaces.has("net")) steps.push(...loopbackUp());
  if (settings.tmp !== undefined) steps.push(mountTmp(settings.tmp));
  if (settings.proc) steps.push(mountProc());
  return steps;
}

/** Whether a caller's child is in a user namespace of its own, asked for or not. */
export function hasUserNamespace({ namespaces, userIfNeeded }: Settings, caller: Caller): boolean {
  const needsUser = userIfNeeded && namespaces.size > 0 && !caller.capabilities.has("CAP_SYS_ADMIN");
  return needsUser || namespaces.has("user");
}

function planWorld(settings: Settings, caller: Caller): World {
  const { namespaces } = settings;
  const hasUser = hasUserNamespace(settings, caller);
  const made = CLONE_FLAGS.filter(([kind]) => kind === "user" ? hasUser : namespaces.has(kind));
  const asked = new Set(made.map(([kind]) => namespaces.get(kind)).filter((option) => option !== undefined));

  return {
    cloneFlags: flags(made.reduce((all, [, flag]) => all | flag, 0), FLAG_NAMES),
    cloneOption: asked.size === 0 ? undefined : [...asked].join(", "),
    parent: hasUser ? writeUserMaps(settings.user, caller, namespaces.get("user")) : [],
    steps: furnish(settings),
    hidesFolders: settings.tmp !== undefined || settings.proc,
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
    a.fromOutside === b.fromOutside && isSameList(a.args, b.args) && isSameList(a.extra ?? [], b.extra ?? []);
}

function isSameList(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index]);
}

function planNewChild(settings: Settings, child: ChildSettings, caller: Caller): Plan {
  const world = worldOf(settings, caller);
  const steps: Step[] = [...DIE_WITH_PARENT];
  if (world.parent.length > 0) steps.push(WAIT_FOR_PARENT);
  const { extra = [] } = child;
  const opened = child.fromOutside === true ? openProgram(child.command) : undefined;
  if (opened !== undefined) steps.push(opened);
  const changesIds = child.uid !== undefined || child.gid !== undefined;
  steps.push(...connectStdio(child.stdio), ...connectExtra(extra, changesIds), ...world.steps);
  if (world.hidesFolders && child.cwd === undefined) steps.push(...enterFolderAgain(child.callerCwd));
  if (changesIds) {
    steps.push(...changeIds(child.uid, child.gid, !deniesSetgroups(caller)), ...DIE_WITH_PARENT);
  }
  if (child.cwd !== undefined) steps.push(enterFolder(child.cwd));
  const closing = extra.length === 0 ? CLOSE_THE_REST : closeFrom(3 + extra.length);
  const program = opened === undefined ? execute(child) : [executeOpened(child, opened)];
  steps.push(...closing, UNBLOCK_SIGNALS, ...program);
  return { cloneFlags: world.cloneFlags, cloneOption: world.cloneOption, parent: world.parent, child: steps };
}
