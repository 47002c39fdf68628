/**
 * A call of code in another process: what goes there, and what comes back from there.
 *
 * @module
 */

import type { Reply } from "./channel.ts";
import { codec } from "./codec.ts";
import { RETURNED } from "./inside.ts";
import { RunError } from "./run_error.ts";
import { type Source, sourceOf } from "./source.ts";

const clone = codec();

/** A call that can be made. */
export interface Call {
  readonly source: Source;
  /** The encoded list of arguments. */
  readonly args: readonly Uint8Array<ArrayBuffer>[];
  readonly caller: Caller;
}

/** Who makes a call. */
export interface Caller {
  /** Its frames, below a line that is no frame. To ask for them costs more than to have them. */
  readonly stack: string;
}

/**
 * Looks at a call, and copies its arguments.
 *
 * @param below Whose frames are left out of stacks.
 * @throws {TypeError} When the code cannot run in another process, or an argument cannot be cloned.
 */
// deno-lint-ignore ban-types -- as Error.captureStackTrace takes it
export function prepareCall(code: unknown, args: readonly unknown[], below: Function): Call {
  const caller = callerOf(below);
  return { source: sourceOf(code), args: clone.encode([...args], "args"), caller };
}

/** Who called a function. */
// deno-lint-ignore ban-types -- as Error.captureStackTrace takes it
export function callerOf(below: Function): Caller {
  const caller = { stack: "" };
  (Error as unknown as { captureStackTrace(object: object, below: unknown): void }).captureStackTrace(caller, below);
  return caller;
}

/**
 * Reads a reply: returns what returns what the code returned, and throws what it threw, with the caller's frames below its
 * own.
 *
 * @throws {TypeError | RangeError} When it is no value.
 */
export function decodeReply(reply: Reply, caller: Caller): () => unknown {
  const value = clone.decode(reply.bytes);
  if (reply.kind === RETURNED) return () => value;
  if (Error.isError(value)) {
    const error = value as Error;
    error.stack = withCaller(error.stack ?? String(error), caller);
  }
  return () => {
    throw value;
  };
}

/** The error of a call whose process has ended. */
export function endedError(status: Deno.CommandStatus, signal: AbortSignal | undefined, caller: Caller): RunError {
  const error = new RunError(status, signal?.aborted ? { cause: signal.reason } : {});
  return Object.assign(error, { stack: withCaller(`${error.name}: ${error.message}`, caller) });
}

/** A stack that goes on with who asked for the code to be run. */
function withCaller(stack: string, caller: Caller): string {
  const frames = caller.stack.split("\n").filter((line) => /^ +at /.test(line));
  return [stack, ...frames].join("\n");
}
