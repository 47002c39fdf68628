// Code in namespaces: what it sees, what comes back, how it fails, and that nothing is left.

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { Namespace, type NamespaceOptions, RunError } from "../../mod.ts";
import { NAMESPACE_FILES } from "../support/inside.ts";
import { isolatedTest } from "../support/leaks.ts";
import { runProgram, type User } from "../support/program.ts";

const USERS: readonly User[] = ["root", "nobody"];

/** Runs a program whose last expression is printed as JSON, with `--allow-ffi` alone. */
async function evaluateAs(user: User, body: string, permissions = ["--allow-ffi"]): Promise<unknown> {
  const output = await runProgram(`console.log(JSON.stringify(await (async () => {${body}})()));`, {
    user,
    permissions,
  });
  assertEquals([output.code, output.stderr], [0, ""]);
  return JSON.parse(output.stdout);
}

for (const user of USERS) {
  const privateUser = user === "nobody" ? { privateUser: true } : {};
  const options = (own: NamespaceOptions) => JSON.stringify({ ...own, ...privateUser });

  isolatedTest(`run() works as ${user} with --allow-ffi alone: privatePid with and without /proc`, async () => {
    const seen = await evaluateAs(
      user,
      `return await Promise.all([
         new Namespace(${options({ privatePid: true })}).run((a, b) => [Deno.pid, a + b], 1, 2),
         new Namespace(${options({ privatePid: true, noProc: true })}).run(async () => Deno.pid),
         new Namespace(${options({ privateTmp: true, privateNet: true, privateIpc: true })}).run(() => 5),
         new Namespace(${user === "nobody" ? "" : options({})}).run(() => 6),
         new Namespace({ privatePid: true, privateUser: "self" }).run(() => Deno.pid),
       ]);`,
    );
    assertEquals(seen, [[1, 3], 1, 5, 6, 1]);
  });

  isolatedTest(`run() works as ${user} where the program's own folder and cwd do not exist inside`, async () => {
    const { code, stdout, stderr } = await runProgram(
      `Deno.chdir(new URL(".", import.meta.url));
       console.log(await new Namespace(${options({ privateTmp: true })}).run(() => Deno.cwd()));
       const child = new Namespace(${options({ privateTmp: true })}).spawn(() => Deno.cwd(), { cwd: "/tmp" });
       console.log(await child.result);`,
      { user, permissions: ["--allow-ffi", "--allow-read"] },
    );
    assertEquals([code, stderr, stdout], [0, "", "/\n/tmp\n"]);
  });

  isolatedTest(`run() of a module works as ${user}, from a file that no permission allows to be read`, async () => {
    const body = `export default (n: number): number[] => [n * 2, Deno.pid];`;
    const seen = await evaluateAs(
      user,
      `const url = "data:application/typescript," + encodeURIComponent(${JSON.stringify(body)});
       const file = import.meta.resolve("./src/nearest.ts");
       const ns = new Namespace(${options({ privatePid: true })});
       return [await ns.run(url, 4), await ns.run(file).catch((error) => error.message)];`,
    );
    assertEquals((seen as unknown[])[0], [8, 1]);
    assertStringIncludes(String((seen as unknown[])[1]), "its default export is no function");
  });
}

isolatedTest("run() is in the namespaces that were asked for, and in no others", async () => {
  const names = [...NAMESPACE_FILES];
  const inside = await new Namespace({ privateUts: true, privateNet: true, hostname: "box" }).run(
    (names: string[]) => [Deno.hostname(), ...names.map((name) => Deno.readLinkSync(`/proc/self/ns/${name}`))],
    names,
  );
  assertEquals(inside[0], "box");
  const different = names.filter((name, index) => Deno.readLinkSync(`/proc/self/ns/${name}`) !== inside[index + 1]);
  assertEquals(different, ["net", "uts"]);
});

