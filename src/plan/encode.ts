/**
 * Encodes a plan as the relocatable block of bytes that the machine executes. The layout is that of shim/plan.zig,
 * which checks every offset again before anything runs.
 *
 * @module
 */

import { errnoNumber } from "../abi/errno.ts";
import { type Architecture, elfMachine, syscallNumber } from "../abi/syscalls.ts";
import { SLOT_SIZE } from "./step.ts";
import type {
  Bytes,
  CallerFolder,
  ChildFolder,
  FilterProgram,
  PartOf,
  Plan,
  Step,
  Strings,
  TerminalFile,
  Word,
} from "./step.ts";

/** Sizes that both sides must agree on; src/machine/library.ts compares them with the shim's. */
export const LAYOUT = { version: 2, header: 48, step: 80, words: 8 } as const;

const MAGIC = 0x4c50534e;
/** `own_memory` of shim/plan.zig, in the high word of the flags. */
const OWN_MEMORY = 1;
const NOWHERE = 0xffff_ffff;
const RULES_AT = 8;
const RULES_MAX = 6;
const ARGUMENTS_AT = 32;
const ARGUMENTS_MAX = 6;
const KIND_DATA = 1;
const KIND_RESULT = 2;
const OPENS = 0x8000;
const STORES = 0x4000;
const HELPER = 0x2000;
/** `again` of shim/plan.zig. */
const AGAIN = 0xffff;
/** "/proc/" and, right behind it, `pid_text_size` of shim/plan.zig. */
const CHILD_FOLDER = "/proc/";
const PID_TEXT_SIZE = 12;
/** `SlotKind` of shim/plan.zig. */
const SLOT_KINDS = ["uid", "gid", "folder", "terminal"] as const;
const FOLDER_SIZE = 4096;
const TERMINALS = "/dev/pts/";
const TERMINAL_SIZE = TERMINALS.length + SLOT_SIZE + 1;

const utf8 = new TextEncoder();

/**
 * Encodes a plan for an architecture. This is on the way of every child, so it is written for speed: plain loops, and
 * what can be known of a block of strings is known once.
 *
 * @throws {RangeError} When a step has more arguments or tolerated errnos than a step has room for, or takes the result
 * of a step that is not before it.
 */
export function encode(plan: Plan, architecture: Architecture): Uint8Array<ArrayBuffer> {
  const known = encoded.get(plan);
  if (known?.architecture === architecture) return known.bytes;
  const made = encodeNew(plan, architecture);
  encoded.set(plan, made);
  return made.bytes;
}

/** Says in an encoded plan which terminal of /dev/pts is the command's, where it asks for that. */
export function fillTerminal(bytes: Uint8Array<ArrayBuffer>, number: () => number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const slots = view.getUint32(36, true);
  const slotsAt = LAYOUT.header + (view.getUint32(16, true) + view.getUint32(20, true)) * LAYOUT.step +
    view.getUint32(24, true) * 4;
  const dataAt = bytes.length - view.getUint32(12, true);
  for (let slot = slotsAt; slot < slotsAt + slots * 8; slot += 8) {
    if (SLOT_KINDS[view.getUint32(slot, true)] !== "terminal") continue;
    const at = dataAt + view.getUint32(slot + 4, true);
    utf8.encodeInto(`${TERMINALS}${number()}\0`, bytes.subarray(at, at + TERMINAL_SIZE));
  }
}

interface Encoded {
  readonly architecture: Architecture;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly filled: readonly (readonly [Bytes, number])[];
}

const encoded = new WeakMap<Plan, Encoded>();

/** Takes what calls have left in a plan that was executed in place. */
export function takeFilled(plan: Plan): void {
  const { bytes, filled = [] } = encoded.get(plan) ?? {};
  for (const [taken, at] of filled) taken.bytes.set(bytes!.subarray(at, at + taken.bytes.length));
}

