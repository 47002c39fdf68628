/**
 * Settings to the steps that engage them in a process that runs already.
 *
 * @module
 */

import { CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUTS } from "../abi/clone.ts";
import type { NamespaceKind, Settings } from "../options.ts";
import type { Caller } from "./caller.ts";
import { furnish } from "./child.ts";
import { AT_FDCWD, O_CLOEXEC_PATH, O_CLOEXEC_RDONLY } from "./files.ts";
import { flags, type Step } from "./step.ts";

/** The namespaces that a thread can leave for others: file in /proc/thread-self/ns, flag, name. The mounts come last. */
const KINDS: readonly (readonly [NamespaceKind, string, number, string])[] = [
  ["net", "net", CLONE_NEWNET, "CLONE_NEWNET"],
  ["ipc", "ipc", CLONE_NEWIPC, "CLONE_NEWIPC"],
  ["uts", "uts", CLONE_NEWUTS, "CLONE_NEWUTS"],
  ["cgroup", "cgroup", CLONE_NEWCGROUP, "CLONE_NEWCGROUP"],
  ["mount", "mnt", CLONE_NEWNS, "CLONE_NEWNS"],
];

/** Why the others cannot be had: see setns(2) and unshare(2). */
const REFUSED: readonly (readonly [NamespaceKind, string])[] = [
  ["pid", "a process cannot become PID 1"],
  ["user", "a process with threads, as Deno is, cannot enter a user namespace"],
  ["time", "a process with threads, as Deno is, cannot enter a time namespace"],
];

const NAMES: ReadonlyMap<number, string> = new Map(KINDS.map(([, , flag, name]) => [flag, name]));

const INSTEAD =
  "Use reexec(), by which this program starts over inside, or command(), whose child is inside from its start";

const OPEN_FOLDER: Step = { call: "openat", args: [AT_FDCWD, ".", O_CLOEXEC_PATH], what: "open the current folder" };

/** How a running process engages settings. */
export interface SetupPlan {
  /** Opens the namespaces that the calling thread is in, in the order of {@linkcode kinds}, and its current folder. */
  readonly open: readonly Step[];
  /** Takes the calling thread into new namespaces, and furnishes them. */
  readonly enter: readonly Step[];
  /** CLONE_NEW* of each namespace. */
  readonly kinds: readonly number[];
}

/**
 * Plans `setup()`.
 *
 * @throws {TypeError} When a namespace is asked for that a running process cannot enter.
 */
export function planSetup(settings: Settings, caller: Caller): SetupPlan {
  const { namespaces } = settings;
  for (const [kind, reason] of REFUSED) {
    const option = namespaces.get(kind);
    if (option !== undefined) {
      throw new TypeError(`Cannot set up "${option}" in a running process: ${reason}. ${INSTEAD}`);
    }
  }
  if (settings.ephemeral !== undefined) {
    throw new TypeError(
      `Cannot set up "ephemeral" in a running process: what it changes could not be told apart. Use command()`,
    );
  }
  if (settings.view !== undefined) {
    const option = settings.view.mounts.length > 0 ? "mounts" : "root";
    const reason = "the root of all its threads would have to change at once";
    throw new TypeError(`Cannot set up "${option}" in a running process: ${reason}. ${INSTEAD}`);
  }
  if (settings.privileges !== undefined) {
    const reason = "what a program may do and use is said for commands, not for the threads of a process";
    throw new TypeError(`Cannot set up privileges and limits in a running process: ${reason}. ${INSTEAD}`);
  }
  if (settings.environment.size > 0) {
    const reason = "it is what commands are given, and this program has its own";
    throw new TypeError(`Cannot set up "env" in a running process: ${reason}. Use Deno.env, or command()`);
  }
  if (settings.cgroup !== undefined) {
    const reason = "it is about a command, whose end is the cgroup's";
    throw new TypeError(`Cannot set up "cgroup" in a running process: ${reason}. ${INSTEAD}`);
  }
  const cutting = settings.seccomp !== undefined ? "seccomp" : settings.landlock !== undefined ? "landlock" : undefined;
  if (cutting !== undefined) {
    throw new TypeError(
      `Cannot set up "${cutting}" in a running process: what it is doing would be cut off. ${INSTEAD}`,
    );
  }
  if (settings.userIfNeeded && namespaces.size > 0 && !caller.capabilities.has("CAP_SYS_ADMIN")) {
    const [option] = namespaces.values();
    const reason = "without CAP_SYS_ADMIN it needs a user namespace, which a process with threads cannot enter";
    throw new TypeError(`Cannot set up "${option}" in a running process: ${reason}. ${INSTEAD}`);
  }
  const made = KINDS.filter(([kind]) => namespaces.has(kind));
  const named = flags(made.reduce((all, [, , flag]) => all | flag, 0), NAMES);
  const unshare: Step = {
    call: "unshare",
    args: [named],
    what: `unshare ${named.name}`,
    option: [...new Set(made.map(([kind]) => namespaces.get(kind)))].join(", "),
  };
  return {
    open: [...made.map(([kind, file]) => openNamespace(file, namespaces.get(kind))), OPEN_FOLDER],
    enter: made.length === 0 ? [] : [unshare, ...furnish(settings, false, false)],
    kinds: made.map(([, , flag]) => flag),
  };
}

/** Takes the calling thread back to where descriptors lead: what {@linkcode SetupPlan.open} has opened. */
export function goBack(
  targets: readonly { readonly fd: number; readonly kind: number }[],
  folder: number,
): readonly Step[] {
  return [
    ...targets.map(({ fd, kind }): Step => ({
      call: "setns",
      args: [fd, { value: kind, name: NAMES.get(kind)! }],
      what: "go back to the outer namespaces",
    })),
    { call: "fchdir", args: [folder], what: "go back to the current folder" },
  ];
}

function openNamespace(file: string, option: string | undefined): Step {
  const path = `/proc/thread-self/ns/${file}`;
  return { call: "openat", args: [AT_FDCWD, path, O_CLOEXEC_RDONLY], what: `open ${path}`, option };
}
