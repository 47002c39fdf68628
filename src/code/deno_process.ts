/**
 * A Deno inside, as a process.
 *
 * @module
 */

import type { ChildProcess } from "../process/child.ts";

/** A Deno in its namespaces: what a {@linkcode CodeProcess} and a {@linkcode CodeWorker} have in common. */
export abstract class DenoProcess implements AsyncDisposable {
  /** The process itself. */
  protected readonly child: ChildProcess;

  /** Not for users: `Namespace` makes it. */
  constructor(child: ChildProcess) {
    this.child = child;
  }

  /** The process id, as this process sees it; inside it may well be 1. */
  get pid(): number {
    return this.child.pid;
  }

  /** Resolves when the process has ended, never rejects. */
  get status(): Promise<Deno.CommandStatus> {
    return this.child.status;
  }

  /**
   * Its stdin.
   *
   * @throws {TypeError} When it is not piped.
   */
  get stdin(): WritableStream<Uint8Array> {
    return this.child.stdin;
  }

  /**
   * Its stdout.
   *
   * @throws {TypeError} When it is not piped.
   */
  get stdout(): Deno.SubprocessReadableStream {
    return this.child.stdout;
  }

  /**
   * Its stderr.
   *
   * @throws {TypeError} When it is not piped.
   */
  get stderr(): Deno.SubprocessReadableStream {
    return this.child.stderr;
  }

  /**
   * Sends it a signal. The kernel keeps from PID 1 of a pid namespace what it does not handle, except SIGKILL and SIGSTOP.
   *
   * @param signo The signal's name or number. @default {"SIGTERM"}
   * @throws {TypeError} When there is no such signal, or it has ended.
   */
  kill(signo: Deno.Signal | number = "SIGTERM"): void {
    this.child.kill(signo);
  }

  /** Keeps this program alive until it has ended, which is so from the start. */
  ref(): void {
    this.child.ref();
  }

  /** Lets this program end before it; it then ends, too. */
  unref(): void {
    this.child.unref();
  }

  /** Ends it, with SIGTERM and after the grace with SIGKILL, waits for that, and closes its pipes. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.child[Symbol.asyncDispose]();
  }
}
