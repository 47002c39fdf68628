/**
 * Many calls over one channel.
 *
 * @module
 */

import type { Settings } from "../options.ts";
import type { ChildProcess } from "../process/child.ts";
import { checkSignal, type Trace } from "../process/command.ts";
import { Guard } from "../process/termination.ts";
import { type Call, type Caller, decodeReply, endedError } from "./call.ts";
import type { Channel } from "./channel.ts";
import { READY_ID } from "./inside.ts";
import { type CodeOptions, killNow, launch, type Launched } from "./launch.ts";
import type { Source } from "./source.ts";

/** How many functions and modules a worker keeps; the one that was not called for longest makes room. */
const CODES_MAX = 256;
/** Parts that together are smaller are sent as one. */
const WHOLE_SIZE = 4096;

interface Pending {
  readonly caller: Caller;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** A Deno inside that runs what it is told to, and the calls that it has. */
export class Connection {
  /** Its process. */
  readonly child: ChildProcess;
  /** Resolves when it can run code, rejects when it ends before. */
  readonly ready: Promise<unknown>;
  readonly #channel: Channel;
  readonly #signal: AbortSignal | undefined;
  readonly #calls = new Map<number, Pending>();
  /** Where inside each code is kept; the one that was called last comes last. */
  readonly #slots = new Map<string, number>();
  #lastId = READY_ID;
  #ending: Deno.CommandStatus | undefined;
  readonly #graceMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isReceiving = false;
  /** Ends it on signals while it has calls. Without them they are for the program itself, with which it ends. */
  readonly #guard: Guard | undefined;
  #isReferenced = true;

  /**
   * Starts it.
   *
   * @param modules URLs of modules that it may import whatever its permissions are.
   */
  constructor(
    settings: Settings,
    options: Omit<CodeOptions, "args">,
    modules: readonly string[],
    trace: () => Trace | undefined,
    caller: Caller,
  ) {
    const { signal, ...others } = options;
    checkSignal(signal);
    this.#guard = settings.termChild ? new Guard() : undefined;
    let launched: Launched;
    try {
      launched = launch(settings, others, { way: "serve", modules }, trace, this.#guard);
    } catch (error) {
      this.#guard?.release();
      throw error;
    }
    const { child, channel } = launched;
    this.child = child;
    this.#channel = channel;
    this.#signal = signal;
    this.#graceMs = settings.termGraceMs;
    const abort = () => this.#end();
    signal?.addEventListener("abort", abort);
    child.status.then((status) => {
      this.#ending = status;
      clearTimeout(this.#timer);
      signal?.removeEventListener("abort", abort);
      channel.end();
      if (!this.#isReceiving) channel.close();
    });
    this.ready = this.#expect(READY_ID, caller);
  }

  /** Whether it has ended. */
  get hasEnded(): boolean {
    return this.#ending !== undefined;
  }

  /** Makes a call. Resolves to what the code returned, rejects with what it threw. */
  submit({ source, args, caller }: Call): Promise<unknown> {
    if (this.#ending !== undefined) return Promise.reject(endedError(this.#ending, this.#signal, caller));
    const id = ++this.#lastId;
    const [slot, code] = this.#slotOf(source);
    const argsSize = args.reduce((size, part) => size + part.length, 0);
    const header = new Uint8Array(new Float64Array([id, slot, code.length, argsSize]).buffer);
    const size = header.length + code.length + argsSize;
    const parts = [header, code, ...args];
    if (size > WHOLE_SIZE) this.#channel.send(...parts);
    else this.#channel.send(joined(parts, size));
    return this.#expect(id, caller);
  }

  /** Says whether anybody waits for its start: otherwise it is no call, and signals are for the program. */
  await(awaited: boolean): void {
    if (!this.#calls.has(READY_ID)) return;
    if (awaited) this.#guard?.listen();
    else this.#guard?.release();
  }

  /** Says whether it keeps this program alive when it has no calls; with calls it does. */
  reference(referenced: boolean): void {
    this.#isReferenced = referenced;
    if (referenced) this.child.ref();
    else this.child.unref();
    this.#channel.reference(referenced || this.#isReceiving);
  }

  /** Ends it, waits for that, and rejects the calls that it has. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end();
    await this.child.status;
    await this.child[Symbol.asyncDispose]();
  }

  /**
   * There will be no more to do, so it exits; one that does not is killed after the grace. A SIGTERM would be no help: a
   * Deno that is PID 1 ignores it, or, once it has run for half a second, answers it with abort(3).
   */
  #end(): void {
    if (this.#ending !== undefined || this.#timer !== undefined) return;
    this.#channel.endRequests();
    this.#timer = setTimeout(() => killNow(this.child), this.#graceMs);
  }

  /** Where a code is kept inside, and the code itself where it is not there yet. */
  #slotOf(source: Source): [slot: number, code: Uint8Array<ArrayBuffer>] {
    const key = source.text ?? source.module!;
    const known = this.#slots.get(key);
    if (known !== undefined) {
      this.#slots.delete(key);
      this.#slots.set(key, known);
      return [known, new Uint8Array()];
    }
    let slot = this.#slots.size;
    if (slot === CODES_MAX) {
      const [oldest] = this.#slots as Iterable<[string, number]>;
      slot = oldest![1];
      this.#slots.delete(oldest![0]);
    }
    this.#slots.set(key, slot);
    return [slot, new TextEncoder().encode(JSON.stringify(source))];
  }

  #expect(id: number, caller: Caller): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#calls.set(id, { caller, resolve, reject });
    if (!this.#isReceiving) this.#receive();
    return promise;
  }

  /** Gives replies to their calls, while there are calls. */
  async #receive(): Promise<void> {
    this.#isReceiving = true;
    this.#guard?.listen();
    this.#channel.reference(true);
    try {
      while (this.#calls.size > 0) {
        const reply = await this.#channel.receive();
        if (reply === undefined) break;
        const pending = this.#calls.get(reply.id);
        if (pending === undefined) throw new TypeError("Cannot read a reply: nobody waits for it");
        this.#calls.delete(reply.id);
        try {
          pending.resolve(decodeReply(reply, pending.caller)());
        } catch (error) {
          pending.reject(error);
        }
      }
      if (this.#calls.size > 0) await this.#rejectAll(({ caller }, status) => endedError(status, this.#signal, caller));
    } catch (error) { // It is not to be trusted any more.
      killNow(this.child);
      await this.#rejectAll(() => error);
    } finally {
      this.#isReceiving = false;
      if (this.hasEnded) this.#channel.close();
      else this.#channel.reference(this.#isReferenced);
      this.#guard?.release();
    }
  }

  /** Waits for its end, and rejects the calls that it has by then. */
  async #rejectAll(errorOf: (pending: Pending, status: Deno.CommandStatus) => unknown): Promise<void> {
    const status = await this.child.status;
    for (const pending of this.#calls.values()) pending.reject(errorOf(pending, status));
    this.#calls.clear();
  }
}

function joined(parts: readonly Uint8Array[], size: number): Uint8Array {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
