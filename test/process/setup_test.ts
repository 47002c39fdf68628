// setup() is for good, so each case has a Deno of its own.

import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../../mod.ts";
import { isolatedTest } from "../support/leaks.ts";
import { runProgram } from "../support/program.ts";
import { FILTER_CALLS, told } from "../support/setup.ts";

const ALL: NamespaceOptions = {
  privateTmp: { size: "1m" },
  privateNet: true,
  privateSysvsem: true,
  hostname: "inside",
  privateCgroup: true,
};

isolatedTest("setup() moves every thread into all namespaces that were asked for, and no others", async () => {
  const [before, after, count, hostname, size, cwd, moreFds] = await told(`
    Deno.chdir("/usr");
    await load();
    new Namespace().command("true").outputSync();
    new Namespace({ privateUts: true }).setup(); // Loads what there is to load.
    const before = everyThread();
    const beforeFds = fds();
    new Namespace(${JSON.stringify(ALL)}).setup();
    const moreFds = fds() - beforeFds;
    await load();
    const size = new TextDecoder().decode(new Deno.Command("df", { args: ["-k", "--output=size", "/tmp"] }).outputSync().stdout);
    console.log(JSON.stringify([before, everyThread(), threads().length, Deno.hostname(), size, Deno.cwd(), moreFds]));
  `) as [string[], string[], number, string, string, string, number];
  assertEquals([before.length, after.length], [1, 1], "all threads agree");
  assert(count > 4, `${count} threads`);
  const changed = before[0]!.split(",").map((namespace, index) => namespace !== after[0]!.split(",")[index]);
  assertEquals(changed, [true, true, true, true, true, false, false]);
  assertEquals([hostname, size.trim().split(/\s+/).at(-1), cwd, moreFds], ["inside", "1024", "/usr", 0]);
});

isolatedTest("setup() makes reads, commands and Workers agree, 1,000 of each, under load", async () => {
  const outcome = await told(`
    const worker = () => {
      const text = "self.onmessage = async () => self.postMessage([Deno.hostname(), " +
        "[...Deno.readDirSync('/tmp')].length, (await Deno.readTextFile('/proc/sys/kernel/hostname')).trim()].join());";
      const made = new Worker("data:text/javascript," + encodeURIComponent(text), { type: "module" });
      const ask = () => new Promise((resolve) => {
        made.onmessage = ({ data }) => resolve(data);
        made.postMessage(0);
      });
      return { ask, end: () => made.terminate() };
    };
    Deno.writeTextFileSync("/tmp/setup-test-marker", "");
    const early = worker();
    await early.ask();
    let stop = false;
    const noise = Promise.all(Array.from({ length: 8 }, async () => {
      while (!stop) await Deno.readTextFile("/proc/self/stat");
    }));
    new Namespace({ privateTmp: true, hostname: "inside" }).setup();
    const late = worker();
    const seen = new Map();
    const note = (what, value) => seen.set(what + " " + value, (seen.get(what + " " + value) ?? 0) + 1);
    for (let round = 0; round < 100; round++) {
      await Promise.all(Array.from({ length: 10 }, async () => {
        note("sync", [...Deno.readDirSync("/tmp")].length);
        const names = [];
        for await (const { name } of Deno.readDir("/tmp")) names.push(name);
        note("async", names.length);
        note("asyncName", (await Deno.readTextFile("/proc/sys/kernel/hostname")).trim());
      }));
      for (let index = 0; index < 10; index++) note("early", await early.ask());
      for (let index = 0; index < 10; index++) note("late", await late.ask());
    }
    const names = await Promise.all(Array.from({ length: 1000 / 50 }, async () => {
      for (let index = 0; index < 50; index++) {
        const { stdout } = await new Deno.Command("cat", { args: ["/proc/sys/kernel/hostname"] }).output();
        note("command", new TextDecoder().decode(stdout).trim());
      }
    }));
    stop = true;
    await noise;
    early.end();
    late.end();
    console.log(JSON.stringify(Object.fromEntries(seen)));
  `);
  Deno.removeSync("/tmp/setup-test-marker");
  assertEquals(outcome, {
    "sync 0": 1000,
    "async 0": 1000,
    "asyncName inside": 1000,
    "early inside,0,inside": 1000,
    "late inside,0,inside": 1000,
    "command inside": 1000,
  });
});

isolatedTest("setup() gives this program's servers and fetch() a network of their own", async () => {
  const [interfaces, text] = await told(`
    new Namespace({ privateNet: true }).setup();
    const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () => new Response("hello"));
    const text = await (await fetch("http://127.0.0.1:" + server.addr.port)).text();
    await server.shutdown();
    console.log(JSON.stringify([Deno.networkInterfaces().map(({ name }) => name), text]));
  `) as [string[], string];
  assertEquals([[...new Set(interfaces)], text], [["lo"], "hello"]);
});

