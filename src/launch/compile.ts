/**
 * Settings and a command to an executable that runs it: the launcher with a plan that is made for whoever will run it.
 *
 * @module
 */

import { errnoNumber } from "../abi/errno.ts";
import type { Architecture } from "../abi/syscalls.ts";
import type { CheckedProgram } from "../command_options.ts";
import { visible } from "../quoted.ts";
import { LAUNCHERS } from "../machine/launchers.ts";
import type { Settings } from "../options.ts";
import { ANYBODY, type Caller, type KnownCaller } from "../plan/caller.ts";
import { openOutside, type Place, planUpToProgram } from "../plan/child.ts";
import { describeCall } from "../plan/describe.ts";
import { TAKE_TERMINAL } from "../plan/terminal.ts";
import { cloneStep, type Plan, type Step } from "../plan/step.ts";
import { type BundleOptions, encodeBundle, type StepHint, type StepText, type Variant } from "./bundle.ts";
import { link } from "./image.ts";

/** How a command is launched, beyond the namespaces. */
export interface LaunchOptions extends
  Pick<
    BundleOptions,
    | "anyCommand"
    | "cgroup"
    | "clearEnv"
    | "debug"
    | "diagnoser"
    | "name"
    | "origin"
    | "statusFd"
    | "timeoutMs"
    | "tty"
    | "ttySize"
  > {
  /** What messages call options by. @default {as the library does} */
  readonly wording?: Wording;
  /** Finds what is told below the message of a refused step. @default {nothing is} */
  readonly cause?: Cause;
  /** What is run in place of the command: a path outside, or a descriptor of an executable, which the launcher inherits. */
  readonly executable?: string | number;
  /** Who will run it. @default {that is not known} */
  readonly caller?: KnownCaller;
  /** Descriptors that the command has at 3, 4 and so on. */
  readonly extra?: readonly number[];
  /** The same, where they were asked for: see {@linkcode launchedDescriptors}. */
  readonly descriptors?: readonly (number | undefined)[];
}

/** The likely cause of a step's refusal, where it is known. */
export type Cause = (step: Step, code: string, section: readonly Step[]) => string | undefined;

/** How options are called by who reads the messages. */
export interface Wording {
  /** An option by its name. */
  option(name: string): string;
  /** A text that names options. */
  hint(text: string): string;
}

const AS_IT_IS: Wording = { option: (name) => name, hint: (text) => text };

const ALL = new Set(["CAP_SETGID", "CAP_SETUID", "CAP_SYS_ADMIN"] as const);
const ADMINISTRATOR: Caller = { uid: ANYBODY, gid: ANYBODY, capabilities: ALL };
/** Whoever runs it, without any capability. */
export const ORDINARY: Caller = { uid: ANYBODY, gid: ANYBODY, capabilities: new Set() };

/** Refusals that are told with more than the errno's own meaning, where that is known. */
const DIAGNOSED = ["EPERM", "EACCES", "EINVAL", "ENOSPC", "EUSERS", "EAGAIN", "ENOMEM", "ERANGE", "E2BIG", "ENOENT"];

/**
 * Refuses a view that somebody has to keep for longer than a command runs.
 *
 * @throws {TypeError} Where there is one.
 */
export function refuseEphemeral({ ephemeral }: Settings): void {
  if (ephemeral === undefined) return;
  throw new TypeError(
    `Option "ephemeral" is for commands that this program waits for, by command(), run(), spawn() or nsrun try: ` +
      `their changes are to be looked at afterwards`,
  );
}

/**
 * Makes an executable.
 *
 * @throws {TypeError} When an option cannot be had there.
 */
export function compile(
  settings: Settings,
  program: CheckedProgram,
  options: LaunchOptions,
  architecture: Architecture,
): Uint8Array<ArrayBuffer> {
  refuseEphemeral(settings);
  const outside = options.executable === undefined ? [] : openOutside(options.executable, options.extra?.length ?? 0);
  const opened = outside.at(-1);
  const { descriptors = [] } = options;
  const asked = descriptors.map((fd) => fd === undefined ? undefined : { inherited: fd });
  const place: Place = {
    ...program,
    ...(asked.length === 0 ? { extra: options.extra ?? [] } : { extra: asked, extraOption: "fds" }),
    callerCwd: { callerFolder: true },
    fromOutside: options.executable,
  };
  const first = [...outside, ...(options.tty === true ? TAKE_TERMINAL : [])];
  const variant = (caller: Caller): Variant => {
    const plan = planUpToProgram(settings, place, caller, first, opened);
    return { ...describe(plan, options.wording ?? AS_IT_IS, options.cause), opened };
  };
  const administrators = variant(options.caller ?? ADMINISTRATOR);
  const isSame = options.caller !== undefined || settings.namespaces.size === 0;
  const bundle = encodeBundle(architecture, {
    ...options,
    init: settings.init !== undefined,
    waitForAll: settings.init === "wait",
    forward: settings.termChild,
    graceMs: settings.termGraceMs,
    command: [program.command, ...program.args],
    argv0: program.argv0,
    environment: [...program.environment].map(([name, value]) => value === undefined ? name : `${name}=${value}`),
  }, [administrators, isSame ? administrators : variant(ORDINARY)]);
  return link(Uint8Array.fromBase64(LAUNCHERS[architecture]), bundle);
}

/** The launcher as PID 1 for the library, which tells it by its command line what to run. */
export function initImage(architecture: Architecture): Uint8Array<ArrayBuffer> {
  const options: BundleOptions = { initOnly: true, init: true, graceMs: 0, command: [], environment: [], origin: "" };
  return link(Uint8Array.fromBase64(LAUNCHERS[architecture]), encodeBundle(architecture, options, undefined));
}

function describe(plan: Plan, wording: Wording, cause: Cause | undefined): Omit<Variant, "opened"> {
  const clone = cloneStep(plan);
  const sections = [[clone], plan.parent, plan.child];
  const texts: StepText[] = [];
  const hints: StepHint[] = [];
  for (const section of sections) {
    for (const step of section) {
      for (const code of cause === undefined ? [] : DIAGNOSED) {
        const hint = cause!(step, code, section);
        if (hint !== undefined) hints.push({ text: texts.length, errno: errnoNumber(code), hint: wording.hint(hint) });
      }
      const reason = step.option === undefined ? "" : ` for ${step.option.split(", ").map(wording.option).join(", ")}`;
      texts.push({ message: `Cannot ${visible(step.what)}${reason}`, call: describeCall(step) });
    }
  }
  return { plan, texts, hints };
}
