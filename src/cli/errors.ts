/**
 * What is said on stderr when something fails, in the words of the command line, and the exit status that goes with it.
 *
 * @module
 */

import { NamespaceError } from "../errors.ts";
import { OPTION_NAMES } from "../options.ts";
import { visible } from "../quoted.ts";
import { FAILED, inOptions, spelled } from "./words.ts";

/** Exit status when the command is there and cannot be executed. */
export const NOT_EXECUTABLE = 126;
/** Exit status when there is no such command. */
export const NOT_FOUND = 127;

/** What is to be said of an error, and the exit status. */
export interface Failure {
  /** One line, and lines with hints after it. */
  readonly message: string;
  readonly status: number;
}

/** Tells an error as it is told to who typed the command line. */
export function describeFailure(error: unknown): Failure {
  const { message, status } = failureOf(error);
  return { message: visible(message), status };
}

function failureOf(error: unknown): Failure {
  if (!(error instanceof Error)) return { message: String(error), status: FAILED };
  const refusal = error instanceof NamespaceError ? error : error.cause;
  if (refusal instanceof NamespaceError) return { message: refusalMessage(refusal), status: refusalStatus(refusal) };
  const ofOptions = [TypeError, RangeError, Deno.errors.NotSupported].some((kind) => error instanceof kind);
  return { message: ofOptions ? optionMessage(error.message) : error.message, status: FAILED };
}

/** As env(1): whatever else execve(2) has against a command, it was found. */
function refusalStatus({ syscall, code }: NamespaceError): number {
  if (syscall !== "execve") return FAILED;
  return code === "ENOENT" ? NOT_FOUND : NOT_EXECUTABLE;
}

/**
 * The option that a step was for stands at the end of what could not be done; hints name options anywhere. Mounts come of
 * many options, and what could not be done says which.
 */
function refusalMessage({ message, option, hint }: NamespaceError): string {
  const end = hint === undefined ? message.length : message.length - hint.length;
  const reason = ` for ${option}: `;
  const at = option === undefined ? -1 : message.lastIndexOf(reason, end);
  const named = option === "mounts" ? "" : ` for ${option?.split(", ").map(spelled).join(", ")}`;
  const told = at < 0
    ? message.slice(0, end)
    : `${message.slice(0, at)}${named}: ${message.slice(at + reason.length, end)}`;
  return told + inOptions(hint ?? "");
}

/** What the options of a command, of a build and of an explanation are called. */
const OTHERS = ["cwd", "uid", "gid", "argv0", "unsetEnv", "fds", "arch", "as"];
/** An option in quotes, or what is in it, or that it is false. */
const QUOTED = new RegExp(`"((?:${[...OPTION_NAMES, ...OTHERS].join("|")})(?:[.[][\\w.[\\]]*|: false)?)"`, "g");

/** Names of options are in quotes, and before the value that was given, which may be any text; which has no bytes here. */
function optionMessage(message: string): string {
  const at = message.indexOf(": got ");
  const end = at < 0 ? message.length : at;
  const told = message.slice(0, end)
    .replace(
      /^(Unknown option )?(?:Options? )?"([a-z][\w.[\]]*(?:: false)?)"/i,
      (_, no = "", name) => no + spelled(name),
    )
    .replaceAll(QUOTED, (_, name) => spelled(name))
    .replaceAll(/"(bind|connect)Tcp"/g, '"$1-tcp"')
    .replace(/, a Uint8Array\b| or a Uint8Array\b/, "");
  return told + message.slice(end);
}
