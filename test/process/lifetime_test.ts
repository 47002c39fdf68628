import { assert, assertEquals, assertLess, assertMatch } from "@std/assert";
import { Namespace } from "../../mod.ts";
import { isRunning, readLine, until } from "../support/inside.ts";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import { type ProgramOptions, startProgram } from "../support/program.ts";

/** A running program, and what it has said first: the pids of its children. */
async function started(
  code: string,
  options: ProgramOptions = {},
): Promise<{ program: Deno.ChildProcess; pids: number[] }> {
  const program = startProgram(code, options);
  await program.stdin.close();
  const line = await readLine(program.stdout);
  assertMatch(line, /^\d+( \d+)*$/, await describe(program, line));
  return { program, pids: line.split(" ").map(Number) };
}

async function describe(program: Deno.ChildProcess, line: string): Promise<string> {
  return /^\d/.test(line) ? "" : `${line}\n${await program.stderr.text()}`;
}

/** What a program says after its first line, and how it ended. */
async function ended(
  program: Deno.ChildProcess,
): Promise<{ status: Deno.CommandStatus; stdout: string; stderr: string }> {
  const [stdout, stderr, status] = await Promise.all([rest(program.stdout), program.stderr.text(), program.status]);
  return { status: { ...status }, stdout, stderr };
}

/** Not `.text()`: some of it has been read. */
async function rest(stream: ReadableStream<Uint8Array>): Promise<string> {
  return (await Array.fromAsync(
    stream.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>),
  )).join("");
}

const SLEEP = `const sleep = (options, commandOptions = {}) => new Namespace(options).command("sleep",
  { args: ["60"], stdin: "null", stdout: "null", stderr: "null", ...commandOptions }).spawn();`;

