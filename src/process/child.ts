/**
 * A running child: the twin of Deno.ChildProcess.
 *
 * @module
 */

import { signalName, signalNumber } from "../abi/signals.ts";
import { terminalSize } from "../command_options.ts";
import type { Ending, Spawned } from "../machine/library.ts";
import { Interest, reactor } from "../machine/reactor.ts";
import { resizeTerminal } from "../plan/terminal.ts";
import type { EphemeralView } from "./ephemeral.ts";
import type { InitReport } from "./init.ts";
import type { Cgroup, CgroupUsage } from "./cgroup.ts";
import { PipeReader, pipeSink, pipeStream, PipeWriter, TerminalWriter } from "./streams.ts";
import { type Guard, Termination } from "./termination.ts";

/** The ends of a child's pipes that this process holds. */
export interface Pipes {
  readonly stdin: number | undefined;
  readonly stdout: number | undefined;
  readonly stderr: number | undefined;
  /** Whether stdin and stdout are those of a terminal. */
  readonly isTerminal: boolean;
  /** Beyond the three, by the numbers that the child has them at. */
  readonly more: readonly { readonly fd: number; readonly way: "input" | "output"; readonly ours: number }[];
}

/** What a child needs besides its descriptors. */
export interface ChildOptions {
  readonly pipes: Pipes;
  /** Listens for signals to this process, where they end the child. */
  readonly guard: Guard | undefined;
  /** Ends the child when it is aborted. */
  readonly signal: AbortSignal | undefined;
  /** Milliseconds from SIGTERM to SIGKILL. */
  readonly graceMs: number;
  /** What PID 1 says, where it is ours. */
  readonly report: InitReport | undefined;
  /** The view that it has for itself until it ends. */
  readonly view: EphemeralView | undefined;
  /** The cgroup that is its own. */
  readonly cgroup: Cgroup | undefined;
}

/** How a command ended. */
export interface CommandStatus extends Deno.CommandStatus {
  /** What it has used, with all that it started: where option `cgroup` gives it a cgroup of its own. */
  readonly usage?: CgroupUsage;
}

/** How a command ended, and what it wrote. */
export interface CommandOutput extends Deno.CommandOutput, CommandStatus {}

/** A child's ending as Deno tells it: 128 + n stands for signal n. */
export function commandStatus(ending: Ending): Deno.CommandStatus {
  if ("code" in ending) return { success: ending.code === 0, code: ending.code, signal: null };
  return { success: false, code: 128 + ending.signal, signal: signalName(ending.signal) };
}

/** A child's output as Deno tells it: what was not piped cannot be had. */
export function commandOutput(
  status: CommandStatus,
  stdout: Uint8Array<ArrayBuffer> | undefined,
  stderr: Uint8Array<ArrayBuffer> | undefined,
): CommandOutput {
  return {
    ...status,
    get stdout() {
      return piped(stdout, "stdout");
    },
    get stderr() {
      return piped(stderr, "stderr");
    },
  };
}

function piped<T>(stream: T | undefined, name: string): T {
  if (stream === undefined) throw new TypeError(`Cannot get '${name}': '${name}' is not piped`);
  return stream;
}

/** A child's input pipe: a stream where somebody asks for one. */
class InputPipe {
  readonly #writer: PipeWriter;
  #stream: WritableStream<Uint8Array> | undefined;

  constructor(writer: PipeWriter) {
    this.#writer = writer;
  }

  stream(): WritableStream<Uint8Array> {
    return this.#stream ??= pipeSink(this.#writer);
  }

  close(): void {
    this.#writer.close();
  }
}

/** One of a child's output pipes: a stream where somebody asks for one, which costs more than collecting. */
class OutputPipe {
  readonly #reader: PipeReader;
  #stream: Deno.SubprocessReadableStream | undefined;
  #collecting = false;

  constructor(fd: number, interest: Interest) {
    this.#reader = new PipeReader(fd, interest);
  }

  get locked(): boolean {
    return this.#collecting || (this.#stream?.locked ?? false);
  }

  stream(): Deno.SubprocessReadableStream {
    if (this.#collecting) throw new TypeError("Cannot get a stream whose output is being collected");
    return this.#stream ??= pipeStream(this.#reader);
  }

  collect(): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#stream !== undefined) return this.#stream.bytes();
    this.#collecting = true;
    return this.#reader.collect();
  }

  close(): void {
    this.#reader.close();
  }
}

/**
 * A command that runs in its namespaces. It is killed when this process ends, however it ends; one that a Worker
 * started, when the Worker does.
 */
export class ChildProcess implements Deno.ChildProcess {
  /** Its process id, as this process sees it; inside it may well be 1. */
  readonly pid: number;
  /** Resolves when it has ended, never rejects; after a signal, `code` is 128 + the signal's number. */
  readonly status: Promise<CommandStatus>;
  readonly #interest = new Interest();
  readonly #termination: Termination;
  readonly #stdin: InputPipe | undefined;
  readonly #stdout: OutputPipe | undefined;
  readonly #stderr: OutputPipe | undefined;
  readonly #terminal: TerminalWriter | undefined;
  readonly #inputs = new Map<number, InputPipe>();
  readonly #outputs = new Map<number, OutputPipe>();
  #ended = false;

