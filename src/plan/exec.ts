/**
 * The end of a child's plan: the current folder, the signal mask, the program.
 *
 * @module
 */

import type { Step, Strings } from "./step.ts";

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

const SIG_SETMASK = { value: 2, name: "SIG_SETMASK" };
const NO_SIGNALS = { bytes: new Uint8Array(8), name: "[]" };

/** Goes to the folder that was asked for. */
export function enterFolder(path: string): Step {
  return { call: "chdir", args: [path], what: `enter the folder "${path}"`, option: "cwd" };
}

/**
 * Enters the caller's folder again, by its name. Without this a process keeps the folder it has, even one that a mount
 * has hidden: "." would still be in the outer /tmp. Where there is no such folder inside, it is /.
 */
export function enterFolderAgain(path: string | undefined): readonly Step[] {
  const root: Step = { call: "chdir", args: ["/"], what: `enter the folder "/"` };
  if (path === undefined) return [root];
  const tolerate = [["ENOENT", 0], ["ENOTDIR", 0], ["EACCES", 0]] as const;
  return [{ call: "chdir", args: [path], what: `enter the folder "${path}" again`, tolerate, skip: 1 }, root];
}

/** Lets signals in again. All were blocked since before the clone, and handlers were reset in the child. */
export function unblockSignals(): Step {
  return { call: "rt_sigprocmask", args: [SIG_SETMASK, NO_SIGNALS, null, 8], what: "unblock all signals" };
}

/**
 * Executes a program as execvp(3) does: a name without a slash is looked for in the folders of PATH, where it goes on
 * after what is not there or may not be executed, and a file of no known format is given to /bin/sh.
 */
export function execute(program: Program): readonly Step[] {
  const { command, args, environment } = program;
  const envp: Strings = { strings: environment };
  const argv: Strings = { strings: [program.argv0 ?? command, ...args] };
  const paths = candidates(command, pathOf(environment));
  return paths.flatMap((path, index): readonly Step[] => {
    const last = index === paths.length - 1;
    const onward = last ? [] : NOT_HERE.map((errno) => [errno, 1] as const);
    const what = `execute "${command}"`;
    return [
      { call: "execve", args: [path, argv, envp], what, tolerate: [...onward, ["ENOEXEC", 0]] },
      { call: "execve", args: [SHELL, { strings: [SHELL, path, ...args] }, envp], what },
    ];
  });
}

function candidates(command: string, path: string): readonly string[] {
  if (command.includes("/") || command === "") return [command];
  return [...new Set(path.split(":"))].map((folder) => folder === "" ? command : `${folder}/${command}`);
}

/** PATH in an environment block. */
function pathOf(environment: Uint8Array): string {
  const text = `\0${new TextDecoder().decode(environment)}`;
  const at = text.indexOf("\0PATH=");
  return at < 0 ? DEFAULT_PATH : text.slice(at + 6, text.indexOf("\0", at + 6));
}
