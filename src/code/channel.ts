/**
 * Two pipes between this process and the one inside.
 *
 * @module
 */

import { errnoName, errnoNumber, errnoText } from "../abi/errno.ts";
import { library } from "../machine/library.ts";
import { EPOLLIN, Interest, reactor } from "../machine/reactor.ts";
import { PipeWriter } from "../process/streams.ts";

const EAGAIN = errnoNumber("EAGAIN");
/** A fast child must not keep everything else in this program from its turn. */
const READS_IN_A_ROW_MAX = 16;
const HEADER_SIZE = 16;

/** What comes back from the child. */
export interface Reply {
  /** `RETURNED` or `THREW` of inside.ts. */
  readonly kind: number;
  /** An encoded value. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** This process's ends of the pipes, and, until the child has them, the child's. */
export class Channel {
  /** What the child is to have at 3, to read, and at 4, to write. */
  readonly theirs: readonly [number, number];
  readonly #interest = new Interest();
  readonly #writer: PipeWriter;
  #replyFd: number | undefined;
  #ended = false;

  /** Makes the pipes. */
  constructor() {
    const shim = library();
    const [requestFd, ours] = shim.pipe(1);
    this.#writer = new PipeWriter(ours, this.#interest);
    try {
      const [replyFd, theirs] = shim.pipe(0);
      this.#replyFd = replyFd;
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

  /** Sends it all; a child that ends before it has read it says so by its ending. */
  async send(parts: readonly Uint8Array[]): Promise<void> {
    try {
      for (const part of parts) await this.#writer.write(part);
    } catch (error) {
      if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
    } finally {
      this.#writer.close();
    }
  }

  /** The reply; undefined when the child ends without one. */
  async receive(): Promise<Reply | undefined> {
    const header = new Uint8Array(HEADER_SIZE);
    if (!await this.#fill(header)) return undefined;
    const [kind, size] = new Float64Array(header.buffer) as unknown as [number, number];
    if (!Number.isSafeInteger(size) || size < 0) throw new TypeError("Cannot read a reply: it is no reply");
    const bytes = new Uint8Array(size);
    return await this.#fill(bytes) ? { kind, bytes } : undefined;
  }

  /** The child has ended: what it wrote is there, and nothing is to come. What it started may hold the pipe open. */
  end(): void {
    this.#ended = true;
    this.#writer.close();
    if (this.#replyFd !== undefined) reactor.forget(this.#replyFd);
  }

  /** Closes this process's ends. */
  close(): void {
    this.#writer.close();
    if (this.#replyFd === undefined) return;
    const fd = this.#replyFd;
    this.#replyFd = undefined;
    reactor.forget(fd);
    library().close(fd);
  }

  /** Reads until the buffer is full; says whether there was that much. */
  async #fill(buffer: Uint8Array<ArrayBuffer>): Promise<boolean> {
    let readsInARow = 0;
    for (let at = 0; at < buffer.length;) {
      if (this.#replyFd === undefined) return false;
      const result = library().read(this.#replyFd, buffer.subarray(at));
      if (result === 0) return false;
      if (result > 0) at += result;
      else if (result !== -EAGAIN) {
        throw new Error(`Cannot read a reply: ${errnoText(-result)} (${errnoName(-result)})`);
      } else if (this.#ended) return false;
      if (!this.#ended && at < buffer.length && (result < 0 || ++readsInARow === READS_IN_A_ROW_MAX)) {
        readsInARow = 0;
        await reactor.ready(this.#replyFd, EPOLLIN, this.#interest);
      }
    }
    return true;
  }
}
