/**
 * The same commands in namespaces, by the one user or the other: root here, nobody in a Deno of its own.
 *
 * @module
 */

import { type CommandOptions, Namespace, NamespaceError, type NamespaceOptions } from "../../mod.ts";
import { runProgram, type User } from "./program.ts";

/** A command to be run in namespaces. All of it can be written as JSON. */
export interface Request {
  readonly options: NamespaceOptions;
  readonly argv: readonly [command: string, ...args: string[]];
  readonly commandOptions?: Omit<CommandOptions, "signal" | "args">;
}

/** What came of a {@linkcode Request}. */
export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** What was thrown instead. */
  readonly error?: {
    readonly name: string;
    readonly message: string;
    readonly code?: string | undefined;
    readonly option?: string | undefined;
    readonly hint?: string | undefined;
  };
}

/** Runs one request. Its text goes to nobody's program too: it must need nothing but the package's own names. */
function answer(request: Request): Result {
  const [command, ...args] = request.argv;
  const decoder = new TextDecoder();
  try {
    const made = new Namespace(request.options).command(command, { ...request.commandOptions, args });
    const { code, stdout, stderr } = made.outputSync();
    return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const { name, message } = error;
    const { code, option, hint } = error instanceof NamespaceError
      ? error
      : { ...error as { code?: string }, option: undefined, hint: undefined };
    return { code: -1, stdout: "", stderr: "", error: { name, message, code, option, hint } };
  }
}

/** Who can run requests. */
export const USERS: readonly User[] = ["root", "nobody"];

/**
 * Runs requests, one after the other.
 *
 * @param user Root is this process; for nobody there is one Deno for all of them, with `--allow-ffi` alone.
 * @param requests What to run.
 * @returns What came of each.
 */
export async function runAs(user: User, requests: readonly Request[]): Promise<Result[]> {
  if (user === "root") return requests.map(answer);
  // The text of the function is JavaScript: the types are gone when it runs.
  const code = `${answer}\nconsole.log(JSON.stringify(${JSON.stringify(requests)}.map(answer)));`;
  const output = await runProgram(code, { user });
  if (output.code !== 0) throw new Error(`nobody's program failed (${output.code}): ${output.stderr}`);
  return JSON.parse(output.stdout);
}

/** Runs one request, and insists that it ends well. */
export async function stdoutAs(user: User, request: Request): Promise<string> {
  const [result] = await runAs(user, [request]);
  if (result === undefined || result.code !== 0) throw new Error(`Failed: ${JSON.stringify({ request, result })}`);
  return result.stdout;
}
