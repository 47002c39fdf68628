import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { Namespace } from "../../mod.ts";
import { isRunning, statusField, until } from "../support/inside.ts";
import { isolatedTest } from "../support/leaks.ts";
import { stdoutAs, USERS } from "../support/nobody.ts";
import { programArgv, runArgv, runProgram } from "../support/program.ts";

const utf8 = new TextDecoder();

const STATUS = ["cat", "/proc/self/status"] as const;

function field(status: string, name: string): string {
  return new RegExp(`^${name}:[ \\t]*(.*)$`, "m").exec(status)?.[1] ?? "";
}

for (const user of USERS) {
  isolatedTest(`spawn() begins with default signals and none blocked, as ${user}`, async () => {
    for (const options of [{}, { privatePid: true }, { termChild: false }]) {
      const status = await stdoutAs(user, { options, argv: STATUS });
      // Deno itself ignores SIGPIPE and handles some: that is what this is not to inherit.
      for (const name of ["SigBlk", "SigIgn", "SigCgt", "SigPnd"]) {
        assertEquals([name, field(status, name)], [name, "0000000000000000"]);
      }
    }
  });

  isolatedTest(`spawn() passes on no descriptor but 0, 1 and 2, as ${user}`, async () => {
    for (const options of [{}, { privatePid: true, privateNet: true, privateTime: { boottime: 1 } }]) {
      // 3 is the folder that ls itself has opened: with one more passed on, it would be 4.
      assertEquals(await stdoutAs(user, { options, argv: ["ls", "/proc/self/fd"] }), "0\n1\n2\n3\n");
    }
  });

  isolatedTest(`spawn() passes on nothing that the caller has inherited open, as ${user}`, async () => {
    const code = `const show = (options) =>
        new TextDecoder().decode(new Namespace(options).command("ls", { args: ["/proc/self/fd"] }).outputSync().stdout);
      console.log(show({}) + show({ privatePid: true }));`;
    // 7 and 42 are not close-on-exec here: the shell has opened them for whatever it starts.
    const script = 'exec "$@" 7</etc/passwd 42>/dev/null';
    const { stdout, stderr } = await runArgv(["bash", "-c", script, "bash", ...programArgv(code, { user })]);
    assertEquals([stdout, stderr], ["0\n1\n2\n3\n0\n1\n2\n3\n\n", ""]);
  });

  isolatedTest(`spawn() connects 0, 1 and 2 where the caller has them closed, as ${user}`, async () => {
    const code = `const script = "readlink /proc/$$/fd/0; echo out; echo err >&2";
      const run = (options, command) => {
        const { stdout, stderr } = new Namespace(options).command("sh", { args: ["-c", script], ...command }).outputSync();
        return [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
      };
      const answers = [run({}, {}), run({ privatePid: true }, {}), run({}, { stdin: "inherit" })];
      const child = new Namespace().command("cat", { stdin: "piped", stdout: "piped" }).spawn();
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode("through"));
      await writer.close();
      answers.push(await child.stdout.text(), (await child.status).code);
      Deno.writeTextFileSync(Deno.args[0], JSON.stringify(answers));`;
    const file = Deno.makeTempFileSync();
    Deno.chmodSync(file, 0o666);
    try {
      const argv = programArgv(code, { user, permissions: ["--allow-ffi", `--allow-write=${file}`] });
      for (const closed of ["<&-", "<&- >&-", "<&- >&- 2>&-"]) {
        Deno.writeTextFileSync(file, "");
        await runArgv(["sh", "-c", `exec "$@" ${closed}`, "sh", ...argv, file]);
        const expected = ["/dev/null\nout\n", "err\n"];
        const answers = JSON.parse(Deno.readTextFileSync(file));
        assertEquals(answers, [expected, expected, expected, "through", 0], closed);
      }
    } finally {
      Deno.removeSync(file);
    }
  });

  isolatedTest(`spawn() leaves /proc/self of the caller readable, as ${user}`, async () => {
    // Shared memory that a change of ids has made undumpable would make all of it root's.
    const code = `const { uid } = Deno.statSync("/proc/self/status");
      new Namespace({ privateUser: true }).command("id", { uid: 0, gid: 0 }).outputSync();
      new Namespace({ privatePid: true }).command("id").outputSync();
      console.log(uid === Deno.statSync("/proc/self/environ").uid, uid === Deno.uid());`;
    const { stdout, stderr } = await runProgram(code, { user, permissions: ["-A"] });
    assertEquals([stdout, stderr], ["true true\n", ""]);
  });
}

