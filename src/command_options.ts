/**
 * What a command is, and the check of it: what to execute, with which arguments and environment, where and as whom.
 *
 * @module
 */

import { id, text } from "./options.ts";

/** Options of a command: those of Deno.Command, with the same defaults, and {@linkcode argv0}. */
export interface CommandOptions extends Omit<Deno.CommandOptions, "detached"> {
  /** What the program is told that its own name is. @default {the command} */
  argv0?: string;
}

/** What is to be executed. */
export interface CheckedProgram {
  readonly command: string;
  readonly args: readonly string[];
  readonly argv0: string | undefined;
  /** Variables to be set. */
  readonly environment: ReadonlyMap<string, string>;
  readonly cwd: string | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

/**
 * Checks what a command is.
 *
 * @throws {TypeError} When an option has the wrong type, or a value that cannot be passed to a program.
 * @throws {RangeError} When an id cannot be.
 */
export function checkProgram(command: string | URL, options: CommandOptions): CheckedProgram {
  return {
    command: pathOf(command, "command"),
    args: (options.args ?? []).map((argument, index) => text(String(argument), `args[${index}]`)),
    argv0: options.argv0 === undefined ? undefined : text(options.argv0, "argv0"),
    environment: environmentChanges(options.env),
    cwd: options.cwd === undefined ? undefined : pathOf(options.cwd, "cwd"),
    uid: options.uid === undefined ? undefined : id(options.uid, "uid"),
    gid: options.gid === undefined ? undefined : id(options.gid, "gid"),
  };
}

function environmentChanges(env: Readonly<Record<string, string>> | undefined): ReadonlyMap<string, string> {
  const changes = new Map<string, string>();
  for (const [name, value] of Object.entries(env ?? {})) {
    if (name === "" || name.includes("=")) {
      throw new TypeError(
        `Option "env" has a name that cannot be: ${JSON.stringify(name)} is empty or has a "=" in it`,
      );
    }
    changes.set(text(name, "env"), text(value, `env.${name}`));
  }
  return changes;
}

/** A path, or a file URL as a path. */
function pathOf(value: string | URL, name: string): string {
  if (!(value instanceof URL)) return text(value, name);
  if (value.protocol !== "file:") {
    throw new TypeError(`Option "${name}" must be a path or a file URL: got "${value.href}"`);
  }
  return text(decodeURIComponent(value.pathname), name);
}
