/**
 * Two pipes between this process and the one inside.
 *
 * @module
 */

import { makePipe } from "../machine/descriptors.ts";
import { library } from "../machine/library.ts";
import { Interest, reactor } from "../machine/reactor.ts";
import { PipeReader, PipeWriter } from "../process/streams.ts";

/** Of a reply: which call it is for, its kind, and the size of what follows, as doubles. */
const HEADER_SIZE = 24;
const BUFFER_SIZE = 16 * 1024;
/** What a reply gets at first, whatever size it says it has. */
const FIRST_ROOM = 64 * 1024;

/** What comes back from the child. */
export interface Reply {
  /** Which call it is for. */
  readonly id: number;
  /** `RETURNED` or `THREW` of inside.ts. */
  readonly kind: number;
  /** An encoded value. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** This process's ends of the pipes, and, until the child has them, the child's. */
export class Channel {
  /** What the child is to have at 3, to read, and at 4, to write. */
  readonly theirs: readonly [number, number];
  readonly #maxReplySize: number;
  readonly #interest = new Interest();
  readonly #writer: PipeWriter;
  readonly #reader: PipeReader;
  readonly #unsent: Uint8Array[] = [];
  #isSending = false;
  #isLast = false;
  /** What was read and belongs to no reply yet is in there, from `#at` to `#end`. */
  readonly #buffer = new Uint8Array(BUFFER_SIZE);
  #at = 0;
  #end = 0;

  /**
   * Makes the pipes.
   *
   * @param maxReplySize How many bytes a reply may have.
   */
  constructor(maxReplySize: number) {
    this.#maxReplySize = maxReplySize;
    const shim = library();
    const [requestFd, ours] = makePipe(1);
    this.#writer = new PipeWriter(ours, this.#interest);
    try {
      const [replyFd, theirs] = makePipe(0);
      this.#reader = new PipeReader(replyFd, this.#interest);
      this.theirs = [requestFd, theirs];
    } catch (error) {
      shim.close(requestFd);
      this.#writer.close();
      throw error;
    }
  }

  /** To be called as soon as the child has its ends, or will never get them. */
  closeTheirs(): void {
    for (const fd of this.theirs) library().close(fd);
  }

  /** Says whether what is waited for keeps the program alive. */
  reference(referenced: boolean): void {
    reactor.reference(this.#interest, referenced);
  }

  /** Sends it all, after what was sent before; a child that ends before it has read it says so by its ending. */
  send(...parts: readonly Uint8Array[]): void {
    this.#unsent.push(...parts);
    if (!this.#isSending) this.#flush();
  }

  /** There is nothing to be sent after what was: the child then reads the end. */
  endRequests(): void {
    this.#isLast = true;
    if (!this.#isSending) this.#writer.close();
  }

  async #flush(): Promise<void> {
    this.#isSending = true;
    try {
      for (let part = this.#unsent.shift(); part !== undefined; part = this.#unsent.shift()) {
        await this.#writer.write(part);
      }
    } catch {
      this.#writer.close();
      this.#unsent.length = 0;
    } finally {
      this.#isSending = false;
      if (this.#isLast) this.#writer.close();
    }
  }

  /**
   * The next reply; undefined when the child ends without one.
   *
   * @throws {TypeError} When it is no reply.
   * @throws {RangeError} When it is too large.
   */
  async receive(): Promise<Reply | undefined> {
    while (this.#end - this.#at < HEADER_SIZE) {
      this.#buffer.copyWithin(0, this.#at, this.#end);
      this.#end -= this.#at;
      this.#at = 0;
      const count = await this.#reader.read(this.#buffer.subarray(this.#end));
      if (count === 0) return undefined;
      this.#end += count;
    }
    const header = new Float64Array(this.#buffer.slice(this.#at, this.#at + HEADER_SIZE).buffer);
    const [id, kind, size] = header as unknown as [number, number, number];
    if (!Number.isSafeInteger(size) || size < 0) throw new TypeError("Cannot read a reply: it is no reply");
    if (size > this.#maxReplySize) {
      throw new RangeError(`Cannot read a reply: it has ${size} bytes, more than option "maxReplySize" lets it have`);
    }
    this.#at += HEADER_SIZE;
    const bytes = await this.#body(size);
    return bytes && { id, kind, bytes };
  }

  /** So many bytes. Who says that there will be many gets memory for those that came, and as much again. */
  async #body(size: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const start = this.#buffer.subarray(this.#at, Math.min(this.#at + size, this.#end));
    this.#at += start.length;
    if (start.length === size) return start.slice();
    let bytes = new Uint8Array(Math.min(size, FIRST_ROOM));
    bytes.set(start);
    for (let at = start.length; at < size;) {
      if (at === bytes.length) {
        const larger = new Uint8Array(Math.min(size, at * 2));
        larger.set(bytes);
        bytes = larger;
      }
      const count = await this.#reader.read(bytes.subarray(at));
      if (count === 0) return undefined;
      at += count;
    }
    return bytes;
  }

  /** The child has ended: what it wrote is there, and nothing is to come. What it started may hold the pipe open. */
  end(): void {
    this.#writer.close();
    this.#reader.finish();
  }

  /** Closes this process's ends. */
  close(): void {
    this.#writer.close();
    this.#reader.close();
  }
}
