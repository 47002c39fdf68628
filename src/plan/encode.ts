/**
 * Encodes a plan as the relocatable block of bytes that the machine executes. The layout is that of shim/plan.zig,
 * which checks every offset again before anything runs.
 *
 * @module
 */

import { errnoNumber } from "../abi/errno.ts";
import { type Architecture, elfMachine, syscallNumber } from "../abi/syscalls.ts";
import type { Argument, Plan, Step, Strings } from "./step.ts";

/** Sizes that both sides must agree on; src/machine/library.ts compares them with the shim's. */
export const LAYOUT = { version: 1, header: 48, step: 80, words: 8 } as const;

const MAGIC = 0x4c50534e;
const NOWHERE = 0xffff_ffff;
const RULES_AT = 8;
const RULES_MAX = 6;
const ARGUMENTS_AT = 32;
const ARGUMENTS_MAX = 6;
const KIND_DATA = 1;
const KIND_RESULT = 2;
const OPENS = 0x8000;
/** "/proc/" and, right behind it, `pid_text_size` of shim/plan.zig. */
const CHILD_FOLDER = "/proc/";
const PID_TEXT_SIZE = 12;

const utf8 = new TextEncoder();

/**
 * Encodes a plan for an architecture.
 *
 * @throws {RangeError} When a step has more arguments or tolerated errnos than a step has room for, or takes the result
 * of a step that is not before it.
 */
export function encode(plan: Plan, architecture: Architecture): Uint8Array<ArrayBuffer> {
  const data = new DataArea();
  const stepCount = plan.parent.length + plan.child.length;
  const steps = new DataView(new ArrayBuffer(stepCount * LAYOUT.step));
  let at = 0;
  for (const section of [plan.parent, plan.child]) {
    for (const [index, step] of section.entries()) {
      encodeStep(steps, at, step, section.slice(0, index), architecture, data);
      at += LAYOUT.step;
    }
  }

  const relocationsAt = LAYOUT.header + steps.byteLength;
  const dataAt = Math.ceil((relocationsAt + data.relocations.length * 4) / 8) * 8;
  const bytes = new Uint8Array(dataAt + data.size);
  bytes.set(new Uint8Array(steps.buffer), LAYOUT.header);
  bytes.set(data.used(), dataAt);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint16(4, LAYOUT.version, true);
  view.setUint16(6, elfMachine(architecture), true);
  view.setUint32(8, bytes.length, true);
  view.setUint32(12, data.size, true);
  view.setUint32(16, plan.parent.length, true);
  view.setUint32(20, plan.child.length, true);
  view.setUint32(24, data.relocations.length, true);
  view.setUint32(28, data.pidTextAt ?? NOWHERE, true);
  view.setUint32(32, data.wordsAt ?? NOWHERE, true);
  setUint64(view, 40, plan.cloneFlags.value);
  data.relocations.forEach((place, index) => view.setUint32(relocationsAt + index * 4, place, true));
  return bytes;
}

function encodeStep(
  view: DataView,
  at: number,
  step: Step,
  earlier: readonly Step[],
  architecture: Architecture,
  data: DataArea,
): void {
  const rules = step.tolerate ?? [];
  if (step.args.length > ARGUMENTS_MAX || rules.length > RULES_MAX) {
    throw new RangeError(`Cannot encode step "${step.what}": too many arguments or rules`);
  }
  let kinds = step.opens === true ? OPENS : 0;
  for (const [index, argument] of step.args.entries()) {
    const place = at + ARGUMENTS_AT + index * 8;
    if (argument === null) continue;
    if (typeof argument === "number") {
      setUint64(view, place, argument);
    } else if (typeof argument === "object" && "value" in argument) {
      setUint64(view, place, argument.value);
    } else if (typeof argument === "object" && "resultOf" in argument) {
      const found = earlier.indexOf(argument.resultOf);
      if (found < 0) throw new RangeError(`Cannot encode step "${step.what}": it takes the result of no earlier step`);
      kinds |= KIND_RESULT << (index * 2);
      setUint64(view, place, found);
    } else {
      kinds |= KIND_DATA << (index * 2);
      setUint64(view, place, data.place(argument));
    }
  }
  view.setUint32(at, syscallNumber(step.call, architecture), true);
  view.setUint16(at + 4, kinds, true);
  view.setUint16(at + 6, step.skip ?? 0, true);
  for (const [index, [errno, skip]] of rules.entries()) {
    view.setUint16(at + RULES_AT + index * 4, errnoNumber(errno), true);
    view.setUint16(at + RULES_AT + index * 4 + 2, skip, true);
  }
}

