/**
 * Tests in namespaces of their own.
 *
 * @module
 */

import { makePipe } from "../machine/descriptors.ts";
import { library } from "../machine/library.ts";
import { checkNames } from "../checks.ts";
import { type NamespaceOptions, validate } from "../options.ts";
import type { CodeOptions } from "./launch.ts";

/** Options of {@linkcode isolated}, which are not the namespaces' own. They have the meaning of `Namespace.spawn()`'s. */
export interface IsolatedOptions extends Pick<CodeOptions, "permissions" | "env" | "clearEnv"> {}

const OPTION_NAMES = [
  "permissions",
  "env",
  "clearEnv",
] as const satisfies readonly (keyof IsolatedOptions)[];

/** The body of a test. */
export type TestBody = (t: Deno.TestContext) => void | Promise<void>;

/** The bodies that were given to {@linkcode isolated} in this realm, in order: the same ones outside and inside. */
export interface Bodies {
  readonly list: TestBody[];
  /** Whether this is the Deno that runs one of them. */
  readonly inside: boolean;
}

/** They are found by this, whatever copy of this module somebody has. */
export const BODIES: unique symbol = Symbol.for("@sys-linux/namespace: isolated") as never;

/**
 * Makes the body of a test run in namespaces of its own, so that tests that bind the same port or write the same path in
 * /tmp run side by side. What it returns is given to `Deno.test()`, or to whatever calls it with a test context.
 *
 * The test runs in another Deno, where the test's file is loaded once more: its imports and variables are there, as they
 * are after loading. Nothing that other tests or hooks such as `beforeEach` do to them is seen inside, and nothing that
 * the test does is seen outside. Steps, failures and their stacks are reported as the test's own, output as its output.
 *
 * The whole package works under `--allow-ffi`; the test inside has the permissions that `deno test` has as a whole.
 * `privateTmp` takes effect when the file is loaded, which may lie in /tmp: what the test imports later is looked for in
 * the new one. Sanitizers do not look inside: the process ends with the test.
 *
 * @param options What is to be private.
 * @param body The test. Its context has `name`, `origin`, `parent` and `step()`.
 * @returns The function that is to be the test. To be made while the file is loaded, not in a test.
 * @throws {TypeError} When an option is unknown, has the wrong type, or contradicts another.
 * @throws {RangeError} When an option has a value that cannot be.
 *
 * @example Two tests with one port
 * ```ts ignore
 * import { isolated } from "@sys-linux/namespace";
 * import { assertEquals } from "@std/assert";
 *
 * for (const word of ["hello", "goodbye"]) {
 *   Deno.test(
 *     `the server says ${word}`,
 *     isolated({ privateNet: true, privateTmp: true }, async (t) => {
 *       await using server = Deno.serve({ port: 8000 }, () => new Response(word));
 *       await t.step("at its port", async () => {
 *         assertEquals(await (await fetch(`http://localhost:${server.addr.port}`)).text(), word);
 *       });
 *     }),
 *   );
 * }
 * ```
 */
export function isolated(options: NamespaceOptions, body: TestBody): TestBody;
/**
 * Like the other, with options for the process that the test is run by.
 *
 * @param options What is to be private.
 * @param processOptions Its permissions and environment.
 * @param body The test.
 * @returns The function that is to be the test.
 */
export function isolated(options: NamespaceOptions, processOptions: IsolatedOptions, body: TestBody): TestBody;
export function isolated(options: NamespaceOptions, second: IsolatedOptions | TestBody, third?: TestBody): TestBody {
  const [processOptions, body] = typeof second === "function" ? [{}, second] : [second, third];
  if (typeof body !== "function") throw new TypeError(`Cannot isolate a test: its body is no function`);
  checkNames(processOptions, OPTION_NAMES, "");
  const settings = validate(options);
  const { list, inside } = bodies();
  const index = list.push(body) - 1;
  if (!inside) loadShim();
  const cwd = currentFolder();
  return async (t) => {
    if (typeof t?.step !== "function") throw new TypeError("Cannot isolate a test: it is called without its context");
    const { runIsolated } = await outside();
    await runIsolated({ settings, options: processOptions, index, text: String(body), cwd }, t);
  };
}

/** What is loaded in a test would be taken for its leak. */
function loadShim(): void {
  for (const fd of makePipe(0)) library().close(fd);
}

function bodies(): Bodies {
  const realm = globalThis as { [BODIES]?: Bodies };
  return realm[BODIES] ??= { list: [], inside: false };
}

let loading: Promise<typeof import("./isolated_outside.ts")> | undefined;

/** Only who runs a test needs it. */
function outside(): Promise<typeof import("./isolated_outside.ts")> {
  return loading ??= import("./isolated_outside.ts");
}

/** The folder in which Deno looks for the configuration, which a test may leave. */
function currentFolder(): string | undefined {
  try {
    return Deno.cwd();
  } catch {
    return undefined;
  }
}
