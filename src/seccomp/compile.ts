/**
 * Compiles a filter of system calls to the program that seccomp(2) takes: classic BPF, over `struct seccomp_data`. And
 * what such a program says of a call.
 *
 * @see `Documentation/networking/filter.rst` of Linux
 * @module
 */

import type { Architecture } from "../abi/syscalls.ts";
import { numbersOf } from "./syscalls.ts";

/** Half of a 64-bit argument: BPF compares 32 bits. */
export interface Half {
  /** Which argument, and whether its upper half. */
  readonly index: number;
  readonly upper: boolean;
  /** The bits that count, above 0. */
  readonly mask: number;
  readonly value: number;
}

/** What an argument must be. */
export interface Condition {
  readonly op: "==" | "!=" | "<" | "<=" | ">" | ">=" | "&";
  /** The halves that it is about; the upper one first. */
  readonly halves: readonly Half[];
}

/** What is done with calls. */
export interface Rule {
  readonly calls: readonly string[];
  /** What seccomp(2) calls the return value of a filter. */
  readonly action: number;
  /** All must hold. */
  readonly conditions: readonly Condition[];
}

/** A filter that was checked. The first rule that a call fits decides. */
export interface Filter {
  readonly rules: readonly Rule[];
  /** Of calls that fit no rule. */
  readonly default: number;
}

/** What filters return, from linux/seccomp.h. */
export const RET = {
  kill: 0x8000_0000, // The whole process, since Linux 4.14.
  errno: 0x0005_0000,
  log: 0x7ffc_0000,
  allow: 0x7fff_0000,
} as const;

/** The most instructions that a program may have: BPF_MAXINSNS. */
export const INSTRUCTIONS_MAX = 4096;
/** sizeof(struct sock_filter) */
export const INSTRUCTION_SIZE = 8;

/** AUDIT_ARCH_* of linux/audit.h. */
const AUDIT_ARCH: Readonly<Record<Architecture, number>> = { x86_64: 0xc000_003e, aarch64: 0xc000_00b7 };
/** Calls of the x32 ABI have it in their numbers, and the same AUDIT_ARCH. */
const X32_BIT = 0x4000_0000;
const ENOSYS = 38;

const NUMBER_AT = 0;
const ARCH_AT = 4;
const ARGUMENTS_AT = 16;

const LOAD = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_ABOVE = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const IF_NOT_BELOW = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const IF_ANY_BIT = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN = 0x06; // BPF_RET | BPF_K

/** struct sock_filter: code, how far to jump when the condition holds and when not, operand. */
type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, operand: number];

/** All calls from a number on, up to the next range's. */
interface Range {
  readonly from: number;
  /** The rules that can fit; those before the last have conditions. */
  readonly rules: readonly Rule[];
  readonly key: string;
}

/**
 * Compiles a filter. Calls of another architecture than that end the process; those of the x32 ABI do not exist.
 *
 * @returns Records of `struct sock_filter`.
 * @throws {RangeError} When the program would be longer than the kernel takes.
 */
export function compileFilter(filter: Filter, architecture: Architecture): Uint8Array<ArrayBuffer> {
  const program: Instruction[] = [
    [LOAD, 0, 0, ARCH_AT],
    [IF_EQUAL, 1, 0, AUDIT_ARCH[architecture]],
    [RETURN, 0, 0, RET.kill],
    [LOAD, 0, 0, NUMBER_AT],
  ];
  if (architecture === "x86_64") program.push([IF_NOT_BELOW, 0, 1, X32_BIT], [RETURN, 0, 0, RET.errno | ENOSYS]);
  program.push(...tree(rangesOf(filter, architecture), filter.default));
  if (program.length > INSTRUCTIONS_MAX) {
    throw new RangeError(
      `Option "seccomp" must be of at most ${INSTRUCTIONS_MAX} instructions: its rules come to ${program.length} on ${architecture}`,
    );
  }
  const view = new DataView(new ArrayBuffer(program.length * INSTRUCTION_SIZE));
  for (const [index, [code, ifTrue, ifFalse, operand]] of program.entries()) {
    const at = index * INSTRUCTION_SIZE;
    view.setUint16(at, code, true);
    view.setUint8(at + 2, ifTrue);
    view.setUint8(at + 3, ifFalse);
    view.setUint32(at + 4, operand, true);
  }
  return new Uint8Array(view.buffer);
}