isolatedTest("run() carries arguments and results by the structured clone algorithm", async () => {
  const value: Record<string, unknown> = {
    map: new Map([[{ a: 1 }, new Set([1n, undefined, NaN])]]),
    date: new Date(5),
    regexp: /x/gi,
    array: new Float64Array([1.5, -0]),
    error: new TypeError("t", { cause: 3 }),
    negative: -0,
  };
  value.self = value;
  const [back, kinds] = await new Namespace().run(
    (it: Record<string, unknown>) => [it, [it.self === it, it.map instanceof Map, Object.is(it.negative, -0)]] as const,
    value,
  );
  assertEquals(kinds, [true, true, true]);
  assertEquals(back.self === back, true);
  assertEquals([back.map, back.date, back.regexp, back.array], [value.map, value.date, value.regexp, value.array]);
  assertInstanceOf(back.error, TypeError);
  assertEquals(await new Namespace().run(() => {}), undefined);
  assertEquals(await new Namespace().run((...args: unknown[]) => args, undefined, null, ""), [undefined, null, ""]);
});

isolatedTest("run() carries 100 MB there and back, while this program goes on", async () => {
  const big = new Uint8Array(100_000_000);
  for (let index = 0; index < big.length; index += 4096) big[index] = index / 4096 % 251;
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  try {
    const back = await new Namespace({ privatePid: true }).run((bytes: Uint8Array) => {
      bytes[1] = 9;
      return bytes;
    }, big);
    big[1] = 9;
    assertEquals(back.length, big.length);
    assert(back.every((byte, index) => byte === big[index]));
  } finally {
    clearInterval(timer);
  }
  assert(turns > 5, `only ${turns} turns`);
});

isolatedTest("run() can be called 8 times at once", async () => {
  const ns = new Namespace({ privatePid: true, privateTmp: true });
  const results = await Promise.all(Array.from({ length: 8 }, (_, index) =>
    ns.run(async (index: number) => {
      Deno.writeTextFileSync("/tmp/mine", String(index));
      await new Promise((resolve) => setTimeout(resolve, 20));
      // Files alone: where this Deno's cache is below /tmp, the one inside makes its folder there anew.
      const files = [...Deno.readDirSync("/tmp")].filter(({ isFile }) => isFile);
      return [Deno.pid, Number(Deno.readTextFileSync("/tmp/mine")), files.length];
    }, index)));
  assertEquals(results, Array.from({ length: 8 }, (_, index) => [1, index, 1]));
});

