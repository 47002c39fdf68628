/**
 * What would be done to run a command.
 *
 * @module
 */

import { withSubordinateIds } from "../machine/facts.ts";
import { library } from "../machine/library.ts";
import { checkNames, id } from "../checks.ts";
import type { Settings } from "../options.ts";
import type { Caller, KnownCaller } from "../plan/caller.ts";
import { planChild } from "../plan/child.ts";
import { callerOf, Explanation, type Somebody } from "../plan/explain.ts";
import type { Stdio } from "../plan/stdio.ts";
import type { Named } from "../plan/step.ts";
import { explainCgroup } from "../plan/cgroup.ts";
import { extraOf } from "./descriptors.ts";
import { ephemeralView } from "./ephemeral.ts";
import type { CommandOptions } from "../command_options.ts";
import { checkOptions, SPAWN_STDIO } from "./command.ts";

/** Options of `Namespace.explain()`: those of the command, as for `Namespace.command()`, and who is to run it. */
export interface ExplainOptions extends CommandOptions {
  /**
   * Who is to run the command. Somebody's environment is not known: it is what {@linkcode CommandOptions.env} says, and a
   * name is looked for in /bin and /usr/bin where that says no PATH. `ephemeral`, and the maps `"auto"`, are those of this
   * machine. @default {this process, with its environment}
   */
  as?: Somebody | undefined;
}

/** Explains what is done to run a command by `spawn()`; without a command, all but the last of it. */
export function explain(settings: Settings, command: string | URL | undefined, options: ExplainOptions): Explanation {
  const { as, ...commandOptions } = options;
  const { caller, environment } = as === undefined
    ? library().context()
    : { caller: callerOf(checked(as)), environment: new Uint8Array() };
  return explainFor(described(settings, caller, options.cwd), command, commandOptions, caller, environment);
}

/** The settings with the view and the maps that they would have on this machine, where those depend on it. */
function described(settings: Settings, caller: KnownCaller, cwd: string | URL = "."): Settings {
  const { ephemeral } = settings;
  try {
    const viewed = ephemeral === undefined
      ? settings
      : ephemeralView(settings, caller, cwd instanceof URL ? cwd.pathname : cwd);
    return withSubordinateIds(viewed, caller);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotCapable)) throw error;
    const asked = ephemeral === undefined ? `"auto" of privateUser` : `"ephemeral"`;
    throw new Deno.errors.NotCapable(`Cannot explain ${asked} without --allow-ffi: it depends on the machine`, {
      cause: error,
    });
  }
}

/** Explains what is done for a caller with an environment. */
export function explainFor(
  settings: Settings,
  command: string | URL | undefined,
  options: CommandOptions,
  caller: Caller,
  environment: Uint8Array,
): Explanation {
  const { program, stdio, descriptors, tty } = checkOptions(
    settings,
    command ?? "true",
    options,
    SPAWN_STDIO,
    environment,
  );
  const [stdin, stdout, stderr] = stdio.map((option): Stdio => {
    return tty !== undefined ? TERMINAL : option === "piped" ? PIPE : option;
  });
  const init = settings.init && { launcher: LAUNCHER, report: PIPE, onMainExit: settings.init };
  const plan = planChild(settings, {
    ...program,
    stdio: [stdin!, stdout!, stderr!],
    tty: tty !== undefined,
    ...extraOf(descriptors, () => PIPE),
    init,
  }, caller);
  const execution = plan.child.findIndex(({ call }) => call.startsWith("execve"));
  const child = command !== undefined ? plan.child : plan.child.slice(0, execution);
  const { cgroup } = settings;
  const before = cgroup === undefined ? [] : explainCgroup(cgroup);
  return new Explanation({ ...plan, before, child }, caller);
}

const PIPE: Named = { value: -1, name: "<pipe>" };
const TERMINAL: Named = { value: -1, name: "<terminal>" };
const LAUNCHER: Named = { value: -1, name: "<launcher>" };

function checked(as: Somebody): Somebody {
  checkNames(as, ["uid", "gid", "capabilities"], "as.");
  id(as.uid, "as.uid");
  if (as.gid !== undefined) id(as.gid, "as.gid");
  const { capabilities } = as;
  if (capabilities === undefined || capabilities === "all" || capabilities === "none") return as;
  if (Array.isArray(capabilities)) return as;
  throw new TypeError(`Option "as.capabilities" must be "all", "none" or an array such as ["CAP_SYS_ADMIN"]`);
}
