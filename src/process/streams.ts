/**
 * The pipes of a child as web streams, and collected.
 *
 * @module
 */

import { errnoName, errnoNumber, errnoText } from "../abi/errno.ts";
import { stepError } from "../errors.ts";
import { makeEpoll } from "../machine/descriptors.ts";
import { library } from "../machine/library.ts";
import { EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLIN, EPOLLOUT, type Interest, reactor } from "../machine/reactor.ts";
import type { Step } from "../plan/step.ts";

/** What a pipe holds, unless told otherwise: pipe(7). */
const CHUNK_SIZE = 64 * 1024;
/** Most commands say little. */
const FIRST_ROOM = 4 * 1024;
/** A fast child must not keep everything else in this program from its turn. */
const READS_IN_A_ROW_MAX = 16;
/** Sizes cross to the shim in 32 bits. */
const WRITE_MAX = 2 ** 30;

const EAGAIN = errnoNumber("EAGAIN");
const EIO = errnoNumber("EIO");
const EPIPE = errnoNumber("EPIPE");

/** Closes pipes that nobody can read or write any more: a stream that was never asked for, or never used up. */
const forgotten = new FinalizationRegistry<number>((fd) => library().close(fd));

/** One end of a pipe, owned: closed once, by whoever is done with it or when nobody can reach it any more. */
class PipeEnd {
  /** A descriptor that does not block; undefined once it is closed. */
  protected fd: number | undefined;
  protected readonly interest: Interest;

  /** Takes over a descriptor. */
  constructor(fd: number, interest: Interest) {
    this.fd = fd;
    this.interest = interest;
    forgotten.register(this, fd, this);
  }

  /** Closes the descriptor; a read that waits gets 0, and a write that waits fails. */
  close(): void {
    if (this.fd === undefined) return;
    const fd = this.fd;
    this.fd = undefined;
    forgotten.unregister(this);
    reactor.forget(fd);
    library().close(fd);
  }
}

/** The end of a pipe that this process reads, closed at its end or when it is given up. */
export class PipeReader extends PipeEnd {
  #readsInARow = 0;
  #isFinished = false;

  /** Nothing is to come any more, even though somebody may hold the pipe open: what is there is read, and then the end. */
  finish(): void {
    this.#isFinished = true;
    if (this.fd !== undefined) reactor.forget(this.fd);
  }

  /** Reads what there is, once there is something; 0 at the end. */
  async read(buffer: Uint8Array<ArrayBuffer>): Promise<number> {
    while (true) {
      if (this.fd === undefined) return 0;
      if (this.#readsInARow++ < READS_IN_A_ROW_MAX || this.#isFinished) {
        const result = library().read(this.fd, buffer);
        if (result > 0) return result;
        if (result !== -EAGAIN || this.#isFinished) {
          this.close();
          // EIO: a terminal that nobody has open on its other side any more.
          if (result === 0 || result === -EAGAIN || result === -EIO) return 0;
          throw new Error(`Cannot read from a child: ${errnoText(-result)} (${errnoName(-result)})`);
        }
      }
      this.#readsInARow = 0;
      await reactor.ready(this.fd, EPOLLIN, this.interest);
    }
  }

  /** Reads all that there is. */
  async collect(): Promise<Uint8Array<ArrayBuffer>> {
    const collected = new Collected();
    while (true) {
      const count = await this.read(collected.room());
      if (count === 0) return collected.take();
      collected.add(count);
    }
  }
}

/** Bytes of which nobody knows how many there will be. */
class Collected {
  #bytes = new Uint8Array(FIRST_ROOM);
  #size = 0;