isolatedTest("ChildProcess.pid is the child's pid as the caller sees it", async () => {
  const child = new Namespace({ privatePid: true }).command("cat", { stdin: "piped", stdout: "null" }).spawn();
  assertMatch(statusField(child.pid, "NSpid") ?? "", new RegExp(`${child.pid}\\s+1$`));
  assertEquals(statusField(child.pid, "PPid"), String(Deno.pid));
  // The kernel sets the name a moment after it has let go of the caller's memory, which is what spawn() waits for.
  await until("the child has its name", () => Deno.readTextFileSync(`/proc/${child.pid}/comm`) === "cat\n");
  await child.stdin.close();
  assertEquals((await child.status).code, 0);
  assert(!isRunning(child.pid));
});

isolatedTest("argv0 is what the program is told that its name is", () => {
  const run = (argv0?: string) =>
    utf8.decode(
      new Namespace().command("cat", { args: ["/proc/self/cmdline"], ...(argv0 === undefined ? {} : { argv0 }) })
        .outputSync().stdout,
    );
  assertEquals(run("another"), "another\0/proc/self/cmdline\0");
  assertEquals(run(""), "\0/proc/self/cmdline\0");
  assertEquals(run(), "cat\0/proc/self/cmdline\0");
});

isolatedTest("uid and gid take all ids and drop the supplementary groups", () => {
  for (const options of [{}, { privatePid: true }]) {
    const { stdout } = new Namespace(options).command("cat", { args: ["/proc/self/status"], uid: 12, gid: 34 })
      .outputSync();
    const status = utf8.decode(stdout);
    assertEquals(field(status, "Uid"), "12\t12\t12\t12");
    assertEquals(field(status, "Gid"), "34\t34\t34\t34");
    assertEquals(field(status, "Groups").trim(), "");
    assertEquals(field(status, "CapEff"), "0000000000000000");
  }
});

isolatedTest("uid and gid drop the supplementary groups that the caller has", async () => {
  const code = `for (const commandOptions of [{}, { uid: 12 }, { gid: 34 }]) {
      const { stdout } = new Namespace({ privatePid: true }).command("id", { args: ["-G"], ...commandOptions }).outputSync();
      console.log(new TextDecoder().decode(stdout).trim());
    }`;
  const { stdout, stderr } = await runArgv(["setpriv", "--groups", "5,6", ...programArgv(code)]);
  assertEquals([stdout, stderr], ["0 5 6\n0\n34\n", ""]);
});

isolatedTest("uid of 0 is a value, inside a user namespace as well", () => {
  const { stdout } = new Namespace({ privateUser: true }).command("id", { args: ["-u"], uid: 0, gid: 0 }).outputSync();
  assertEquals(utf8.decode(stdout), "0\n");
});

isolatedTest("kill() sends the signal that is named or numbered", async () => {
  const script = 'trap "echo one" USR1; trap "echo two; exit 3" USR2; echo ready; while :; do read -r line; done';
  const child = new Namespace({ privatePid: true })
    .command("bash", { args: ["-c", script], stdin: "piped", stdout: "piped" }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  assertEquals((await reader.read()).value, "ready\n");
  child.kill("SIGUSR1");
  assertEquals((await reader.read()).value, "one\n");
  child.kill(12);
  assertEquals((await reader.read()).value, "two\n");
  assertEquals((await child.status).code, 3);
  assertThrows(() => child.kill("SIGKILL"), TypeError, "Child process has already terminated");
  await reader.cancel();
  await child.stdin.close();
});

isolatedTest("kill() with SIGSTOP and SIGCONT neither ends the child nor its status", async () => {
  const child = new Namespace({ privatePid: true }).command("cat", { stdin: "piped", stdout: "piped" }).spawn();
  child.kill("SIGSTOP");
  await until("the child stops", () => statusField(child.pid, "State")?.startsWith("T") ?? false);
  child.kill("SIGCONT");
  await until("the child goes on", () => statusField(child.pid, "State")?.startsWith("S") ?? false);
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode("still here"));
  await writer.close();
  assertEquals(await child.stdout.text(), "still here");
  assertEquals(await child.status, { success: true, code: 0, signal: null });
});

isolatedTest("Namespace.debug tells every step on stderr, and nothing without it", async () => {
  const code = `new Namespace({ privatePid: true }).command("/bin/true").outputSync();
    console.error("now");
    Namespace.debug = true;
    new Namespace({ hostname: "box" }).command("/bin/true").outputSync();`;
  const { stderr } = await runProgram(code);
  const [first, ...lines] = stderr.trim().split("\n");
  assertEquals(first, "now");
  assert(lines.length > 3 && lines.every((line) => line.startsWith("namespace: ")), stderr);
  assertMatch(stderr, /^namespace: clone\(.*CLONE_NEWUTS.*= \d+$/m);
  assertMatch(stderr, /^namespace: sethostname\("box", 3\) += 0$/m);
});

isolatedTest("Namespace.debug tells the execve", async () => {
  const { stderr } = await runProgram(`Namespace.debug = true; new Namespace().command("/bin/true").outputSync();`);
  assertMatch(stderr, /^namespace: execve\("\/bin\/true"/m);
});