isolatedTest("run() rejects with what was thrown: class, message, stack, cause", async () => {
  const error = await assertRejects(
    () =>
      new Namespace().run(function fails(): void {
        throw new RangeError("bad", { cause: new Deno.errors.NotFound("gone") });
      }),
    RangeError,
    "bad",
  ) as Error;
  assertInstanceOf(error.cause, Deno.errors.NotFound);
  const [head, first, shown, ...rest] = error.stack!.split("\n");
  assertEquals(head, "RangeError: bad");
  assert(/^ +at fails \(run:fails:2:\d+\)$/.test(first!), first);
  assertMatch(shown!, /^ {6}\| throw new RangeError\("bad", \{/); // The line itself.
  assertStringIncludes(rest[0]!, "run_test.ts:"); // And then who called run().
  assert(!error.stack!.includes("data:"), error.stack);
});

isolatedTest("run() rejects with errors of unknown classes by name, and with what is no error as it is", async () => {
  const ns = new Namespace();
  const error = await assertRejects(() =>
    ns.run(() => {
      class Mine extends Error {}
      return Promise.reject(Object.assign(new Mine("m"), { code: 7 }));
    })
  ) as Error & { code: number };
  assertEquals([error.name, error.message, error.code, error.constructor], ["Mine", "m", 7, Error]);
  const thrown = await ns.run(() => {
    throw { no: "error" };
  }).catch((thrown) => thrown);
  assertEquals(thrown, { no: "error" });
});

isolatedTest("run() names a variable around the function, and says how to pass it", async () => {
  const outer = 5;
  const error = await assertRejects(() => new Namespace().run(() => outer + 1), ReferenceError) as Error;
  assertStringIncludes(error.message, `"outer" is a variable around the function`);
  assertStringIncludes(error.message, "run((outer) => ..., outer)");
  assertStringIncludes(error.stack!, error.message);
});

isolatedTest(
  "the stack of run() shows the line of the function that was under way, however it is written",
  async () => {
    const ns = new Namespace();
    const object = {
      deep(depth: number): never {
        function down(depth: number): never {
          if (depth === 0) return (null as unknown as { nothing: never }).nothing;
          return down(depth - 1);
        }
        return down(depth);
      },
    };
    const error = await assertRejects(() => ns.run(object.deep, 2), TypeError) as Error;
    const lines = error.stack!.split("\n").map((line) => line.replace(/:\d+\)$/, ")"));
    assertEquals(lines.slice(1, 7).map((line) => line.trim()), [
      "at down (run:deep:3)",
      "| if (depth === 0) return null.nothing;",
      "at down (run:deep:4)",
      "at down (run:deep:4)",
      "at deep (run:deep:6)",
      lines[6]!.trim(),
    ]);
    assertStringIncludes(lines[6]!, "run_test.ts:");
    const long = await assertRejects(() =>
      ns.run(Function(`throw new Error("${"long ".repeat(50)}")`) as () => void)
    ) as Error;
    assertMatch(long.stack!, /\n {6}\| throw new Error\("(long )+l?o?n?g?…\n/);
  },
);

isolatedTest("run() says how to import in a function what its module imports", async () => {
  const ns = new Namespace();
  const specifiers = ["./module.ts", "../module.ts", "/module.ts", "@std/assert"];
  for (const specifier of specifiers) {
    const error = await assertRejects(() => ns.run((name: string) => import(name), specifier), TypeError) as Error;
    assertStringIncludes(error.message, `the function has no file inside, nor the program's import map`);
    assertStringIncludes(error.message, `run(async (url) => await import(url), import.meta.resolve("./x.ts"))`);
  }
  await assertRejects(() => ns.run(() => import.meta.url), SyntaxError, "import.meta is of the module around it; pass");
  await assertRejects(
    () => ns.run(() => import("file:///missing.ts")),
    TypeError,
    `Module not found "file:///missing.ts"`,
  );
  const imported = async (url: string) => (await import(url)).default(1, "a");
  assertEquals((await ns.run(imported, import.meta.resolve("./module.ts"))).text, "a");
  const equals = await ns.run(
    async (url: string) => Object.keys(await import(url)),
    import.meta.resolve("@std/assert"),
  );
  assert(equals.includes("assertEquals"));
});

isolatedTest("run() takes methods and async functions, and refuses what has no text", async () => {
  const ns = new Namespace();
  const object = {
    twice(n: number): number {
      return n * 2;
    },
    async ["computed name"](n: number): Promise<number> {
      return await Promise.resolve(n * 3);
    },
  };
  assertEquals(await ns.run(object.twice, 4), 8);
  assertEquals(await ns.run(object["computed name"], 4), 12);
  assertEquals(
    await ns.run(async function named(n: number) {
      return await Promise.resolve(n + 1);
    }, 1),
    2,
  );
  await assertRejects(() => ns.run(Math.max, 1), TypeError, `Cannot run the function "max": it is no JavaScript`);
  await assertRejects(() => ns.run((() => 1).bind(null)), TypeError, "it is a bound function");
  await assertRejects(() => ns.run(class A {} as unknown as () => void), TypeError, `Cannot run the class "A"`);
  await assertRejects(() => ns.run("no url"), TypeError, `Cannot run "no url": it is neither a function nor a URL`);
  await assertRejects(() => ns.run(5 as unknown as URL), TypeError, "got 5");
});

isolatedTest("run() refuses what cannot be cloned on the side where it is", async () => {
  const ns = new Namespace();
  await assertRejects(
    () => ns.run((value: unknown) => value, { list: [() => 1] }),
    TypeError,
    "Cannot clone args[0].list[0]: a function cannot be cloned",
  );
  await assertRejects(
    () => ns.run(() => ({ a: Symbol("s") })),
    TypeError,
    "Cannot clone the result.a: a symbol cannot be cloned",
  );
});

isolatedTest("run() rejects with a RunError when the process ends by itself", async () => {
  const ns = new Namespace({ privatePid: true });
  const ended = async (code: () => unknown) => {
    const { code: exitCode, signal } = await assertRejects(() => ns.run(code), RunError) as RunError;
    return [exitCode, signal];
  };
  assertEquals(await ended(() => Deno.exit(3)), [3, null]);
  assertEquals(await ended(() => Deno.exit(0)), [0, null]);
  assertEquals(await ended(() => new Promise(() => {})), [0, null]);
});

isolatedTest("spawn() rejects with a RunError after a signal, an abort and its disposal", async () => {
  const ns = new Namespace({ privatePid: true });
  const forever = () => new Promise<void>((resolve) => setTimeout(resolve, 60_000));
  const killed = ns.spawn(forever);
  killed.kill("SIGKILL");
  const error = await assertRejects(() => killed.result, RunError) as RunError;
  assertEquals([error.code, error.signal, (await killed.status).signal], [137, "SIGKILL", "SIGKILL"]);

  const controller = new AbortController();
  const aborted = ns.spawn(forever, { signal: controller.signal });
  controller.abort(new Error("enough"));
  const { cause, signal } = await assertRejects(() => aborted.result, RunError) as RunError;
  assertEquals((cause as Error).message, "enough");
  assert(signal === "SIGTERM" || signal === "SIGKILL", `${signal}`); // While Deno starts, it may handle the first.
  assertThrows(() => ns.spawn(forever, { signal: controller.signal }), Error, "enough");

  let disposed: Promise<void>;
  {
    await using child = ns.spawn(forever);
    disposed = child.result;
  }
  await assertRejects(() => disposed, RunError);
});

isolatedTest("spawn() connects stdin, stdout and stderr, the environment and the ids", async () => {
  await using child = new Namespace({ privatePid: true }).spawn(
    async (prefix: string) => {
      console.log(prefix + await new Response(Deno.stdin.readable).text());
      console.error(Deno.env.get("COLOR"));
      return [Deno.uid(), Deno.gid(), Deno.cwd()];
    },
    {
      args: ["got "],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      env: { COLOR: "blue" },
      uid: 65534,
      gid: 65534,
      cwd: "/proc",
    },
  );
  assert(child.pid > 1);
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode("input"));
  await writer.close();
  assertEquals(await Promise.all([child.stdout.text(), child.stderr.text()]), ["got input\n", "blue\n"]);
  assertEquals(await child.result, [65534, 65534, "/proc"]);
  assertEquals(await child.status, { success: true, code: 0, signal: null });
});

/** What code can be allowed. */
function states(paths: string[]): string[] {
  const names = ["read", "write", "net", "env", "run", "sys", "ffi"] as const;
  const granted: string[] = names.filter((name) => Deno.permissions.querySync({ name }).state === "granted");
  for (const path of paths) {
    for (const name of ["read", "write"] as const) {
      if (Deno.permissions.querySync({ name, path }).state === "granted") granted.push(`${name} ${path}`);
    }
  }
  return granted;
}

isolatedTest("spawn() gives the permissions that were asked for, and the channel's to nobody", async () => {
  const ns = new Namespace();
  const paths = ["/proc/self/fd/3", "/proc/self/fd/4", "/etc", "/a b"];
  const all = paths.flatMap((path) => [`read ${path}`, `write ${path}`]);
  const given = (permissions: Deno.PermissionOptionsObject | "none" | "inherit") =>
    ns.spawn(states, { args: [paths], permissions }).result;
  assertEquals(await given("none"), []);
  assertEquals(await given({ read: ["/etc", "/a b"], env: true }), ["env", "read /etc", "read /a b"]);
  assertEquals(await given({ read: [new URL("file:///etc")], write: [] }), ["read /etc"]);
  assertEquals(await given({ read: ["/"], net: "inherit" }), ["net", ...all.filter((one) => one.startsWith("read"))]);
  assertEquals((await given("inherit")).slice(7), all);
  for (const permissions of ["all", { disk: true }, { read: 5 }, { read: [""] }, { read: ["/a,b"] }]) {
    assertThrows(() => ns.spawn(() => 1, { permissions: permissions as "none" }), TypeError, "permissions");
  }
});

isolatedTest("run() inherits whole permissions, and no parts of them", async () => {
  const seen = await evaluateAs(
    "root",
    `${states}\nreturn await new Namespace().run(states, ["/etc"]);`,
    ["--allow-ffi", "--allow-read", "--deny-read=/etc", "--allow-net=localhost", "--allow-env"],
  );
  assertEquals(seen, ["env", "ffi"]);
});

isolatedTest("run() of a module calls its default export", async () => {
  const ns = new Namespace({ privatePid: true });
  const url = new URL("module.ts", import.meta.url);
  assertEquals(await ns.run(url, 2, "ab"), { pid: 1, text: "abab" });
  assertEquals(await ns.run<{ pid: number; text: string }>(url.href, 0, "ab"), { pid: 1, text: "" });
  const error = await assertRejects(() => ns.run(url, -1), RangeError, "negative") as Error;
  assertStringIncludes(error.stack!, `${url.href}:5:`);
  await assertRejects(() => ns.run(new URL("no_default.ts", url)), TypeError, "its default export is no function");
  await assertRejects(() => ns.run(new URL("missing.ts", url)), TypeError, "Module not found");
});

isolatedTest("run() of a module takes it from the network, or from the cache where there is none", async () => {
  const modules: Record<string, string> = {
    "/main.ts": `import { two } from "./two.ts"; export default (n: number): number => n * two;`,
    "/two.ts": "export const two: number = 2;",
    "/throws.ts": `export default (): never => {\n  throw new RangeError("over there");\n};`,
  };
  const requested: string[] = [];
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
    const { pathname } = new URL(request.url);
    requested.push(pathname);
    const headers = { "content-type": "application/typescript" };
    return new Response(modules[pathname] ?? null, { status: pathname in modules ? 200 : 404, headers });
  });
  const host = `127.0.0.1:${server.addr.port}`;
  const url = (name: string): string => `http://${host}/${name}`;
  const folder = Deno.makeTempDirSync({ dir: "/var/tmp" });
  const env = { DENO_DIR: folder };
  const connected = new Namespace({ privatePid: true });
  const alone = new Namespace({ privatePid: true, privateNet: true });
  try {
    const hint = "the network inside is one of its own, for privateNet, so a module can be had only from Deno's cache";
    const missing = await assertRejects(
      () => alone.spawn(url("main.ts"), { args: [4], env }).result,
      TypeError,
    ) as Error;
    assertStringIncludes(missing.message, url("main.ts"));
    assertStringIncludes(missing.message, hint);
    assertStringIncludes(missing.message, "import it outside first, or run without privateNet");
    const load = (url: string) => import(url);
    await assertRejects(() => alone.spawn(load, { args: [url("main.ts")], env }).result, TypeError, hint);
    assertEquals(requested, []);

    assertEquals(await connected.spawn<number>(url("main.ts"), { args: [4], env }).result, 8);
    assertEquals(requested.sort(), ["/main.ts", "/two.ts"]);
    assertEquals(await alone.spawn<number>(new URL(url("main.ts")), { args: [5], env }).result, 10);
    assertEquals(requested.length, 2); // It was in the cache.

    const error = await assertRejects(() => connected.spawn(url("throws.ts"), { env }).result, RangeError) as Error;
    assertStringIncludes(error.stack!, `${url("throws.ts")}:2:`);
    const none = await assertRejects(
      () => connected.spawn(url("no.ts"), { env }).result,
      TypeError,
      "Module not found",
    );
    assert(!(none as Error).message.includes("privateNet"));

    // Deno itself wants a permission for hosts that it does not know.
    const permissions = { import: [host] };
    assertEquals(await connected.spawn<number>(url("main.ts"), { args: [6], permissions, env }).result, 12);
    const refused = connected.spawn(url("main.ts"), { args: [6], permissions: "none", env }).result;
    await assertRejects(() => refused, Deno.errors.NotCapable, `Requires import access to "${host}"`);
  } finally {
    await server.shutdown();
    Deno.removeSync(folder, { recursive: true });
  }
});

