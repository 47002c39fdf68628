/**
 * The Deno that runs one test of a file: loads the file, runs the test's body, and tells what comes of it.
 *
 * @module
 */

import { codec } from "./codec.ts";
import { REPLY_PATH, REQUEST_PATH } from "./bootstrap.ts";
import { BODIES, type Bodies } from "./isolated.ts";

/** What is to be run. */
export interface TestRequest {
  /** Which of the bodies that the file gives to `isolated()`. */
  readonly index: number;
  /** Its text, which must be the same inside. */
  readonly text: string;
  readonly name: string;
  readonly origin: string;
  /** Permissions that were for the channel alone. */
  readonly revoke: readonly Deno.PermissionDescriptor[];
}

/** What is told. A step's number is its id, 0 the test's. */
export type TestReport =
  /** The file is loaded; the test waits until it is told to go on. */
  | { readonly type: "loaded" }
  | {
    readonly type: "begin";
    readonly id: number;
    readonly parent: number;
    readonly name: string;
    readonly ignore: boolean;
  }
  | { readonly type: "end"; readonly id: number; readonly failure?: { readonly error: unknown } };

/** The last frames of each stack: they are not the test's. */
const OWN_FRAME = /^ +at .*(?:\$deno\$stdin|\/isolated_inside\.ts:)/;

/** Runs the test in a process that is for this alone. `load` imports the file that it is in. */
export async function runInside(request: TestRequest, load: () => Promise<unknown>): Promise<void> {
  const { index, text, name, origin, revoke } = request;
  const exit: (code: number) => never = Deno.exit;
  const { encode } = codec();
  const input = Deno.openSync(REQUEST_PATH), output = Deno.openSync(REPLY_PATH, { read: false, write: true });

  function tell(report: TestReport): void {
    const parts = encode(report, "the test's error");
    const size = parts.reduce((size, part) => size + part.length, 0);
    for (const part of [new Uint8Array(new Float64Array([0, 0, size]).buffer), ...parts]) {
      for (let at = 0; at < part.length;) at += output.writeSync(part.subarray(at));
    }
  }

  function tellEnd(id: number, failure: { error: unknown } | undefined): void {
    if (failure === undefined) return tell({ type: "end", id });
    trimStack(failure.error);
    try {
      tell({ type: "end", id, failure });
    } catch (error) {
      tell({ type: "end", id, failure: { error } });
    }
  }

  function finish(failure?: { error: unknown }): never {
    tellEnd(0, failure);
    return exit(failure === undefined ? 0 : 1);
  }

  let steps = 0;

  /** The context of the test or of a step. A step in it that fails makes it fail: `fail` is called then. */
  function context(id: number, name: string, parent: Deno.TestContext | undefined, fail: () => void): Deno.TestContext {
    const made = {
      name,
      origin,
      parent,
      async step(...given: unknown[]): Promise<boolean> {
        const { name, fn, ignore = false } = definition(given);
        const step = ++steps;
        tell({ type: "begin", id: step, parent: id, name, ignore });
        if (ignore) return false;
        let failed = false;
        let failure: { error: unknown } | undefined;
        try {
          await fn(context(step, name, made as unknown as Deno.TestContext, () => failed = true));
        } catch (error) {
          failure = { error };
        }
        tellEnd(step, failure);
        if (!failed && failure === undefined) return true;
        fail();
        return false;
      },
      assertSnapshot(): never {
        throw new Deno.errors.NotSupported("Cannot compare with a snapshot in an isolated test");
      },
    };
    return made as unknown as Deno.TestContext;
  }

  const found: Bodies = { list: [], inside: true };
  (globalThis as { [BODIES]?: Bodies })[BODIES] = found;
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    finish({ error: event.reason });
  });
  globalThis.addEventListener("error", (event) => {
    event.preventDefault();
    finish({ error: event.error });
  });
  try {
    await load();
    const body = found.list[index];
    if (String(body) !== text) {
      throw new Error(
        `Cannot find the test inside: isolated() must be called while "${origin}" is loaded, each time in the same order`,
      );
    }
    for (const permission of revoke) Deno.permissions.revokeSync(permission);
    tell({ type: "loaded" });
    input.readSync(new Uint8Array(1));
    input.close();
    await body!(context(0, name, undefined, () => {}));
  } catch (error) {
    finish({ error });
  }
  finish();
}

/** As `Deno.TestContext.step()` takes it. */
function definition([first, second]: unknown[]): Deno.TestStepDefinition {
  const given = typeof first === "string"
    ? { name: first, fn: second }
    : typeof first === "function"
    ? { name: first.name, fn: first }
    : first;
  const { name, fn } = given as { name?: unknown; fn?: unknown } ?? {};
  if (typeof fn !== "function") throw new TypeError("Expected a function for the test step");
  if (typeof name !== "string" || name === "") throw new TypeError("The test step's name cannot be empty");
  return given as Deno.TestStepDefinition;
}

/** Takes out of a stack what is not the test's. */
function trimStack(error: unknown): void {
  for (let at = error; Error.isError(at); at = (at as Error).cause) {
    const made = at as Error;
    const stack = String(made.stack).split("\n").filter((line) => !OWN_FRAME.test(line)).join("\n");
    if (stack === made.stack || !Reflect.set(made, "stack", stack)) return;
  }
}
