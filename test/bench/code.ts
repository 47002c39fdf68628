/**
 * Functions inside: a Deno for each, a warm one for many, and several of those.
 *
 * @module
 */

import { type CodePool, type CodeWorker, Namespace } from "../../mod.ts";
import { denoRun } from "./deno_run.ts";
import { atMost, atMostMore, compared, type Contender, type Measure, median, type Row, takeTurns } from "./harness.ts";

const COLD_ROUNDS = { rounds: 90, warmUp: 10 };
const WARM_CALLS = 6_000;
const WARM_UP_CALLS = 2_000;
const AT_ONCE = 32;
const AT_ONCE_ROUNDS = { rounds: 8, warmUp: 1 };
const POOL_SIZE = 2;
const POOL_CALLS = 2_000;
const POOL_ROUNDS = { rounds: 18, warmUp: 4 };
/** How many calls each worker of a pool may have at once. */
const CONCURRENCIES = [1, 16] as const;

const ns = new Namespace({ privatePid: true });

const emptyRun = denoRun("deno run of an empty module", "fixtures/empty.ts");

/** `run()`, `worker()` and `pool()` against what they are made of. */
export const code: Measure = {
  name: "code",
  async measure(): Promise<readonly Row[]> {
    return [...await cold(), ...await warm(), ...await pools(), ...await atOnce()];
  },
};

const once: Contender = {
  name: "run(() => 1)",
  async run() {
    if (await ns.run(() => 1) !== 1) throw new Error("run() returned something else");
  },
};

async function cold(): Promise<readonly Row[]> {
  const times = await takeTurns(once, emptyRun, COLD_ROUNDS);
  return [compared({ measure: once.name, peer: emptyRun.name, times, goal: atMost(1.15) })];
}

async function warm(): Promise<readonly Row[]> {
  await using worker = await ns.worker();
  await timeCalls(worker, WARM_UP_CALLS);
  const { theirs } = await takeTurns({ name: "nothing", run: () => {} }, once, { rounds: 20, warmUp: 0 });
  const times = await timeCalls(worker, WARM_CALLS);
  const measure = "worker.run(x => x + 1), warm";
  return [
    compared({ measure, peer: "nothing", times: { ours: times, theirs: times.map(() => 0) }, goal: atMostMore(0.1) }),
    { measure, unit: "ms", ours: median(times), peer: once.name, theirs: median(theirs), goal: atMost(0.01) },
  ];
}

async function timeCalls(worker: CodeWorker, count: number): Promise<number[]> {
  const times: number[] = [];
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    const result = await worker.run((x: number) => x + 1, index);
    times.push(performance.now() - start);
    if (result !== index + 1) throw new Error(`worker.run() returned ${result}`);
  }
  return times;
}

async function pools(): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const concurrency of CONCURRENCIES) {
    await using pool = ns.pool({ size: POOL_SIZE, concurrency });
    await using workers = await WorkerPool.start(concurrency);
    const peer: Contender = { name: `Deno Workers, ${concurrency} call(s) each`, run: () => workers.run(POOL_CALLS) };
    const times = await takeTurns({ name: "pool.run()", run: () => runAll(pool) }, peer, POOL_ROUNDS);
    const measure = `${POOL_CALLS} calls of a pool of ${POOL_SIZE}, concurrency ${concurrency}`;
    rows.push(compared({ measure, peer: peer.name, times, goal: atMost(2) }));
  }
  return rows;
}

async function runAll(pool: CodePool): Promise<void> {
  const calls = Array.from({ length: POOL_CALLS }, (_, index) => pool.run((x: number) => x + 1, index));
  const results = await Promise.all(calls);
  if (results.some((result, index) => result !== index + 1)) throw new Error("A call has another's result");
}

/** Deno's own Workers, which are given another call whenever they have answered one. */
class WorkerPool implements AsyncDisposable {
  readonly #workers: readonly Worker[];
  readonly #concurrency: number;

  constructor(workers: readonly Worker[], concurrency: number) {
    this.#workers = workers;
    this.#concurrency = concurrency;
  }

  static async start(concurrency: number): Promise<WorkerPool> {
    const text = "onmessage = ({ data: [id, x] }) => postMessage([id, x + 1]); postMessage(undefined);";
    const workers = Array.from({ length: POOL_SIZE }, () => {
      return new Worker(`data:text/javascript,${encodeURIComponent(text)}`, { type: "module" });
    });
    await Promise.all(workers.map((worker) => new Promise((resolve) => worker.onmessage = resolve)));
    return new WorkerPool(workers, concurrency);
  }

  async run(count: number): Promise<void> {
    let next = 0;
    let left = count;
    const results: number[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const worker of this.#workers) {
      const give = () => {
        if (next < count) worker.postMessage([next, next++]);
      };
      worker.onmessage = ({ data: [id, result] }) => {
        results[id] = result;
        if (--left === 0) resolve();
        give();
      };
      for (let given = 0; given < this.#concurrency; given++) give();
    }
    await promise;
    if (results.some((result, index) => result !== index + 1)) throw new Error("A call has another's result");
  }

  [Symbol.asyncDispose](): Promise<void> {
    for (const worker of this.#workers) worker.terminate();
    return Promise.resolve();
  }
}

async function atOnce(): Promise<readonly Row[]> {
  const ours: Contender = {
    name: `${AT_ONCE} run()s at once`,
    async run() {
      const calls = Array.from({ length: AT_ONCE }, (_, index) => ns.run((n: number) => n * 2, index));
      const results = await Promise.all(calls);
      if (results.some((result, index) => result !== index * 2)) throw new Error("A call has another's result");
    },
  };
  const theirs: Contender = {
    name: `${AT_ONCE} × ${emptyRun.name}`,
    run: () => Promise.all(Array.from({ length: AT_ONCE }, () => emptyRun.run())),
  };
  const times = await takeTurns(ours, theirs, AT_ONCE_ROUNDS);
  return [compared({ measure: ours.name, peer: theirs.name, times, goal: atMost(1.2) })];
}
