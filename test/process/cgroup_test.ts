// A command's own cgroup: that it is born there, that nothing is left of it whatever ends it, what it limits, and why it
// cannot be had.

import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { Namespace, NamespaceError, type NamespaceOptions } from "../../mod.ts";
import { launcherFd } from "../../src/process/init.ts";
import {
  canLimit,
  cgroupsIn,
  type Delegated,
  isRemoved,
  OWN_CGROUP,
  withDelegated,
  writeTo,
} from "../support/cgroup.ts";
import { nsrun, startNsrun } from "../support/cli.ts";
import { isRunning, readLine, until } from "../support/inside.ts";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import { trace } from "../support/strace.ts";
import { programArgv, type ProgramOutput, runArgv, runProgram, type User } from "../support/program.ts";

launcherFd(); // It is kept: no test is to be blamed for that.

/** Before Linux 5.14 nothing kills all of a cgroup, and there is none to be had. */
const IS_OLD = (([major, minor]) => major! < 5 || major === 5 && minor! < 14)(Deno.osRelease().split(".").map(Number));

function cgroupTest(name: string, fn: () => void | Promise<void>): void {
  if (IS_OLD) Deno.test({ name, ignore: true, fn });
  else isolatedTest(name, fn);
}

if (IS_OLD) {
  isolatedTest("a kernel that cannot kill all of a cgroup is refused, and nothing is left", () => {
    const ns = new Namespace({ cgroup: true });
    assertThrows(() => ns.command("true").outputSync(), NamespaceError, "takes Linux 5.14");
    assertEquals(cgroupsIn(OWN_CGROUP), []);
  });
}

/** Says the cgroup of version 2. */
const SHOW = "sed -n 's/^0:://p' /proc/self/cgroup";
/** Leaves a process behind that belongs to nobody any more and holds stdout; says its pid. */
const LEAVE = "setsid sleep 1000 & echo $!";

/** Runs a program of either user's in the cgroup that was given to nobody. */
function runIn(cgroup: Delegated, code: string, user: User): Promise<ProgramOutput> {
  return runArgv(cgroup.argv(programArgv(code, { user, permissions: ["-A"] })));
}

function lines(bytes: Uint8Array): string[] {
  return new TextDecoder().decode(bytes).trim().split("\n");
}

