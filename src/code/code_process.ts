/**
 * Code that runs in namespaces.
 *
 * @module
 */

import { checkNames, type Settings } from "../options.ts";
import type { ChildProcess } from "../process/child.ts";
import { Command, type CommandOptions, type Trace } from "../process/command.ts";
import { mainModule, message } from "./bootstrap.ts";
import { Channel } from "./channel.ts";
import { codec } from "./codec.ts";
import { type Request, RETURNED } from "./inside.ts";
import { type CodePermissions, permissionFlags } from "./permissions.ts";
import { RunError } from "./run_error.ts";
import { sourceOf } from "./source.ts";

/** Options of `Namespace.spawn()`. What they share with Deno.Command has the same meaning and defaults. */
export interface CodeOptions<Args extends readonly unknown[] = readonly unknown[]>
  extends Pick<CommandOptions, "cwd" | "clearEnv" | "env" | "uid" | "gid" | "signal" | "stdin" | "stdout" | "stderr"> {
  /** The arguments of the code: anything that can be cloned. @default {[]} */
  args?: Args;
  /**
   * What the code may do inside. `"inherit"`: each permission that this process has as a whole; what it has a part of,
   * such as `--allow-read=/etc`, cannot be read and is not passed on. `"none"`: nothing. An object: what it says, and
   * nothing else.
   *
   * @default {"inherit"}
   */
  permissions?: CodePermissions;
}

const COMMAND_OPTION_NAMES = [
  "cwd",
  "clearEnv",
  "env",
  "uid",
  "gid",
  "signal",
  "stdin",
  "stdout",
  "stderr",
] as const satisfies readonly (keyof CodeOptions)[];
const OPTION_NAMES = [...COMMAND_OPTION_NAMES, "args", "permissions"] as const satisfies readonly (keyof CodeOptions)[];

/** The lock file is the program's own, and not to be written from inside. */
const RUN_FLAGS = ["--quiet", "--no-prompt", "--no-lock"] as const;

/** Code that runs in its namespaces, in a Deno of its own. `Namespace.spawn()` makes it. */
export class CodeProcess<Result> {
  /**
   * Resolves to what the code returned, rejects with what it threw, or with a {@linkcode RunError} when its process ends
   * before; then the process has ended. Nobody has to look at it.
   */
  readonly result: Promise<Result>;
  readonly #child: ChildProcess;
  readonly #channel: Channel;

  /** Not for users: `Namespace.spawn()` makes it. */
  constructor(child: ChildProcess, channel: Channel, result: Promise<Result>) {
    this.#child = child;
    this.#channel = channel;
    this.result = result;
  }

  /** The process id, as this process sees it; inside it may well be 1. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Resolves when the process has ended, never rejects. The exit code is 0 when the code returned, 1 when it threw. */
  get status(): Promise<Deno.CommandStatus> {
    return this.#child.status;
  }

  /**
   * Its stdin.
   *
   * @throws {TypeError} When it is not piped.
   */
  get stdin(): WritableStream<Uint8Array> {
    return this.#child.stdin;
  }

  /**
   * Its stdout.
   *
   * @throws {TypeError} When it is not piped.
   */
  get stdout(): Deno.SubprocessReadableStream {
    return this.#child.stdout;
  }

  /**
   * Its stderr.
   *
   * @throws {TypeError} When it is not piped.
   */
  get stderr(): Deno.SubprocessReadableStream {
    return this.#child.stderr;
  }

  /**
   * Sends it a signal. The kernel keeps from PID 1 of a pid namespace what it does not handle, except SIGKILL and SIGSTOP.
   *
   * @param signo The signal's name or number. @default {"SIGTERM"}
   * @throws {TypeError} When there is no such signal, or it has ended.
   */
  kill(signo: Deno.Signal | number = "SIGTERM"): void {
    this.#child.kill(signo);
  }

  /** Keeps this program alive until the code has ended, which is so from the start. */
  ref(): void {
    this.#child.ref();
    this.#channel.reference(true);
  }

  /** Lets this program end before the code; the code then ends with it. */
  unref(): void {
    this.#child.unref();
    this.#channel.reference(false);
  }

