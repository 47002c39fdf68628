/**
 * Which system calls can be made: the option `seccomp`, and how it is checked.
 *
 * @module
 */

import { errnoNumber } from "./abi/errno.ts";
import { checkNames, integer, object, oneOf, shown, text, wrongType } from "./checks.ts";
import { nearest } from "./nearest.ts";
import {
  type Condition,
  type Filter,
  INSTRUCTION_SIZE,
  INSTRUCTIONS_MAX,
  RET,
  type Rule,
  rulesFor,
} from "./seccomp/compile.ts";
import { callsOf, defaultProfile, GROUP_NAMES } from "./seccomp/groups.ts";
import { allCalls, isCall } from "./seccomp/syscalls.ts";

/**
 * What becomes of a system call: `"allow"`, `"kill"` ends the whole process with SIGSYS, `"log"` allows it and writes it to
 * the audit log, and an errno is what the call then fails with.
 */
export type SeccompAction = "allow" | "kill" | "log" | {
  /** Its name, such as `"EPERM"`. */
  errno: string;
};

/** What an argument of a system call must be for a rule to fit. */
export interface SeccompArgument {
  /** Which argument, from 0 to 5. */
  index: number;
  /** Whether it is the value, is not, is below or above it (both as 64 bits without a sign), or has any bit of it. */
  op: "==" | "!=" | "<" | "<=" | ">" | ">=" | "&";
  /** 64 bits: a number, a bigint, or a string such as `"0x5412"` in JSON. Negative ones in two's complement. */
  value: number | bigint | string;
  /**
   * The bits that are compared, of all but `&`. The kernel reads many arguments as 32 bits: for those it must be
   * `0xffff_ffff`, or a caller has the rule not fit with a bit in the upper half.
   *
   * @default {all 64}
   */
  mask?: number | bigint | string | undefined;
}

/** What is done with some system calls. */
export interface SeccompRule {
  /**
   * Names of calls, such as `"mount"`, and of groups as systemd.exec(5) has them, such as `"@keyring"`. One that the
   * architecture does not have is left out.
   */
  calls: string[];
  /** What becomes of them. */
  action: SeccompAction;
  /** What their arguments must be, all of it, for the rule to fit. Pointers cannot be followed. @default {[]} */
  args?: SeccompArgument[] | undefined;
}

/**
 * A filter of system calls. The first rule that fits a call decides.
 *
 * @example No sockets but those of the file system
 * ```ts
 * import { Namespace } from "@sys-linux/namespace";
 *
 * const AF_UNIX = 1;
 * const ns = new Namespace({
 *   seccomp: {
 *     default: "allow",
 *     rules: [
 *       { calls: ["@keyring", "@debug"], action: { errno: "EPERM" } },
 *       {
 *         calls: ["socket"],
 *         action: { errno: "EACCES" },
 *         args: [{ index: 0, op: "!=", value: AF_UNIX, mask: 0xffff_ffff }],
 *       },
 *     ],
 *   },
 * });
 * const { success } = await ns.command("true").output();
 * ```
 */
export interface SeccompProfile {
  /** What becomes of calls that no rule fits. */
  default: SeccompAction;
  /** The rules, in order. */
  rules: SeccompRule[];
}

/** What is to be installed: a filter, or a program as it is. */
export type SeccompSettings = Filter | {
  readonly program: Uint8Array<ArrayBuffer>;
  /** The calls that it must allow. */
  readonly needed: readonly string[];
};

/** Made between the filter and the first instruction of the command, or of the launcher before it. */
const NEEDED = ["execve", "execveat", "exit_group", "rt_sigaction", "rt_sigprocmask", "write"];
/** Made by init. */
const NEEDED_BY_INIT = ["clone", "close_range", "kill", "prctl", "rt_sigtimedwait", "waitid"];
/** Each is a few instructions, and a condition of BPF jumps over 255 at most. */
const CONDITIONS_MAX = 24;

/**
 * Checks the option.
 *
 * @throws {TypeError} When it has the wrong type, or names what there is not.
 * @throws {RangeError} When a value cannot be.
 */
export function seccompSettings(value: unknown, hasInit: boolean): SeccompSettings | undefined {
  if (value === undefined || value === false) return undefined;
  if (value instanceof Uint8Array) {
    return { program: checkedProgram(value), needed: hasInit ? [...NEEDED, ...NEEDED_BY_INIT] : NEEDED };
  }
  const given: Partial<SeccompProfile> = value === "default"
    ? defaultProfile()
    : object(value, "seccomp", `"default", false, a Uint8Array or an object such as { default: "allow", rules: [] }`);
  checkNames(given, ["default", "rules"], "seccomp.");
  if (!Array.isArray(given.rules)) {
    throw wrongType("seccomp.rules", `an array such as [{ calls: ["@mount"], action: "kill" }]`, given.rules);
  }
  const filter: Filter = {
    default: action(given.default, "seccomp.default"),
    rules: Array.from(given.rules, (rule: unknown, index) => checkedRule(rule, `seccomp.rules[${index}]`)),
  };
  checkNeeded(filter, NEEDED, "without it no command can be executed");
  if (hasInit) checkNeeded(filter, NEEDED_BY_INIT, `"init" makes it, and is under the filter, too`);
  return filter;
}

function checkedProgram(value: Uint8Array): Uint8Array<ArrayBuffer> {
  const count = value.length / INSTRUCTION_SIZE;
  if (!Number.isInteger(count) || count < 1 || count > INSTRUCTIONS_MAX) {
    throw new RangeError(
      `Option "seccomp" must be 1 to ${INSTRUCTIONS_MAX} records of ${INSTRUCTION_SIZE} bytes (struct sock_filter): got ${value.length} bytes`,
    );
  }
  return new Uint8Array(value);
}

