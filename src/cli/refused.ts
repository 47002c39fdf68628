/**
 * What the launcher could not do, said with its cause. The launcher cannot look for causes, so it lets Deno do that.
 *
 * @module
 */

import { checkProgram, launchedDescriptors, launchedTerminal } from "../command_options.ts";
import { attemptIn } from "../diagnosis/execution.ts";
import { stepError } from "../errors.ts";
import { withSubordinateIds } from "../machine/facts.ts";
import { library } from "../machine/library.ts";
import { validate } from "../options.ts";
import { type ChildSettings, planChild } from "../plan/child.ts";
import { mergeEnvironment } from "../plan/environment.ts";
import { cloneStep } from "../plan/step.ts";
import { understand } from "./arguments.ts";
import { takeOver } from "./handover.ts";
import { NOTHING_READ } from "./run.ts";
import { takeFiles, withoutShim } from "./values.ts";

/** `Stage` of shim/report.zig. */
const CLONE = 1;
const PARENT_STEP = 2;
const CHILD_STEP = 3;

/**
 * Fails as the launcher has.
 *
 * @param argv Stage, step and errno, the descriptor of the files that were read, and then the words of the command line.
 * @throws {NamespaceError} Always.
 */
export async function refused([what = "", files = NOTHING_READ, ...argv]: readonly string[]): Promise<never> {
  if (files !== NOTHING_READ) takeFiles(takeOver(files));
  const [stage, index, errno] = what.split(":").map(Number) as [number, number, number];
  const { namespace, command, commandOptions } = await understand(argv);
  const { caller, environment } = library().context();
  const settings = validate(namespace);
  const own = withoutShim(commandOptions, namespace.env, environment);
  const { environment: changes, ...program } = checkProgram(command!, own, settings.environment);
  const inherited = commandOptions.clearEnv === true ? new Uint8Array() : environment;
  const asked = launchedDescriptors(commandOptions.fds).map((fd) => fd === undefined ? undefined : { inherited: fd });
  const child: ChildSettings = {
    ...program,
    ...(asked.length === 0 ? {} : { extra: asked, extraOption: "fds" }),
    environment: mergeEnvironment(inherited, changes),
    callerCwd: { callerFolder: true },
    stdio: ["inherit", "inherit", "inherit"],
    tty: launchedTerminal(commandOptions.tty).tty,
  };
  const plan = planChild(withSubordinateIds(settings, caller), child, caller);
  const section = stage === CLONE ? [cloneStep(plan)] : stage === PARENT_STEP ? plan.parent : plan.child;
  const step = stage === CHILD_STEP || stage === PARENT_STEP || stage === CLONE
    ? section[index] ?? section.at(-1)!
    : attemptIn(index, section, child.environment);
  throw stepError(step, errno, section, step.call === "execve" ? aboutTarget(argv, commandOptions.args) : undefined);
}

/** What is taken for the command may have been meant as a target, as bwrap has it. */
function aboutTarget(argv: readonly string[], args: readonly string[] = []): string | undefined {
  const [option, source, target] = argv.slice(0, argv.length - args.length).slice(-3);
  return /^--(?:ro-)?bind$/.test(option ?? "") && !source!.includes(":")
    ? `Where it was meant as a target, that is "${option} ${source}:${target}".`
    : undefined;
}
