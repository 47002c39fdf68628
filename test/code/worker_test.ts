// A warm Deno inside: many calls, each with its own reply; how it ends, and that nothing is left.

import { assert, assertEquals, assertInstanceOf, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { Namespace, NamespaceError, RunError } from "../../mod.ts";
import { Channel } from "../../src/code/channel.ts";
import { library } from "../../src/machine/library.ts";
import { isolatedTest } from "../support/leaks.ts";
import { runProgram, startProgram, type User } from "../support/program.ts";

const USERS: readonly User[] = ["root", "nobody"];

const forever = () => new Promise<void>((resolve) => setTimeout(resolve, 60_000));

/** What became of calls that a worker could not answer. */
async function endings(calls: readonly Promise<unknown>[]): Promise<unknown[]> {
  return await Promise.all(
    calls.map((call) =>
      call.then(() => "returned", (error) => error instanceof RunError ? [error.code, error.signal] : error)
    ),
  );
}

for (const user of USERS) {
  const options = JSON.stringify({
    privatePid: true,
    privateTmp: true,
    ...(user === "nobody" && { privateUser: true }),
  });

  isolatedTest(`worker() works as ${user} with --allow-ffi alone: one PID 1 for all calls`, async () => {
    const { code, stdout, stderr } = await runProgram(
      `await using worker = await new Namespace(${options}).worker();
       const calls = [1, 2, 3].map((n) => worker.run(async (n) => [Deno.pid, await n * 2], n));
       console.log(JSON.stringify(await Promise.all(calls)));
       console.log(await worker.run(() => Deno.exit(4)).catch((error) => error.name + error.code));`,
      { user },
    );
    assertEquals([code, stderr, stdout], [0, "", "[[1,2],[1,4],[1,6]]\nRunError4\n"]);
  });
}

isolatedTest(
  "worker.run() gives each of 1,000 concurrent calls its own reply, in whatever order they come",
  async () => {
    await using worker = await new Namespace({ privatePid: true }).worker();
    const finished: number[] = [];
    const calls = Array.from({ length: 1000 }, async (_, index) => {
      const result = await worker.run(async (index: number) => {
        const state = globalThis as unknown as { last: PromiseWithResolvers<void> };
        state.last ??= Promise.withResolvers();
        if (index === 999) state.last.resolve();
        if (index % 100 === 0) await state.last.promise;
        if (index % 7 === 0) throw new RangeError(`${index}`);
        return { index, text: "x".repeat(index) };
      }, index).catch((error) => error);
      finished.push(index);
      return result;
    });
    for (const [index, result] of (await Promise.all(calls)).entries()) {
      if (index % 7 === 0) assertEquals([result.constructor, result.message], [RangeError, `${index}`]);
      else assertEquals(result, { index, text: "x".repeat(index) });
    }
    assert(finished.indexOf(1) < finished.indexOf(0), "the second waited for the first, which waits for the last");
  },
);

isolatedTest("worker.run() goes on with what is asynchronous inside while nobody calls", async () => {
  await using worker = await new Namespace().worker();
  await worker.run(() => {
    const state = globalThis as unknown as { ticks: number };
    state.ticks = 0;
    setInterval(() => state.ticks++, 1);
  });
  await new Promise((resolve) => setTimeout(resolve, 60));
  const ticks = await worker.run(() => (globalThis as unknown as { ticks: number }).ticks);
  assert(ticks > 2, `${ticks} ticks`);
});

isolatedTest("worker.run() evaluates a function once, and one that was forgotten again", async () => {
  await using worker = await new Namespace().worker();
  // A tagged template is one object for as long as the code that it is in.
  const site = () => {
    const self = globalThis as unknown as { sites: Set<unknown> };
    self.sites ??= new Set();
    ((strings: TemplateStringsArray) => self.sites.add(strings))`x`;
    return self.sites.size;
  };
  const sizes = [];
  for (let round = 0; round < 5; round++) sizes.push(await worker.run(site));
  assertEquals(sizes, [1, 1, 1, 1, 1]);
  for (let index = 0; index < 300; index++) {
    const another = new Function(`return () => ${index}`)() as () => number;
    assertEquals(await worker.run(another), index);
  }
  assertEquals(await worker.run(site), 2);
});

isolatedTest("worker.run() rejects one call for what cannot be cloned, and the others go on", async () => {
  await using worker = await new Namespace().worker();
  const other = worker.run(async () => {
    await new Promise((resolve) => setTimeout(resolve, 30));
    return "other";
  });
  await assertRejects(
    () => worker.run((value: unknown) => value, { list: [() => 1] }),
    TypeError,
    "Cannot clone args[0].list[0]: a function cannot be cloned",
  );
  await assertRejects(() => worker.run(() => ({ a: Symbol("s") })), TypeError, "Cannot clone the result.a");
  await assertRejects(
    () => worker.run(() => Promise.reject({ a: () => 1 })),
    TypeError,
    "Cannot clone what was thrown.a",
  );
  await assertRejects(() => worker.run(Math.max, 1), TypeError, `Cannot run the function "max"`);
  assertEquals(await other, "other");
});

isolatedTest("worker.run() carries 100 MB there and back, and other calls come through", async () => {
  await using worker = await new Namespace({ privatePid: true }).worker();
  const big = new Uint8Array(100_000_000);
  for (let index = 0; index < big.length; index += 4096) big[index] = index / 4096 % 251;
  let isThere = false;
  const back = worker.run((bytes: Uint8Array) => bytes, big).finally(() => isThere = true);
  big[0] = 99; // It was copied when it was called.
  let others = 0;
  while (!isThere) others += await worker.run(() => 1);
  big[0] = 0;
  const bytes = await back;
  assertEquals(bytes.length, big.length);
  assert(bytes.every((byte, index) => byte === big[index]));
  assert(others > 0);
});

isolatedTest("worker.run() rejects with what was thrown, and the stack goes on with who called", async () => {
  await using worker = await new Namespace().worker();
  for (let round = 0; round < 2; round++) {
    const error = await assertRejects(() =>
      worker.run(function fails(): void {
        throw new RangeError("bad", { cause: new Deno.errors.NotFound("gone") });
      }), RangeError) as Error;
    assertInstanceOf(error.cause, Deno.errors.NotFound);
    const [head, first, line, second] = error.stack!.split("\n");
    assertEquals(head, "RangeError: bad");
    assert(/^ +at fails \(run:fails:2:\d+\)$/.test(first!), first);
    assertStringIncludes(line!, `throw new RangeError("bad"`);
    assertStringIncludes(second!, "worker_test.ts:");
    assert(!error.stack!.includes("data:") && !error.stack!.includes("/src/code/"), error.stack);
  }
  const outer = 5;
  await assertRejects(() => worker.run(() => outer), ReferenceError, `"outer" is a variable around the function`);
});

isolatedTest("worker.run() of a module imports it by permission, or because it is named", async () => {
  const ns = new Namespace({ privatePid: true });
  const url = new URL("module.ts", import.meta.url);
  {
    await using worker = await ns.worker();
    assertEquals(await worker.run(url, 2, "ab"), { pid: 1, text: "abab" });
    assertEquals(await worker.run<{ pid: number; text: string }>(url.href, 0, "ab"), { pid: 1, text: "" });
    const error = await assertRejects(() => worker.run(url, -1), RangeError, "negative") as Error;
    assertStringIncludes(error.stack!, `${url.href}:5:`);
    assertStringIncludes(error.stack!, "worker_test.ts:");
    await assertRejects(
      () => worker.run(new URL("no_default.ts", url)),
      TypeError,
      "its default export is no function",
    );
    await assertRejects(() => worker.run(new URL("missing.ts", url)), TypeError, "Module not found");
    await assertRejects(() => worker.run("no url"), TypeError, "neither a function nor a URL");
  }
  {
    await using worker = await ns.worker({ permissions: "none" });
    const error = await assertRejects(() => worker.run(url, 1, "a"), Deno.errors.NotCapable) as Error;
    assertStringIncludes(error.message, "Requires read access");
    assertStringIncludes(error.message, `name it in option "modules"`);
    assertEquals(await worker.run("data:text/javascript,export default (n) => n + 1", 1), 2);
    await assertRejects(() => worker.run("https://example.com/a.js"), Deno.errors.NotCapable, "Requires import access");
  }
  {
    await using worker = await ns.worker({ permissions: "none", modules: [url] });
    assertEquals(await worker.run(url, 1, "a"), { pid: 1, text: "a" });
    assertEquals(await worker.run(() => Deno.permissions.querySync({ name: "read" }).state), "prompt");
  }
});

isolatedTest("worker() gives the permissions that were asked for, and the channel's to nobody", async () => {
  const granted = (paths: string[]) =>
    paths.flatMap((path) => (["read", "write"] as const).map((name) => Deno.permissions.querySync({ name, path })))
      .map(({ state }) => state === "granted");
  const paths = ["/proc/self/fd/3", "/proc/self/fd/4", "/etc"];
  const ns = new Namespace();
  await using none = await ns.worker({ permissions: "none" });
  assertEquals(await none.run(granted, paths), [false, false, false, false, false, false]);
  await using some = await ns.worker({ permissions: { read: ["/etc"] } });
  assertEquals(await some.run(granted, paths), [false, false, false, false, true, false]);
});

isolatedTest("a worker that exits, crashes or is killed rejects the calls that it has, and later ones", async () => {
  const ns = new Namespace({ privatePid: true });
  const cases: [(worker: Awaited<ReturnType<typeof ns.worker>>) => unknown, unknown][] = [
    [(worker) => worker.run(() => Deno.exit(3)).catch(() => {}), [3, null]],
    [(worker) => worker.kill("SIGKILL"), [137, "SIGKILL"]],
    [(worker) => Deno.kill(worker.pid, "SIGKILL"), [137, "SIGKILL"]],
    [(worker) => worker[Symbol.asyncDispose](), [0, null]],
    [(worker) => worker.run(() => void Promise.reject(new Error("nobody"))), [1, null]],
  ];
  for (const [end, expected] of cases) {
    await using worker = await ns.worker({ stderr: "null" });
    const before = await worker.run(() => "before");
    const calls = [worker.run(forever), worker.run(forever)];
    const ended = endings(calls);
    end(worker);
    assertEquals([before, await ended], ["before", [expected, expected]]);
    const { code, signal } = await worker.status;
    assertEquals([[code, signal], await endings([worker.run(() => 1)])], [expected, [expected]]);
    assertThrows(() => worker.kill(), TypeError, "already terminated");
  }
});

isolatedTest("replies that were written before the end arrive", async () => {
  await using worker = await new Namespace().worker();
  const calls = Array.from({ length: 50 }, (_, index) => worker.run((n: number) => n, index));
  const last = assertRejects(() => worker.run(() => Deno.exit(2)), RunError);
  assertEquals(await Promise.all(calls), Array.from({ length: 50 }, (_, index) => index));
  await last;
});

isolatedTest("worker() is ended by its signal, even while it is busy", async () => {
  const ns = new Namespace({ privatePid: true, termGraceMs: 50 });
  const controller = new AbortController();
  const { signal } = controller;
  const [idle, waiting, busy] = await Promise.all([
    ns.worker({ signal }),
    ns.worker({ signal }),
    ns.worker({ signal }),
  ]);
  const calls = [
    waiting.run(forever),
    busy.run(() => {
      while (true);
    }),
  ];
  const errors = Promise.all(calls.map((call) => assertRejects(() => call, RunError)));
  controller.abort(new Error("enough"));
  const later = await assertRejects(() => idle.status.then(() => idle.run(() => 1)), RunError) as Error;
  for (const error of [...await errors as Error[], later]) assertEquals((error.cause as Error).message, "enough");
  assertEquals((await busy.status).signal, "SIGKILL");
  await assertRejects(() => ns.worker({ signal }), Error, "enough");
  await assertRejects(() => ns.worker({ signal: 5 as unknown as AbortSignal }), TypeError, `"signal"`);
});

isolatedTest(
  "worker() rejects when a step is refused, an option is wrong, or Deno ends before it is ready",
  async () => {
    const ns = new Namespace({ privatePid: true });
    const maps = { uidMap: [{ inside: 0, outside: 0, count: 1 }], gidMap: [{ inside: 0, outside: 0, count: 1 }] };
    const refused = new Namespace({ privateUser: maps, privateMount: true });
    await assertRejects(() => refused.worker({ uid: 5 }), NamespaceError);
    await assertRejects(() => ns.worker({ cwd: "/no/such/folder" }), Deno.errors.NotFound, "No such cwd");
    await assertRejects(() => ns.worker({ args: [] } as object), TypeError, `"args"`);
    await assertRejects(() => ns.worker({ modules: ["x y"] }), TypeError, `"modules"`);
    await assertRejects(() => ns.worker({ modules: 5 as unknown as [] }), TypeError, `"modules"`);
    await assertRejects(() => ns.worker({ maxReplySize: 0 }), RangeError, `"maxReplySize"`);
    await assertRejects(() => ns.worker({ permissions: "all" as "none" }), TypeError, "permissions");
    const error = await assertRejects(
      () => ns.worker({ env: { DENO_V8_FLAGS: "--no-such-flag" }, stdout: "null", stderr: "null" }),
      RunError,
    ) as RunError;
    assertEquals([error.code, error.signal], [1, null]);
    assertStringIncludes(error.stack!, "worker_test.ts:");
  },
);

isolatedTest("worker() connects the streams, the environment and the ids", async () => {
  await using worker = await new Namespace({ privatePid: true }).worker({
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
    env: { COLOR: "blue" },
    uid: 65534,
    gid: 65534,
    cwd: "/proc",
  });
  const writer = worker.stdin.getWriter();
  await writer.write(new TextEncoder().encode("input"));
  await writer.close();
  const seen = await worker.run(async () => {
    console.log(await new Response(Deno.stdin.readable).text());
    return [Deno.uid(), Deno.gid(), Deno.cwd(), Deno.env.get("COLOR")];
  });
  assertEquals(seen, [65534, 65534, "/proc", "blue"]);
  assertThrows(() => worker.stderr, TypeError, "not piped");
  const text = worker.stdout.text();
  worker.run(() => Deno.exit(0)).catch(() => {});
  assertEquals(await text, "input\n");
});

isolatedTest("maxReplySize ends a worker that says more, and run() by spawn()", async () => {
  const ns = new Namespace({ privatePid: true });
  await using worker = await ns.worker({ maxReplySize: 10_000 });
  assertEquals((await worker.run(() => new Uint8Array(9_000))).length, 9_000);
  const other = endings([worker.run(forever)]);
  await assertRejects(() => worker.run(() => new Uint8Array(10_001)), RangeError, `option "maxReplySize"`);
  const [error] = await other;
  assertInstanceOf(error, RangeError);
  assertEquals((await worker.status).signal, "SIGKILL");
  const child = ns.spawn(() => "x".repeat(101), { maxReplySize: 100 });
  await assertRejects(() => child.result, RangeError, `option "maxReplySize"`);
});

isolatedTest("a reply that says it is large gets memory for what came alone", async () => {
  const channel = new Channel(Number.MAX_SAFE_INTEGER);
  const [request, reply] = channel.theirs;
  const before = Deno.memoryUsage();
  library().write(reply, new Uint8Array(new Float64Array([1, 0, 2 ** 40]).buffer));
  library().write(reply, new Uint8Array(1000));
  const received = channel.receive();
  await new Promise((resolve) => setTimeout(resolve, 20));
  const { external } = Deno.memoryUsage();
  assert(external - before.external < 2 ** 20, `${external - before.external} bytes`);
  for (const fd of [request, reply]) library().close(fd);
  assertEquals(await received, undefined);
  channel.close();
});

isolatedTest("what writes into the channel by itself is ended", async () => {
  const forge = (id: number, size: number) => {
    const file = Deno.openSync("/proc/self/fd/4", { write: true, read: false });
    file.writeSync(new Uint8Array(new Float64Array([id, 0, size]).buffer));
    return new Promise<void>((resolve) => setTimeout(resolve, 60_000));
  };
  for (const [id, size] of [[77, 0], [1, -1], [1, NaN]] as const) {
    await using worker = await new Namespace().worker();
    await assertRejects(() => worker.run(forge, id, size), TypeError, "Cannot read a reply");
    assertEquals((await worker.status).signal, "SIGKILL");
  }
});

isolatedTest("worker() lets the program end when it is unreferenced, though not during a call", async () => {
  const { code, stdout, stderr } = await runProgram(
    `const worker = await new Namespace({ privatePid: true }).worker();
     worker.unref();
     console.log(await worker.run(() => new Promise((resolve) => setTimeout(() => resolve(5), 100))));
     worker.ref();
     worker.unref();`,
  );
  assertEquals([code, stderr, stdout], [0, "", "5\n"]);
});

isolatedTest("kill -9 of the program ends its workers", async () => {
  await using program = startProgram(
    `const workers = await Promise.all([1, 2].map(() => new Namespace({ privatePid: true }).worker()));
     for (const worker of workers) worker.run(() => { while (true); });
     console.log(JSON.stringify(workers.map(({ pid }) => pid)));`,
  );
  const reader = program.stdout.getReader();
  const pids: number[] = JSON.parse(new TextDecoder().decode((await reader.read()).value));
  assertEquals(pids.length, 2);
  program.kill("SIGKILL");
  await program.status;
  await Promise.all([reader.cancel(), program.stderr.cancel(), program.stdin.close().catch(() => {})]);
  const isThere = (pid: number) => {
    try {
      return !/^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
    } catch {
      return false;
    }
  };
  for (let left = 400; left > 0 && pids.some(isThere); left--) await new Promise((resolve) => setTimeout(resolve, 5));
  assertEquals(pids.filter(isThere), []);
});

isolatedTest("worker() and pool() work in a Worker, and their processes end with it", async () => {
  const { code, stdout, stderr } = await runProgram(
    `const text = \`import { Namespace } from "\${import.meta.resolve("./mod.ts")}";
       const ns = new Namespace({ privatePid: true });
       const worker = await ns.worker();
       const pool = ns.pool({ size: 2 });
       const results = await Promise.all([1, 2, 3, 4].map((n) => pool.run((n) => [Deno.pid, n], n)));
       postMessage([await worker.run((n) => [Deno.pid, n], 7), ...results]);\`;
     const worker = new Worker("data:text/javascript," + encodeURIComponent(text), { type: "module" });
     const { data } = await new Promise((resolve, reject) => { worker.onmessage = resolve; worker.onerror = reject; });
     worker.terminate();
     console.log(JSON.stringify(data));`,
    { permissions: ["--allow-all"] },
  );
  assertEquals([code, stderr, stdout], [0, "", "[[1,7],[1,1],[1,2],[1,3],[1,4]]\n"]);
});