/**
 * The command, or what starts it, is under the filter already when it makes these. Not even some arguments may end it: it
 * is in its parent's memory still, and before Linux 5.16 the kernel ends the parent with it.
 */
function checkNeeded(filter: Filter, calls: readonly string[], why: string): void {
  for (const call of calls) {
    const rules = rulesFor(call, filter);
    const possible = rules.map(({ action }) => action);
    if (rules.at(-1)?.conditions.length !== 0) possible.push(filter.default);
    const isAllowed = possible.includes(RET.allow) || possible.includes(RET.log);
    if (isAllowed && !possible.includes(RET.kill)) continue;
    throw new TypeError(`Option "seccomp" must allow "${call}": ${why}. Add { calls: ["${call}"], action: "allow" }`);
  }
}

function checkedRule(value: unknown, name: string): Rule {
  const example = `an object such as { calls: ["@mount"], action: "kill" }`;
  const given: Partial<SeccompRule> = object(value, name, example);
  checkNames(given, ["calls", "action", "args"], `${name}.`);
  const { calls, args = [] } = given;
  if (!Array.isArray(calls)) throw wrongType(`${name}.calls`, `an array of names such as "mount" or "@mount"`, calls);
  if (!Array.isArray(args)) throw wrongType(`${name}.args`, "an array", args);
  if (args.length > CONDITIONS_MAX) {
    throw new RangeError(`Option "${name}.args" must have at most ${CONDITIONS_MAX} entries: got ${args.length}`);
  }
  return {
    calls: Array.from(calls, (call: unknown, index) => callsNamed(call, `${name}.calls[${index}]`)).flat(),
    action: action(given.action, `${name}.action`),
    conditions: Array.from(args, (argument: unknown, index) => condition(argument, `${name}.args[${index}]`)),
  };
}

function callsNamed(value: unknown, name: string): readonly string[] {
  const given = text(value, name);
  const isGroup = given.startsWith("@");
  const group = isGroup ? callsOf(given) : undefined;
  if (group !== undefined) return group;
  if (!isGroup && isCall(given)) return [given];
  const guess = nearest(given, isGroup ? GROUP_NAMES : allCalls());
  const known = isGroup ? `known are ${GROUP_NAMES.join(", ")}` : "see syscalls(2)";
  const hint = guess === undefined ? known : `did you mean "${guess}"?`;
  throw new TypeError(
    `Option "${name}" must be the name of a system call or a group: got ${shown(given)}; ${hint}`,
  );
}

function action(value: unknown, name: string): number {
  if (typeof value !== "object" || value === null) return RET[oneOf(value, name, ["allow", "kill", "log"])];
  const given: { errno?: unknown } = object(
    value,
    name,
    `"allow", "kill", "log" or an object such as { errno: "EPERM" }`,
  );
  checkNames(given, ["errno"], `${name}.`);
  const errno = text(given.errno, `${name}.errno`);
  try {
    return RET.errno | errnoNumber(errno);
  } catch {
    throw new TypeError(`Option "${name}.errno" must be the name of an errno such as "EPERM": got ${shown(errno)}`);
  }
}

function condition(argument: unknown, name: string): Condition {
  const given: Partial<SeccompArgument> = object(argument, name, `an object such as { index: 0, op: "==", value: 1 }`);
  checkNames(given, ["index", "op", "value", "mask"], `${name}.`);
  const index = integer(given.index, `${name}.index`, 0, 5, "of an argument");
  const op = oneOf(given.op, `${name}.op`, ["==", "!=", "<", "<=", ">", ">=", "&"]);
  const value = bits(given.value, `${name}.value`);
  if (op === "&" && given.mask !== undefined) {
    throw new TypeError(`Option "${name}.mask" means nothing with "&": its value is a mask`);
  }
  const maskName = op === "&" ? "value" : "mask";
  const mask = op === "&" ? value : given.mask === undefined ? ALL_BITS : bits(given.mask, `${name}.mask`);
  if (mask === 0n) throw new RangeError(`Option "${name}.${maskName}" must have a bit: got 0`);
  const rest = value & ~mask;
  if (rest !== 0n && rest !== (ALL_BITS & ~mask)) { // All of them are those of a negative number.
    throw new RangeError(`Option "${name}.value" must have no bits beside those of mask: nothing is ever equal to it`);
  }
  const end = op === "<" ? 0n : op === ">" ? mask : undefined;
  if ((value & mask) === end) {
    throw new RangeError(
      `Option "${name}.value" must leave something ${op === "<" ? "below" : "above"} it: got ${end}`,
    );
  }
  const halves = [true, false].map((upper) => {
    const half = (all: bigint): number => Number(upper ? all >> 32n : all & 0xffff_ffffn);
    return { index, upper, mask: half(mask), value: half(value & mask) };
  });
  return { op, halves: halves.filter(({ mask }) => mask !== 0) };
}

const ALL_BITS = 2n ** 64n - 1n;

/** 64 bits. */
function bits(value: unknown, name: string): bigint {
  const isText = typeof value === "string" && /^(0x[0-9a-f]+|-?\d+)$/i.test(value);
  const isNumber = typeof value === "number" && Number.isSafeInteger(value);
  if (typeof value !== "bigint" && !isText && !isNumber) {
    throw wrongType(name, `an integer, or a string of one such as "0x5412"`, value);
  }
  const given = BigInt(value as bigint | number | string);
  if (given > ALL_BITS || given < -(2n ** 63n)) {
    throw new RangeError(`Option "${name}" must fit in 64 bits: got ${given}`);
  }
  return BigInt.asUintN(64, given);
}
