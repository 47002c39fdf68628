/**
 * nsrun in a Deno of its own, by root or by nobody.
 *
 * @module
 */

import { denoPath } from "./deno.ts";
import type { User } from "./program.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

let cache: string | undefined;

addEventListener("unload", () => {
  if (cache !== undefined) Deno.removeSync(cache, { recursive: true });
});

/** A cache for Deno that nobody can use, with the one npm package that nsrun imports. */
function cacheFolder(): string {
  if (cache !== undefined) return cache;
  cache = Deno.makeTempDirSync({ prefix: "nsrun-test-" });
  const { npmCache } = JSON.parse(output([denoPath(), "info", "--json"]));
  for (const { name: registry } of Deno.readDirSync(npmCache)) {
    output(["mkdir", "-p", `${cache}/npm/${registry}`]);
    output(["cp", "-r", `${npmCache}/${registry}/deno-std`, `${cache}/npm/${registry}/`]);
  }
  output(["chmod", "-R", "a+rwX", cache]);
  return cache;
}

function output([command, ...args]: readonly string[]): string {
  const { success, stdout, stderr } = new Deno.Command(command!, { args }).outputSync();
  if (!success) throw new Error(`Failed: ${command} ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

/** How nsrun is run. */
export interface RunOptions {
  /** @default {"root"} */
  readonly user?: User;
  /** What it reads. @default {nothing} */
  readonly stdin?: Uint8Array;
  /** @default {["--allow-ffi"]} */
  readonly permissions?: readonly string[];
  /** Words before its own, of a program that becomes it. @default {none} */
  readonly before?: readonly string[];
  /** The same of one that root runs, whoever nsrun is run by. @default {none} */
  readonly around?: readonly string[];
}

/** The command line of nsrun: its first word is setpriv(1) or Deno. */
export function nsrunArgv(
  args: readonly string[],
  { user = "root", permissions = ["--allow-ffi"], before = [], around = [] }: RunOptions = {},
): string[] {
  const deno = [...before, denoPath(), "run", "--no-prompt", ...permissions, MAIN, ...args];
  if (user === "root") return [...around, ...deno];
  return [...around, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ...deno];
}

/**
 * Starts nsrun with all three streams piped.
 *
 * @returns The running nsrun. The pid is its own: setpriv(1) becomes it.
 */
export function startNsrun(args: readonly string[], options: RunOptions = {}): Deno.ChildProcess {
  const [command, ...rest] = nsrunArgv(args, options);
  return new Deno.Command(command!, {
    args: rest,
    cwd: "/",
    env: { DENO_DIR: cacheFolder(), DENO_NO_UPDATE_CHECK: "1", PRESENT: "yes" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** How nsrun ended, and what was written. */
export interface RunOutput {
  readonly code: number;
  readonly signal: Deno.Signal | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Stdout before it was taken for text. */
  readonly bytes: Uint8Array;
}

/** Runs nsrun to its end. */
export async function nsrun(args: readonly string[], options: RunOptions = {}): Promise<RunOutput> {
  const child = startNsrun(args, options);
  const [{ code, signal, stdout, stderr }] = await Promise.all([child.output(), feed(child, options.stdin)]);
  const decoder = new TextDecoder();
  return { code, signal, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr), bytes: stdout };
}

/** Writes all, and closes. Who does not read to the end is not to be blamed here. */
async function feed(child: Deno.ChildProcess, bytes: Uint8Array | undefined): Promise<void> {
  const writer = child.stdin.getWriter();
  try {
    if (bytes !== undefined) await writer.write(bytes);
    await writer.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

/** Runs nsrun, and insists that it ends well and says nothing on stderr. */
export async function stdoutOf(args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await nsrun(args, options);
  if (code !== 0 || stderr !== "") throw new Error(`nsrun ${args.join(" ")} ended with ${code}: ${stderr}`);
  return stdout;
}
