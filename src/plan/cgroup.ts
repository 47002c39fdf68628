/**
 * The command's own cgroup: how it is made before the child is, and by whom it is ended and removed.
 *
 * @see {@link https://docs.kernel.org/admin-guide/cgroup-v2.html | Control Group v2}
 * @module
 */

import { CLONE_NEWCGROUP } from "../abi/clone.ts";
import type { CgroupSettings } from "../options_cgroup.ts";
import { executeOpenLauncher } from "./exec.ts";
import { ABOVE_GIVEN, AT_FDCWD, F_DUPFD, O_CLOEXEC_PATH, O_CLOEXEC_WRONLY } from "./files.ts";
import { dieWithParent } from "./lifetime.ts";
import type { Bytes, Named, Plan, Step } from "./step.ts";

const option = "cgroup";
const utf8 = new TextEncoder();

/** The signal that ends a cgroup: `end_signal` of shim/cgroup.zig. */
export const END_SIGNAL = { value: 10, name: "SIGUSR1" } as const satisfies Named;

const W_OK = { value: 2, name: "W_OK" };
const F_OK = { value: 0, name: "F_OK" };
const MODE = { value: 0o755, name: "0755" };
const F_SETFD = { value: 2, name: "F_SETFD" };

/** What is added to the flags of clone(2): the child is born in the cgroup, and never outside. */
export const INTO_CGROUP = "CLONE_INTO_CGROUP";

/**
 * The child's cgroup becomes the root of what it sees. Not by the clone: a namespace that is made there has the caller's
 * cgroup as its root.
 */
export const ENTER_CGROUP_NAMESPACE: Step = {
  call: "unshare",
  args: [{ value: CLONE_NEWCGROUP, name: "CLONE_NEWCGROUP" }],
  what: "make its cgroup the root of what it sees",
  option: "privateCgroup",
};

/** Opens the cgroup that it is to be in; the result of the first step. */
export function openParent(folder: string): readonly Step[] {
  const open: Step = {
    call: "openat",
    args: [AT_FDCWD, folder, O_CLOEXEC_PATH],
    what: `open the cgroup "${folder}"`,
    option,
  };
  const look = (file: string, mode: Named, what: string): Step => {
    return { call: "faccessat", args: [{ resultOf: open }, file, mode], what: `${what} "${folder}"`, option };
  };
  return [
    open,
    look("cgroup.controllers", F_OK, "find a cgroup of version 2 at"),
    look("cgroup.procs", W_OK, "put processes into the cgroup"),
  ];
}

/**
 * Plans the keeper: the process that ends and removes the cgroup when it is told to, or when the thread that plans are made
 * in has ended.
 *
 * @param parent Descriptor of the cgroup that it is in.
 * @param launcher Descriptor of the launcher.
 */
export function planKeeper(parent: number, name: string, launcher: number): Plan {
  const inherit: Step = {
    call: "fcntl",
    args: [parent, F_SETFD, 0],
    what: "hand the cgroup's folder on",
    option,
  };
  const apart: Step = { call: "setsid", args: [], what: "stand apart from the terminal and its signals", option };
  return {
    cloneFlags: { value: 0, name: "0" },
    cloneOption: option,
    parent: [],
    child: [
      ...dieWithParent(END_SIGNAL, "be told when the parent dies"),
      apart,
      inherit,
      executeOpenLauncher(launcher, ["cgroup", String(parent), name], { what: "execute the cgroup's keeper", option }),
    ],
  };
}

/** The cgroup, and its limits. */
export interface CgroupSteps {
  readonly steps: readonly Step[];
  /** What its descriptor is the result of. It is not closed by execve, and above all that commands are given by number. */
  readonly opened: Step;
}

/**
 * Plans the cgroup.
 *
 * @param parent Descriptor of the one that it is in, and its path.
 * @param enable Controllers to be enabled there.
 */
export function makeCgroup(
  { limits }: CgroupSettings,
  { parent, folder, name, enable }: {
    readonly parent: number | Named;
    readonly folder: string;
    readonly name: string | Named;
    readonly enable: readonly string[];
  },
): CgroupSteps {
  const open: Step = {
    call: "openat",
    args: [parent, name, O_CLOEXEC_PATH],
    what: "open the cgroup",
    option,
    opens: true,
  };
  const opened: Step = {
    call: "fcntl",
    args: [{ resultOf: open }, F_DUPFD, ABOVE_GIVEN],
    what: "keep the cgroup open",
    option,
  };
  return {
    opened,
    steps: [
      ...(enable.length === 0 ? [] : write(
        parent,
        "cgroup.subtree_control",
        enable.map((controller) => `+${controller}`).join(" "),
        `enable ${enable.join(", ")} in "${folder}"`,
      )),
      { call: "mkdirat", args: [parent, name, MODE], what: `make a cgroup in "${folder}"`, option },
      open,
      opened,
      {
        call: "faccessat",
        args: [{ resultOf: open }, "cgroup.kill", W_OK],
        what: "see that all of a cgroup can be killed",
        option,
      },
      ...limits.flatMap(({ file, value, name }) =>
        write({ resultOf: open }, file, value, `write ${JSON.stringify(value)} to ${file}`, `${option}.${name}`)
      ),
    ],
  };
}

function write(
  folder: Step["args"][number],
  file: string,
  value: string,
  what: string,
  asked: string = option,
): readonly Step[] {
  const open: Step = { call: "openat", args: [folder, file, O_CLOEXEC_WRONLY], what, option: asked, opens: true };
  const content: Bytes = { bytes: utf8.encode(value), name: JSON.stringify(value) };
  return [open, { call: "write", args: [{ resultOf: open }, content, content.bytes.length], what, option: asked }];
}

/** What is done before the clone, for who wants to know and not to do it. */
export function explainCgroup(settings: CgroupSettings): readonly Step[] {
  const folder = settings.parent ?? "<this process's cgroup>";
  const begin: Step = {
    call: "clone",
    args: [{ value: 0, name: "0" }],
    what: "begin the keeper, a process that kills what is left and removes the cgroup when this one has ended",
    option,
  };
  const parent = { value: -1, name: "<openat>" };
  const { steps } = makeCgroup(settings, { parent, folder, name: { value: -1, name: "<name>" }, enable: [] });
  return [...openParent(folder), begin, ...steps];
}
