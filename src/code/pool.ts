/**
 * Several workers that share the work.
 *
 * @module
 */

import { checkNames, integer } from "../checks.ts";
import type { Settings } from "../options.ts";
import { checkSignal, type Trace } from "../process/command.ts";
import { type Call, callerOf, prepareCall } from "./call.ts";
import type { Connection } from "./connection.ts";
import { checkLaunch, LAUNCH_OPTION_NAMES } from "./launch.ts";
import { type AnyFunction, moduleUrls } from "./source.ts";
import type { CodeWorkerOptions } from "./worker.ts";

/** Options of `Namespace.pool()`: those of its workers, whose streams cannot be piped, and those of the pool. */
export interface CodePoolOptions extends Omit<CodeWorkerOptions, "stdin" | "stdout" | "stderr"> {
  /** How many workers there may be. @default {navigator.hardwareConcurrency} */
  size?: number;
  /**
   * How many calls a worker may have at once. More are of use where the code waits for something, and where calls are
   * so short that the way there and back is most of them.
   *
   * @default {1}
   */
  concurrency?: number;
  /** How many calls may wait for a worker; what is too many is refused. @default {10000} */
  maxQueue?: number;
  /** What all of them read. @default {"inherit"} */
  stdin?: "inherit" | "null";
  /** Where all of them write. @default {"inherit"} */
  stdout?: "inherit" | "null";
  /** Where all of them write errors. @default {"inherit"} */
  stderr?: "inherit" | "null";
}

const OPTION_NAMES = [
  ...LAUNCH_OPTION_NAMES,
  "modules",
  "size",
  "concurrency",
  "maxQueue",
] as const satisfies readonly (keyof CodePoolOptions)[];
const STREAM_NAMES = ["stdin", "stdout", "stderr"] as const;

const COUNT_MAX = 2 ** 31 - 1;

/** A call that waits for a worker. */
interface Job {
  readonly call: Call;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** A worker that is ready. */
interface Member {
  readonly connection: Connection;
  /** How many calls it has. */
  calls: number;
}

/**
 * Workers that share the work: `Namespace.pool()` makes it.
 *
 * A worker is started when a call waits and none is free, up to {@linkcode CodePoolOptions.size}, and stays. Calls begin
 * in the order in which they were made. One that dies rejects the calls that it had, and the next go to another.
 */
export class CodePool implements AsyncDisposable {
  readonly #settings: Settings;
  readonly #options: CodeWorkerOptions;
  readonly #modules: readonly string[];
  readonly #trace: () => Trace | undefined;
  readonly #size: number;
  readonly #concurrency: number;
  readonly #maxQueue: number;
  /** In the order in which they came. */
  readonly #waiting = new Set<Job>();
  /** Those that run or start. */
  readonly #connections = new Set<Connection>();
  readonly #members = new Set<Member>();
  readonly #starts = new Set<Promise<void>>();
  /** How many workers are on their way. */
  #starting = 0;
  #isReferenced = true;
  /** Why there are no more calls. */
  #end: { readonly reason: unknown } | undefined;
  readonly #abort = (): void => this.#refuse(this.#options.signal!.reason);