isolatedTest("a process that the code leaves behind does not keep its result from coming", async () => {
  const ns = new Namespace();
  const start = performance.now();
  const pids: number[] = [];
  try {
    // Both hold the pipes: Deno gives its children all that is not close-on-exec.
    pids.push(await ns.run(() => new Deno.Command("sleep", { args: ["60"] }).spawn().pid));
    const child = ns.spawn(() => {
      console.log(new Deno.Command("sleep", { args: ["60"], stdout: "null" }).spawn().pid);
      Deno.exit(4);
    }, { stdout: "piped" });
    pids.push(Number(await child.stdout.text()));
    const error = await assertRejects(() => child.result, RunError) as RunError;
    assertEquals(error.code, 4);
    assert(performance.now() - start < 30_000);
  } finally {
    for (const pid of pids) Deno.kill(pid, "SIGKILL");
  }
  assertEquals(pids.length, 2);
});

isolatedTest("spawn() refuses before anything runs, and leaves nothing behind", () => {
  const ns = new Namespace({ privatePid: true });
  assertThrows(() => ns.spawn(() => 1, { cwd: "/no/such/folder" }), Deno.errors.NotFound, "No such cwd");
  assertThrows(() => ns.spawn(() => 1, { argz: [] } as unknown as { args: [] }), TypeError, `"argz"`);
  assertThrows(() => ns.spawn(() => 1, { args: 5 as unknown as [] }), TypeError, `Option "args" must be an array`);
  assertThrows(() => ns.spawn(() => 1, { stdout: "file" as "null" }), TypeError, `Option "stdout"`);
});

