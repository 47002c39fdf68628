// Workers that share the work: who gets which call, what happens when they die, and that nothing is left.

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Namespace, NamespaceError, RunError } from "../../mod.ts";
import { children, isolatedTest } from "../support/leaks.ts";
import { runProgram, type User } from "../support/program.ts";

const USERS: readonly User[] = ["root", "nobody"];

const forever = () => new Promise<void>((resolve) => setTimeout(resolve, 60_000));
/** Without a pid namespace: whoever runs it has a pid of its own. */
const pidAfter = async (ms: number) => {
  await new Promise((resolve) => setTimeout(resolve, ms));
  return Deno.pid;
};

/** Namespaces that cannot be had. */
function impossible(): Namespace {
  const map = [{ inside: 0, outside: 0, count: 1 }];
  return new Namespace({ privateUser: { uidMap: map, gidMap: map }, privateMount: true });
}

for (const user of USERS) {
  const options = JSON.stringify({
    privatePid: true,
    privateTmp: true,
    ...(user === "nobody" && { privateUser: true }),
  });

  isolatedTest(`pool() works as ${user} with --allow-ffi alone`, async () => {
    const { code, stdout, stderr } = await runProgram(
      `await using pool = new Namespace(${options}).pool({ size: 2 });
       const calls = Array.from({ length: 40 }, (_, n) => pool.run((n) => [Deno.pid, n], n));
       console.log((await Promise.all(calls)).every(([pid, n], index) => pid === 1 && n === index));
       console.log(await pool.run(() => Deno.exit(4)).catch((error) => error.name + error.code));
       console.log(await pool.run(() => 5));`,
      { user },
    );
    assertEquals([code, stderr, stdout], [0, "", "true\nRunError4\n5\n"]);
  });
}

isolatedTest("pool() starts nothing before it is needed, and no more than it may", async () => {
  const before = children().length;
  await using pool = new Namespace().pool({ size: 3 });
  assertEquals(children().length, before);
  const first = await pool.run(pidAfter, 0);
  assertEquals(await pool.run(pidAfter, 0), first); // One after the other need one.
  assertEquals(children().length, before + 1);
  const pids = new Set(await Promise.all(Array.from({ length: 30 }, () => pool.run(pidAfter, 5))));
  assertEquals([pids.size, children().length], [3, before + 3]);
});

isolatedTest("pool.run() gives 1,000 concurrent calls their own replies, and begins them in order", async () => {
  await using pool = new Namespace({ privatePid: true }).pool({ size: 2 });
  const results = await Promise.all(Array.from({ length: 1000 }, (_, index) =>
    pool.run((index: number) => {
      const state = globalThis as unknown as { seen: number[] };
      (state.seen ??= []).push(index);
      return {
        index,
        seen: state.seen.length,
        inOrder: state.seen.every((one, at, all) => at === 0 || all[at - 1]! < one),
      };
    }, index)));
  assertEquals(results.map(({ index }) => index), Array.from({ length: 1000 }, (_, index) => index));
  assert(results.every(({ inOrder }) => inOrder));
  assert(results.every(({ seen }) => seen < 1000), "all were run by one worker");
});

isolatedTest("pool.run() gives a worker one call at a time, or as many as concurrency says", async () => {
  const most = async (concurrency: number | undefined) => {
    await using pool = new Namespace().pool({ size: 1, ...(concurrency !== undefined && { concurrency }) });
    const seen = await Promise.all(Array.from({ length: 20 }, () =>
      pool.run(async () => {
        const state = globalThis as unknown as { running?: number };
        state.running = (state.running ?? 0) + 1;
        const running = state.running;
        await new Promise((resolve) => setTimeout(resolve, 2));
        state.running--;
        return running;
      })));
    return Math.max(...seen);
  };
  assertEquals([await most(undefined), await most(4)], [1, 4]);
});

isolatedTest("pool.run() refuses what is too many for the queue, and goes on", async () => {
  await using pool = new Namespace().pool({ size: 1, maxQueue: 3 });
  await pool.run(() => 1);
  const calls = Array.from({ length: 4 }, () => pool.run(pidAfter, 20)); // One runs, three wait.
  await assertRejects(() => pool.run(() => 1), Deno.errors.Busy, `3 calls wait already, which is option "maxQueue"`);
  assertEquals(new Set(await Promise.all(calls)).size, 1);
  assertEquals(await pool.run(() => 2), 2);
});

isolatedTest("pool() replaces a worker that dies: its calls reject, the next go to a new one", async () => {
  const pool = new Namespace().pool({ size: 1, concurrency: 2 });
  const pid = await pool.run(pidAfter, 0);
  const had = [assertRejects(() => pool.run(forever), RunError), assertRejects(() => pool.run(forever), RunError)];
  const next = [pool.run(pidAfter, 0), pool.run(pidAfter, 0)];
  Deno.kill(pid, "SIGKILL");
  for (const error of await Promise.all(had)) assertEquals((error as RunError).signal, "SIGKILL");
  const [one, other] = await Promise.all(next);
  assertEquals([one === other, one === pid], [true, false]);
  const ends = Array.from({ length: 5 }, () => assertRejects(() => pool.run(() => Deno.exit(7)), RunError));
  for (const error of await Promise.all(ends)) assertEquals((error as RunError).code, 7);
  assertEquals(await pool.run(() => 8), 8);
  await pool[Symbol.asyncDispose]();
});

