/**
 * Programs that use the package, in a Deno of their own: as root or as nobody.
 *
 * @module
 */

import { denoPath } from "./deno.ts";

const SOURCE = new URL("../../", import.meta.url);

let folder: string | undefined;
let programs = 0;

addEventListener("unload", () => {
  if (folder !== undefined) Deno.removeSync(folder, { recursive: true });
});

/** A folder with a copy of the package that anybody can read, and a cache that nobody can write to. */
export function packageFolder(): string {
  if (folder !== undefined) return folder;
  folder = Deno.makeTempDirSync({ prefix: "namespace-test-" });
  Deno.chmodSync(folder, 0o755);
  copy(new URL("mod.ts", SOURCE), `${folder}/mod.ts`);
  copyFolder(new URL("src/", SOURCE), `${folder}/src`);
  Deno.mkdirSync(`${folder}/cache`);
  Deno.chmodSync(`${folder}/cache`, 0o777);
  return folder;
}

function copyFolder(from: URL, to: string): void {
  Deno.mkdirSync(to);
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (isDirectory) copyFolder(new URL(`${name}/`, from), `${to}/${name}`);
    else copy(new URL(name, from), `${to}/${name}`);
  }
}

function copy(from: URL, to: string): void {
  Deno.copyFileSync(from, to);
  Deno.chmodSync(to, 0o644);
}

/** Who runs a program. */
export type User = "root" | "nobody";

/** How a program is run. */
export interface ProgramOptions {
  /** @default {"root"} */
  readonly user?: User;
  /** @default {["--allow-ffi"]} */
  readonly permissions?: readonly string[];
}

/**
 * The command line of a program: TypeScript in which `Namespace` and `NamespaceError` are there already.
 *
 * @param code The program's text.
 * @param options Who runs it, and what it may do.
 * @returns What to execute: its first word is setpriv(1) or Deno.
 */
export function programArgv(code: string, options: ProgramOptions = {}): string[] {
  const { user = "root", permissions = ["--allow-ffi"] } = options;
  const file = `${packageFolder()}/program_${++programs}.ts`;
  Deno.writeTextFileSync(file, `import { Namespace, NamespaceError } from "./mod.ts";\n${code}\n`, { mode: 0o644 });
  const deno = [denoPath(), "run", "--no-prompt", "--no-config", ...permissions, file];
  if (user === "root") return deno;
  return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ...deno];
}

/**
 * Starts a program with all three streams piped.
 *
 * @param code The program's text.
 * @param options Who runs it, and what it may do.
 * @returns The running program. The pid is the program's own: setpriv(1) becomes it.
 */
export function startProgram(code: string, options: ProgramOptions = {}): Deno.ChildProcess {
  return start(programArgv(code, options), "piped");
}

/** How a program ended, and what it said. */
export interface ProgramOutput {
  readonly code: number;
  readonly signal: Deno.Signal | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program to its end.
 *
 * @param code The program's text.
 * @param options Who runs it, and what it may do.
 */
export async function runProgram(code: string, options: ProgramOptions = {}): Promise<ProgramOutput> {
  return await runArgv(programArgv(code, options));
}

/** Runs a command line, such as one around {@linkcode programArgv}, to its end. */
export async function runArgv(argv: readonly string[]): Promise<ProgramOutput> {
  const { code, signal, stdout, stderr } = await start(argv, "null").output();
  const decoder = new TextDecoder();
  return { code, signal, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

function start([command, ...args]: readonly string[], stdin: "piped" | "null"): Deno.ChildProcess {
  return new Deno.Command(command!, {
    args,
    cwd: "/",
    env: { DENO_DIR: `${packageFolder()}/cache`, DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
    stdin,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}
