/**
 * What a command is, and the check of it: what to execute, with which arguments and environment, where and as whom.
 *
 * @module
 */

import { checkNames, id, integer, shown, text, variable, variables, wrongType } from "./checks.ts";
import { ABOVE_GIVEN } from "./plan/files.ts";

/**
 * Where a descriptor of a command comes from: `"input"` is a pipe that it reads and this program writes, `"output"` one
 * that it writes and this program reads; `"inherit"` is this process's descriptor of the same number, and a number is
 * that one of this process's.
 */
export type DescriptorOption = "input" | "output" | "inherit" | number;

/** The size of a terminal, in characters. */
export interface TerminalSize {
  /** How many lines it has. @default {24} */
  rows?: number | undefined;
  /** How many characters a line has. @default {80} */
  columns?: number | undefined;
}

/** A size with nothing left out. */
export interface TerminalSettings {
  readonly rows: number;
  readonly columns: number;
}

/**
 * Options of a command: those of Deno.Command, with the same defaults, and {@linkcode argv0}, {@linkcode unsetEnv},
 * {@linkcode fds} and {@linkcode tty}.
 */
export interface CommandOptions extends Omit<Deno.CommandOptions, "detached"> {
  /** What the program is told that its own name is. @default {the command} */
  argv0?: string;
  /** Names of variables that it does not inherit. */
  unsetEnv?: readonly string[] | undefined;
  /**
   * Its descriptors beyond 0, 1 and 2, by their numbers, from 3 to 255. Every other one is closed. The ends of its pipes
   * that this program has are {@linkcode ChildProcess.inputs} and {@linkcode ChildProcess.outputs}; only `spawn()` can
   * have pipes here.
   *
   * @example A descriptor that a command writes to
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   *
   * const child = new Namespace().command("sh", { args: ["-c", "echo apart >&3"], fds: { 3: "output" } }).spawn();
   * console.log(await child.outputs[3]!.text()); // apart
   * await child.status;
   * ```
   */
  fds?: Readonly<Record<number, DescriptorOption>> | undefined;
  /**
   * A pseudo-terminal of its own as stdin, stdout and stderr, and a new session of which it is the controlling terminal:
   * see pty(7). The child's `stdin` is what is typed, its `stdout` what is shown; closing `stdin` types ^D, and so does
   * `output()` at the start. The options `stdin`, `stdout` and `stderr` cannot be given beside it. @default {false}
   *
   * @example A program that finds a terminal
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   *
   * const child = new Namespace().command("stty", { args: ["size"], tty: { rows: 40, columns: 100 } }).spawn();
   * console.log(await child.stdout.text()); // 40 100
   * await child.status;
   * ```
   */
  tty?: boolean | TerminalSize | undefined;
}

/** Options that every way to start a process has. */
export const SHARED_OPTION_NAMES = [
  "cwd",
  "clearEnv",
  "env",
  "uid",
  "gid",
  "signal",
  "stdin",
  "stdout",
  "stderr",
] as const satisfies readonly (keyof CommandOptions)[];