isolatedTest(
  "pool.run() rejects when no worker can be started, does not spin, and tries again when it is called",
  async () => {
    let trials = 0;
    await using pool = impossible().pool({ size: 2, uid: 5 });
    const calls = Array.from({ length: 5 }, () => assertRejects(() => pool.run(() => 1), NamespaceError));
    await Promise.all(calls);
    await assertRejects(() => pool.run(() => 1), NamespaceError);
    {
      await using other = new Namespace().pool({ cwd: "/no/such/folder" });
      await assertRejects(() => other.run(() => 1), Deno.errors.NotFound, "No such cwd");
    }
    // Deno itself does not start: how often it is tried can be counted by the processes that there were.
    const lastPid = () => Number(Deno.readTextFileSync("/proc/loadavg").trim().split(" ").at(-1));
    const before = lastPid();
    await using broken = new Namespace().pool({
      size: 1,
      env: { DENO_V8_FLAGS: "--no-such-flag" },
      stdout: "null",
      stderr: "null",
    });
    for (; trials < 3; trials++) await assertRejects(() => broken.run(() => 1), RunError);
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert(lastPid() - before < 2_000, "it spins");
  },
);

isolatedTest("pool.run() copies its arguments at once, and refuses what cannot be cloned", async () => {
  await using pool = new Namespace().pool({ size: 1 });
  const list = [1];
  const call = pool.run((list: number[]) => list, list);
  list[0] = 2;
  assertEquals(await call, [1]);
  await assertRejects(() => pool.run((value: unknown) => value, () => 1), TypeError, "Cannot clone args[0]");
  await assertRejects(() => pool.run(() => Symbol("s")), TypeError, "Cannot clone the result");
  const error = await assertRejects(() =>
    pool.run(function fails(): void {
      throw new RangeError("bad");
    }), RangeError) as Error;
  assert(/fails \(run:fails:[^]*pool_test\.ts:/.test(error.stack!), error.stack);
  const url = new URL("module.ts", import.meta.url);
  await using none = new Namespace({ privatePid: true }).pool({ size: 1, permissions: "none", modules: [url] });
  assertEquals(await none.run(url, 2, "ab"), { pid: 1, text: "abab" });
});

isolatedTest("disposal of a pool rejects the calls that run, that wait, and that come", async () => {
  const pool = new Namespace().pool({ size: 2 });
  let pids: number[];
  do pids = await Promise.all([pool.run(pidAfter, 20), pool.run(pidAfter, 20)]); while (pids[0] === pids[1]);
  const running = [0, 1].map(() => assertRejects(() => pool.run(forever), RunError));
  const waiting = [0, 1].map(() => assertRejects(() => pool.run(() => 1), Deno.errors.BadResource, "is disposed"));
  await pool[Symbol.asyncDispose]();
  await Promise.all([...running, ...waiting]);
  await assertRejects(() => pool.run(() => 1), Deno.errors.BadResource, "Cannot run code: the pool is disposed");
  await pool[Symbol.asyncDispose]();
  // While its workers start.
  const starting = new Namespace().pool({ size: 2 });
  const calls = [0, 1, 2].map(() => assertRejects(() => starting.run(() => 1), Deno.errors.BadResource));
  await starting[Symbol.asyncDispose]();
  await Promise.all(calls);
  const started = new Namespace().pool({ size: 1 });
  const call = assertRejects(() => started.run(() => 1), Deno.errors.BadResource);
  await new Promise((resolve) => setTimeout(resolve, 3));
  await started[Symbol.asyncDispose]();
  await call;
});

isolatedTest("pool() is ended by its signal", async () => {
  const controller = new AbortController();
  const { signal } = controller;
  const ns = new Namespace({ privatePid: true });
  const pool = ns.pool({ size: 1, signal });
  await pool.run(() => 1);
  const running = assertRejects(() => pool.run(forever), RunError);
  const waiting = assertRejects(() => pool.run(() => 1), Error, "enough");
  controller.abort(new Error("enough"));
  assertEquals(((await running as Error).cause as Error).message, "enough");
  await waiting;
  await assertRejects(() => pool.run(() => 1), Error, "enough");
  assertThrows(() => ns.pool({ signal }), Error, "enough");
});

isolatedTest("pool() refuses options that cannot be", () => {
  const ns = new Namespace();
  assertThrows(() => ns.pool({ size: 0 }), RangeError, `"size"`);
  assertThrows(() => ns.pool({ size: "2" as unknown as number }), TypeError, `"size"`);
  assertThrows(() => ns.pool({ concurrency: 1.5 }), RangeError, `"concurrency"`);
  assertThrows(() => ns.pool({ maxQueue: 0 }), RangeError, `"maxQueue"`);
  assertThrows(() => ns.pool({ maxReplySize: -1 }), RangeError, `"maxReplySize"`);
  assertThrows(() => ns.pool({ stdout: "piped" as "null" }), TypeError, `Option "stdout" of a pool`);
  assertThrows(() => ns.pool({ permissions: "all" as "none" }), TypeError, "permissions");
  assertThrows(() => ns.pool({ modules: ["x y"] }), TypeError, `"modules"`);
  assertThrows(() => ns.pool({ sise: 2 } as object), TypeError, `did you mean "size"?`);
});

isolatedTest("pool() lets the program end when it is unreferenced and has no calls", async () => {
  const { code, stdout, stderr } = await runProgram(
    `const pool = new Namespace({ privatePid: true }).pool({ size: 2 });
     pool.unref();
     console.log(await Promise.all([1, 2, 3].map((n) => pool.run((n) => n * 2, n))));`,
  );
  assertEquals([code, stderr, stdout], [0, "", "[ 2, 4, 6 ]\n"]);
});
