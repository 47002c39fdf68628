/**
 * The end of a child's plan: the current folder, the signal mask, the program.
 *
 * @module
 */

import { AT_FDCWD, O_CLOEXEC_PATH, O_CLOEXEC_RDONLY } from "./files.ts";
import { FUTEX_WAIT, NO_TIME } from "./lifetime.ts";
import { descriptorOf, type Extra } from "./stdio.ts";
import type { Argument, Bytes, CallerFolder, Step, Strings } from "./step.ts";

/** What is to be executed. */
export interface Program {
  /** A path, or a name to look for in PATH. */
  readonly command: string;
  readonly args: readonly string[];
  /** What the program is told that its name is; the command where it is not given. */
  readonly argv0: string | undefined;
  /** The environment, as one block in which each string ends with a NUL. */
  readonly environment: Uint8Array;
}

/** confstr(3), _CS_PATH: where execvp(3) looks when there is no PATH. */
const DEFAULT_PATH = "/bin:/usr/bin";
const SHELL = "/bin/sh";
/** What execvp(3) takes for "not here, look on". */
const NOT_HERE = ["ENOENT", "ENOTDIR", "EACCES", "ENODEV", "ESTALE"] as const;
/** The four steps after an execve give the file to the shell; what is not there leaves them out. */
const UNKNOWN_FORMAT: NonNullable<Step["tolerate"]> = [["ENOEXEC", 0]];
const UNKNOWN_FORMAT_OR_NOT_HERE: NonNullable<Step["tolerate"]> = [
  ...UNKNOWN_FORMAT,
  ...NOT_HERE.map((errno) => [errno, 4] as const),
];
/** Where a file's first bytes are read to, and what they are of an executable: "\x7fELF". */
const HEAD: Bytes = { bytes: new Uint8Array(4), name: "<head>" };
const ELF = { value: 0x464c457f, name: `"\\x7fELF"` };

const SIG_SETMASK = { value: 2, name: "SIG_SETMASK" };
const NO_SIGNALS = { bytes: new Uint8Array(8), name: "[]" };

/** Goes to the folder that was asked for. */
export function enterFolder(path: string): Step {
  return { call: "chdir", args: [path], what: `enter the folder "${path}"`, option: "cwd" };
}

/**
 * Enters the caller's folder again, by its name. Without this a process keeps the folder it has, even one that a mount
 * has hidden: "." would still be in the outer /tmp. Where there is no such folder inside, it is /.
 *
 * @param isBase Whether it is where the folder that was asked for is looked for: then it has to be there.
 */
export function enterFolderAgain(path: string | Bytes | CallerFolder | undefined, isBase: boolean): readonly Step[] {
  const root: Step = { call: "chdir", args: ["/"], what: `enter the folder "/"` };
  if (path === undefined) return [root];
  const name = typeof path === "string" ? `"${path}"` : "name" in path ? path.name : undefined;
  const what = `enter ${name === undefined ? "the current folder" : `the folder ${name}`} again`;
  if (isBase) return [{ call: "chdir", args: [path], what, option: "cwd" }];
  const tolerate = [["ENOENT", 0], ["ENOTDIR", 0], ["EACCES", 0]] as const;
  return [{ call: "chdir", args: [path], what, tolerate, skip: 1 }, root];
}

/** Lets signals in again. All were blocked since before the clone, and handlers were reset in the child. */
export const UNBLOCK_SIGNALS: Step = {
  call: "rt_sigprocmask",
  args: [SIG_SETMASK, NO_SIGNALS, null, 8],
  what: "unblock all signals",
};

/**
 * Executes a program as execvp(3) does: a name without a slash is looked for in the folders of PATH, where it goes on
 * after what is not there or may not be executed, and a file of no known format is given to /bin/sh. But not an
 * executable of another machine, which a shell can only stumble over: of that, a futex that holds the same word as the
 * file says ETIMEDOUT.
 */
