/**
 * `nsrun build` writes a stand-alone executable; `nsrun inspect` tells what one was built from.
 *
 * @module
 */

import type { Architecture } from "../abi/syscalls.ts";
import { build, inspect, isReproduced, withoutBytes } from "../launch/build.ts";
import { ORDINARY } from "../launch/compile.ts";
import { validate } from "../options.ts";
import { quoted, visible } from "../quoted.ts";
import { isAnswered } from "./answers.ts";
import { type OwnOptions, understand } from "./arguments.ts";
import { UsageError, WORDING } from "./words.ts";

/** What only `build` has. */
export const BUILD_OPTIONS: OwnOptions = {
  flags: ["any-command"],
  valued: ["output", "arch"],
  letters: { o: "output" },
};

/** What only `inspect` has. */
export const INSPECT_OPTIONS: OwnOptions = { flags: ["json"], valued: [] };

/**
 * Writes an executable.
 *
 * @param argv The words of the command line, without the verb.
 * @returns The exit status.
 * @throws {UsageError} When the command line makes no sense.
 * @throws {TypeError} When an option is wrong.
 */
export async function buildVerb(argv: readonly string[]): Promise<number> {
  const invocation = await understand(argv, BUILD_OPTIONS);
  if (await isAnswered(invocation)) return 0;
  const { namespace, command, commandOptions, timeoutMs, statusFd, debug, own } = invocation;
  const { output, arch, "any-command": anyCommand } = own;
  if (command === undefined) throw new UsageError("build needs a command");
  if (statusFd !== undefined) throw new UsageError("--status-fd cannot be built in: nsrun itself writes there");
  if (debug) throw new UsageError("--debug cannot be built in: nsrun explain and inspect say which calls are made");
  if (output === undefined) throw new UsageError("build needs -o FILE");
  const { args, argv0, clearEnv, cwd, env, gid, uid, unsetEnv, fds, tty } = commandOptions;
  const given = {
    args,
    argv0,
    clearEnv,
    cwd,
    env,
    gid,
    uid,
    unsetEnv,
    fds,
    tty,
    timeoutMs,
    output,
    arch: arch as Architecture | undefined,
  };
  const options = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const settings = validate(namespace);
  try {
    await build(settings, namespace, command, { ...options, anyCommand: anyCommand !== undefined }, WORDING);
  } catch (error) {
    throw unwritten(output, error);
  }
  return 0;
}

/** It is written by another name at first, which would say nothing. */
function unwritten(output: string, error: unknown): unknown {
  const path = JSON.stringify(output);
  const { IsADirectory, NotADirectory, NotCapable, NotFound } = Deno.errors;
  if (error instanceof NotCapable) {
    return new UsageError(`-o needs to write ${path}: run Deno with --allow-write of its folder beside --allow-ffi`);
  }
  if (error instanceof NotFound) return new UsageError(`Cannot write -o ${path}: the folder for it is missing`);
  if (error instanceof NotADirectory) return new UsageError(`Cannot write -o ${path}: what it is in is no folder`);
  if (error instanceof IsADirectory) return new UsageError(`Cannot write -o ${path}: it is a folder`);
  return error;
}

/**
 * Tells what an executable was built from, and what it does.
 *
 * @param argv The words of the command line, without the verb.
 * @returns The exit status.
 * @throws {UsageError} When the command line makes no sense, or the file was not built here, or is not whole.
 */
export async function inspectVerb(argv: readonly string[]): Promise<number> {
  const invocation = await understand(argv, INSPECT_OPTIONS);
  if (await isAnswered(invocation)) return 0;
  const { command: path, commandOptions: { args = [] }, own } = invocation;
  if (path === undefined) throw new UsageError("inspect needs the path of an executable");
  if (args.length > 0) throw new UsageError(`inspect takes one executable: got ${JSON.stringify(args[0])} as well`);
  const image = await Deno.readFile(path);
  let origin;
  try {
    origin = inspect(image);
  } catch (error) {
    throw new UsageError(`Cannot inspect ${JSON.stringify(path)}: ${error instanceof Error ? error.message : error}`);
  }
  const { namespace, command, options: { arch, anyCommand, timeoutMs, ...options } } = origin;
  const { explainFor } = await import("../process/explain.ts");
  const explanation = explainFor(validate(namespace), command, options, ORDINARY, new Uint8Array());
  const reproduced = isReproduced(image, origin, [WORDING, undefined]);
  if (own.json !== undefined) {
    console.log(JSON.stringify({ reproduced, ...origin, ...explanation.toJSON() }, withoutBytes, 2));
    return 0;
  }
  const words = [command, ...options.args ?? []].map(quoted).join(" ");
  const { uid, gid } = options;
  const ids = [...uid === undefined ? [] : [`user ${uid}`], ...gid === undefined ? [] : [`group ${gid}`]];
  console.log(
    `${words}${ids.length === 0 ? "" : ` as ${ids.join(", ")}`} for ${arch}${
      anyCommand ? ", or any other command" : ""
    }${timeoutMs === undefined ? "" : `, for ${Number(timeoutMs)} ms`}`,
  );
  console.log(`options: ${visible(JSON.stringify(namespace, withoutBytes))}`);
  const { args: _, ...others } = options;
  const more = Object.entries(others).filter(([, value]) => !["[]", "{}", "false"].includes(JSON.stringify(value)));
  if (more.length > 0) console.log(`of the command: ${visible(JSON.stringify(Object.fromEntries(more)))}`);
  console.log();
  console.log(
    reproduced
      ? `Building it again gives the same bytes: it does this and nothing else.\n`
      : `Building it again gives other bytes: another version has built it, or it was altered, and then it may do anything.\n`,
  );
  console.log(explanation.toString(Deno.stdout.isTerminal() && !Deno.noColor));
  return 0;
}
