/**
 * A command to be run in namespaces: the twin of Deno.Command.
 *
 * @module
 */

import { errnoName, errnoText } from "../abi/errno.ts";
import {
  checkDescriptors,
  checkProgram,
  checkTerminal,
  type CommandOptions,
  SHARED_OPTION_NAMES,
} from "../command_options.ts";
import { attemptIn } from "../diagnosis/execution.ts";
import { stepError } from "../errors.ts";
import { withSubordinateIds } from "../machine/facts.ts";
import { makePipe } from "../machine/descriptors.ts";
import { type Ending, library, type Refused, type Spawned } from "../machine/library.ts";
import { links, pathArgument } from "../machine/files.ts";
import { reactor } from "../machine/reactor.ts";
import { checkNames } from "../checks.ts";
import type { Settings } from "../options.ts";
import { type ChildSettings, planChild } from "../plan/child.ts";
import { mergeEnvironment } from "../plan/environment.ts";
import { AT_FDCWD } from "../plan/files.ts";
import type { Stdio } from "../plan/stdio.ts";
import type { Bytes, Step } from "../plan/step.ts";
import { extraOf, makeTerminal } from "./descriptors.ts";
import { type Cgroup, makeOwnCgroup } from "./cgroup.ts";
import { EphemeralView } from "./ephemeral.ts";
import { InitReport, launcherFd } from "./init.ts";
import { ChildProcess, type CommandOutput, commandOutput, commandStatus, type Pipes } from "./child.ts";
import { collectSync, END_OF_INPUT } from "./streams.ts";
import { Guard } from "./termination.ts";

/** Names of the options of a command. */
export const OPTION_NAMES = [
  "args",
  ...SHARED_OPTION_NAMES,
  "argv0",
  "unsetEnv",
  "fds",
  "tty",
  "windowsRawArguments",
] as const satisfies readonly (keyof CommandOptions)[];

type StdioOption = "piped" | "inherit" | "null";
/** Where stdin, stdout and stderr come from. */
export type StdioOptions = readonly [stdin: StdioOption, stdout: StdioOption, stderr: StdioOption];

const STDIO_NAMES = ["stdin", "stdout", "stderr"] as const;
/** Deno.Command's defaults for `output()` and `outputSync()`. */
const OUTPUT_STDIO: StdioOptions = ["null", "piped", "piped"];
/** Deno.Command's defaults for `spawn()`. */
export const SPAWN_STDIO: StdioOptions = ["inherit", "inherit", "inherit"];

/** Told every step that is executed, when {@linkcode Namespace.debug} is set. */
export type Trace = (line: string) => void;

/**
 * A command that runs in namespaces of its own, with the interface of Deno.Command: what takes one of those takes this.
 * `Namespace.command()` makes it.
 */
export class Command implements Deno.Command {
  readonly #settings: Settings;
  readonly #command: string | URL;
  readonly #options: CommandOptions;
  readonly #trace: () => Trace | undefined;
  readonly #more: Pick<ChildSettings, "extra" | "fromOutside">;
  readonly #guard: Guard | undefined;

  /**
   * Not for users: `Namespace.command()` makes commands. `more`: what only this package asks for; `guard`: listens for
   * signals when somebody else says so.
   */
  constructor(
    settings: Settings,
    command: string | URL,
    options: CommandOptions,
    trace: () => Trace | undefined,
    more: Pick<ChildSettings, "extra" | "fromOutside"> = {},
    guard?: Guard,
  ) {
    this.#settings = settings;
    this.#command = command;
    this.#options = options;
    this.#trace = trace;
    this.#more = more;
    this.#guard = guard;
  }