function encodeNew(plan: Plan, architecture: Architecture): Encoded {
  const { parent, child } = plan;
  const data = new DataArea(architecture);
  const steps = new DataView(new ArrayBuffer((parent.length + child.length) * LAYOUT.step));
  encodeSection(steps, 0, parent, architecture, data);
  encodeSection(steps, parent.length * LAYOUT.step, child, architecture, data);

  const { relocations, slots } = data;
  const relocationsAt = LAYOUT.header + steps.byteLength;
  const slotsAt = relocationsAt + relocations.length * 4;
  const dataAt = Math.ceil((slotsAt + slots.length * 8) / 8) * 8;
  const bytes = new Uint8Array(dataAt + data.size);
  bytes.set(new Uint8Array(steps.buffer), LAYOUT.header);
  bytes.set(data.used(), dataAt);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint16(4, LAYOUT.version, true);
  view.setUint16(6, elfMachine(architecture), true);
  view.setUint32(8, bytes.length, true);
  view.setUint32(12, data.size, true);
  view.setUint32(16, parent.length, true);
  view.setUint32(20, child.length, true);
  view.setUint32(24, relocations.length, true);
  view.setUint32(28, data.pidTextAt ?? NOWHERE, true);
  view.setUint32(32, data.wordsAt ?? NOWHERE, true);
  view.setUint32(36, slots.length, true);
  setUint64(view, 40, plan.cloneFlags.value);
  if (plan.ownMemory === true) view.setUint32(44, OWN_MEMORY, true);
  for (let index = 0; index < relocations.length; index++) {
    view.setUint32(relocationsAt + index * 4, relocations[index]!, true);
  }
  for (let index = 0; index < slots.length; index++) {
    view.setUint32(slotsAt + index * 8, SLOT_KINDS.indexOf(slots[index]!.kind), true);
    view.setUint32(slotsAt + index * 8 + 4, slots[index]!.at, true);
  }
  return { architecture, bytes, filled: data.filled.map(([taken, at]) => [taken, dataAt + at]) };
}

function encodeSection(
  view: DataView,
  start: number,
  section: readonly Step[],
  architecture: Architecture,
  data: DataArea,
): void {
  data.encoded.clear();
  for (let index = 0; index < section.length; index++) {
    const step = section[index]!;
    encodeStep(view, start + index * LAYOUT.step, step, architecture, data);
    data.encoded.set(step, index);
  }
}

function encodeStep(
  view: DataView,
  at: number,
  step: Step,
  architecture: Architecture,
  data: DataArea,
): void {
  const { args, tolerate } = step;
  const rulesMax = step.again === undefined ? RULES_MAX : RULES_MAX - 1;
  if (args.length > ARGUMENTS_MAX || (tolerate !== undefined && tolerate.length > rulesMax)) {
    throw new RangeError(`Cannot encode step "${step.what}": too many arguments or rules`);
  }
  let kinds = (step.opens === true ? OPENS : 0) | (step.helper === true ? HELPER : 0);
  for (let position = 0; position < args.length; position++) {
    const argument = args[position]!;
    const place = at + ARGUMENTS_AT + position * 8;
    if (argument === null) continue;
    if (typeof argument === "number") {
      setUint64(view, place, argument);
    } else if (typeof argument === "string") {
      kinds |= KIND_DATA << (position * 2);
      view.setUint32(place, data.string(argument), true);
    } else if ("value" in argument) {
      setUint64(view, place, argument.value);
    } else if ("resultOf" in argument) {
      const found = data.encoded.get(argument.resultOf);
      if (found === undefined) {
        throw new RangeError(`Cannot encode step "${step.what}": it takes the result of no earlier step`);
      }
      kinds |= KIND_RESULT << (position * 2);
      view.setUint32(place, found, true);
    } else {
      kinds |= KIND_DATA << (position * 2);
      view.setUint32(place, data.place(argument), true);
    }
  }
  if (step.stores !== undefined) {
    if (args.length === ARGUMENTS_MAX || step.stores.at + 4 > step.stores.in.bytes.length) {
      throw new RangeError(`Cannot encode step "${step.what}": there is no room to store its result`);
    }
    kinds |= STORES | KIND_DATA << ((ARGUMENTS_MAX - 1) * 2);
    const place = at + ARGUMENTS_AT + (ARGUMENTS_MAX - 1) * 8;
    view.setUint32(place, data.place(step.stores), true);
  }
  view.setUint32(at, syscallNumber(step.call, architecture), true);
  view.setUint16(at + 4, kinds, true);
  view.setUint16(at + 6, step.skip ?? 0, true);
  if (step.again !== undefined) {
    view.setUint16(at + RULES_AT + (RULES_MAX - 1) * 4, errnoNumber(step.again), true);
    view.setUint16(at + RULES_AT + (RULES_MAX - 1) * 4 + 2, AGAIN, true);
  }
  if (tolerate === undefined) return;
  for (let rule = 0; rule < tolerate.length; rule++) {
    const [errno, skip] = tolerate[rule]!;
    view.setUint16(at + RULES_AT + rule * 4, errnoNumber(errno), true);
    view.setUint16(at + RULES_AT + rule * 4 + 2, skip, true);
  }
}

/** Two's complement in 64 bits, without the cost of a BigInt. */
function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setInt32(at + 4, Math.floor(value / 2 ** 32), true);
}