  /** Where the next bytes are to go; never empty. */
  room(): Uint8Array<ArrayBuffer> {
    if (this.#size === this.#bytes.length) this.#grow(CHUNK_SIZE);
    return this.#bytes.subarray(this.#size);
  }

  append(chunk: Uint8Array): void {
    if (this.#size + chunk.length > this.#bytes.length) this.#grow(this.#size + chunk.length);
    this.#bytes.set(chunk, this.#size);
    this.#size += chunk.length;
  }

  #grow(least: number): void {
    const larger = new Uint8Array(Math.max(this.#size * 2, least));
    larger.set(this.#bytes);
    this.#bytes = larger;
  }

  add(count: number): void {
    this.#size += count;
  }

  take(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#size);
  }
}

/** Reads several pipes to their ends in this thread, side by side, and closes them. */
export function collectSync(
  fds: readonly (number | undefined)[],
  child?: { readonly pidfd: number; readonly ended: () => void },
): (Uint8Array<ArrayBuffer> | undefined)[] {
  const shim = library();
  const open = new Map(fds.flatMap((fd) => fd === undefined ? [] : [[fd, new Collected()] as const]));
  const collected = new Map(open);
  if (open.size === 0) return fds.map(() => undefined);
  const epoll = makeEpoll();
  try {
    for (const fd of open.keys()) shim.epollControl(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, fd);
    if (child !== undefined) shim.epollControl(epoll, EPOLL_CTL_ADD, child.pidfd, EPOLLIN, child.pidfd);
    while (open.size > 0) {
      for (const { token: fd } of shim.poll(epoll, -1)) {
        if (fd === child?.pidfd) {
          shim.epollControl(epoll, EPOLL_CTL_DEL, fd, 0, 0);
          child.ended();
          continue;
        }
        const into = open.get(fd)!;
        const result = shim.read(fd, into.room());
        if (result > 0) into.add(result);
        else if (result !== -EAGAIN) {
          // First: another thread's child holds the pipe, too, until its execve, and epoll would go on to report it.
          shim.epollControl(epoll, EPOLL_CTL_DEL, fd, 0, 0);
          open.delete(fd);
          shim.close(fd);
        }
      }
    }
  } finally {
    for (const fd of open.keys()) shim.close(fd);
    shim.close(epoll);
  }
  return fds.map((fd) => fd === undefined ? undefined : collected.get(fd)!.take());
}

/**
 * A child's stdout or stderr as a stream. Nothing is read before it is asked for, so a child that writes too much waits.
 */
export function pipeStream(pipe: PipeReader): Deno.SubprocessReadableStream {
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>({
    type: "bytes",
    autoAllocateChunkSize: CHUNK_SIZE,
    async pull(controller) {
      const request = (controller as ReadableByteStreamController).byobRequest!;
      const view = request.view!;
      const count = await pipe.read(new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength));
      if (count === 0) controller.close();
      request.respond(count);
    },
    cancel: () => pipe.close(),
  });
  const bytes = () => collectStream(stream);
  const text = async () => new TextDecoder().decode(await bytes());
  return Object.assign(stream, {
    arrayBuffer: async () => (await bytes()).buffer,
    bytes,
    json: async () => JSON.parse(await text()),
    text,
  });
}

/** Reads what is left of a stream, of which some may have been read already. */
async function collectStream(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<Uint8Array<ArrayBuffer>> {
  const collected = new Collected();
  for await (const chunk of stream) collected.append(chunk);
  return collected.take();
}

/** The end of a pipe that this process writes. */
export class PipeWriter extends PipeEnd {
  /** Nothing more is written. */
  end(): Promise<void> | void {
    this.close();
  }

  /** Writes all of a chunk, when there is room for it. */
  async write(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length;) {
      if (this.fd === undefined) throw brokenPipe();
      const result = library().write(this.fd, chunk.subarray(at, at + WRITE_MAX) as Uint8Array<ArrayBuffer>);
      if (result >= 0) {
        at += result;
      } else if (result === -EAGAIN) {
        await reactor.ready(this.fd, EPOLLOUT, this.interest);
      } else {
        this.close();
        if (result === -EPIPE) throw brokenPipe();
        throw new Error(`Cannot write to a child: ${errnoText(-result)} (${errnoName(-result)})`);
      }
    }
  }
}

/** ^D: the end of input, where a terminal is not told otherwise. */
export const END_OF_INPUT: Uint8Array<ArrayBuffer> = Uint8Array.of(4);

/** Where this process types on a child's terminal. */
export class TerminalWriter extends PipeWriter {
  /** Types the end of input: the terminal stays open for what is shown on it. */
  override async end(): Promise<void> {
    await this.write(END_OF_INPUT);
  }

  /** Performs a step on the terminal's descriptor; says whether it was still open. */
  perform(step: (fd: number) => Step): boolean {
    if (this.fd === undefined) return false;
    const outcome = library().execute([step(this.fd)]);
    if ("step" in outcome) throw stepError(outcome.step, outcome.errno);
    return true;
  }
}

function brokenPipe(): Error {
  const error = new Deno.errors.BrokenPipe(`${errnoText(EPIPE)} (os error ${EPIPE})`);
  return Object.assign(error, { code: "EPIPE" });
}

/** A child's stdin as a stream, whose writes resolve when the pipe has taken all of them. */
export function pipeSink(pipe: PipeWriter): WritableStream<Uint8Array> {
  return new WritableStream<Uint8Array>({
    start(controller) {
      // A write that waits for room would keep an abort waiting, too.
      controller.signal.addEventListener("abort", () => pipe.close());
    },
    write: (chunk) => pipe.write(chunk),
    close: () => pipe.end(),
    abort: () => pipe.close(),
  });
}