/** The rules that can fit a call: up to the first without a condition. */
export function rulesFor(call: string, { rules }: Filter): readonly Rule[] {
  const fitting = rules.filter(({ calls }) => calls.includes(call));
  const last = fitting.findIndex(({ conditions }) => conditions.length === 0);
  return last < 0 ? fitting : fitting.slice(0, last + 1);
}

/** From number 0 on; neighbours for which the same holds are one. */
function rangesOf(filter: Filter, architecture: Architecture): readonly Range[] {
  const numbers = numbersOf(architecture);
  const decided = new Map<number, readonly number[]>();
  for (const [index, { calls }] of filter.rules.entries()) {
    for (const call of new Set(calls)) {
      const number = numbers.get(call);
      if (number === undefined) continue;
      const before = decided.get(number) ?? [];
      const isDecided = before.some((rule) => filter.rules[rule]!.conditions.length === 0);
      if (!isDecided) decided.set(number, [...before, index]);
    }
  }
  const ranges: Range[] = [{ from: 0, rules: [], key: "" }];
  const add = (from: number, indices: readonly number[]): void => {
    // What is decided alike without conditions is the same, whatever rule says it.
    const rules = indices.map((index) => filter.rules[index]!);
    const key = rules.map(({ action, conditions }, at) => conditions.length === 0 ? `=${action}` : indices[at]).join();
    const same = key === `=${filter.default}` ? "" : key;
    if (ranges.at(-1)!.from === from) ranges.pop();
    if (ranges.at(-1)?.key !== same) ranges.push({ from, rules: same === "" ? [] : rules, key: same });
  };
  for (const [number, indices] of [...decided].sort(([a], [b]) => a - b)) {
    add(number, indices);
    if (!decided.has(number + 1)) add(number + 1, []);
  }
  return ranges;
}

/** A binary search for the range that the number is in. */
function tree(ranges: readonly Range[], otherwise: number): Instruction[] {
  if (ranges.length === 1) return leaf(ranges[0]!.rules, otherwise);
  const middle = ranges.length >> 1;
  const below = tree(ranges.slice(0, middle), otherwise);
  const above = tree(ranges.slice(middle), otherwise);
  const { from } = ranges[middle]!;
  // A condition jumps over 255 instructions at most, JUMP over any number.
  return below.length <= 255
    ? [[IF_NOT_BELOW, below.length, 0, from], ...below, ...above]
    : [[IF_NOT_BELOW, 0, 1, from], [JUMP, 0, 0, below.length], ...below, ...above];
}

function leaf(rules: readonly Rule[], otherwise: number): Instruction[] {
  const last = rules.at(-1);
  const all = rules.flatMap(({ action, conditions }) => whenAll(conditions, action));
  return last?.conditions.length === 0 ? all : [...all, [RETURN, 0, 0, otherwise]];
}

/** Returns the action where all conditions hold, and leaves to what follows where one does not. */
function whenAll(conditions: readonly Condition[], action: number): Instruction[] {
  let code: Instruction[] = [[RETURN, 0, 0, action]];
  for (const condition of conditions.toReversed()) code = [...check(condition, code.length), ...code];
  return code;
}

/** Goes on behind it where the condition holds, and otherwise leaves out as many instructions as are given. */
function check({ op, halves }: Condition, left: number): Instruction[] {
  let code: Instruction[] = [];
  for (const [index, half] of halves.toReversed().entries()) {
    const isLast = index === 0;
    const [holds, fails] = [code.length, code.length + left]; // How far it is to either end from here.
    const load: Instruction[] = [[LOAD, 0, 0, ARGUMENTS_AT + half.index * 8 + (half.upper ? 4 : 0)]];
    if (op !== "&" && half.mask !== 0xffff_ffff) load.push([AND, 0, 0, half.mask]);
    const test: Instruction[] = op === "=="
      ? [[IF_EQUAL, 0, fails, half.value]]
      : op === "!="
      ? [[IF_EQUAL, isLast ? fails : 0, isLast ? 0 : holds, half.value]]
      : op === "&"
      ? [[IF_ANY_BIT, isLast ? 0 : holds, isLast ? fails : 0, half.value]]
      : compareOrder(op, half.value, isLast, holds, fails);
    code = [...load, ...test, ...code];
  }
  return code;
}