isolatedTest("run() works in a Worker, and its processes end with it", async () => {
  const seen = await evaluateAs(
    "root",
    `const text = \`import { Namespace } from "${import.meta.resolve("../../mod.ts")}";
       const ns = new Namespace({ privatePid: true });
       postMessage([await ns.run((n) => [Deno.pid, n], 7), await ns.run(() => Deno.exit(3)).catch((e) => e.code)]);\`;
     const worker = new Worker("data:text/javascript," + encodeURIComponent(text), { type: "module" });
     const { data } = await new Promise((resolve) => worker.onmessage = resolve);
     worker.terminate();
     return data;`,
    ["--allow-all"],
  );
  assertEquals(seen, [[1, 7], 3]);
});

isolatedTest("run() works where the current folder may not be read", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    Deno.chmodSync(folder, 0o755);
    Deno.mkdirSync(`${folder}/closed`, { mode: 0o711 });
    const child = new Namespace({ privateMount: true }).spawn(() => Deno.uid(), {
      uid: 65534,
      gid: 65534,
      cwd: `${folder}/closed`,
      permissions: { sys: true },
    });
    assertEquals(await child.result, 65534);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

isolatedTest("an unreferenced spawn() lets the program end, and ends with it", async () => {
  const { code, stderr } = await runProgram(
    `new Namespace().spawn(() => new Promise((resolve) => setTimeout(resolve, 60_000))).unref();`,
  );
  assertEquals([code, stderr], [0, ""]);
});

isolatedTest("run() does not wait for code that has replied and goes on writing", async () => {
  const code = () => {
    const { prototype } = Deno.FsFile;
    const { writeSync } = prototype;
    let parts = 0;
    prototype.writeSync = function (bytes: Uint8Array): number {
      const size = writeSync.call(this, bytes);
      while (parts++ > 0) writeSync.call(this, new Uint8Array(1 << 16)); // After a header and a value.
      return size;
    };
    return "replied";
  };
  const process = new Namespace({ privatePid: true }).spawn(code, { permissions: "none", stderr: "null" });
  assertEquals(await process.result, "replied");
  assertEquals((await process.status).success, false);
});
