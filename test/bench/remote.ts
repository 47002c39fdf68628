/**
 * A Deno of its own that times spawns when it is asked to: for what depends on the state of the process. Two of them can
 * be asked in turns, so that both are measured side by side; the one that is not asked sleeps.
 *
 * A request is one line on its stdin, the answer one line on its stdout, both JSON.
 *
 * @module
 */

import { denoCommand, ours } from "./contenders.ts";
import { time } from "./harness.ts";

/** Whose spawns a {@linkcode Remote} times. */
export type Who = "ours" | "theirs";

/** What a process holds. */
export interface Holdings {
  readonly rssMb: number;
  readonly fds: number;
}

interface Request {
  readonly who: Who;
  readonly count: number;
}

interface Answer {
  readonly times: readonly number[];
  readonly holdings: Holdings;
}

const MB = 2 ** 20;
/** How much more V8 may take than what is filled; its own limit would depend on the machine. */
const V8_ROOM_MB = 512;

/** The process, from the outside. */
export class Remote implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: AsyncIterator<string>;

  /** @param heapMb How much memory it fills before it is asked for anything. */
  constructor(heapMb: number) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", `--v8-flags=--max-old-space-size=${heapMb + V8_ROOM_MB}`, import.meta.url, String(heapMb)],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#lines = lines(this.#child.stdout);
  }

  /** Times some spawns in it, in milliseconds, and says what it holds after them. */
  async ask(who: Who, count: number): Promise<Answer> {
    const request: Request = { who, count };
    await this.#writer.write(new TextEncoder().encode(JSON.stringify(request) + "\n"));
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("Cannot measure: the process that does it has ended");
    return JSON.parse(value) as Answer;
  }

  /** Ends it: at the end of its stdin there is nothing more to do. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close();
    await this.#child.status;
  }
}

async function* lines(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
}

/** Half of it JavaScript objects, which the collector walks, half of it buffers outside of V8's heap; all touched. */
function fill(mb: number): readonly unknown[] {
  const buffers = Array.from({ length: mb / 2 }, () => new Uint8Array(MB).fill(1));
  const bytesPerObject = 4 * 8 + 16 + 4 * 8; // An array, and the four numbers that it holds: about that.
  const objects = Array.from({ length: mb / 2 * MB / bytesPerObject }, (_, index) => [index, index + 0.5, 0, 0]);
  return [buffers, objects];
}

function holdings(): Holdings {
  return { rssMb: Deno.memoryUsage().rss / MB, fds: [...Deno.readDirSync("/proc/self/fd")].length };
}

async function serve(heapMb: number): Promise<void> {
  const heap = fill(heapMb);
  const contenders = { ours: ours("spawn"), theirs: denoCommand("spawn") };
  for await (const line of lines(Deno.stdin.readable)) {
    const { who, count } = JSON.parse(line) as Request;
    const times: number[] = [];
    for (let index = 0; index < count; index++) times.push(await time(contenders[who]));
    const answer: Answer = { times, holdings: holdings() };
    Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(answer) + "\n"));
  }
  if (heap.length === 0) throw new Error("The heap must be there to the end");
}

if (import.meta.main) await serve(Number(Deno.args[0]));