  /** Ends it, with SIGTERM and after the grace with SIGKILL, waits for that, and closes its pipes. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }
}

/** This very Deno, also where no permission leads to its file, or another file is there by now. */
export const THIS_DENO = "/proc/self/exe";
const utf8 = new TextEncoder();
const clone = codec();

/** Starts code in namespaces. `caller` is whose frames are left out of stacks. */
export function spawnCode<Result>(
  settings: Settings,
  code: unknown,
  options: CodeOptions,
  trace: () => Trace | undefined,
  // deno-lint-ignore ban-types -- as Error.captureStackTrace takes it
  caller: Function,
): CodeProcess<Result> {
  checkNames(options, OPTION_NAMES, "");
  if (Deno.build.standalone) {
    throw new Deno.errors.NotSupported("Cannot run code: a compiled program has no Deno in it that could be started");
  }
  const callerStack = stackFrom(caller);
  const { text, module, name } = sourceOf(code);
  const isRemote = module !== undefined && /^(https?|jsr):/.test(module);
  const { flags, revoke } = permissionFlags(options.permissions ?? "inherit", isRemote);
  const args = options.args ?? [];
  if (!Array.isArray(args)) throw new TypeError(`Option "args" must be an array: got ${Deno.inspect(args)}`);
  const encodedArgs = clone.encode([...args], "args");
  const head = utf8.encode(
    JSON.stringify({ text, name, privateNet: settings.namespaces.get("net"), revoke } satisfies Request),
  );

  // It is of use to modules only, and to look there for others takes 0.5 ms.
  const cache = module === undefined ? ["--no-code-cache"] : [];
  const channel = new Channel();
  let child: ChildProcess;
  try {
    child = new Command(
      settings,
      THIS_DENO,
      {
        ...commandOptions(options),
        argv0: "deno",
        args: ["run", ...RUN_FLAGS, ...cache, ...flags, mainModule(module)],
      },
      trace,
      { extra: channel.theirs, fromOutside: true },
    ).spawn();
  } catch (error) {
    channel.close();
    throw error;
  } finally {
    channel.closeTheirs();
  }
  const result = receive<Result>(channel, child, options.signal, callerStack);
  result.catch(() => {}); // Nobody has to look at it: there is the status, too.
  channel.send(message([head], encodedArgs)).catch(() => channel.close());
  return new CodeProcess(child, channel, result);
}

/** The stack below a function. */
// deno-lint-ignore ban-types -- as Error.captureStackTrace takes it
function stackFrom(caller: Function): string {
  const from = { stack: "" };
  (Error as unknown as { captureStackTrace(object: object, below: unknown): void }).captureStackTrace(from, caller);
  return from.stack;
}

function commandOptions(options: CodeOptions): CommandOptions {
  return Object.fromEntries(
    COMMAND_OPTION_NAMES.filter((name) => options[name] !== undefined).map((name) => [name, options[name]]),
  );
}

async function receive<Result>(
  channel: Channel,
  child: ChildProcess,
  signal: AbortSignal | undefined,
  callerStack: string,
): Promise<Result> {
  const ended = child.status.finally(() => channel.end());
  try {
    const [reply, status] = await Promise.all([channel.receive(), ended]);
    if (reply === undefined) {
      const error = new RunError(status, signal?.aborted ? { cause: signal.reason } : {});
      throw Object.assign(error, { stack: withCaller(`${error.name}: ${error.message}`, callerStack) });
    }
    const value = clone.decode(reply.bytes);
    if (reply.kind === RETURNED) return value as Result;
    if (Error.isError(value)) {
      const error = value as Error;
      error.stack = withCaller(error.stack ?? String(error), callerStack);
    }
    throw value;
  } finally {
    channel.close();
    await killed(child, ended); // Where it wrote what is no reply.
  }
}

async function killed(child: ChildProcess, ended: Promise<unknown>): Promise<void> {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
  await ended;
}

/** A stack that goes on with who asked for the code to be run. */
function withCaller(stack: string, callerStack: string): string {
  const frames = callerStack.split("\n").filter((line) => /^ +at /.test(line));
  return [stack, ...frames].join("\n");
}