  /**
   * Runs the command to its end and collects what it writes. By default stdin is null, stdout and stderr are piped.
   *
   * @returns How it ended, and what it wrote.
   * @throws {TypeError} When an option is wrong.
   * @throws {Deno.errors.NotFound} When inside there is no such command, or no such `cwd`.
   * @throws {Deno.errors.PermissionDenied} When it may not be executed.
   * @throws {NamespaceError} When the kernel refuses any other step.
   */
  output(): Promise<CommandOutput> {
    refusePipedStdin(this.#options);
    return this.#spawn(OUTPUT_STDIO).output();
  }

  /**
   * Like {@linkcode output}, and nothing else in this program runs meanwhile. Signals keep their meaning: one that ends
   * this process ends the command with it.
   *
   * @returns How it ended, and what it wrote.
   * @throws {TypeError} When an option is wrong.
   * @throws {Deno.errors.NotFound} When inside there is no such command, or no such `cwd`.
   * @throws {Deno.errors.PermissionDenied} When it may not be executed.
   * @throws {NamespaceError} When the kernel refuses any other step.
   */
  outputSync(): CommandOutput {
    refusePipedStdin(this.#options);
    const { ending, stdout, stderr, usage } = waitSync(this.#start(OUTPUT_STDIO));
    const status = commandStatus(ending);
    return commandOutput(usage === undefined ? status : { ...status, usage }, stdout, stderr);
  }

  /**
   * Starts the command. By default stdin, stdout and stderr are this process's own.
   *
   * @returns The child, which has executed its program: whatever can fail before that is thrown here, and then nothing
   * is left of it.
   * @throws {TypeError} When an option is wrong.
   * @throws {Deno.errors.NotFound} When inside there is no such command, or no such `cwd`.
   * @throws {Deno.errors.PermissionDenied} When it may not be executed.
   * @throws {NamespaceError} When the kernel refuses any other step.
   */
  spawn(): ChildProcess {
    return this.#spawn(SPAWN_STDIO);
  }

  #spawn(defaults: StdioOptions): ChildProcess {
    const { signal } = this.#options;
    const { termChild, termGraceMs: graceMs } = this.#settings;
    let guard: Guard | undefined;
    try {
      const isPiped = STDIO_NAMES.some((name, fd) => (this.#options[name] ?? defaults[fd]) === "piped");
      reactor.open(
        isPiped || [this.#more.extra, this.#options.fds, this.#options.tty].some((asked) => asked !== undefined),
      );
      if (termChild) guard = this.#guard ?? new Guard();
      const { spawned, ...started } = this.#start(defaults);
      return new ChildProcess(spawned, { ...started, guard, signal, graceMs });
    } catch (error) {
      guard?.release();
      reactor.closeIfIdle();
      throw error;
    }
  }

  /** Clones the child. Of its pipes, this process then holds its own ends only. */
  #start(defaults: StdioOptions): Started {
    const shim = library();
    const { caller, environment } = shim.context();
    const { program, stdio, descriptors, tty } = checkOptions(
      this.#settings,
      this.#command,
      this.#options,
      defaults,
      environment,
    );
    const ours: (number | undefined)[] = [];
    const theirs: (number | undefined)[] = [];
    const more: Pipes["more"][number][] = [];
    const view = EphemeralView.of(this.#settings);
    const settings = view?.enter(caller, program.cwd ?? ".", this.#more.fromOutside !== undefined) ?? this.#settings;
    let cgroup: Cgroup | undefined;
    try {
      const terminal = tty && makeTerminal(tty);
      if (terminal !== undefined) {
        [ours[0], ours[1], theirs[0]] = [terminal.write, terminal.read, terminal.peer];
        if (defaults === OUTPUT_STDIO) shim.write(terminal.write, END_OF_INPUT); // Nobody types anything.
      }
      for (const [fd, option] of stdio.entries()) {
        if (option !== "piped" || terminal !== undefined) continue;
        const [read, write] = makePipe(fd === 0 ? 1 : 0);
        ours[fd] = fd === 0 ? write : read;
        theirs[fd] = fd === 0 ? read : write;
      }
      const [stdin, stdout, stderr] = stdio.map((option, fd) => {
        return terminal?.peer ?? theirs[fd] ?? option;
      }) as [Stdio, Stdio, Stdio];
      const others = extraOf(descriptors, (way, fd) => {
        const [read, write] = makePipe(way === "input" ? 1 : 0);
        more.push({ fd, way, ours: way === "input" ? write : read });
        theirs[fd] = way === "input" ? read : write;
        return theirs[fd];
      });
      const { init: onMainExit } = this.#settings;
      const reports = onMainExit === undefined ? undefined : makePipe(2);
      if (reports !== undefined) {
        ours[3] = reports[0];
        theirs.push(reports[1]);
      }
      const init = onMainExit && { launcher: launcherFd(), report: reports![1], onMainExit };
      const child: ChildSettings = {
        ...program,
        stdio: [stdin, stdout, stderr],
        tty: terminal !== undefined,
        ...others,
        ...this.#more,
        init,
      };
      const planned = withSubordinateIds(settings, caller);
      const plan = planChild(planned, child, caller);
      if (settings.cgroup !== undefined) cgroup = makeOwnCgroup(settings.cgroup, this.#trace());
      const own = { terminal: terminal?.peer, cgroup: cgroup?.fd };
      const spawned = shim.spawn(plan, this.#trace(), own);
      if ("step" in spawned) throw refusal(spawned, program);
      const report = reports && startedByInit(new InitReport(reports[0]), spawned, child, () => {
        return planChild(planned, { ...child, init: undefined }, caller).child;
      });
      const isTerminal = terminal !== undefined;
      const pipes = { stdin: ours[0], stdout: ours[1], stderr: ours[2], isTerminal, more };
      return { spawned, report, view, cgroup, pipes };
    } catch (error) {
      cgroup?.end();
      view?.leave();
      for (const fd of [...ours, ...more.map(({ ours }) => ours)]) if (fd !== undefined) shim.close(fd);
      throw error;
    } finally {
      cgroup?.close();
      for (const fd of theirs) if (fd !== undefined) shim.close(fd);
    }
  }
}

/** A child that runs, and what this process holds of it. */
interface Started {
  readonly spawned: Spawned;
  readonly pipes: Pipes;
  readonly report: InitReport | undefined;
  readonly view: EphemeralView | undefined;
  readonly cgroup: Cgroup | undefined;
}

/** What a command came to that was waited for. */
interface Ended {
  readonly ending: Ending;
  readonly stdout: Uint8Array<ArrayBuffer> | undefined;
  readonly stderr: Uint8Array<ArrayBuffer> | undefined;
  readonly usage: CommandOutput["usage"];
}

/** Waits until init has executed the command. `without`: what the child would do by itself. */
function startedByInit(
  report: InitReport,
  { pidfd }: Spawned,
  child: ChildSettings,
  without: () => readonly Step[],
): InitReport {
  const refused = report.refused();
  if (refused === undefined) return report;
  library().wait(pidfd);
  library().close(pidfd);
  const section = without();
  const step = attemptIn(refused.folder, section, child.environment);
  throw refusal({ step, errno: refused.errno, section, results: [] }, child);
}

/** Waits in this thread for the child's end and for that of its output. */
function waitSync({ spawned: { pidfd }, pipes, report, view, cgroup }: Started): Ended {
  const shim = library();
  let usage: CommandOutput["usage"];
  const endRest = cgroup && (() => {
    if (usage !== undefined) return;
    usage = cgroup.usage();
    cgroup.end();
  });
  try {
    // What is left of it in its cgroup may hold the pipes.
    const [stdout, stderr] = collectSync([pipes.stdout, pipes.stderr], endRest && { pidfd, ended: endRest });
    const ending = shim.wait(pidfd);
    endRest?.();
    return { ending: report?.ending(ending) ?? ending, stdout, stderr, usage };
  } finally {
    if (pipes.stdin !== undefined) shim.close(pipes.stdin); // Of a terminal.
    shim.close(pidfd);
    view?.leave();
  }
}

function refusePipedStdin(options: CommandOptions): void {
  if (options.stdin === "piped") {
    throw new TypeError("Piped stdin is not supported for this function, use 'Deno.Command.spawn()' instead");
  }
}

/** What a command is given. */
interface CheckedOptions {
  readonly program: Omit<ChildSettings, "stdio">;
  readonly stdio: StdioOptions;
  readonly descriptors: ReturnType<typeof checkDescriptors>;
  readonly tty: ReturnType<typeof checkTerminal>;
}

/** An environment without variables: the same one each time, as the plan for it is. */
const NOTHING = new Uint8Array();

/** Checks what a command is given, and works out what is to be executed with which stdio. */
export function checkOptions(
  settings: Settings,
  command: string | URL,
  options: CommandOptions,
  defaults: StdioOptions,
  environment: Uint8Array,
): CheckedOptions {
  checkNames(options, OPTION_NAMES, "");
  checkSignal(options.signal);
  const stdio = STDIO_NAMES.map((name, fd) => stdioOption(options[name] ?? defaults[fd], name));
  const tty = checkTerminal(options);
  const descriptors = checkDescriptors(options.fds);
  if (defaults === OUTPUT_STDIO && descriptors.some((from) => from === "input" || from === "output")) {
    throw new TypeError(`Option "fds" can have pipes for "spawn()" only`);
  }
  const callerCwd = currentFolder();
  const { cwd, environment: changes, ...program } = checkProgram(command, options, settings.environment);
  const inherited = options.clearEnv === true ? NOTHING : environment;
  return {
    program: {
      ...program,
      environment: mergeEnvironment(inherited, changes),
      cwd: cwd === undefined || typeof callerCwd === "object" ? cwd : absolute(cwd, callerCwd),
      callerCwd,
    },
    stdio: stdio as unknown as StdioOptions,
    descriptors,
    tty,
  };
}

/**
 * Refuses what is no signal.
 *
 * @throws {TypeError} When it is no AbortSignal.
 * @throws Its reason, when it is aborted already.
 */
export function checkSignal(signal: unknown): void {
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new TypeError(`Option "signal" must be an AbortSignal`);
  }
  signal?.throwIfAborted();
}

function stdioOption(value: unknown, name: string): StdioOption {
  if (value === "piped" || value === "inherit" || value === "null") return value;
  throw new TypeError(`Option "${name}" must be "piped", "inherit" or "null": got ${JSON.stringify(value) ?? value}`);
}

function absolute(path: string, base: string | undefined): string {
  return path.startsWith("/") || base === undefined ? path : `${base}/${path}`;
}

/** The folder that this process is in, where it still has a name; bytes where that is no UTF-8. */
function currentFolder(): string | Bytes | undefined {
  try {
    return Deno.cwd();
  } catch (error) {
    return error instanceof Deno.errors.InvalidData ? pathArgument(links(AT_FDCWD, ["/proc/self/cwd"])[0]!) : undefined;
  }
}

/** The error of a child that was refused a step: Deno.Command's own where that has one, with the details as its cause. */
export function refusal(refused: Refused, { command, cwd }: Omit<ChildSettings, "stdio">): Error {
  const { step, errno } = executionRefused(refused);
  const cause = stepError(step, errno, refused.section);
  const { NotFound, NotADirectory, PermissionDenied } = Deno.errors;
  if (step.call === "chdir" && step.option === "cwd") {
    if (cause.code === "ENOENT") return denoError(NotFound, command, `No such cwd '${cwd}'`, cause);
    if (cause.code === "ENOTDIR") return denoError(NotADirectory, command, `cwd is not a directory '${cwd}'`, cause);
  }
  if (step.call === "execve" && step.option === undefined) { // The command's, and not newuidmap's.
    const reason = `${errnoText(errno)} (os error ${errno})`;
    if (cause.code === "EACCES") return denoError(PermissionDenied, command, reason, cause);
    if (cause.code === "ENOENT" || cause.code === "ENOTDIR") {
      if (!command.includes("/")) return denoError(NotFound, command, "entity not found", cause);
      return denoError(cause.code === "ENOENT" ? NotFound : NotADirectory, command, reason, cause);
    }
  }
  return cause;
}

/**
 * As execvp(3): of all that was found in PATH, one that may not be executed says more than the last, that is not there.
 * And where the file turned out to be another machine's, it is its execve that was refused.
 */
function executionRefused({ step, errno, section, results }: Refused): Pick<Refused, "step" | "errno"> {
  const wrongFormat = step.call === "futex" && errnoName(errno) === "ETIMEDOUT";
  if (!wrongFormat && (step.call !== "execve" || errnoName(errno) === "EACCES")) return { step, errno };
  const code = wrongFormat ? "ENOEXEC" : "EACCES";
  const index = section.findIndex((step, index) => {
    const result = results[index];
    return step.call === "execve" && result !== undefined && errnoName(-result) === code;
  });
  return index < 0 ? { step, errno } : { step: section[index]!, errno: -results[index]! };
}

function denoError(
  Class: new (message: string, options: ErrorOptions) => Error,
  command: string,
  reason: string,
  cause: Error & { code: string },
): Error {
  const error = new Class(`Failed to spawn '${command}': ${reason}`, { cause });
  return Object.assign(error, { code: cause.code });
}
