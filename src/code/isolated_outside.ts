/**
 * An isolated test in the Deno that has the test runner: starts the one that runs the test, and reports what it tells.
 *
 * @module
 */

import { stepError } from "../errors.ts";
import { commandLine } from "../machine/command_line.ts";
import { library } from "../machine/library.ts";
import type { Settings } from "../options.ts";
import { planTmpLater } from "../plan/later.ts";
import type { ChildProcess } from "../process/child.ts";
import { Channel } from "./channel.ts";
import { codec } from "./codec.ts";
import { startDeno } from "./launch.ts";
import type { IsolatedOptions } from "./isolated.ts";
import type { TestReport, TestRequest } from "./isolated_inside.ts";
import { permissionFlags } from "./permissions.ts";
import { RunError } from "./run_error.ts";

/** One test, as `isolated()` was told of it. */
export interface IsolatedTest {
  readonly settings: Settings;
  readonly options: IsolatedOptions;
  readonly index: number;
  readonly text: string;
  readonly cwd: string | undefined;
}

/** A process that the test left behind can hold its output open: it is read for so long after the test. */
const OUTPUT_GRACE_MS = 100;
/** Runs a test inside, and reports it as `t`'s. */
export async function runIsolated(
  { settings, options, index, text, cwd }: IsolatedTest,
  t: Deno.TestContext,
): Promise<void> {
  const { permissions = "inherit", ...processOptions } = options;
  const { flags, revoke } = permissionFlags(permissions, true); // What the file imports by name needs no permission.
  const request: TestRequest = { index, text, name: t.name, origin: t.origin, revoke };
  const channel = new Channel(Number.MAX_SAFE_INTEGER);
  // As the program is read from stdin, Deno looks for the configuration in the current folder, as `deno test` does.
  const child = startDeno(
    { ...settings, tmp: undefined },
    {
      ...processOptions,
      ...(cwd === undefined ? {} : { cwd }),
      args: ["run", "--quiet", "--no-prompt", "--no-check", ...moduleFlags(), ...flags, "-"],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    },
    channel,
    () => undefined,
  );
  const output = Promise.all([copy(child.stdout, Deno.stdout), copy(child.stderr, Deno.stderr)]);
  const ended = child.status.finally(() => channel.end());
  try {
    const [, failure] = await Promise.all([
      sendProgram(child, request),
      report(channel, t, () => mountTmpLater(settings, child.pid), ended),
    ]);
    await ended;
    if (failure.length > 0) throw failure[0];
  } finally {
    channel.close();
    let timer: number | undefined;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, OUTPUT_GRACE_MS));
    await Promise.race([output, late]);
    clearTimeout(timer);
    await child[Symbol.asyncDispose]();
    await output;
  }
}

/** What a test or a step failed with, if with anything. */
type Failure = readonly [error: unknown] | readonly [];

/**
 * Reports what is told until the test is over, each step as one of the test's own.
 *
 * @param loaded Is called when the test's file is loaded, and the test waits.
 * @param ended How the test's process ended.
 */
async function report(
  channel: Channel,
  t: Deno.TestContext,
  loaded: () => void,
  ended: Promise<Deno.CommandStatus>,
): Promise<Failure> {
  const { decode } = codec();
  const contexts = new Map<number, Deno.TestContext | undefined>([[0, t]]);
  const running = new Map<number, Step>();
  for (let reply = await channel.receive(); reply !== undefined; reply = await channel.receive()) {
    const told = decode(reply.bytes) as TestReport;
    if (told.type === "loaded") {
      loaded();
      channel.send(new Uint8Array(1));
    } else if (told.type === "begin") {
      const step = beginStep(contexts.get(told.parent)!, told.name, told.ignore);
      contexts.set(told.id, await step.context);
      if (!told.ignore) running.set(told.id, step);
    } else {
      const failure: Failure = told.failure === undefined ? [] : [readable(told.failure.error)];
      if (told.id === 0) return failure;
      await running.get(told.id)!.end(failure);
      running.delete(told.id);
    }
  }
  const failure = new RunError(await ended);
  failure.stack = `${failure}\n    at ${t.origin}`; // Where it was made says nothing.
  for (const step of [...running.values()].reverse()) await step.end([failure]);
  return [failure];
}