  /** Not for users: {@linkcode Command.spawn} makes children. */
  constructor({ pid, pidfd }: Spawned, options: ChildOptions) {
    const { pipes, guard, signal, graceMs, report, view, cgroup } = options;
    this.pid = pid;
    this.#termination = new Termination(pidfd, graceMs);
    if (guard !== undefined) guard.child = this.#termination;
    const { stdin, stdout, stderr, isTerminal, more } = pipes;
    if (stdin !== undefined) {
      if (isTerminal) this.#terminal = new TerminalWriter(stdin, this.#interest);
      this.#stdin = new InputPipe(this.#terminal ?? new PipeWriter(stdin, this.#interest));
    }
    for (const { fd, way, ours } of more) {
      if (way === "input") this.#inputs.set(fd, new InputPipe(new PipeWriter(ours, this.#interest)));
      else this.#outputs.set(fd, new OutputPipe(ours, this.#interest));
    }
    if (stdout !== undefined) this.#stdout = new OutputPipe(stdout, this.#interest);
    if (stderr !== undefined) this.#stderr = new OutputPipe(stderr, this.#interest);

    const abort = () => this.#termination.begin();
    signal?.addEventListener("abort", abort);
    const ended = reactor.ended(pidfd, this.#interest).then((ending) => {
      this.#ended = true;
      this.#termination.end();
      this.#terminal?.close();
      signal?.removeEventListener("abort", abort);
      guard?.release();
      view?.leave();
      return commandStatus(report?.ending(ending) ?? ending);
    });
    this.status = cgroup === undefined ? ended : this.#endWith(cgroup, ended);
  }

  /** What it has left running is killed, and then it has ended. */
  async #endWith(cgroup: Cgroup, ended: Promise<Deno.CommandStatus>): Promise<CommandStatus> {
    const gone = reactor.ended(cgroup.keeper.pidfd, this.#interest).then((ending) => cgroup.ended(ending));
    const status = await ended;
    const usage = cgroup.usage();
    cgroup.beginEnd();
    await gone;
    return { ...status, usage };
  }

  /**
   * Its stdin. A write resolves when the pipe has taken it.
   *
   * @throws {TypeError} When it is not piped.
   */
  get stdin(): WritableStream<Uint8Array> {
    return piped(this.#stdin, "stdin").stream();
  }

  /**
   * Its stdout. Nothing is read before it is asked for.
   *
   * @throws {TypeError} When it is not piped.
   */
  get stdout(): Deno.SubprocessReadableStream {
    return piped(this.#stdout, "stdout").stream();
  }

  /**
   * Its stderr. Nothing is read before it is asked for.
   *
   * @throws {TypeError} When it is not piped.
   */
  get stderr(): Deno.SubprocessReadableStream {
    return piped(this.#stderr, "stderr").stream();
  }

  /** What it reads at other descriptors, by their numbers: those that option `fds` has as `"input"`. */
  get inputs(): Readonly<Record<number, WritableStream<Uint8Array>>> {
    return Object.fromEntries([...this.#inputs].map(([fd, pipe]) => [fd, pipe.stream()]));
  }

  /** What it writes at other descriptors, by their numbers: those that option `fds` has as `"output"`. */
  get outputs(): Readonly<Record<number, Deno.SubprocessReadableStream>> {
    return Object.fromEntries([...this.#outputs].map(([fd, pipe]) => [fd, pipe.stream()]));
  }

  /**
   * Says how large its terminal is; it is told by SIGWINCH.
   *
   * @throws {TypeError} When it has no terminal, or has ended.
   * @throws {RangeError} When a size cannot be.
   */
  resize(rows: number, columns: number): void {
    const size = terminalSize(rows, columns);
    if (this.#terminal?.perform((fd) => resizeTerminal(fd, size)) !== true) {
      throw new TypeError(
        this.#terminal === undefined
          ? "Cannot resize: the child has no terminal"
          : "Child process has already terminated",
      );
    }
  }

  /**
   * Waits for its end, and collects what it writes.
   *
   * @throws {TypeError} When a stream is being read already.
   */
  async output(): Promise<CommandOutput> {
    for (const [name, pipe] of [["stdout", this.#stdout], ["stderr", this.#stderr]] as const) {
      if (pipe?.locked) throw new TypeError(`Cannot collect output: '${name}' is locked`);
    }
    const [status, stdout, stderr] = await Promise.all([this.status, this.#stdout?.collect(), this.#stderr?.collect()]);
    return commandOutput(status, stdout, stderr);
  }

  /**
   * Sends it a signal. The kernel keeps from PID 1 of a pid namespace what it does not handle, except SIGKILL and SIGSTOP.
   *
   * @param signo The signal's name or number. @default {"SIGTERM"}
   * @throws {TypeError} When there is no such signal, or the child has ended.
   */
  kill(signo: Deno.Signal | number = "SIGTERM"): void {
    const number = signalNumber(signo);
    if (this.#ended || !this.#termination.signal(number)) {
      throw new TypeError("Child process has already terminated");
    }
  }

  /** Keeps this program alive until the child has ended, which is so from the start. */
  ref(): void {
    reactor.reference(this.#interest, true);
  }

  /** Lets this program end before the child; the child then ends with it. */
  unref(): void {
    reactor.reference(this.#interest, false);
  }

  /** Ends it, with SIGTERM and after the grace with SIGKILL, waits for that, and closes its pipes. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#termination.begin();
    await this.status;
    const pipes = [this.#stdin, this.#stdout, this.#stderr, ...this.#inputs.values(), ...this.#outputs.values()];
    for (const pipe of pipes) pipe?.close();
    await reactor.returned();
  }
}
