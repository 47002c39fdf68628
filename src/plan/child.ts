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
import { enterFolder, enterFolderAgain, execute, type Program, unblockSignals } from "./exec.ts";
import { changeIds } from "./identity.ts";
import { dieWithParent, waitForParent } from "./lifetime.ts";
import { makePrivate, mountProc, mountTmp } from "./mounts.ts";
import { loopbackUp } from "./net.ts";
import { closeTheRest, connectStdio, type Stdio } from "./stdio.ts";
import { flags, type Plan, type Step } from "./step.ts";
import { enterTime } from "./time.ts";
import { deniesSetgroups, writeUserMaps } from "./user.ts";
import { setNames } from "./uts.ts";

/** One child: what to execute, and how it differs from its parent beyond the namespaces. */
export interface ChildSettings extends Program {
  readonly stdio: readonly [Stdio, Stdio, Stdio];
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

/** Plans a child for a caller. */
export function planChild(settings: Settings, child: ChildSettings, caller: Caller): Plan {
  const { namespaces } = settings;
  const needsUser = settings.userIfNeeded && namespaces.size > 0 && !caller.capabilities.has("CAP_SYS_ADMIN");
  const hasUser = needsUser || namespaces.has("user");
  const made = CLONE_FLAGS.filter(([kind]) => kind === "user" ? hasUser : namespaces.has(kind));
  const cloneFlags = flags(made.reduce((all, [, flag]) => all | flag, 0), FLAG_NAMES);
  const asked = new Set(made.map(([kind]) => namespaces.get(kind)).filter((option) => option !== undefined));

  const steps: Step[] = [...dieWithParent()];
  if (hasUser) steps.push(waitForParent());
  steps.push(...connectStdio(child.stdio));
  if (namespaces.has("mount")) steps.push(makePrivate(namespaces.get("mount")));
  if (settings.time !== undefined) steps.push(...enterTime(settings.time));
  steps.push(...setNames(settings.hostname, settings.domainname));
  if (namespaces.has("net")) steps.push(...loopbackUp());
  if (settings.tmp !== undefined) steps.push(mountTmp(settings.tmp));
  if (settings.proc) steps.push(mountProc());
  const hides = settings.tmp !== undefined || settings.proc;
  if (hides && child.cwd === undefined) steps.push(...enterFolderAgain(child.callerCwd));
  const identity = changeIds(child.uid, child.gid, !deniesSetgroups(caller));
  if (identity.length > 0) steps.push(...identity, ...dieWithParent());
  if (child.cwd !== undefined) steps.push(enterFolder(child.cwd));
  steps.push(...closeTheRest(), unblockSignals(), ...execute(child));

  return {
    cloneFlags,
    cloneOption: asked.size === 0 ? undefined : [...asked].join(", "),
    parent: hasUser ? writeUserMaps(settings.user, caller, namespaces.get("user")) : [],
    child: steps,
  };
}
