/**
 * `deno run` of a module, timed as a whole process.
 *
 * @module
 */

import { program } from "./contenders.ts";
import type { Contender } from "./harness.ts";

/** A look for a new version of Deno belongs to nobody's time. */
const ENVIRONMENT = { DENO_NO_UPDATE_CHECK: "1" };

/**
 * A contender that is a whole Deno.
 *
 * @param path The module, relative to this folder.
 */
export function denoRun(name: string, path: string, args: readonly string[] = []): Contender {
  const module = new URL(path, import.meta.url).pathname;
  return program(name, Deno.execPath(), ["run", "--allow-ffi", module, ...args], ENVIRONMENT);
}
