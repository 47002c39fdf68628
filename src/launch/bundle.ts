/**
 * Bundles: all that the launcher needs to run a command without Deno, as one block of bytes. The layout is that of
 * shim/bundle.zig.
 *
 * @module
 */

import { errnoTable } from "../abi/errno.ts";
import { type Architecture, elfMachine } from "../abi/syscalls.ts";
import type { TerminalSettings } from "../command_options.ts";
import { encode } from "../plan/encode.ts";
import type { Plan, Step } from "../plan/step.ts";

/** What is said when a step fails. */
export interface StepText {
  /** In words that an errno's meaning can follow: `Cannot mount proc at "/proc" for privatePid`. */
  readonly message: string;
  /** The call with its arguments. */
  readonly call: string;
}

/** What is said below a message that comes with an errno. */
export interface StepHint {
  /** Index of the step's text. */
  readonly text: number;
  readonly errno: number;
  readonly hint: string;
}

/** A plan for one sort of caller. */
export interface Variant {
  readonly plan: Plan;
  /** Of clone(2), of the parent's steps, and of the child's. */
  readonly texts: readonly StepText[];
  readonly hints: readonly StepHint[];
  /** The child's step whose result is to be executed. */
  readonly opened: Step | undefined;
}

/** Bits of `Flags` in shim/bundle.zig. */
const FLAGS = ["init", "waitForAll", "initOnly", "anyCommand", "clearEnv", "forward", "debug", "tty"] as const;

/** What a bundle says beside its plans. */
export interface BundleOptions extends Partial<Readonly<Record<typeof FLAGS[number], boolean>>> {
  /** Milliseconds from SIGTERM to SIGKILL. */
  readonly graceMs: number;
  /** Milliseconds that the command may take. */
  readonly timeoutMs?: number | undefined;
  /** Where JSON lines about the command are written. */
  readonly statusFd?: number | undefined;
  /**
   * The size of the command's terminal where who runs it has none; what the environment says where it is not given.
   */
  readonly ttySize?: TerminalSettings | undefined;
  /** What messages begin with; the name that the launcher is called by where it is not given. */
  readonly name?: string | undefined;
  /** The command and its arguments. */
  readonly command: readonly string[];
  readonly argv0?: string | undefined;
  /** Changes to the environment: `NAME=value`, or `NAME` of what is left out. */
  readonly environment: readonly string[];
  /**
   * A command line that says more of a refusal than the launcher can. Its empty argument is replaced by the stage, step
   * and errno, as `3:5:1`.
   */
  readonly diagnoser?: readonly string[] | undefined;
  /** What it was made from, as JSON. */
  readonly origin: string;
  /** The cgroup that the command is born in: a descriptor, which the launcher inherits, and the pid of its keeper. */
  readonly cgroup?: { readonly fd: number; readonly keeper: number } | undefined;
}

const MAGIC = 0x4c42534e;
const VERSION = 2;
const HEADER_SIZE = 168;
const CGROUP_AT = 160;
const CHECKSUM_AT = 12;
const ORIGIN_AT = 144;
/** `end_mark` of shim/bundle.zig: a file that was cut shows zeros in its place. */
const END_MARK = Uint8Array.from([0xff, 0x45, 0x4e, 0x44]);
const NOWHERE = 0xffff_ffff;

const utf8 = new TextEncoder();

/** What the bytes of a bundle are put together in. */
class Area {
  #parts: Uint8Array[] = [];
  #size = HEADER_SIZE;
  readonly #strings = new Map<string, number>();

  get size(): number {
    return this.#size;
  }

  /** Adds bytes at the next multiple of 8, and says where that is. */
  bytes(bytes: Uint8Array): number {
    this.#pad(8);
    return this.#append(bytes);
  }

  /** Where a string is, with a NUL at its end. Each is there once. */
  string(text: string): number {
    let at = this.#strings.get(text);
    if (at === undefined) this.#strings.set(text, at = this.#append(utf8.encode(`${text}\0`)));
    return at;
  }

