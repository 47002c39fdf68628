// PID 1 of ours: what it does for the command, what it costs, and what can be done to it from inside.

import { assert, assertEquals, assertMatch } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../../mod.ts";
import { signalNumber } from "../../src/abi/signals.ts";
import { nsrun, stdoutOf } from "../support/cli.ts";
import { isRunning, readLine, statusField, until } from "../support/inside.ts";
import { isolatedTest } from "../support/leaks.ts";
import { type Request, runAs, stdoutAs, USERS } from "../support/nobody.ts";
import { runProgram, startProgram, type User } from "../support/program.ts";

const INIT: NamespaceOptions = { init: true };

// What stays for good is there before the first test: the launcher in memory.
if (Deno.uid() === 0) new Namespace(INIT).command("/bin/true").outputSync();

/** Runs a shell as the child of init. */
function inside(user: User, script: string, options: NamespaceOptions = {}): Promise<string> {
  return stdoutAs(user, { options: { ...INIT, ...options }, argv: ["sh", "-c", script] });
}

/** Runs a program that prints JSON. */
async function json(user: User, code: string, permissions = ["--allow-ffi"]): Promise<unknown> {
  const { code: status, stdout, stderr } = await runProgram(code, { user, permissions });
  assertEquals([status, stderr], [0, ""]);
  return JSON.parse(stdout);
}

/** The pids of processes, zombies not among them, that have a word of their own on their command line. */
function withWord(word: string): number[] {
  return [...Deno.readDirSync("/proc")].map(({ name }) => Number(name)).filter((pid) => {
    try {
      return pid > 0 && Deno.readTextFileSync(`/proc/${pid}/cmdline`).split("\0").includes(word) && isRunning(pid);
    } catch {
      return false; // It has ended.
    }
  });
}

/** Seconds to sleep that no other process has: it is found again by them. */
let unique = 100_000 + Deno.pid;

/** Processor time, in ticks. */
function cpuTime(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /s, "").split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

/**
 * Prints each zombie that is there at two looks, a tenth of a second apart. One that is there at the first only has
 * ended between the kernel's SIGCHLD and the look.
 */
const LOOK_FOR_ZOMBIES = `zombies() { grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null; }
  look() { for one in $(zombies); do sleep 0.1; grep -H "^State:.Z" $one 2>/dev/null; done; }`;

/** Each ends at once, and is nobody's but init's by then. */
const ORPHANS = `${LOOK_FOR_ZOMBIES}
  i=0; while [ $i -lt 1000 ]; do ( : & ); i=$((i+1)); [ $((i % 100)) -eq 0 ] && look; done; look; echo $i`;