/** A step of the outer test, which lasts as long as the inner one. */
interface Step {
  /** What its own steps are made with; undefined when it is ignored. */
  readonly context: Promise<Deno.TestContext | undefined>;
  /** Ends it, and waits until that is reported. */
  end(failure: Failure): Promise<void>;
}

function beginStep(t: Deno.TestContext, name: string, ignore: boolean): Step {
  const begun = Promise.withResolvers<Deno.TestContext>();
  const ended = Promise.withResolvers<void>();
  const reported = t.step({
    name,
    ignore,
    // What goes on here meanwhile is this package's own.
    sanitizeOps: false,
    sanitizeResources: false,
    sanitizeExit: false,
    fn: (context) => {
      begun.resolve(context);
      return ended.promise;
    },
  });
  return {
    context: Promise.race([begun.promise, reported.then(() => undefined)]),
    end: async ([...failure]) => {
      if (failure.length === 0) ended.resolve();
      else ended.reject(failure[0]);
      await reported;
    },
  };
}

/**
 * The runner prints message and stack, and takes the stack's first line for the message: the others, such as those of an
 * assertion's difference, would be there twice.
 */
function readable(thrown: unknown): unknown {
  const seen = new Set<unknown>(); // A cause may have itself as its cause.
  for (let at = thrown; Error.isError(at) && !seen.has(at); at = (at as Error).cause) {
    seen.add(at);
    const error = at as Error;
    const lines = `${error.name}: ${error.message}`.split("\n");
    const stack = String(error.stack).split("\n");
    if (lines.every((line, index) => line === stack[index])) stack.splice(1, lines.length - 1);
    error.stack = stack.join("\n");
  }
  return thrown;
}

/** Mounts /tmp inside. */
function mountTmpLater(settings: Settings, pid: number): void {
  const { tmp } = settings;
  if (tmp === undefined) return;
  const shim = library();
  const spawned = shim.spawn(planTmpLater(settings, tmp, pid, shim.context().caller));
  if ("step" in spawned) throw stepError(spawned.step, spawned.errno);
  shim.wait(spawned.pidfd);
  shim.close(spawned.pidfd);
}

/** Gives Deno its main module. Both imports are named in it, so they need no permission. */
async function sendProgram(child: ChildProcess, request: TestRequest): Promise<void> {
  const inside = JSON.stringify(new URL("isolated_inside.ts", import.meta.url).href);
  const program = `import { runInside } from ${inside};\n` +
    `await runInside(${JSON.stringify(request)}, () => import(${JSON.stringify(request.origin)}));\n`;
  const writer = child.stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(program));
    await writer.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error; // It has ended, which says more.
  }
}

/** Writes as the test's own output what its process writes. */
async function copy(from: ReadableStream<Uint8Array>, to: { writeSync(bytes: Uint8Array): number }): Promise<void> {
  for await (const chunk of from) {
    for (let at = 0; at < chunk.length;) at += to.writeSync(chunk.subarray(at));
  }
}

/** Flags that say where modules are found; with `true` the value may be the next word. */
const MODULE_FLAGS: Readonly<Record<string, boolean>> = {
  "-c": true,
  "--config": true,
  "--no-config": false,
  "--import-map": true,
  "--lock": false,
  "--no-lock": false,
  "--frozen": false,
  "--frozen-lockfile": false,
  "--node-modules-dir": false,
  "--node-modules-linker": true,
  "--vendor": false,
  "--conditions": true,
  "--cached-only": false,
  "--no-remote": false,
  "--no-npm": false,
};

/** The flags of this kind that the runner was given. */
function moduleFlags(): string[] {
  const flags: string[] = [];
  const words = commandLine() ?? [];
  for (let index = 1; index < words.length && words[index] !== "--"; index++) {
    const word = words[index]!;
    const name = word.split("=", 1)[0]!;
    if (name.startsWith("--unstable")) flags.push(word);
    if (!Object.hasOwn(MODULE_FLAGS, name)) continue;
    flags.push(word);
    if (MODULE_FLAGS[name] && word === name) flags.push(words[++index] ?? "");
  }
  return flags;
}