for (const user of USERS) {
  isolatedTest(`spawn() makes a child that dies with its parent, by kill -9 too (P9), as ${user}`, async () => {
    const code = `${SLEEP}
      const worlds = [{}, { privatePid: true }, { privateUser: true }, { privatePid: true, termChild: false }];
      console.log(worlds.map((options) => sleep(options).pid).join(" "));`;
    const { program, pids } = await started(code, { user });
    assertEquals(pids.map(isRunning), [true, true, true, true]);
    program.kill("SIGKILL");
    assertEquals((await ended(program)).status.signal, "SIGKILL");
    await until("the children are gone", () => !pids.some(isRunning));
  });

  isolatedTest(`what is in a sandbox dies with its parent, whatever it does about that, as ${user}`, async () => {
    const prctl = { x86_64: 157, aarch64: 167 }[Deno.build.arch]; // PR_SET_PDEATHSIG, to none.
    const code = `
      for (const options of [{}, { seccomp: false }]) {
        const script = "syscall(${prctl}, 1, 0, 0, 0, 0); $SIG{$_} = 'IGNORE' for keys %SIG; print qq(ready); close STDOUT; sleep 60";
        const args = ["-e", script];
        const child = Namespace.sandbox(options).command("perl", { args, stdin: "null", stdout: "piped" }).spawn();
        console.error(await child.stdout.text());
        (globalThis.pids ??= []).push(child.pid);
      }
      console.log(pids.join(" "));
      setTimeout(() => {}, 60_000);`;
    const { program, pids } = await started(code, { user });
    assertEquals(pids.map(isRunning), [true, true]);
    program.kill("SIGKILL");
    const { stderr } = await ended(program);
    assertEquals(stderr, "ready\nready\n");
    await until("the children are gone", () => !pids.some(isRunning));
  });

  isolatedTest(`termChild: false leaves signals to the program; the child dies with it (P10), as ${user}`, async () => {
    const code = `${SLEEP} console.log(sleep({ privatePid: true, termChild: false }).pid);`;
    const { program, pids } = await started(code, { user });
    program.kill("SIGTERM");
    assertEquals((await ended(program)).status.signal, "SIGTERM");
    await until("the child is gone", () => !pids.some(isRunning));
  });

  isolatedTest(`termChild ends a PID 1 that sleeps, and the program goes on (seed 7, 8, 9), as ${user}`, async () => {
    for (const signal of ["SIGALRM", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const) {
      if (user === "nobody" && signal !== "SIGALRM" && signal !== "SIGTERM") continue;
      // The shell is PID 1 and has started another process: neither of them goes on after its sleep.
      const code = `const ns = new Namespace({ privatePid: true, termGraceMs: 50 });
        const script = "(sleep 60; echo another went on) & sleep 60; echo went on";
        const child = ns.command("sh", { args: ["-c", script], stdout: "piped" }).spawn();
        console.log(child.pid);
        const { code, signal } = await child.status;
        const { stdout } = await ns.command("sh", { args: ["-c", "echo $$"] }).output();
        console.log(code, signal, await child.stdout.text(), new TextDecoder().decode(stdout));`;
      const { program } = await started(code, { user });
      program.kill(signal);
      const { status, stdout, stderr } = await ended(program);
      assertEquals([status.code, stdout, stderr], [0, "137 SIGKILL  1\n\n", ""], signal);
    }
  });
}

isolatedTest("spawn() lets go of the program's signals when the child has ended", async () => {
  const code = `const { code } = await new Namespace().command("true").spawn().status;
    console.log(code);
    await new Promise((resolve) => setTimeout(resolve, 60_000));`;
  const { program } = await started(code);
  program.kill("SIGTERM");
  assertEquals((await ended(program)).status.signal, "SIGTERM");
});

isolatedTest("outputSync() makes a child that dies with a program that is killed meanwhile", async () => {
  for (const signal of ["SIGKILL", "SIGTERM"] as const) {
    const code = `new Namespace({ privatePid: true }).command("sleep", { args: ["61"] }).outputSync();`;
    const program = startProgram(code);
    const children = () => {
      try {
        return Deno.readTextFileSync(`/proc/${program.pid}/task/${program.pid}/children`).trim().split(" ").map(Number);
      } catch {
        return [];
      }
    };
    const isSleep = (pid: number) => pid > 0 && Deno.readTextFileSync(`/proc/${pid}/cmdline`) === "sleep\x0061\0";
    await until("the child runs", () => children().some(isSleep));
    const pids = children();
    program.kill(signal);
    await Promise.all([ended(program), program.stdin.close().catch(() => {})]);
    assertEquals((await program.status).signal, signal);
    await until("the child is gone", () => !pids.some(isRunning));
  }
});

isolatedTest("termChild ends a child that a signal meets right at its start (P15)", async () => {
  // The signal is there before spawn() has come back to the event loop; between clone and exec for all the kernel knows.
  const code = `console.log(0);
    const statuses = [];
    for (let round = 0; round < 10; round++) {
      const child = new Namespace({ privatePid: round % 2 === 0, termGraceMs: 20 }).command("sleep", { args: ["60"] }).spawn();
      Deno.kill(Deno.pid, "SIGALRM");
      statuses.push((await child.status).signal);
    }
    console.log(statuses.join());`;
  const { program } = await started(code, { permissions: ["-A"] });
  const { status, stdout, stderr } = await ended(program);
  assertEquals([status.code, stderr], [0, ""]);
  assertEquals(stdout.trim(), Array.from({ length: 10 }, (_, round) => round % 2 ? "SIGTERM" : "SIGKILL").join());
});

isolatedTest("termChild ends all children that run, and children of others not", async () => {
  const code = `${SLEEP}
    const ours = [sleep({}), sleep({ privatePid: true, termGraceMs: 30 })];
    const kept = sleep({ termChild: false });
    console.log(...ours.map(({ pid }) => pid), kept.pid);
    console.log((await Promise.all(ours.map(({ status }) => status))).map(({ signal }) => signal).join());
    kept.kill("SIGINT");
    console.log((await kept.status).signal);`;
  const { program } = await started(code);
  program.kill("SIGTERM");
  const { status, stdout } = await ended(program);
  assertEquals([status.code, stdout], [0, "SIGTERM,SIGKILL\nSIGINT\n"]);
});

/** A PID 1 that has set its traps when it says so. */
function trapping(trap: string, termGraceMs: number, signal?: AbortSignal): Deno.ChildProcess {
  return new Namespace({ privatePid: true, termGraceMs }).command("sh", {
    args: ["-c", `${trap}; echo ready; while :; do sleep 60 & wait $!; done`],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
    ...(signal === undefined ? {} : { signal }),
  }).spawn();
}

isolatedTest("AbortSignal gives the child SIGTERM, which it may use to end as it likes", async () => {
  const controller = new AbortController();
  const child = trapping("trap 'exit 7' TERM", 60_000, controller.signal);
  assertEquals(await readLine(child.stdout), "ready");
  controller.abort();
  assertEquals(await child.status, { success: false, code: 7, signal: null });
  await child.stdout.cancel();
});

isolatedTest("AbortSignal gives the child SIGKILL after termGraceMs, and not before", async () => {
  const controller = new AbortController();
  const child = trapping("trap '' TERM", 150, controller.signal);
  assertEquals(await readLine(child.stdout), "ready");
  const before = performance.now();
  controller.abort();
  assertEquals(await child.status, { success: false, code: 137, signal: "SIGKILL" });
  const elapsed = performance.now() - before;
  assert(elapsed >= 149 && elapsed < 1_500, `${elapsed} ms`);
  await child.stdout.cancel();
});

isolatedTest("asyncDispose ends the child and waits for that", async () => {
  let pid = 0;
  let status: Promise<Deno.CommandStatus>;
  {
    await using child = trapping("trap 'exit 9' TERM", 60_000);
    assertEquals(await readLine(child.stdout), "ready");
    await child.stdout.cancel();
    ({ pid, status } = child);
  }
  assert(!isRunning(pid));
  assertEquals((await status).code, 9);
  {
    await using child = trapping("trap '' TERM", 10);
    await child.stdout.cancel();
    ({ status } = child);
  }
  assertEquals((await status).signal, "SIGKILL");
});

isolatedTest("output() loses no time to signals when the child ends by itself (P1)", async () => {
  const command = new Namespace({ privatePid: true, termGraceMs: 60_000 }).command("/bin/true");
  const before = performance.now();
  for (let round = 0; round < 20; round++) await command.output();
  assertLess(performance.now() - before, 60_000);
});

isolatedTest("unref() lets the program end before the child, which ends with it", async () => {
  const code = `${SLEEP}
    const child = sleep({ privatePid: true }, { stdout: "piped" });
    child.unref();
    child.stdout.getReader().read();
    console.log(child.pid);`;
  const { program, pids } = await started(code);
  const begin = performance.now();
  const { status, stderr } = await ended(program);
  assertEquals([status, stderr], [{ success: true, code: 0, signal: null }, ""]);
  assertLess(performance.now() - begin, 30_000, "it did not wait for the child's 60 s");
  await until("the child is gone", () => !pids.some(isRunning));
});

isolatedTest("unref() still tells how the child ended, while something else keeps the program alive", async () => {
  const child = new Namespace().command("sh", { args: ["-c", "read -r x; exit 6"], stdin: "piped" }).spawn();
  child.unref();
  let status: Deno.CommandStatus | undefined;
  child.status.then((ended) => status = ended);
  await child.stdin.close();
  await until("the status is known", () => status !== undefined);
  assertEquals(status, { success: false, code: 6, signal: null });
});

isolatedTest("ref() keeps the program alive until the child has ended, and so it is from the start", async () => {
  const code =
    `const child = (script) => new Namespace().command("sh", { args: ["-c", script], stdin: "null" }).spawn();
    console.log(0);
    child("sleep 0.2; echo first");
    const second = child("sleep 0.3; echo second");
    second.unref();
    second.ref();`;
  const { program } = await started(code);
  assertEquals((await ended(program)).stdout, "first\nsecond\n");
});
