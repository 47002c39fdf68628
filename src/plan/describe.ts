/**
 * Steps in words: as a person reads system calls, and as a sentence.
 *
 * @module
 */

import { quoted } from "../quoted.ts";
import { errnoName } from "../abi/errno.ts";
import type { Argument, Step, Strings } from "./step.ts";

/** Longer texts are cut in what a person reads; the call gets them whole. */
const SHOWN_MAX = 64;

/** A step as strace(1) would print it, such as `sethostname("box", 3)`. */
export function describeCall(step: Step): string {
  return `${step.call}(${step.args.map(describeArgument).join(", ")})`;
}

/** What a system call returned, such as `= 0` or `= -1 ENOENT`. */
export function describeResult(result: number): string {
  return result < 0 && result >= -4095 ? `= -1 ${errnoName(-result)}` : `= ${result}`;
}

/** One argument, such as `MS_NOSUID|MS_NODEV` or `"/tmp"`. */
export function describeArgument(argument: Argument): string {
  if (argument === null) return "NULL";
  if (typeof argument === "number") return String(argument);
  if (typeof argument === "string") return shown(argument);
  if ("name" in argument) return argument.name;
  if ("in" in argument) return `&${argument.in.name}[${argument.at}]`;
  if ("resultOf" in argument) return `<${argument.resultOf.call}>`;
  if ("childFolder" in argument) return `"/proc/<child>"`;
  if ("callerFolder" in argument) return "<current folder>";
  if ("terminalFile" in argument) return "<terminal's file>";
  if ("filter" in argument) return "<filter>";
  if ("word" in argument) return `&${argument.word}`;
  return describeStrings(argument);
}

function describeStrings({ strings }: Strings): string {
  if (strings instanceof Uint8Array) {
    return `[${strings.reduce((count, byte) => count + Number(byte === 0), 0)} strings]`;
  }
  const few = strings.slice(0, 8).map((string) => typeof string === "string" ? shown(string) : "<child>");
  return `[${few.join(", ")}${strings.length > few.length ? ", …" : ""}]`;
}

function shown(text: string): string {
  return text.length > SHOWN_MAX ? `${quoted(text.slice(0, SHOWN_MAX))}…` : quoted(text);
}