/** How a Worker makes its own thread one that cannot be moved. */
const FAILING_THREADS = [
  // It is refused its first namespace: no capability is left in this thread alone.
  [
    "gives its capabilities up",
    `const libc = Deno.dlopen("libc.so.6", { capset: { parameters: ["buffer", "buffer"], result: "i32" } });
     const header = new Uint32Array([0x20080522, 0]); // _LINUX_CAPABILITY_VERSION_3
     if (libc.symbols.capset(header, new Uint32Array(6)) !== 0) throw new Error("capset");`,
    "Operation not permitted (EPERM)",
  ],
  // It is refused its last one, the mounts, when it has entered all others.
  ["is refused the mounts", `filterCalls([[308, 268]], 0x50005, false, 0x20000);`, "Input/output error (EIO)"],
] as const;

for (const [what, code, reason] of FAILING_THREADS) {
  isolatedTest(`setup() undoes everything in every thread when one that ${what} cannot be moved`, async () => {
    const seen = await told(`
      const text = FILTER + "\\nself.onmessage = () => {" + ${JSON.stringify(code)} + "; self.postMessage(0); };";
      const worker = new Worker("data:text/javascript," + encodeURIComponent(text), { type: "module" });
      const places = () => threads().sort().map((thread) => thread + " " + namespaces(thread) + " " +
        Deno.readLinkSync("/proc/self/task/" + thread + "/cwd"));
      const mounts = () => threads().map((thread) => Deno.readTextFileSync("/proc/self/task/" + thread + "/mountinfo"));
      await new Promise((resolve) => { worker.onmessage = resolve; worker.postMessage(0); });
      Deno.chdir("/usr");
      await load();
      const ns = new Namespace(${JSON.stringify(ALL)});
      const messages = new Set(), differences = [];
      let count = 0;
      for (let round = 0; round < 20; round++) {
        const before = places(), beforeMounts = new Set(mounts());
        try { ns.setup(); } catch (error) { messages.add(error.name + ": " + error.message); }
        const after = places();
        count = after.length;
        // A thread may have ended, or begun, meanwhile: Deno's pool does that.
        const known = new Set(before.map((line) => line.split(" ")[0]));
        differences.push(...after.filter((line) => known.has(line.split(" ")[0]) && !before.includes(line)));
        differences.push(...mounts().filter((text) => !beforeMounts.has(text)));
        await load();
      }
      const hostname = Deno.hostname();
      // Not all that is open: Deno opens what it needs when it needs it.
      const left = [...Deno.readDirSync("/proc/self/fd")].flatMap(({ name }) => {
        try {
          return [Deno.readLinkSync("/proc/self/fd/" + name)];
        } catch {
          return [];
        }
      }).filter((path) => path === "/usr" || /^(mnt|net|ipc|uts|cgroup):/.test(path));
      worker.terminate();
      // Then nothing is in the way. A thread ends when it is ready to.
      for (let turn = 0; turn < 100 && Deno.hostname() !== "inside"; turn++) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        try { ns.setup(); } catch { /* Not yet. */ }
      }
      console.log(JSON.stringify({
        messages: [...messages], differences, many: count > 4, left, same: hostname !== "inside",
        in: [Deno.hostname(), Deno.cwd(), everyThread().length],
      }));
    `.replace("FILTER", () => JSON.stringify(FILTER_CALLS)));
    assertEquals(seen, {
      messages: [
        `NamespaceError: Cannot move all threads of this process: ${reason}\n` +
        `Everything is as it was. A thread could not move, or did not answer a signal within five seconds.`,
      ],
      differences: [],
      many: true,
      left: [],
      same: true,
      in: ["inside", "/usr", 1],
    });
  });
}

Deno.test("setup() refuses what a running process cannot enter, and says what can", () => {
  for (
    const [options, option] of [
      [{ privatePid: true }, "privatePid"],
      [{ privateUser: true, privateTmp: true }, "privateUser"],
      [{ privateTime: { boottime: 5 } }, "privateTime"],
    ] as const
  ) {
    const error = assertThrows(() => new Namespace(options).setup(), TypeError, `Cannot set up "${option}"`);
    assertStringIncludes(error.message, "command()");
  }
});

isolatedTest("setup() refuses an ordinary user, who would need a user namespace, and nothing is changed", async () => {
  const { stdout } = await runProgram(
    `
      for (const options of [{ privateTmp: true }, { privateUts: true, privateUser: false }]) {
        try { new Namespace(options).setup(); } catch (error) { console.log(error.name, error.message.split("\\n")[0]); }
      }
    `,
    { user: "nobody" },
  );
  assertEquals(stdout.split("\n").slice(0, 2), [
    `TypeError Cannot set up "privateTmp" in a running process: without CAP_SYS_ADMIN it needs a user namespace, which a process ` +
    `with threads cannot enter. Use reexec(), by which this program starts over inside, or command(), whose child is inside from its start`,
    "NamespaceError Cannot unshare CLONE_NEWUTS for privateUts: Operation not permitted (EPERM)",
  ]);
});