/** What is to be executed. */
export interface CheckedProgram {
  readonly command: string;
  readonly args: readonly string[];
  readonly argv0: string | undefined;
  /** Variables to be set, or to be left out where they are undefined. */
  readonly environment: ReadonlyMap<string, string | undefined>;
  readonly cwd: string | undefined;
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

/**
 * Checks what a command is.
 *
 * @param environment Variables that it has unless its own options say otherwise.
 * @throws {TypeError} When an option has the wrong type, or a value that cannot be passed to a program.
 * @throws {RangeError} When an id cannot be.
 */
export function checkProgram(
  command: string | URL,
  options: CommandOptions,
  environment: ReadonlyMap<string, string>,
): CheckedProgram {
  return {
    command: pathOf(command, "command"),
    args: checkArguments(options.args ?? []),
    argv0: options.argv0 === undefined ? undefined : text(options.argv0, "argv0"),
    environment: new Map([...environment, ...environmentChanges(options.env, options.unsetEnv)]),
    cwd: options.cwd === undefined ? undefined : pathOf(options.cwd, "cwd"),
    uid: options.uid === undefined ? undefined : id(options.uid, "uid"),
    gid: options.gid === undefined ? undefined : id(options.gid, "gid"),
  };
}

/** What is no string is made one, as by Deno.Command, but for holes. */
function checkArguments(given: unknown): readonly string[] {
  if (!Array.isArray(given)) throw wrongType("args", `an array such as ["-c", "true"]`, given);
  return Array.from(given, (one, index) => text(index in given ? String(one) : undefined, `args[${index}]`));
}

function environmentChanges(
  env: Readonly<Record<string, string>> | undefined,
  unset: unknown,
): ReadonlyMap<string, string | undefined> {
  const changes = new Map<string, string | undefined>();
  if (unset !== undefined && !Array.isArray(unset)) throw wrongType("unsetEnv", "an array of names", unset);
  for (const name of unset ?? []) changes.set(variable(name, "unsetEnv"), undefined);
  for (const [name, value] of variables(env, "env")) {
    if (changes.has(name)) {
      throw new TypeError(`Options "env" and "unsetEnv" contradict each other: both have ${shown(name)}`);
    }
    changes.set(name, value);
  }
  return changes;
}

/**
 * The descriptors that a command is given by the launcher, which has pipes of its own where numbers are free: those that
 * it inherits, by the same numbers.
 *
 * @throws {TypeError} When one comes from elsewhere.
 * @throws {RangeError} When a descriptor has a number that cannot be.
 */
export function launchedDescriptors(fds: CommandOptions["fds"]): readonly (number | undefined)[] {
  return checkDescriptors(fds).map((from, index) => {
    if (from === undefined || from === 3 + index) return from;
    throw new TypeError(
      `Option "fds.${3 + index}" must be "inherit" here: nobody is there to have the other end of it`,
    );
  });
}

/**
 * The terminal that a command is given by the launcher, which carries bytes between it and its own streams.
 *
 * @returns Whether there is one, and its size where it is not that of the user's.
 * @throws {TypeError} When it has the wrong type.
 * @throws {RangeError} When a size cannot be.
 */
export function launchedTerminal(
  tty: CommandOptions["tty"],
): { readonly tty: boolean; readonly ttySize: TerminalSettings | undefined } {
  const size = checkTerminal({ tty });
  return { tty: size !== undefined, ttySize: tty === true ? undefined : size };
}

/** The highest descriptor that a command can be given. */
const FD_MAX = ABOVE_GIVEN - 1;

/**
 * Checks which descriptors a command is given. Of the list, the first is for 3; those that are undefined are closed.
 *
 * @throws {TypeError} When it is no object, or a descriptor comes from nowhere.
 * @throws {RangeError} When a descriptor has a number that cannot be.
 */
export function checkDescriptors(fds: CommandOptions["fds"]): readonly (DescriptorOption | undefined)[] {
  const list: (DescriptorOption | undefined)[] = [];
  if (fds === undefined) return list;
  if (typeof fds !== "object" || fds === null || Array.isArray(fds)) {
    throw wrongType("fds", `an object such as { 3: "output" }`, fds);
  }
  for (const [key, from] of Object.entries(fds)) {
    const fd = integer(Number(key), "fds", 3, FD_MAX, "a descriptor beyond stdin, stdout and stderr");
    const name = `fds.${fd}`;
    while (list.length <= fd - 3) list.push(undefined);
    if (typeof from === "number") list[fd - 3] = integer(from, name, 0, 2 ** 31 - 1, "a descriptor of this process");
    else if (from === "input" || from === "output") list[fd - 3] = from;
    else if (from === "inherit") list[fd - 3] = fd;
    else throw wrongType(name, `"input", "output", "inherit" or a number`, from);
  }
  return list;
}

/** The most rows or columns that TIOCSWINSZ has room for. */
const SIZE_MAX = 0xffff;

/**
 * Checks a terminal that is asked for.
 *
 * @throws {TypeError} When it has the wrong type, or stdin, stdout or stderr are to be something else.
 * @throws {RangeError} When a size cannot be.
 */
export function checkTerminal(options: CommandOptions): TerminalSettings | undefined {
  const { tty } = options;
  if (tty === undefined || tty === false) return undefined;
  for (const name of ["stdin", "stdout", "stderr"] as const) {
    if (options[name] !== undefined) {
      throw new TypeError(`Options "tty" and "${name}" contradict each other: all three are the terminal`);
    }
  }
  if (tty === true) return { rows: 24, columns: 80 };
  if (typeof tty !== "object" || tty === null) throw wrongType("tty", "true, false or { rows, columns }", tty);
  checkNames(tty, ["rows", "columns"], "tty.");
  return terminalSize(tty.rows ?? 24, tty.columns ?? 80, "tty.");
}

/**
 * Checks the size of a terminal.
 *
 * @throws {TypeError} When one of the two is no number.
 * @throws {RangeError} When one of the two cannot be.
 */
export function terminalSize(rows: unknown, columns: unknown, prefix = ""): TerminalSettings {
  return {
    rows: integer(rows, `${prefix}rows`, 1, SIZE_MAX, "lines"),
    columns: integer(columns, `${prefix}columns`, 1, SIZE_MAX, "characters"),
  };
}

/** A path, or a file URL as a path. */
function pathOf(value: string | URL, name: string): string {
  if (!(value instanceof URL)) return text(value, name);
  if (value.protocol !== "file:") {
    throw new TypeError(`Option "${name}" must be a path or a file URL: got "${value.href}"`);
  }
  return text(decodeURIComponent(value.pathname), name);
}