for (const user of USERS) {
  cgroupTest(`diagnose() tells whether there is a cgroup to be had, and with which limits, as ${user}`, async () => {
    const program = `import { diagnose } from "./src/diagnose.ts";
      const { features } = await diagnose();
      console.log(JSON.stringify(features.filter(({ name }) => name.startsWith("cgroup"))));`;
    const outside = await runProgram(program, { user });
    const [own] = JSON.parse(outside.stdout);
    assertEquals([own.works, own.how], [user === "root", "tried"]);
    if (!own.works) assertMatch(own.remedy, /Delegate=yes/);
    await withDelegated(async (cgroup) => {
      const { stdout, stderr } = await runIn(cgroup, program, user);
      assertEquals(stderr, "");
      const [own, limits] = JSON.parse(stdout);
      assertEquals([own.works, limits.works, limits.how], [true, canLimit(), "read"]);
      if (!canLimit()) assertMatch(limits.remedy, /version 1.*cgroup_no_v1=all/);
    });
  });

  cgroupTest(`command() is born in a cgroup of its own, which is gone when it has ended, as ${user}`, async () => {
    await withDelegated(async (cgroup) => {
      const { stdout, stderr } = await runIn(
        cgroup,
        `const text = (bytes) => new TextDecoder().decode(bytes).trim();
         const show = ["-c", ${JSON.stringify(SHOW)}];
         const parent = ${JSON.stringify(cgroup.folder)};
         const of = (options) => new Namespace(options).command("sh", { args: show });
         const limits = { hugetlbMax: { "2MB": "4m" } };
         const outputs = [
           of({ cgroup: { parent } }).outputSync(),
           await of({ cgroup: { parent, ...limits } }).output(),
           of({ cgroup: limits }).outputSync(),
           of({ cgroup: true }).outputSync(),
           of({ cgroup: true, init: true }).outputSync(),
           of({ cgroup: true, privateUser: true, privatePid: true, privateTmp: true }).outputSync(),
           of({ cgroup: true, privateCgroup: true, privateUser: "self" }).outputSync(),
         ];
         for (const { success, stdout, usage } of outputs) console.log(success, usage.cpuTime > 0, text(stdout));
         console.log(new Namespace().command("sh", { args: show }).outputSync().usage);
         for await (const { isDirectory, name } of Deno.readDir(parent)) if (isDirectory) console.log(name);
         for await (const { isDirectory, name } of Deno.readDir(parent + "/start")) if (isDirectory) console.log(name);`,
        user,
      );
      assertEquals(stderr, "");
      const path = cgroup.folder.slice(cgroup.folder.lastIndexOf("/delegated"));
      const said = stdout.replaceAll(/namespace-[0-9a-f-]{36}/g, "own").replaceAll(path, "").split("\n");
      const inside = "true true /start/own";
      assertEquals(said, [
        ...["true true /own", "true true /own", "true true /own"], // It is beside: "start" has processes.
        ...[inside, inside, inside, "true true /"],
        ...["undefined", "start", ""],
      ]);
    });
  });

  cgroupTest(`kill -9 of this process leaves neither cgroup nor what is in it, as ${user}`, async () => {
    await withDelegated(async (cgroup) => {
      const starts = {
        spawn: programArgv(
          `const child = new Namespace({ cgroup: true }).command("sh", { args: ["-c", "${LEAVE}; wait"] }).spawn();
           await child.status;`,
          { user, permissions: ["-A"] },
        ),
        sync: programArgv(
          `new Namespace({ cgroup: true }).command("sh", { args: ["-c", "(${LEAVE}) >&2; sleep 1000"], stderr: "inherit" })
             .outputSync();`,
          { user, permissions: ["-A"] },
        ),
        run: programArgv(
          `await new Namespace({ cgroup: true }).run(async () => {
             const child = new Deno.Command("setsid", { args: ["sleep", "1000"] }).spawn();
             console.log(child.pid);
             await child.status;
           });`,
          { user, permissions: ["-A"] },
        ),
        nsrun: ["--cgroup", "sh", "-c", `${LEAVE}; wait`],
        init: ["--cgroup", "--init", "sh", "-c", `${LEAVE} >/dev/null; echo 0; wait`],
      };
      for (const [name, argv] of Object.entries(starts)) {
        const program = argv[0]!.startsWith("--")
          ? startNsrun(argv, { user, around: cgroup.argv([]) })
          : start(cgroup.argv(argv));
        const left = Number(await readLine(name === "sync" ? program.stderr : program.stdout));
        assertEquals(cgroupsIn(cgroup.start).length, 1, name);
        if (left > 0) assert(isRunning(left), name);
        program.kill("SIGKILL");
        await program.status;
        await until(`${name}: the cgroup is gone`, () => cgroupsIn(cgroup.start).length === 0, 10_000);
        if (left > 0) assertEquals(isRunning(left), false, name);
        await Promise.all([program.stdin.close(), program.stdout.cancel(), program.stderr.cancel()]);
      }
    });
  });

  cgroupTest(`nsrun --cgroup ends all with its command, and removes the cgroup, as ${user}`, async () => {
    await withDelegated(async (cgroup) => {
      const run = async (...words: string[]) => {
        const { code, stdout, stderr } = await runNsrun(cgroup, words, user);
        assertEquals(cgroupsIn(cgroup.start).length + cgroupsIn(cgroup.folder).length, 0, words.join(" "));
        return [code, stdout.replace(/namespace-[0-9a-f-]{36}/, "own").replace(/^.*\/start/, ""), stderr];
      };
      assertEquals(await run("--cgroup", "sh", "-c", `${SHOW}; exit 5`), [5, "/own\n", ""]);
      assertEquals(await run("--cgroup", "--init", "sh", "-c", `${SHOW}; kill -9 $$`), [137, "/own\n", ""]);
      assertEquals(await run("--cgroup", "-p", "-C", "sh", "-c", `${SHOW}; setsid sleep 1000 &`), [0, "/\n", ""]);
      // What holds stdout is gone, or this would wait for it.
      assertEquals((await run("--cgroup", "sh", "-c", "setsid sleep 1000 & exit 4")).slice(0, 2), [4, ""]);
      assertEquals((await run("--cgroup", "--timeout", "0.3", "sh", "-c", "setsid sleep 1000 & wait"))[0], 124);
      assertEquals((await run("--cgroup", "/nowhere/at-all"))[0], 127);
      assertEquals((await run("--cgroup", "-m", "--bind", "/nowhere/at-all:/mnt", "true"))[0], 125);
    });
  });

  cgroupTest(`reexec() and worker() have a cgroup of their own, as ${user}`, async () => {
    await withDelegated(async (cgroup) => {
      const show =
        `const show = () => Deno.readTextFileSync("/proc/self/cgroup").split("\\n").findLast((line) => line.startsWith("0::"));`;
      const again = await runIn(
        cgroup,
        `${show} await new Namespace({ cgroup: true }).reexec(); console.log(show());`,
        user,
      );
      assertMatch(again.stdout, /^0::.*\/start\/namespace-[0-9a-f-]{36}\n$/, again.stderr);
      const worker = await runIn(
        cgroup,
        `${show}
         await using worker = await new Namespace({ cgroup: true, privatePid: true }).worker();
         console.log(await worker.run(show));`,
        user,
      );
      assertMatch(worker.stdout, /^0::.*\/start\/namespace-[0-9a-f-]{36}\n$/, worker.stderr);
      assertEquals(cgroupsIn(cgroup.start), []);
    });
  });
}

