/**
 * What is done inside when the child runs already: by another one, which enters the child's namespaces for it.
 *
 * @module
 */

import { CLONE_NEWNS, CLONE_NEWUSER } from "../abi/clone.ts";
import type { Settings, TmpSettings } from "../options.ts";
import type { Caller } from "./caller.ts";
import { hasUserNamespace } from "./child.ts";
import { mountTmp } from "./mounts.ts";
import { flags, type Plan, type Step } from "./step.ts";

const NAMES: ReadonlyMap<number, string> = new Map([[CLONE_NEWUSER, "CLONE_NEWUSER"], [CLONE_NEWNS, "CLONE_NEWNS"]]);

/**
 * Plans a child that mounts /tmp in the mount namespace of another, and ends. Only the kernel knows how much that one is
 * still allowed to do itself; who made its user namespace may do all in it.
 *
 * @param settings Those of the other child.
 * @param pid The other child's, as the caller sees it.
 */
export function planTmpLater(settings: Settings, tmp: TmpSettings, pid: number, caller: Caller): Plan {
  const pidfd: Step = { call: "pidfd_open", args: [pid, 0], what: "open the process", option: "privateTmp" };
  const kinds = flags(hasUserNamespace(settings, caller) ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS, NAMES);
  const enter: Step = {
    call: "setns",
    args: [{ resultOf: pidfd }, kinds],
    what: "enter the namespaces of the process",
    option: "privateTmp",
  };
  const end: Step = { call: "exit_group", args: [0], what: "end" };
  return {
    cloneFlags: flags(0, NAMES),
    cloneOption: undefined,
    parent: [],
    child: [pidfd, enter, mountTmp(tmp), end],
  };
}