export function execute(program: Program): readonly Step[] {
  const { command, args } = program;
  const { envp, folders } = environmentOf(program.environment);
  const argv: Strings = { strings: [program.argv0 ?? command, ...args] };
  const what = `execute "${command}"`;
  const steps: Step[] = [];
  const attempt = (path: string, onward: NonNullable<Step["tolerate"]>) => {
    const open: Step = {
      call: "openat",
      args: [AT_FDCWD, path, O_CLOEXEC_RDONLY],
      what,
      tolerate: [["EACCES", 2]], // Who may not read it can tell nothing.
      opens: true,
    };
    steps.push(
      { call: "execve", args: [path, argv, envp], what, tolerate: onward },
      open,
      { call: "read", args: [{ resultOf: open }, HEAD, HEAD.bytes.length], what },
      { call: "futex", args: [HEAD, FUTEX_WAIT, ELF, NO_TIME], what, tolerate: [["EAGAIN", 0]] },
      { call: "execve", args: [SHELL, { strings: [SHELL, path, ...args] }, envp], what },
    );
  };
  const byPath = command.includes("/") || command === "";
  const last = byPath ? command : inFolder(folders.at(-1)!, command);
  if (!byPath) {
    for (const folder of folders.slice(0, -1)) attempt(inFolder(folder, command), UNKNOWN_FORMAT_OR_NOT_HERE);
  }
  attempt(last, UNKNOWN_FORMAT);
  return steps;
}

function inFolder(folder: string, command: string): string {
  return folder === "" ? command : `${folder}/${command}`; // POSIX: an empty entry of PATH is the current folder.
}

const AT_EMPTY_PATH = { value: 0x1000, name: "AT_EMPTY_PATH" };

/**
 * Opens a program's file, to be executed later: its path may then lead nowhere, where a mount hides it.
 *
 * @param command The path of an executable in the kernel's own format, no script.
 */
export function openProgram(command: string): Step {
  return { call: "openat", args: [AT_FDCWD, command, O_CLOEXEC_PATH], what: `open "${command}"` };
}

/**
 * Executes what {@linkcode openProgram} has opened.
 *
 * @param first Where `closeFrom` has put it, where it had to.
 */
export function executeOpened(program: Program, opened: Step, first: number): readonly Step[] {
  const { command, args } = program;
  const argv: Strings = { strings: [program.argv0 ?? command, ...args] };
  return executeDescriptor(opened, first, argv, program.environment, { what: `execute "${command}"` });
}

/** Executes the launcher as PID 1: `args` are for shim/init.zig. */
export function executeInit(
  launcher: Extra,
  first: number,
  args: readonly string[],
  environment: Uint8Array,
): readonly Step[] {
  const argv: Strings = { strings: ["init", ...args] };
  return executeDescriptor(launcher, first, argv, environment, { what: "execute init", option: "init" });
}

/** Executes the launcher, which is open in the child, without an environment. */
export function executeOpenLauncher(
  launcher: number,
  argv: readonly string[],
  why: Pick<Step, "what" | "option">,
): Step {
  return { call: "execveat", args: [launcher, "", { strings: argv }, { strings: [] }, AT_EMPTY_PATH], ...why };
}

function executeDescriptor(
  from: Extra,
  first: number,
  argv: Strings,
  environment: Uint8Array,
  why: Pick<Step, "what" | "option">,
): readonly Step[] {
  const { envp } = environmentOf(environment);
  const attempt = (fd: Argument): Step => ({ call: "execveat", args: [fd, "", argv, envp, AT_EMPTY_PATH], ...why });
  return [{ ...attempt(descriptorOf(from)), tolerate: [["EBADF", 0]] }, attempt(first)];
}

/** An environment as execve(2) takes it, and the folders of its PATH. */
interface Environment {
  readonly envp: Strings;
  readonly folders: readonly string[];
}

/** A process's environment is the same block for every child. */
const environments = new WeakMap<Uint8Array, Environment>();

function environmentOf(block: Uint8Array): Environment {
  const known = environments.get(block);
  if (known !== undefined) return known;
  const text = `\0${new TextDecoder().decode(block)}`;
  const at = text.indexOf("\0PATH=");
  const path = at < 0 ? DEFAULT_PATH : text.slice(at + 6, text.indexOf("\0", at + 6));
  const environment = { envp: { strings: block }, folders: [...new Set(path.split(":"))] };
  environments.set(block, environment);
  return environment;
}
