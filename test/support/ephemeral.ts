/**
 * Folders that commands on an ephemeral view change, and what is there outside.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { Namespace } from "../../mod.ts";
import { execute, pathArgument } from "../../src/machine/files.ts";
import { packageFolder, programArgv, runProgram, type User } from "./program.ts";

/** A folder, gone afterwards. */
export async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "namespace-ephemeral-", dir: "/var/tmp" });
  try {
    await work(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** Gives a folder with all that is in it to whoever is to write there. */
export function giveTo(user: User, path: string): void {
  if (user === "root") return;
  new Deno.Command("chown", { args: ["-hR", "65534:65534", path] }).outputSync();
}

/** Runs a program by a user, whose last line is JSON. */
export async function told<T>(user: User, code: string, permissions = ["--allow-ffi"]): Promise<T> {
  const output = await runProgram(`const text = (bytes) => new TextDecoder().decode(bytes);\n${code}`, {
    user,
    permissions,
  });
  assertEquals([output.code, output.stderr], [0, ""]);
  return JSON.parse(output.stdout);
}

/** Runs a script outside. */
export function sh(script: string, cwd: string): void {
  const { success, stderr } = new Deno.Command("sh", { args: ["-ec", script], cwd }).outputSync();
  assert(success, new TextDecoder().decode(stderr));
}

/** Gives a file an extended attribute. */
export function setAttribute(path: string, name: string, value: Uint8Array): void {
  const bytes = { bytes: value, name: "<value>" };
  execute([{ call: "lsetxattr", args: [path, name, bytes, value.length, 0], what: "set an attribute" }]);
}

/** The value of an extended attribute of a file. */
export function attribute(path: string, name: string): Uint8Array | undefined {
  const value = { bytes: new Uint8Array(64), name: "<value>", filled: true } as const;
  const [size] = execute([{
    call: "lgetxattr",
    args: [pathArgument(path), name, value, 64],
    what: "read an attribute",
    tolerate: [["ENODATA", 0]],
  }]);
  return size! < 0 ? undefined : value.bytes.slice(0, size);
}

/** {@linkcode told} of a program that runs in a namespace. */
export async function toldIn<T>(around: Namespace, user: User, code: string): Promise<T> {
  const [command, ...args] = programArgv(`const text = (bytes) => new TextDecoder().decode(bytes);\n${code}`, {
    user,
    permissions: user === "root" ? ["-A"] : ["--allow-ffi"],
  });
  const output = await around.command(command!, { args, cwd: "/", env: programEnvironment() }).output();
  assertEquals([output.code, new TextDecoder().decode(output.stderr)], [0, ""]);
  return JSON.parse(new TextDecoder().decode(output.stdout));
}

/** The same as root, among mounts of its own: `sh()` runs a script in `folder`, outside of other namespaces. */
export function toldApart<T>(folder: string, code: string): Promise<T> {
  return toldIn(
    new Namespace({ privateMount: true }),
    "root",
    `
    const folder = ${JSON.stringify(folder)};
    const sh = (script) => text(new Deno.Command("sh", { args: ["-ec", script], cwd: folder }).outputSync().stdout);
    ${code}`,
  );
}

/** As of the programs of test/support/program.ts. */
function programEnvironment(): Record<string, string> {
  return { DENO_DIR: `${packageFolder()}/cache`, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" };
}