  #append(bytes: Uint8Array): number {
    const at = this.#size;
    this.#parts.push(bytes);
    this.#size += bytes.length;
    return at;
  }

  #pad(multiple: number): void {
    const rest = this.#size % multiple;
    if (rest !== 0) this.#append(new Uint8Array(multiple - rest));
  }

  /** All of it behind room for the header. What is before the end mark is a NUL. */
  finish(): Uint8Array<ArrayBuffer> {
    this.#append(new Uint8Array(1));
    this.#pad(8);
    this.#append(new Uint8Array(8 - END_MARK.length));
    this.#append(END_MARK);
    const all = new Uint8Array(this.#size);
    let at = HEADER_SIZE;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

/**
 * Writes a bundle.
 *
 * @param variants For a caller with CAP_SYS_ADMIN, and for any other; none where the launcher is to be init alone.
 */
export function encodeBundle(
  architecture: Architecture,
  options: BundleOptions,
  variants: readonly [Variant, Variant] | undefined,
): Uint8Array<ArrayBuffer> {
  const area = new Area();
  const ranges: number[] = [];
  const block = (strings: readonly string[]): void => {
    const bytes = utf8.encode(strings.map((string) => `${string}\0`).join(""));
    ranges.push(area.bytes(bytes), bytes.length);
  };
  const bytes = (bytes: Uint8Array): void => void ranges.push(area.bytes(bytes), bytes.length);

  bytes(utf8.encode(options.name ?? ""));
  block(options.command);
  block(options.argv0 === undefined ? [] : [options.argv0]);
  block(options.environment);
  const known = new Map<Variant, number[]>();
  for (const variant of variants ?? []) {
    let places = known.get(variant);
    if (places === undefined) known.set(variant, places = encodeVariant(area, architecture, variant));
    ranges.push(...places);
  }
  if (variants === undefined) ranges.push(...new Array(16).fill(0));
  bytes(utf8.encode(variants === undefined ? "" : errnoTable()));
  bytes(utf8.encode(options.origin));
  block(options.diagnoser ?? []);

  const all = area.finish();
  const view = new DataView(all.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint16(4, VERSION, true);
  view.setUint16(6, elfMachine(architecture), true);
  view.setUint32(8, all.length, true);
  view.setUint32(16, FLAGS.reduce((bits, name, bit) => bits | Number(options[name] === true) << bit, 0), true);
  view.setUint32(20, options.graceMs, true);
  view.setBigUint64(24, BigInt(Math.ceil(options.timeoutMs ?? 0)), true);
  view.setInt32(32, options.statusFd ?? -1, true);
  view.setUint16(36, options.ttySize?.rows ?? 0, true);
  view.setUint16(38, options.ttySize?.columns ?? 0, true);
  for (const [index, value] of ranges.entries()) view.setUint32(40 + index * 4, value, true);
  view.setInt32(CGROUP_AT, options.cgroup?.fd ?? -1, true);
  view.setInt32(CGROUP_AT + 4, options.cgroup?.keeper ?? 0, true);
  view.setUint32(CHECKSUM_AT, checksum(all), true);
  return all;
}

/** The words of a `Variant`. */
function encodeVariant(area: Area, architecture: Architecture, { plan, texts, hints, opened }: Variant): number[] {
  const encoded = encode(plan, architecture);
  const words = (values: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
  const textWords = words(texts.flatMap(({ message, call }) => [area.string(message), area.string(call)]));
  const hintWords = words(hints.flatMap(({ text, errno, hint }) => [text, errno, area.string(hint)]));
  const ranges = [encoded, textWords, hintWords].flatMap((bytes) => [area.bytes(bytes), bytes.length]);
  return [...ranges, opened === undefined ? NOWHERE : plan.child.indexOf(opened), 0];
}

/** As `checksum` in shim/bundle.zig. A loop would be optimized while it runs, which takes longer than all of it. */
function checksum(bytes: Uint8Array<ArrayBuffer>): number {
  const words = new Uint32Array(bytes.buffer, CHECKSUM_AT + 4);
  return words.reduce((sum, word) => Math.imul((sum << 5 | sum >>> 27) ^ word, 0x01000193), 0x811c9dc5) >>> 0;
}

/**
 * What a bundle was made from.
 *
 * @throws {TypeError} When it is no bundle, or is not whole, or was altered.
 */
export function originOf(bundle: Uint8Array<ArrayBuffer>): string {
  const view = new DataView(bundle.buffer, bundle.byteOffset, bundle.byteLength);
  if (bundle.length < HEADER_SIZE || view.getUint32(0, true) !== MAGIC) throw new TypeError("there is no plan in it");
  if (view.getUint16(4, true) !== VERSION) throw new TypeError("it is of another version");
  if (view.getUint32(8, true) !== bundle.length) throw new TypeError("it is truncated");
  if (view.getUint32(CHECKSUM_AT, true) !== checksum(bundle.slice())) throw new TypeError("it was altered");
  const at = view.getUint32(ORIGIN_AT, true);
  return new TextDecoder().decode(bundle.subarray(at, at + view.getUint32(ORIGIN_AT + 4, true)));
}