/** The upper half decides, unless it is the same: then the lower one does. */
function compareOrder(
  op: "<" | "<=" | ">" | ">=",
  value: number,
  isLast: boolean,
  holds: number,
  fails: number,
): Instruction[] {
  const [above, below] = op.startsWith(">") ? [holds, fails] : [fails, holds];
  if (!isLast) return [[IF_ABOVE, above + 1, 0, value], [IF_EQUAL, 0, below, value]];
  return [[op === ">" || op === "<=" ? IF_ABOVE : IF_NOT_BELOW, above, below, value]];
}

/** sizeof(struct seccomp_data) */
const DATA_SIZE = 64;

/**
 * Runs a program on a call.
 *
 * @param program Records of `struct sock_filter`.
 * @param args Up to six; those left out are 0.
 * @returns What it returns; undefined where it is no program that the kernel would take.
 */
export function interpret(
  program: Uint8Array,
  architecture: Architecture,
  number: number,
  args: readonly bigint[],
): number | undefined {
  const data = new DataView(new ArrayBuffer(DATA_SIZE));
  data.setUint32(NUMBER_AT, number, true);
  data.setUint32(ARCH_AT, AUDIT_ARCH[architecture], true);
  for (const [index, value] of args.entries()) data.setBigUint64(ARGUMENTS_AT + index * 8, value, true);
  return run(program, data);
}

/** Jumps are forward only, so it ends. */
function run(program: Uint8Array, data: DataView): number | undefined {
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const memory = new Uint32Array(16);
  let [a, x] = [0, 0];
  for (let at = 0; at + INSTRUCTION_SIZE <= program.length; at += INSTRUCTION_SIZE) {
    const [code, operand] = [view.getUint16(at, true), view.getUint32(at + 4, true)];
    const [kind, operation, other] = [code & 7, code & 0xf0, (code & 8) === 0 ? operand : x];
    if (code === LOAD) {
      if (operand % 4 !== 0 || operand >= DATA_SIZE) return undefined;
      a = data.getUint32(operand, true);
    } else if (code === 0x80) a = DATA_SIZE; // BPF_LD | BPF_W | BPF_LEN
    else if (code === 0x81) x = DATA_SIZE;
    else if (code === 0x00) a = operand;
    else if (code === 0x01) x = operand;
    else if (code === 0x60) a = memory[operand & 15]!;
    else if (code === 0x61) x = memory[operand & 15]!;
    else if (code === 0x02) memory[operand & 15] = a;
    else if (code === 0x03) memory[operand & 15] = x;
    else if (code === 0x07) x = a; // BPF_MISC | BPF_TAX
    else if (code === 0x87) a = x;
    else if (code === RETURN) return operand;
    else if (code === 0x16) return a;
    else if (kind === 4) {
      const result = calculate(operation, a, other);
      if (result === undefined) return undefined;
      a = result;
    } else if (code === JUMP) at += operand * INSTRUCTION_SIZE;
    else if (kind === 5) {
      const holds = compare(operation, a, other);
      if (holds === undefined) return undefined;
      at += program[at + (holds ? 2 : 3)]! * INSTRUCTION_SIZE;
    } else return undefined;
  }
  return undefined;
}

function compare(operation: number, a: number, b: number): boolean | undefined {
  switch (operation) {
    case 0x10:
      return a === b;
    case 0x20:
      return a > b;
    case 0x30:
      return a >= b;
    case 0x40:
      return (a & b) !== 0;
    default:
      return undefined;
  }
}

function calculate(operation: number, a: number, b: number): number | undefined {
  switch (operation) {
    case 0x00:
      return (a + b) >>> 0;
    case 0x10:
      return (a - b) >>> 0;
    case 0x20:
      return Math.imul(a, b) >>> 0;
    case 0x30:
      return b === 0 ? 0 : Math.floor(a / b);
    case 0x40:
      return (a | b) >>> 0;
    case 0x50:
      return (a & b) >>> 0;
    case 0x60:
      return b > 31 ? 0 : (a << b) >>> 0;
    case 0x70:
      return b > 31 ? 0 : a >>> b;
    case 0x80:
      return -a >>> 0;
    case 0xa0:
      return (a ^ b) >>> 0;
    default:
      return undefined;
  }
}
