/**
 * The error of code that ends without a result.
 *
 * @module
 */

/**
 * The process that ran the code has ended before the code returned or threw.
 *
 * @example Exit codes
 * ```ts
 * import { Namespace, RunError } from "@sys-linux/namespace";
 * import { assertEquals, assertRejects } from "@std/assert";
 *
 * const error = await assertRejects(() => new Namespace().run(() => Deno.exit(3)), RunError);
 * assertEquals([error.code, error.signal], [3, null]);
 * ```
 */
export class RunError extends Error {
  /** Always "RunError". */
  override readonly name = "RunError";
  /** The exit code; after a signal, 128 + its number. */
  readonly code: number;
  /** The signal that ended it, where one did. */
  readonly signal: Deno.Signal | null;

  /**
   * Tells how the process ended.
   *
   * @param status How it ended.
   * @param options With a `cause` where somebody ended it: an AbortSignal's reason.
   */
  constructor({ code, signal }: Pick<Deno.CommandStatus, "code" | "signal">, options: ErrorOptions = {}) {
    const end = signal === null ? `exited with code ${code}` : `was ended by ${signal}`;
    super(`Cannot get a result: the process ${end} before the code returned`, options);
    this.code = code;
    this.signal = signal;
  }
}
