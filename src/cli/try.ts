/**
 * `nsrun try`: runs a command on a copy-on-write view, shows what it has changed, and keeps that or not.
 *
 * @module
 */

import { library } from "../machine/library.ts";
import { Namespace } from "../namespace.ts";
import type { Change } from "../process/changes.ts";
import { type Invocation, type OwnOptions, understand } from "./arguments.ts";
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
  const { help, version, debug, namespace, command, own, statusFd } = invocation;
  const isTerminal = Deno.stderr.isTerminal() && !Deno.noColor;
  if (help || version) {
    const texts = await import("./help.ts");
    console.log(help ? texts.helpText(Deno.stdout.isTerminal() && !Deno.noColor) : texts.VERSION_TEXT);
    return 0;
  }
  if (own.commit && own.discard) throw new UsageError("--commit and --discard contradict each other");
  if (command === undefined) throw new UsageError("try needs a command");
  Namespace.debug = debug;
  await using ns = new Namespace({ ...namespace, ephemeral: namespace.ephemeral ?? true });
  const { status, exit } = await runToEnd(ns, command, invocation);
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
  if (keep) await ns.commit();
  const { length } = changes;
  console.error(`nsrun: ${length === 1 ? "1 change" : `${length} changes`} ${keep ? "kept" : "dropped"}`);
  return exit;
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
    const answer = prompt(`nsrun: keep ${changes.length === 1 ? "this" : "these"} outside? [y/N${more}]`)?.trim() ?? "";
    if (/^l/i.test(answer)) show(changes, changes.length, isTerminal);
    else return /^y(es)?$/i.test(answer);
  }
}

function show(changes: readonly Change[], most: number, isTerminal: boolean): void {
  console.error(describeChanges(changes.slice(0, most), isTerminal).join("\n"));
  if (changes.length > most) console.error(`   … and ${changes.length - most} more`);
}

const LETTERS = { added: ["A", "32"], changed: ["M", "33"], removed: ["D", "31"] } as const;

/** Changes, a line each: what was done, how large it is now and where. Paths are quoted where a terminal could be misled. */
export function describeChanges(changes: readonly Change[], coloured: boolean): readonly string[] {
  return changes.map(({ kind, type, path, size, previousSize }) => {
    const [letter, colour] = LETTERS[kind];
    // deno-lint-ignore no-control-regex -- what a terminal could be misled by.
    const name = /[\x00-\x1f\x7f-\x9f"\\\ufffd]/.test(path) ? JSON.stringify(path) : path;
    const end = type === "directory" ? "/" : type === "file" ? "" : ` (${type})`;
    const bytes = type !== "file" ? "" : previousSize === undefined ? `${size}` : `${previousSize} → ${size}`;
    return `${coloured ? `\x1b[${colour}m${letter}\x1b[0m` : letter}  ${name}${end}${bytes && `  (${bytes} bytes)`}`;
  });
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
