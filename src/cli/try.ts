/**
 * `nsrun try`: runs a command on a copy-on-write view, shows what it has changed, and keeps that or not.
 *
 * @module
 */

import { perform } from "../machine/facts.ts";
import { library } from "../machine/library.ts";
import { Namespace } from "../namespace.ts";
import type { Named } from "../plan/step.ts";
import type { Change } from "../process/changes.ts";
import { isPlain, quoted } from "../quoted.ts";
import { isAnswered } from "./answers.ts";
import { type Invocation, type OwnOptions, understand } from "./arguments.ts";
import { withoutShim } from "./values.ts";
import { UsageError } from "./words.ts";

/** What only this verb has. */
export const TRY_OPTIONS: OwnOptions = { flags: ["commit", "discard"], valued: [] };

/** Exit status when the command was ended by `--timeout`, as of timeout(1). */
const TIMED_OUT = 124;
/** So many are shown before it is asked whether to keep them. */
const SHOWN_MAX = 40;

/**
 * Runs a command, and asks what is to become of its changes.
 *
 * @param argv The words of the command line, without the verb.
 * @returns The exit status, which is the command's.
 * @throws {UsageError} When the command line makes no sense.
 * @throws {TypeError} When an option is wrong.
 * @throws {NamespaceError} When the kernel refuses a step.
 */
export async function tryVerb(argv: readonly string[]): Promise<number> {
  const invocation = await understand(argv, TRY_OPTIONS);
  if (await isAnswered(invocation)) return 0;
  const { asked, debug, namespace, command, commandOptions, own, statusFd } = invocation;
  const isTerminal = Deno.stderr.isTerminal() && !Deno.noColor;
  if (own.commit && own.discard) throw new UsageError("--commit and --discard contradict each other");
  if (command === undefined) throw new UsageError("try needs a command");
  if (asked.sandbox || namespace.root !== undefined) {
    const other = asked.sandbox ? "--sandbox" : "--root";
    throw new UsageError(
      `${other} cannot be had with try, whose command sees the file system as it is, and changes a copy`,
    );
  }
  if (commandOptions.tty) {
    throw new UsageError("--tty cannot be had with try, which asks at this terminal: the command has it until it ends");
  }
  for (const fd of [statusFd, ...Object.keys(commandOptions.fds ?? {}).map(Number)]) {
    if (fd !== undefined) refuseOwn(fd, fd === statusFd ? "--status-fd" : "--inherit-fd");
  }
  Namespace.debug = debug;
  await using ns = new Namespace({ ...namespace, ephemeral: namespace.ephemeral ?? true });
  const theirs = withoutShim(commandOptions, namespace.env, library().context().environment);
  const { status, exit } = await runToEnd(ns, command, { ...invocation, commandOptions: theirs });
  const changes = await ns.changes();
  tell(
    statusFd,
    status.signal === null ? { event: "exited", code: status.code } : {
      event: "exited",
      signal: status.code - 128,
    },
  );
  tell(statusFd, { event: "changes", changes });
  if (changes.length === 0) {
    console.error("nsrun: nothing was changed");
    return exit;
  }
  const keep = own.commit !== undefined
    ? exit === 0
    : own.discard === undefined && canAsk() && ask(changes, isTerminal);
  if (!canAsk() || own.commit !== undefined || own.discard !== undefined) show(changes, changes.length, isTerminal);
  if (keep) await ns.commit(changes); // As they were shown.
  const { length } = changes;
  console.error(`nsrun: ${length === 1 ? "1 change" : `${length} changes`} ${keep ? "kept" : "dropped"}`);
  return exit;
}

const F_GETFD: Named = { value: 1, name: "F_GETFD" };
const FD_CLOEXEC = 1;

/** Deno has descriptors of its own, databases among them. These are closed by execve(2), and what it was given is not. */
function refuseOwn(fd: number, option: string): void {
  const flags = perform({ call: "fcntl", args: [fd, F_GETFD], what: `look at descriptor ${fd}` });
  if (flags < 0 || (flags & FD_CLOEXEC) !== 0) throw new UsageError(`${option} ${fd} is not open`);
}

