/**
 * A Deno inside that runs many functions.
 *
 * @module
 */

import { checkNames } from "../checks.ts";
import type { Settings } from "../options.ts";
import type { Trace } from "../process/command.ts";
import { callerOf, prepareCall } from "./call.ts";
import { Connection } from "./connection.ts";
import { DenoProcess } from "./deno_process.ts";
import { type CodeOptions, LAUNCH_OPTION_NAMES } from "./launch.ts";
import { type AnyFunction, moduleUrls } from "./source.ts";

/** Options of `Namespace.worker()`: those of `Namespace.spawn()`, without arguments. */
export interface CodeWorkerOptions extends Omit<CodeOptions, "args"> {
  /**
   * The URLs of modules that may be run whatever {@linkcode CodeOptions.permissions} say, with all that they import, as
   * the main module of any program. A module that is not named here is imported with the permissions of the code: a
   * file takes `read`, a remote one `import`.
   *
   * @default {[]}
   */
  modules?: readonly (URL | string)[];
}

/** The names of {@linkcode CodeWorkerOptions}. */
export const WORKER_OPTION_NAMES = [
  ...LAUNCH_OPTION_NAMES,
  "modules",
] as const satisfies readonly (keyof CodeWorkerOptions)[];

/**
 * A Deno in its namespaces that runs one function after the other, or several at once, without a start for each.
 * `Namespace.worker()` makes it.
 *
 * What one function leaves behind, such as global variables, files and timers, the next one finds. The text of a function
 * goes inside when it is first called, and is evaluated once; so for the last 256 functions and modules.
 */
export class CodeWorker extends DenoProcess {
  readonly #connection: Connection;

  /** Not for users: `Namespace.worker()` makes it. */
  constructor(connection: Connection) {
    super(connection.child);
    this.#connection = connection;
  }

  /**
   * Runs a function inside. Arguments and result are copied, as by `Namespace.run()`. Calls need not wait for each other:
   * what is asynchronous inside goes on side by side.
   *
   * @param code A function, async or not.
   * @param args Its arguments.
   * @returns What it returned.
   * @throws {RunError} When the process ends before it returns, or has ended already.
   * @throws {TypeError} When the code is neither a function nor a URL, or an argument or the result cannot be cloned.
   * @throws Whatever the code throws: errors of Deno and of the language by their class, others by their name.
   *
   * @example Many calls, one start
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   * import { assertEquals } from "@std/assert";
   *
   * await using worker = await new Namespace({ privatePid: true, privateNet: true }).worker({ permissions: "none" });
   * const squares = await Promise.all([1, 2, 3].map((n) => worker.run((n: number) => n * n, n)));
   * assertEquals(squares, [1, 4, 9]);
   * ```
   */
  run<Args extends unknown[], Result>(code: (...args: Args) => Result, ...args: Args): Promise<Awaited<Result>>;
  /**
   * Runs the default export of a module inside. What it takes to import it says {@linkcode CodeWorkerOptions.modules}.
   *
   * @param code The URL of a module, such as `import.meta.resolve("./inside.ts")`.
   * @param args The arguments of its default export.
   * @returns What that returned.
   */
  run<Result = unknown>(code: URL | string, ...args: unknown[]): Promise<Result>;
  async run(code: AnyFunction | URL | string, ...args: unknown[]): Promise<unknown> {
    return await this.#connection.submit(prepareCall(code, args, CodeWorker.prototype.run));
  }

  /** Keeps this program alive until the worker has ended, which is so from the start. */
  override ref(): void {
    this.#connection.reference(true);
  }

  /** Lets this program end, and the worker with it, whenever it has no calls. */
  override unref(): void {
    this.#connection.reference(false);
  }

  /** Ends it, waits for that, and closes its pipes. The calls that it has reject with a {@linkcode RunError}. */
  override async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection[Symbol.asyncDispose]();
  }
}

/** Starts a worker. `below` is whose frames are left out of stacks. */
export async function startWorker(
  settings: Settings,
  options: CodeWorkerOptions,
  trace: () => Trace | undefined,
  // deno-lint-ignore ban-types -- as Error.captureStackTrace takes it
  below: Function,
): Promise<CodeWorker> {
  checkNames(options, WORKER_OPTION_NAMES, "");
  const { modules, ...others } = options;
  const connection = new Connection(settings, others, moduleUrls(modules), trace, callerOf(below));
  try {
    await connection.ready;
  } catch (error) {
    await connection[Symbol.asyncDispose]();
    throw error;
  }
  return new CodeWorker(connection);
}