  /** Not for users: `Namespace.pool()` makes it. */
  constructor(settings: Settings, options: CodePoolOptions, trace: () => Trace | undefined) {
    checkNames(options, OPTION_NAMES, "");
    const { size = navigator.hardwareConcurrency, concurrency = 1, maxQueue = 10_000, modules, ...others } = options;
    for (const name of STREAM_NAMES) {
      if (others[name] as unknown === "piped") {
        throw new TypeError(`Option "${name}" of a pool must be "inherit" or "null": "piped" is for a single worker()`);
      }
    }
    this.#size = integer(size, "size", 1, COUNT_MAX, "workers");
    this.#concurrency = integer(concurrency, "concurrency", 1, COUNT_MAX, "calls");
    this.#maxQueue = integer(maxQueue, "maxQueue", 1, COUNT_MAX, "calls");
    this.#modules = moduleUrls(modules);
    checkLaunch(others, this.#modules);
    checkSignal(others.signal);
    this.#settings = settings;
    this.#options = others;
    this.#trace = trace;
    others.signal?.addEventListener("abort", this.#abort);
  }

  /**
   * Runs a function in a worker that is free, or in the first that will be. Arguments and result are copied, as by
   * `Namespace.run()`, the arguments at once.
   *
   * @param code A function, async or not.
   * @param args Its arguments.
   * @returns What it returned.
   * @throws {RunError} When its process ends before it returns.
   * @throws {TypeError} When the code is neither a function nor a URL, or an argument or the result cannot be cloned.
   * @throws {NamespaceError} When no worker can be started.
   * @throws {Deno.errors.Busy} When {@linkcode CodePoolOptions.maxQueue} calls wait already.
   * @throws {Deno.errors.BadResource} When the pool is disposed; after an abort, its reason.
   * @throws Whatever the code throws: errors of Deno and of the language by their class, others by their name.
   *
   * @example Work for two
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   * import { assertEquals } from "@std/assert";
   *
   * await using pool = new Namespace({ privatePid: true, privateNet: true }).pool({ size: 2, permissions: "none" });
   * const lengths = await Promise.all(["a", "bb", "ccc"].map((text) => pool.run((text: string) => text.length, text)));
   * assertEquals(lengths, [1, 2, 3]);
   * ```
   */
  run<Args extends unknown[], Result>(code: (...args: Args) => Result, ...args: Args): Promise<Awaited<Result>>;
  /**
   * Runs the default export of a module in a worker. What it takes to import it says
   * {@linkcode CodeWorkerOptions.modules}.
   *
   * @param code The URL of a module, such as `import.meta.resolve("./inside.ts")`.
   * @param args The arguments of its default export.
   * @returns What that returned.
   */
  run<Result = unknown>(code: URL | string, ...args: unknown[]): Promise<Result>;
  async run(code: AnyFunction | URL | string, ...args: unknown[]): Promise<unknown> {
    if (this.#end !== undefined) throw this.#end.reason;
    if (this.#waiting.size >= this.#maxQueue && this.#free() === undefined) {
      throw new Deno.errors.Busy(`Cannot run code: ${this.#maxQueue} calls wait already, which is option "maxQueue"`);
    }
    const call = prepareCall(code, args, CodePool.prototype.run);
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.add({ call, resolve, reject });
    this.#dispatch();
    this.#grow();
    return await promise;
  }

  /** Keeps this program alive until the pool is disposed, which is so from the start. */
  ref(): void {
    this.#reference(true);
  }

  /** Lets this program end, and the workers with it, whenever there are no calls. */
  unref(): void {
    this.#reference(false);
  }

  /** Ends all workers and waits for that. The calls that they have, and those that wait, reject. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#refuse(new Deno.errors.BadResource("Cannot run code: the pool is disposed"));
    await Promise.all([...this.#starts, ...[...this.#connections].map((one) => one[Symbol.asyncDispose]())]);
  }

  #reference(referenced: boolean): void {
    this.#isReferenced = referenced;
    for (const connection of this.#connections) connection.reference(referenced);
  }

  /** Takes no more calls, and rejects those that wait. */
  #refuse(reason: unknown): void {
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#end ??= { reason };
    this.#rejectWaiting(this.#end.reason);
  }

  #rejectWaiting(reason: unknown): void {
    for (const { reject } of this.#waiting) reject(reason);
    this.#waiting.clear();
  }

  /** The worker that has the fewest calls, where it may have more. */
  #free(): Member | undefined {
    let found: Member | undefined;
    for (const member of this.#members) {
      if (member.calls < (found?.calls ?? this.#concurrency) && !member.connection.hasEnded) found = member;
    }
    return found;
  }

  /** Gives calls to workers, for as long as there are both. */
  #dispatch(): void {
    for (const job of this.#waiting) {
      const member = this.#free();
      if (member === undefined) break;
      this.#waiting.delete(job);
      this.#give(member, job);
    }
    this.#awaitStarts();
  }

  async #give(member: Member, { call, resolve, reject }: Job): Promise<void> {
    member.calls++;
    try {
      resolve(await member.connection.submit(call));
    } catch (error) {
      reject(error);
    } finally {
      member.calls--;
      this.#dispatch();
    }
  }

  /** Those that start are of use to nobody where no call waits. */
  #awaitStarts(): void {
    for (const connection of this.#connections) connection.await(this.#waiting.size > 0);
  }

  /** Starts workers, where calls wait that those which start already are too few for. */
  #grow(): void {
    while (
      this.#members.size + this.#starting < this.#size &&
      this.#starting * this.#concurrency < this.#waiting.size
    ) {
      this.#starting++;
      const start: Promise<void> = this.#start().finally(() => this.#starts.delete(start));
      this.#starts.add(start);
    }
  }

  async #start(): Promise<void> {
    let connection: Connection | undefined;
    try {
      const { Connection } = await import("./connection.ts");
      if (this.#end !== undefined) return;
      const caller = callerOf(CodePool);
      connection = new Connection(this.#settings, this.#options, this.#modules, this.#trace, caller);
      this.#connections.add(connection);
      connection.reference(this.#isReferenced);
      this.#awaitStarts();
      await connection.ready;
    } catch (error) {
      await connection?.[Symbol.asyncDispose]();
      this.#connections.delete(connection!);
      // Where others are there or on their way, the calls are for them.
      if (this.#members.size === 0 && this.#starting === 1) this.#rejectWaiting(error);
      return;
    } finally {
      this.#starting--;
    }
    this.#admit(connection);
  }

  #admit(connection: Connection): void {
    const member: Member = { connection, calls: 0 };
    this.#members.add(member);
    connection.child.status.then(() => {
      this.#members.delete(member);
      this.#connections.delete(connection);
      this.#grow();
    });
    this.#dispatch();
  }
}