/** Where the strings of a block begin. A process's environment is the same block for every child. */
const blockStarts = new WeakMap<Uint8Array, readonly number[]>();

function startsOf(block: Uint8Array): readonly number[] {
  const known = blockStarts.get(block);
  if (known !== undefined) return known;
  if (block.length > 0 && block[block.length - 1] !== 0) {
    throw new RangeError("Cannot encode a block of strings: the last has no NUL");
  }
  const starts: number[] = [];
  for (let start = 0; start < block.length; start = block.indexOf(0, start) + 1) starts.push(start);
  blockStarts.set(block, starts);
  return starts;
}

/** What the steps point at. What is the same is there once: a command's arguments serve each folder of PATH. */
class DataArea {
  readonly #architecture: Architecture;
  #bytes = new Uint8Array(8192);
  #places = new Map<string | object, number>();
  /** The steps of the section so far, and where each is. */
  readonly encoded = new Map<Step, number>();
  size = 0;
  /** Where there are pointers, to be made absolute. */
  readonly relocations: number[] = [];
  readonly slots: { readonly kind: typeof SLOT_KINDS[number]; readonly at: number }[] = [];
  /** What is to be taken after the calls, and where it is. */
  readonly filled: (readonly [Bytes, number])[] = [];
  pidTextAt: number | undefined;
  wordsAt: number | undefined;

  constructor(architecture: Architecture) {
    this.#architecture = architecture;
  }

  used(): Uint8Array {
    return this.#bytes.subarray(0, this.size);
  }

  /** The offset of an argument that is passed by address. */
  place(
    argument: Bytes | PartOf | Strings | ChildFolder | CallerFolder | TerminalFile | FilterProgram | Word,
  ): number {
    if ("word" in argument) {
      this.wordsAt ??= this.#reserve(LAYOUT.words);
      return this.wordsAt + (argument.word === "parent" ? 0 : 4);
    }
    if ("in" in argument) return this.place(argument.in) + argument.at;
    if ("childFolder" in argument) return this.#pidText() - CHILD_FOLDER.length;
    const known = this.#places.get(argument);
    if (known !== undefined) return known;
    const at = this.#placeNew(argument);
    this.#places.set(argument, at);
    return at;
  }

  /** Where the child's pid is written; what is before it makes it the path of its folder. */
  #pidText(): number {
    if (this.pidTextAt === undefined) {
      const at = this.#reserve(CHILD_FOLDER.length + PID_TEXT_SIZE);
      utf8.encodeInto(CHILD_FOLDER, this.#bytes.subarray(at));
      this.pidTextAt = at + CHILD_FOLDER.length;
    }
    return this.pidTextAt;
  }

  #placeNew(argument: Bytes | Strings | CallerFolder | TerminalFile | FilterProgram): number {
    if ("filter" in argument) return this.#filter(argument.filter(this.#architecture));
    if ("strings" in argument) return this.#pointers(argument.strings);
    if ("callerFolder" in argument) {
      const at = this.#reserve(FOLDER_SIZE);
      this.slots.push({ kind: "folder", at });
      return at;
    }
    if ("terminalFile" in argument) {
      const at = this.#reserve(TERMINAL_SIZE);
      this.slots.push({ kind: "terminal", at });
      return at;
    }
    const start = this.#copy(argument.bytes);
    for (const { kind, at } of argument.slots ?? []) this.slots.push({ kind, at: start + at });
    if (argument.filled) this.filled.push([argument, start]);
    return start;
  }

  /** The offset of a string, with a NUL at its end. */
  string(text: string): number {
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

  /** A `struct sock_fprog`: how many records there are, and where. */
  #filter(program: Uint8Array): number {
    const target = this.#copy(program);
    const at = this.#reserve(16);
    const view = new DataView(this.#bytes.buffer);
    view.setUint16(at, program.length / 8, true);
    view.setUint32(at + 8, target, true);
    this.relocations.push(at + 8);
    return at;
  }

  #pointers(strings: Strings["strings"]): number {
    const targets: number[] = [];
    if (strings instanceof Uint8Array) {
      const base = this.#copy(strings);
      const starts = startsOf(strings);
      for (let index = 0; index < starts.length; index++) targets.push(base + starts[index]!);
    } else {
      for (let index = 0; index < strings.length; index++) {
        const string = strings[index]!;
        targets.push(typeof string === "string" ? this.string(string) : this.#pidText());
      }
    }
    const at = this.#reserve((targets.length + 1) * 8);
    const view = new DataView(this.#bytes.buffer);
    for (let index = 0; index < targets.length; index++) {
      view.setUint32(at + index * 8, targets[index]!, true);
      this.relocations.push(at + index * 8);
    }
    return at;
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