async function runToEnd(
  ns: Namespace,
  command: string,
  { commandOptions, timeoutMs, statusFd }: Invocation,
): Promise<{ status: Deno.CommandStatus; exit: number }> {
  const late = timeoutMs === undefined ? undefined : new AbortController();
  const child = ns.command(command, late === undefined ? commandOptions : { ...commandOptions, signal: late.signal })
    .spawn();
  tell(statusFd, { event: "started", pid: child.pid });
  const timer = late && setTimeout(() => late.abort(), timeoutMs);
  const status = await child.status;
  clearTimeout(timer);
  return { status, exit: late?.signal.aborted ? TIMED_OUT : status.code };
}

/** Somebody is there to answer. */
function canAsk(): boolean {
  return Deno.stdin.isTerminal() && Deno.stderr.isTerminal();
}

function ask(changes: readonly Change[], isTerminal: boolean): boolean {
  show(changes, SHOWN_MAX, isTerminal);
  const more = changes.length > SHOWN_MAX ? ", l to list all" : "";
  while (true) {
    // What is there already was typed before the question: by the command, perhaps (TIOCSTI).
    perform({ call: "ioctl", args: [0, TCFLSH, TCIFLUSH], what: "drop what was typed" });
    const answer = prompt(`nsrun: keep ${changes.length === 1 ? "this" : "these"} outside? [y/N${more}]`)?.trim() ?? "";
    if (/^l/i.test(answer)) show(changes, changes.length, isTerminal);
    else return /^y(es)?$/i.test(answer);
  }
}

const TCFLSH: Named = { value: 0x540b, name: "TCFLSH" };
const TCIFLUSH: Named = { value: 0, name: "TCIFLUSH" };

function show(changes: readonly Change[], most: number, isTerminal: boolean): void {
  console.error(describeChanges(changes.slice(0, most), isTerminal).join("\n"));
  if (changes.length > most) console.error(`   … and ${changes.length - most} more`);
}

const LETTERS = { added: ["A", "32"], changed: ["M", "33"], removed: ["D", "31"] } as const;

/** Changes, a line each: what was done, and where and to what. Paths are quoted where a terminal could be misled. */
export function describeChanges(changes: readonly Change[], coloured: boolean): readonly string[] {
  return changes.map((change) => {
    const { kind, type, path } = change;
    const [letter, colour] = LETTERS[kind];
    const name = isPlain(path) ? path : quoted(path);
    const end = type === "directory" ? "/" : type === "file" ? "" : ` (${type})`;
    const notes = notesOf(change).join(", ");
    return `${coloured ? `\x1b[${colour}m${letter}\x1b[0m` : letter}  ${name}${end}${notes && `  (${notes})`}`;
  });
}

/** Bits by which a program gains what its file's user or group may do. */
const SET_ID = 0o6000;

function notesOf(
  { kind, type, size, previousSize = size, mode, previousMode, owner, previousOwner }: Change,
): string[] {
  const notes: string[] = [];
  const octal = (mode: number): string => mode.toString(8).padStart(3, "0");
  if (type === "file") notes.push(`${previousSize === size ? size : `${previousSize} → ${size}`} bytes`);
  if (previousMode !== undefined) notes.push(`mode ${octal(previousMode)} → ${octal(mode)}`);
  else if (kind !== "removed" && type === "file" && (mode & SET_ID) !== 0) notes.push(`mode ${octal(mode)}`);
  if (previousOwner !== undefined) notes.push(`owner ${previousOwner} → ${owner}`);
  return notes;
}

/** A line of JSON to who asked for them. */
function tell(fd: number | undefined, event: object): void {
  if (fd === undefined) return;
  let bytes = new TextEncoder().encode(`${JSON.stringify(event)}\n`);
  while (bytes.length > 0) {
    const written = library().write(fd, bytes);
    if (written < 0) throw new UsageError(`Cannot write to --status-fd ${fd}`);
    bytes = bytes.subarray(written);
  }
}
