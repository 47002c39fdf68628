/**
 * What strace(1) says of a program: the calls of each of its threads, with their arguments as numbers and by name.
 *
 * @module
 */

import { programArgv, type ProgramOptions, type ProgramOutput, runArgv } from "./program.ts";

/** An argument that strace printed. */
export interface TracedArgument {
  /** What was passed, as far as it can be told: a struct is undefined. */
  readonly value: number | string | null | readonly string[] | undefined;
  /** A number by its names, such as `MS_REC|MS_PRIVATE`; anything else with its numbers by their names. */
  readonly text: string;
}

/** A call that strace printed. */
export interface TracedCall {
  readonly call: string;
  readonly args: readonly TracedArgument[];
  /** A value, or -1. */
  readonly result: number;
  /** Such as `"EAGAIN"`, where it failed. */
  readonly errno: string | undefined;
  readonly line: string;
}

/** A program's output, and what each of its threads and children did. */
export interface Traced extends ProgramOutput {
  /** Calls by tid. */
  readonly threads: ReadonlyMap<number, readonly TracedCall[]>;
}

/** How a program is traced. */
export interface TraceOptions extends ProgramOptions {
  /** Which calls. */
  readonly calls: readonly string[];
  /** What strace is told besides, such as `--inject=mount:error=EPERM`. */
  readonly more?: readonly string[];
}

/** Runs a program (see `programArgv`) under strace. */
export async function trace(code: string, { calls, more = [], ...options }: TraceOptions): Promise<Traced> {
  const folder = Deno.makeTempDirSync({ prefix: "namespace-strace-" });
  try {
    const output = await runArgv([
      "strace",
      // In a file for each thread; all strings whole; numbers, and their names in comments.
      ...["-ff", "-o", `${folder}/trace`, "-v", "-s", "1000000", "-X", "verbose", "-qq", "-e", "signal=none"],
      ...["--seccomp-bpf", "-e", `trace=${calls.join(",")}`],
      ...more,
      "--",
      ...programArgv(code, options),
    ]);
    const threads = new Map<number, TracedCall[]>();
    for (const { name } of Deno.readDirSync(folder)) {
      const lines = Deno.readTextFileSync(`${folder}/${name}`).split("\n");
      threads.set(Number(name.slice(name.lastIndexOf(".") + 1)), lines.flatMap((line) => parseCall(line) ?? []));
    }
    return { ...output, threads };
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** A line as a call; undefined for what is none, or has not returned. */
export function parseCall(line: string): TracedCall | undefined {
  const [, call, list, result, errno] = /^(\w+)\((.*)\)\s+= (-?\d+|0x[0-9a-f]+)(?: (E\w+))?/s.exec(line) ?? [];
  if (call === undefined) return undefined;
  return {
    call,
    args: split(list!).map(parseArgument),
    result: Number(result!.replace(/^0(?=[0-7])/, "0o")),
    errno,
    line,
  };
}

/** Cuts at the commas that are in no string, array, struct or comment. */
function split(list: string): string[] {
  const parts: string[] = [];
  let part = "";
  let depth = 0;
  for (const [token] of list.matchAll(/"(?:[^"\\]|\\.)*"|\/\*.*?\*\/|, |[^]/gs)) {
    if (token === "[" || token === "{") depth++;
    if (token === "]" || token === "}") depth--;
    if (token === ", " && depth === 0) {
      parts.push(part);
      part = "";
    } else {
      part += token;
    }
  }
  return part === "" && parts.length === 0 ? [] : [...parts, part];
}

function parseArgument(printed: string): TracedArgument {
  const named = printed.replaceAll(" /* MS_??? */", ""); // That is what strace says of no propagation at all.
  const text = named.replaceAll(/-?(?:0x[0-9a-f]+|\d+) \/\* (.*?) \*\//g, "$1");
  return { value: parseValue(printed), text };
}

function parseValue(printed: string): TracedArgument["value"] {
  if (printed === "NULL") return null;
  if (printed.startsWith('"')) return unescape(printed);
  if (printed.startsWith('["') || printed === "[]") return split(printed.slice(1, -1)).map(unescape);
  const numbers = printed.replaceAll(/ \/\* .*? \*\//g, "").split("|");
  if (!numbers.every((number) => /^-?(0x[0-9a-f]+|\d+)$/.test(number))) return undefined;
  return numbers.map((number) => Number(number.replace(/^0(?=[0-7])/, "0o"))).reduce((all, number) => all + number);
}

/** A string of C's. */
function unescape(quoted: string): string {
  const bytes: number[] = [];
  for (const [token, octal] of quoted.slice(1, -1).matchAll(/\\([0-7]{1,3})|\\.|[^]/gs)) {
    if (octal !== undefined) bytes.push(Number.parseInt(octal, 8));
    else bytes.push((ESCAPES.get(token) ?? token.at(-1)!).charCodeAt(0));
  }
  return new TextDecoder().decode(Uint8Array.from(bytes));
}

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ["\\n", "\n"],
  ["\\t", "\t"],
  ["\\r", "\r"],
  ["\\v", "\v"],
  ["\\f", "\f"],
]);