/** Two's complement in 64 bits, without the cost of a BigInt. */
function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setInt32(at + 4, Math.floor(value / 2 ** 32), true);
}

/** What the steps point at. What is the same is there once: a command's arguments serve each folder of PATH. */
class DataArea {
  #bytes = new Uint8Array(4096);
  #places = new Map<string | object, number>();
  size = 0;
  /** Where there are pointers, to be made absolute. */
  readonly relocations: number[] = [];
  pidTextAt: number | undefined;
  wordsAt: number | undefined;

  used(): Uint8Array {
    return this.#bytes.subarray(0, this.size);
  }

  /** The offset of an argument that is passed by address. */
  place(argument: Exclude<Argument, number | null | { value: number } | { resultOf: Step }>): number {
    if (typeof argument === "string") return this.#string(argument);
    if ("word" in argument) {
      this.wordsAt ??= this.#reserve(LAYOUT.words);
      return this.wordsAt + (argument.word === "parent" ? 0 : 4);
    }
    if ("childFolder" in argument) {
      if (this.pidTextAt === undefined) {
        const at = this.#reserve(CHILD_FOLDER.length + PID_TEXT_SIZE);
        utf8.encodeInto(CHILD_FOLDER, this.#bytes.subarray(at));
        this.pidTextAt = at + CHILD_FOLDER.length;
      }
      return this.pidTextAt - CHILD_FOLDER.length;
    }
    const known = this.#places.get(argument);
    if (known !== undefined) return known;
    const at = "bytes" in argument ? this.#copy(argument.bytes) : this.#pointers(argument);
    this.#places.set(argument, at);
    return at;
  }

  #string(text: string): number {
    const known = this.#places.get(text);
    if (known !== undefined) return known;
    const most = text.length * 3 + 1; // UTF-8 takes at most three bytes for a UTF-16 unit.
    this.#grow(most);
    const at = this.size;
    const { written } = utf8.encodeInto(text, this.#bytes.subarray(at, at + most));
    this.#bytes[at + written] = 0;
    this.size += written + 1;
    this.#places.set(text, at);
    return at;
  }

  #copy(bytes: Uint8Array): number {
    const at = this.#reserve(bytes.length);
    this.#bytes.set(bytes, at);
    return at;
  }

  #pointers({ strings }: Strings): number {
    const targets = strings instanceof Uint8Array ? this.#block(strings) : strings.map((text) => this.#string(text));
    const at = this.#reserve((targets.length + 1) * 8);
    const view = new DataView(this.#bytes.buffer);
    for (const [index, target] of targets.entries()) {
      view.setUint32(at + index * 8, target, true);
      this.relocations.push(at + index * 8);
    }
    return at;
  }

  #block(block: Uint8Array): number[] {
    const at = this.#copy(block);
    const targets: number[] = [];
    for (let start = 0; start < block.length;) {
      targets.push(at + start);
      start = block.indexOf(0, start) + 1;
      if (start === 0) throw new RangeError("Cannot encode a block of strings: the last has no NUL");
    }
    return targets;
  }

  /** Room aligned for anything the kernel reads; zeroed. */
  #reserve(size: number): number {
    this.#grow(size + 8);
    const at = Math.ceil(this.size / 8) * 8;
    this.#bytes.fill(0, this.size, at + size);
    this.size = at + Math.max(size, 1);
    return at;
  }

  #grow(room: number): void {
    if (this.size + room <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.size + room));
    larger.set(this.used());
    this.#bytes = larger;
  }
}