/** A program with pipes. */
function start([command, ...args]: readonly string[]): Deno.ChildProcess {
  return new Deno.Command(command!, { args, stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
}

async function runNsrun(cgroup: Delegated, words: readonly string[], user: User): Promise<ProgramOutput> {
  return await nsrun(words, { user, around: cgroup.argv([]) });
}

cgroupTest("what a command has left running is killed with it", async () => {
  const ns = new Namespace({ cgroup: true });
  const args = ["-c", `${LEAVE}; (sleep 1000 &); exit 3`];
  const before = cgroupsIn(OWN_CGROUP);
  const sync = ns.command("sh", { args }).outputSync(); // It would wait for the end of stdout.
  assertEquals([sync.code, isRunning(Number(lines(sync.stdout)[0]))], [3, false]);
  const later = await ns.command("sh", { args }).output();
  assertEquals([later.code, isRunning(Number(lines(later.stdout)[0]))], [3, false]);

  await using child = ns.command("sh", { args: ["-c", `${LEAVE}; wait`], stdout: "piped" }).spawn();
  const left = Number(await readLine(child.stdout));
  assertEquals(cgroupsIn(OWN_CGROUP).length, before.length + 1);
  child.kill("SIGKILL");
  assertEquals((await child.status).signal, "SIGKILL");
  assertEquals(isRunning(left), false);
  assertEquals(cgroupsIn(OWN_CGROUP), before);
  await child.stdout.cancel();
});

cgroupTest("a command that kills the keeper of its cgroup gains nothing", async () => {
  const kill = `for dir in /proc/[0-9]*; do
    [ "$(cat $dir/comm 2>/dev/null)" = cgroup-keeper ] && [ "$(cut -d' ' -f4 $dir/stat)" = $PPID ] && kill -9 \${dir#/proc/}
  done`;
  const args = ["-c", `${LEAVE}; ${kill}; exit 3`];
  const ns = new Namespace({ cgroup: true });
  for (const output of [ns.command("sh", { args }).outputSync(), await ns.command("sh", { args }).output()]) {
    const left = Number(lines(output.stdout)[0]);
    assertEquals([[3, 137].includes(output.code), left > 0, isRunning(left)], [true, true, false]);
    assertEquals(cgroupsIn(OWN_CGROUP), []);
  }
  const { code, stdout } = await nsrun(["--cgroup", "sh", "-c", `${LEAVE}; ${kill}; exit 3`]);
  assertEquals([code, Number(stdout) > 0, isRunning(Number(stdout))], [3, true, false]);
  for (const name of cgroupsIn(OWN_CGROUP)) await until("it is empty", () => isRemoved(`${OWN_CGROUP}/${name}`));
});

cgroupTest("abort and dispose end all that is in the cgroup", async () => {
  const ns = new Namespace({ cgroup: true, termGraceMs: 10 });
  const controller = new AbortController();
  const args = ["-c", `trap "" TERM; ${LEAVE}; while :; do sleep 1; done`];
  const child = ns.command("sh", { args, stdout: "piped", signal: controller.signal }).spawn();
  const left = Number(await readLine(child.stdout));
  controller.abort();
  assertEquals((await child.status).signal, "SIGKILL");
  assertEquals(isRunning(left), false);
  await child.stdout.cancel();
  assertEquals(cgroupsIn(OWN_CGROUP), []);
});

cgroupTest("cgroups that a command makes in its own are removed with it", async () => {
  const script = `cd ${OWN_CGROUP}/$(${SHOW}) && mkdir -p a/b/c a/d .e && echo 0 > a/b/cgroup.procs && ls -d a/b/c`;
  const { code, stdout } = await new Namespace({ cgroup: true }).command("sh", { args: ["-c", script] }).output();
  assertEquals([code, lines(stdout)], [0, ["a/b/c"]]);
  assertEquals(cgroupsIn(OWN_CGROUP), []);
});

cgroupTest("a command that does not start leaves no cgroup", () => {
  assertThrows(() => new Namespace({ cgroup: true }).command("/nowhere/at-all").spawn(), Deno.errors.NotFound);
  const ns = new Namespace({ cgroup: true, mounts: [{ type: "bind", source: "/nowhere/at-all", target: "/mnt" }] });
  assertThrows(() => ns.command("true").outputSync(), Error, "/nowhere/at-all");
  assertThrows(
    () => new Namespace({ cgroup: true, init: true }).command("/nowhere/at-all").spawn(),
    Deno.errors.NotFound,
  );
  assertEquals(cgroupsIn(OWN_CGROUP), []);
});

cgroupTest("a Worker that is terminated leaves no cgroup", async () => {
  const code = `
    const source = \`import { Namespace } from "\${import.meta.resolve("./mod.ts")}";
      const child = new Namespace({ cgroup: true }).command("sh", { args: ["-c", "${LEAVE}; wait"], stdout: "piped" }).spawn();
      const { value } = await child.stdout.getReader().read();
      postMessage(new TextDecoder().decode(value));\`;
    const worker = new Worker(URL.createObjectURL(new Blob([source])), { type: "module" });
    const { data } = await new Promise((resolve) => worker.onmessage = resolve);
    console.log(Number(data));
    worker.terminate();
    const children = () => Deno.readTextFileSync(\`/proc/self/task/\${Deno.pid}/children\`);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    console.log([...Deno.readDirSync(${
    JSON.stringify(OWN_CGROUP)
  })].filter(({ name }) => name.startsWith("namespace-")).length);
    console.log(JSON.stringify(children()));`;
  const { stdout, stderr } = await runProgram(code, { permissions: ["-A"] });
  const [left, cgroups, children] = stdout.trim().split("\n");
  assertEquals([cgroups, children], ["0", `""`], stderr);
  assertEquals(isRunning(Number(left)), false);
});

cgroupTest("a cgroup that cannot be had is refused with its cause, and nothing is left", async () => {
  const refused = (options: NamespaceOptions) => {
    const error = assertThrows(() => new Namespace(options).command("true").outputSync(), Error);
    const { name, message, code, option, hint } = error as Error & Record<string, string>;
    assertEquals(name, "NamespaceError");
    return { message, code, option, hint: hint! };
  };
  const nowhere = refused({ cgroup: { parent: "/sys/fs/cgroup/nowhere" } });
  assertEquals([nowhere.code, nowhere.option], ["ENOENT", "cgroup"]);
  const folder = refused({ cgroup: { parent: "/tmp" } });
  assertMatch(folder.hint, /^This is no cgroup of version 2/);
  if (!canLimit()) {
    const pids = refused({ cgroup: { pidsMax: 5 } });
    assertEquals([pids.code, pids.option], ["ENOENT", "cgroup.pidsMax"]);
    assertMatch(pids.hint, /pids in cgroups of version 1, and a controller can be in one version only/);
  }
  await withDelegated(async ({ folder, start }) => {
    const size = refused({ cgroup: { parent: folder, hugetlbMax: { "3KB": 5 } } });
    assertEquals([size.code, size.option], ["ENOENT", "cgroup.hugetlbMax"]);
    for (const controller of Deno.readTextFileSync(`${start}/cgroup.controllers`).trim().split(" ")) {
      writeTo(folder, "cgroup.subtree_control", `-${controller}`);
    }
    const sleeper = new Deno.Command("sleep", { args: ["1000"] }).spawn();
    writeTo(folder, "cgroup.procs", String(sleeper.pid));
    const busy = refused({ cgroup: { parent: folder, hugetlbMax: { "2MB": "4m" } } });
    assertEquals([busy.code, busy.option], ["EBUSY", "cgroup"]);
    assertStringIncludes(busy.hint, `"${folder}" has processes of its own`);
    assertEquals(cgroupsIn(folder), []);
    sleeper.kill("SIGKILL");
    await sleeper.status;
    const threads = `${folder}/threads`;
    Deno.mkdirSync(threads);
    writeTo(threads, "cgroup.type", "threaded");
    const threaded = refused({ cgroup: { parent: threads } });
    assertMatch(threaded.hint, /takes threads only/);
    Deno.removeSync(threads);
  });
  assertEquals(cgroupsIn(OWN_CGROUP), []);
});

cgroupTest("who may not make cgroups is told how to be given one", async () => {
  const code = (cgroup: string) =>
    `try { new Namespace({ cgroup: ${cgroup} }).command("true").outputSync(); }
     catch (error) { console.log(error.name, error.code, error.option, error.hint); }`;
  const own = await runProgram(code("true"), { user: "nobody" });
  assertMatch(own.stdout, /^NamespaceError EACCES cgroup This user may not make cgroups in/, own.stderr);
  assertStringIncludes(own.stdout, "systemd-run --user --scope -p Delegate=yes");
  await withDelegated(async ({ folder }) => {
    // It may make one there, and may not be put into it from where it is.
    const other = await runProgram(code(`{ parent: "${folder}" }`), { user: "nobody" });
    assertMatch(
      other.stdout,
      /^NamespaceError EACCES cgroup The kernel puts a process into a cgroup for who/,
      other.stderr,
    );
    assertEquals(cgroupsIn(folder), []);
  });
  const { code: status, stderr } = await nsrun(["--cgroup", "true"], { user: "nobody" });
  assertEquals(status, 125);
  assertMatch(stderr, /for --cgroup: Permission denied \(EACCES\)\nThis user may not make cgroups/);
});

cgroupTest("build() and setup() refuse cgroup", async () => {
  const ns = new Namespace({ cgroup: true });
  await assertRejects(() => ns.build("true"), TypeError, `Option "cgroup" cannot be built into an executable`);
  assertThrows(() => ns.setup(), TypeError, `Cannot set up "cgroup" in a running process`);
});

Deno.test("explain() tells how the cgroup is made, and that the child is born in it", () => {
  const explanation = new Namespace({ cgroup: { pidsMax: 5, cpuMax: 0.5 }, privateCgroup: true })
    .explain("/bin/true", { as: { uid: 0 } });
  assertEquals(explanation.clone.text, "clone(CLONE_INTO_CGROUP)");
  assertEquals(explanation.clone.option, "cgroup");
  const texts = explanation.before.map(({ text }) => text);
  assert(texts.includes(`write(<openat>, "50000 100000", 12)`), texts.join("\n"));
  assert(texts.indexOf("clone(0)") < texts.indexOf("mkdirat(<openat>, <name>, 0755)"));
  assertEquals(explanation.steps.filter(({ option }) => option === "privateCgroup").map(({ text }) => text), [
    "unshare(CLONE_NEWCGROUP)",
  ]);
  assertStringIncludes(String(explanation), "begin the keeper".replace("b", "B"));
});

cgroupTest("explain() says of the cgroup what strace sees", async () => {
  await withDelegated(async ({ folder }) => {
    const options = { cgroup: { parent: folder, hugetlbMax: { "2MB": "4m" } }, privateCgroup: true };
    const { code, stdout, stderr, threads } = await trace(
      `const ns = new Namespace(${JSON.stringify(options)});
       new Namespace({ init: true }).command("true").outputSync(); // The launcher is in memory now.
       console.log(JSON.stringify([Deno.pid, ns.explain("/bin/true")]));
       const child = ns.command("/bin/true").spawn();
       console.log(child.pid);
       await child.status;`,
      { calls: ["openat", "faccessat", "mkdirat", "fcntl", "write", "clone3", "unshare"], permissions: ["-A"] },
    );
    assertEquals(code, 0, stderr);
    const [said, pid] = stdout.trim().split("\n").map((line) => JSON.parse(line));
    const [parent, { before, clone }] = said;
    const calls = threads.get(parent)!;
    const first = calls.findIndex(({ args }) => args[1]?.value === folder);
    const last = calls.findIndex(({ call, result }) => call === "clone3" && result === pid);
    const made = calls.slice(first, last);
    const named = (call: string, text = "") => {
      const shown = text.startsWith('"') ? text.replace(/^"namespace-.*/, "<name>").slice(0, 65).replace(/"$/, "") : "";
      return `${call} ${text === "<name>" ? text : shown}`;
    };
    assertEquals(
      made.map(({ call, args }) => named(call.replace("clone3", "clone"), args[1]?.text)),
      before.map(({ call, args }: { call: string; args: string[] }) => named(call, args[1])),
    );
    assertEquals(clone.text, "clone(CLONE_INTO_CGROUP)");
    assertMatch(calls[last]!.line, /flags=(?:0x2|[^,]*CLONE_INTO_CGROUP)[^,]*,.*cgroup=(?!0\b)\d+/);
    const child = threads.get(pid)!.filter(({ call }) => call === "unshare").map(({ args }) => args[0]!.text);
    assertEquals(child, ["CLONE_NEWCGROUP"]);
  });
});

/** A test of limits: the kernel has to have them. */
function limitTest(name: string, fn: () => Promise<void>): void {
  if (canLimit()) cgroupTest(name, fn);
  else Deno.test({ name, ignore: true, fn });
}

for (const user of USERS) {
  limitTest(`pidsMax, memoryMax and cpuMax limit all of the command, as ${user}`, async () => {
    await withDelegated(async (cgroup) => {
      const { stdout, stderr } = await runIn(
        cgroup,
        `const sh = (limits, script, more = {}) => {
           const command = new Namespace({ cgroup: limits, ...more }).command("bash", { args: ["-c", script] });
           const { code, signal, usage, stdout, stderr } = command.outputSync();
           return { code, signal, usage, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
         };
         const pids = sh({ pidsMax: 4 }, "for i in 1 2 3 4 5 6; do sleep 1000 & done; jobs | wc -l");
         console.log(/Resource temporarily unavailable|fork: retry/.test(pids.text), pids.usage.pidsPeak ?? 4);
         const memory = sh({ memoryMax: "32m", memorySwapMax: 0 }, "exec perl -e '$a = q(x) x (256 << 20); print length $a'");
         console.log(memory.signal, memory.usage.oomKills, (memory.usage.memoryPeak ?? 1 << 25) <= 1 << 25);
         const enough = sh({ memoryMax: "64m" }, "echo enough");
         console.log(enough.code, enough.usage.oomKills, enough.text.trim());
         const cpu = sh(
           { cpuMax: 0.1 },
           "cat " + ${
          JSON.stringify(cgroup.folder)
        } + "/namespace-*/cpu.max; for ((i = 0; i < 30000; i++)); do :; done; " +
             "grep -c 'nr_throttled [1-9]' " + ${JSON.stringify(cgroup.folder)} + "/namespace-*/cpu.stat",
         );
         console.log(cpu.text.trim().split("\\n").join(", "));
         const all = sh({ memoryHigh: "64m", cpuWeight: 50, pidsMax: "max", cpusetCpus: "0" }, "nproc", { init: true });
         console.log(all.code, all.text.trim());
         try { sh({ pidsMax: 1 }, "true", { init: true }); } catch (error) { console.log(error.message); }`,
        user,
      );
      const [pids, memory, enough, cpu, all, ...rest] = stdout.trim().split("\n");
      assertEquals([pids, memory, enough], ["true 4", "SIGKILL 1 true", "0 0 enough"], stderr);
      assertEquals([cpu, all], ["10000 100000, 1", "0 1"], stderr);
      assertMatch(rest.join(" "), /Resource temporarily unavailable/);
      assertEquals(cgroupsIn(cgroup.folder), []);
    });
  });

  limitTest(`nsrun says that a limit on memory has killed the command, as ${user}`, async () => {
    await withDelegated(async (cgroup) => {
      const words = ["--memory-max", "32m", "--memory-swap-max", "0", "perl", "-e", "$a = q(x) x (256 << 20)"];
      const { code, stderr } = await runNsrun(cgroup, words, user);
      assertEquals(code, 137);
      assertMatch(stderr, /^nsrun: the kernel has killed a process of the command's, which was over the memory limit/);
      const enough = await runNsrun(cgroup, ["--pids-max=9", "--cpu-max=50000/100000", "-C", "sh", "-c", SHOW], user);
      assertEquals([enough.code, enough.stdout, enough.stderr], [0, "/\n", ""]);
    });
  });
}