for (const user of USERS) {
  isolatedTest(`init is PID 1, and the command its child, as ${user}`, async () => {
    const script = "cat /proc/1/comm; grep ^PPid: /proc/self/status; echo $PPID; cd /proc; echo [0-9]*";
    assertEquals(await inside(user, script), "init\nPPid:\t2\n1\n1 2\n");
    assertEquals(await stdoutOf(["--init", "sh", "-c", script], { user }), "init\nPPid:\t2\n1\n1 2\n");
  });

  isolatedTest(`init reaps 1,000 orphans, and no look finds a zombie, as ${user}`, async () => {
    assertEquals(await inside(user, ORPHANS), "1000\n");
    assertEquals(await stdoutOf(["--init", "sh", "-c", ORPHANS], { user }), "1000\n");
  });

  isolatedTest(`init hands on what it is sent, and the command's answer is its own, as ${user}`, async () => {
    const names = ["HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "WINCH", "CONT", "PIPE"];
    const seen = await json(
      user,
      `const names = ${JSON.stringify(names)};
       const traps = names.map((name) => "trap 'echo " + name + "' " + name).join("; ");
       const script = traps + "; trap 'exit 9' VTALRM; echo ready; while :; do sleep 0.01; done";
       const ns = new Namespace({ init: true });
       const child = ns.command("sh", { args: ["-c", script], stdout: "piped" }).spawn();
       const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
       const lines = [(await reader.read()).value.trim()];
       for (const name of names) {
         child.kill("SIG" + name);
         lines.push((await reader.read()).value.trim());
       }
       child.kill("SIGVTALRM");
       await reader.read();
       console.log(JSON.stringify([lines, (await child.status).code]));`,
    );
    assertEquals(seen, [["ready", ...names], 9]);
  });

  isolatedTest(`init ends as the command does, by exit code and by signal, as ${user}`, async () => {
    const signals = ["SIGHUP", "SIGTERM", "SIGKILL", "SIGSEGV", "SIGUSR1", "SIGALRM", "SIGABRT"] as const;
    const seen = await json(
      user,
      `const ns = new Namespace({ init: true });
       const sh = (script) => ns.command("sh", { args: ["-c", script] });
       const ends = [];
       for (const code of [0, 1, 7, 127, 255]) {
         ends.push((await sh("exit " + code).spawn().status).code, sh("exit " + code).outputSync().code);
       }
       for (const signal of ${JSON.stringify(signals)}) {
         const script = "ulimit -c 0; kill -" + signal.slice(3) + " $$";
         for (const end of [await sh(script).spawn().status, await sh(script).output(), sh(script).outputSync()]) {
           ends.push(end.signal, end.code, end.success);
         }
       }
       console.log(JSON.stringify(ends));`,
    );
    const expected = [0, 0, 1, 1, 7, 7, 127, 127, 255, 255];
    const bySignal = signals.flatMap((signal) => Array(3).fill([signal, 128 + signalNumber(signal), false]).flat());
    assertEquals(seen, [...expected, ...bySignal]);
    assertEquals((await nsrun(["--init", "sh", "-c", "exit 7"], { user })).code, 7);
    assertEquals((await nsrun(["--init", "sh", "-c", "kill -KILL $$"], { user })).code, 137);
  });

  isolatedTest(`onMainExit ends what the command leaves behind, or waits for it, as ${user}`, async () => {
    const word = String(++unique);
    const script = `sleep ${word} & (sleep 0.2; echo late) & echo early; exit 3`;
    const waited = script.replace(`sleep ${word} &`, "");
    const requests: Request[] = [
      { options: INIT, argv: ["sh", "-c", script] },
      { options: { init: true, onMainExit: "kill" }, argv: ["sh", "-c", script] },
      { options: { init: true, onMainExit: "wait" }, argv: ["sh", "-c", waited] },
    ];
    const ends = (await runAs(user, requests)).map(({ code, stdout }) => [code, stdout]);
    assertEquals(ends, [[3, "early\n"], [3, "early\n"], [3, "early\nlate\n"]]);
    assertEquals(withWord(word), []);
    const cli = async (what: string, script: string) => {
      const { code, stdout } = await nsrun(["--init", "--on-main-exit", what, "sh", "-c", script], { user });
      return [code, stdout];
    };
    assertEquals(await cli("kill", script), [3, "early\n"]);
    assertEquals(await cli("wait", waited), [3, "early\nlate\n"]);
    assertEquals(withWord(word), []);
  });

  isolatedTest(`init or no init, what cannot be executed throws the same, as ${user}`, async () => {
    const commands = ["no-such-command", "/no/such/command", "/etc/passwd", "/etc/passwd/x", "/etc", ""];
    const cases: Omit<Request, "options">[] = [
      ...commands.map((command) => ({ argv: [command] as const })),
      { argv: ["true"], commandOptions: { cwd: "/nowhere" } },
      { argv: ["true"], commandOptions: { env: { PATH: "/no:/where" } } },
    ];
    const with_ = (options: NamespaceOptions) => runAs(user, cases.map((one) => ({ options, ...one })));
    const results = await with_(INIT);
    assertEquals(
      results.map(({ error }) => error?.message),
      (await with_({ privatePid: true })).map(({ error }) => error?.message),
    );
    assert(results.every(({ error }) => error !== undefined));
  });

  isolatedTest(
    `init holds nothing, uses no heap and no processor, and ends with the command's output, as ${user}`,
    async () => {
      const code = `const ns = new Namespace({ init: true });
      const child = ns.command("sh", { args: ["-c", "exec >&- 2>&-; read x; exit 4"], stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
      await child.stdout.text();
      await child.stderr.text();
      console.log(child.pid);
      await Deno.stdin.read(new Uint8Array(1));
      await child.stdin.close();
      console.log((await child.status).code);`;
      const program = startProgram(code, { user });
      const pid = Number(await readLine(program.stdout)); // The output has ended, and init is there:
      assertEquals(statusField(pid, "Name"), "init");
      const fds = [...Deno.readDirSync(`/proc/${pid}/fd`)].map(({ name }) =>
        Deno.readLinkSync(`/proc/${pid}/fd/${name}`)
      );
      assertEquals(fds.length, 1, fds.join());
      assertMatch(fds[0]!, /^pipe:/);
      assert(!Deno.readTextFileSync(`/proc/${pid}/maps`).includes("[heap]"));
      assertEquals(statusField(pid, "Threads"), "1");
      const before = [cpuTime(pid), statusField(pid, "voluntary_ctxt_switches")];
      await new Promise((resolve) => setTimeout(resolve, 300));
      assertEquals([cpuTime(pid), statusField(pid, "voluntary_ctxt_switches")], before);
      await program.stdin.close();
      assertEquals(await readLine(program.stdout), "4");
      const [stderr] = await Promise.all([program.stderr.text(), program.stdout.cancel(), program.status]);
      assertEquals(stderr, "");
    },
  );

  isolatedTest(`init can be neither killed nor traced from inside, as ${user}`, async () => {
    // Who may read the environment of a process, or open its executable by /proc, may trace it: proc_pid_environ(5).
    const reach = "for file in environ exe mem; do cat /proc/1/$file >/dev/null 2>&1 && echo $file; done";
    const spoil = "(: >> /proc/1/exe) 2>/dev/null && echo spoilt; (: > /proc/1/mem) 2>/dev/null && echo written";
    const script = `for signal in KILL STOP; do kill -$signal 1; done; sleep 0.05; ${reach}; ${spoil}; echo alive`;
    if (user === "nobody") assertEquals(await inside(user, script, { privateUser: "self" }), "alive\n");
    else {
      const options: Request = {
        options: INIT,
        argv: ["sh", "-c", script],
        commandOptions: { uid: 65534, gid: 65534 },
      };
      assertEquals(await stdoutAs(user, options), "alive\n");
    }
    // Root of a user namespace inside is not root where the launcher was executed.
    assertEquals(await stdoutOf(["--init", "-U", "sh", "-c", script], { user }), "alive\n");
    // Not even root may change what is executed.
    assertEquals(await stdoutOf(["--init", "-U", "sh", "-c", `${spoil}; echo alive`], { user }), "alive\n");
    assertEquals(await inside(user, `${spoil.split("; ")[0]}; echo alive`, { privateUser: true }), "alive\n");
    // From the first moment on: cat(1) is the command itself.
    const early: Request = { options: { ...INIT, privateUser: "self" }, argv: ["cat", "/proc/1/environ"] };
    const results = await runAs(
      user,
      Array<Request>(40).fill(user === "root" ? { ...early, options: INIT, commandOptions: { uid: 65534 } } : early),
    );
    assertEquals(results.map(({ stdout }) => stdout).join(""), "");
  });

  isolatedTest(`init works below run() and spawn() of code, and with ids, as ${user}`, async () => {
    const privateUser = user === "nobody" ? { privateUser: true } : {};
    const options = JSON.stringify({ init: true, ...privateUser });
    const seen = await json(
      user,
      `const ns = new Namespace(${options});
       const child = ns.spawn((a) => [Deno.pid, Deno.ppid, a], { args: [5] });
       const failed = ns.spawn(() => Deno.exit(6));
       console.log(JSON.stringify([
         await ns.run((a, b) => [Deno.pid, a + b], 1, 2), await child.result, (await child.status).code,
         await failed.result.catch(({ name }) => name), (await failed.status).code,
       ]));`,
    );
    assertEquals(seen, [[2, 3], [2, 1, 5], 0, "RunError", 6]);
    const who = "id -u; id -g; cat /proc/self/uid_map";
    const self = user === "root" ? 0 : 65534;
    const lines = (await inside(user, who, { privateUser: true })).trim().split("\n").map((line) => line.trim());
    assertEquals(lines.map((line) => line.replaceAll(/ +/g, " ")), ["0", "0", `0 ${self} 1`]);
  });

  isolatedTest(`init and all below it die with the program, by kill -9 too (P9), as ${user}`, async () => {
    const word = String(++unique);
    const script = `(sleep ${word} &); setsid sleep ${word} & trap "" TERM HUP; sleep ${word}`;
    const code = `const ns = new Namespace({ init: true, onMainExit: "wait" });
      const child = ns.command("sh", { args: ["-c", ${JSON.stringify(script)}], stdout: "null" }).spawn();
      console.log(child.pid);
      await child.status;`;
    const program = startProgram(code, { user });
    const pid = Number(await readLine(program.stdout));
    await until("all sleep", () => withWord(word).length === 3);
    program.kill("SIGKILL");
    assertEquals((await program.status).signal, "SIGKILL");
    await until("all are gone", () => !isRunning(pid) && withWord(word).length === 0);
    await Promise.all([program.stdin.close().catch(() => {}), program.stdout.cancel(), program.stderr.cancel()]);
  });
}

isolatedTest("init runs a command with the ids that were asked for", async () => {
  const request: Request = {
    options: INIT,
    argv: ["sh", "-c", "id -u; id -g; id -G"],
    commandOptions: { uid: 5, gid: 6 },
  };
  assertEquals(await stdoutAs("root", request), "5\n6\n6\n");
  assertEquals(await stdoutOf(["--init", "-S5", "-G6", "sh", "-c", "id -u; id -g; id -G"]), "5\n6\n6\n");
});

isolatedTest("init: fifty at once, each with its own end, and nothing of them is left", async () => {
  const ns = new Namespace({ init: true });
  const ends = await Promise.all(Array.from({ length: 50 }, async (_, index) => {
    const { code, stdout } = await ns.command("sh", { args: ["-c", `(sleep 9 &); echo ${index}; exit ${index}`] })
      .output();
    return [code, Number(new TextDecoder().decode(stdout))];
  }));
  assertEquals(ends, Array.from({ length: 50 }, (_, index) => [index, index]));
});

isolatedTest("init that is killed from outside takes the command along, and the status says by what", async () => {
  const word = String(++unique);
  const child = new Namespace({ init: true }).command("sleep", { args: [word], stdout: "piped" }).spawn();
  await until("both are there", () => withWord(word).length === 2); // init's own command line has it, too.
  child.kill("SIGKILL");
  assertEquals(await child.status, { success: false, code: 137, signal: "SIGKILL" });
  assertEquals([withWord(word), await child.stdout.text()], [[], ""]);
});

isolatedTest("init whose command waits in onMainExit ends on the AbortSignal all the same", async () => {
  const controller = new AbortController();
  const ns = new Namespace({ init: true, onMainExit: "wait", termGraceMs: 50 });
  const args = ["-c", "sleep 600 & echo left"];
  const child = ns.command("sh", { args, stdout: "piped", signal: controller.signal }).spawn();
  assertEquals(await readLine(child.stdout), "left");
  controller.abort();
  assertEquals((await child.status).signal, "SIGKILL");
  await child.stdout.cancel();
});
