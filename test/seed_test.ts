// The acceptance set of Sys::Linux::Namespace, by its own numbers: each assertion as root and, with privateUser, as an
// ordinary user, for commands and for functions. Then its defects, by theirs.

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../mod.ts";
import { denoPath } from "./support/deno.ts";
import { until } from "./support/inside.ts";
import { isolatedTest } from "./support/leaks.ts";
import { stdoutAs, USERS } from "./support/nobody.ts";
import { packageFolder, runProgram, startProgram, type User } from "./support/program.ts";
import { FILTER_CALLS, told } from "./support/setup.ts";

/** What sh(1) prints of the numeric folders of /proc, without programs that would add themselves. */
const LIST_PROCESSES = "cd /proc && for entry in [0-9]*; do echo $entry; done";

/** Only with all permissions Deno lists /proc. */
const ALL = "{ read: true, write: true, net: true, env: true, run: true, sys: true, ffi: true, import: true }";

/** Deno makes its cache where it is told to, which in these programs is a folder in /tmp. */
const NO_CACHE = `{ DENO_DIR: "/dev/null/cache" }`;

/** A number that no other process has in its command line. */
const MARK = `60.${Deno.pid}`;

/** How many processes there are, anywhere, that sleep for {@linkcode MARK}. */
function sleepers(): number {
  return [...Deno.readDirSync("/proc")].filter(({ name }) => {
    if (!/^[0-9]+$/.test(name)) return false;
    try {
      return Deno.readTextFileSync(`/proc/${name}/cmdline`).endsWith(`sleep\0${MARK}\0`);
    } catch {
      return false; // It has ended.
    }
  }).length;
}

for (const user of USERS) {
  const privateUser = user === "nobody" ? { privateUser: true } : {};
  const title = (number: string, text: string): string => `seed ${number} as ${user}: ${text}`;

  Deno.test(title("1, 3", "a Namespace is made, without a system call"), () => {
    assert(new Namespace({ privateTmp: true, ...privateUser }) instanceof Namespace);
    assert(new Namespace({ privateTmp: true, privatePid: true, ...privateUser }) instanceof Namespace);
  });

  isolatedTest(title("2", "/tmp is empty inside with privateTmp"), async () => {
    const marker = Deno.makeTempFileSync({ dir: "/tmp" });
    try {
      const argv = ["ls", "-A", "/tmp"] as const;
      assertEquals(await stdoutAs(user, { options: { privateTmp: true, ...privateUser }, argv }), "");
      assertStringIncludes(await stdoutAs(user, { options: {}, argv }), marker.slice("/tmp/".length));
    } finally {
      Deno.removeSync(marker);
    }
  });

  isolatedTest(title("4, 5, 6", "the command is PID 1, the only process, and ends cleanly"), async () => {
    const options = { privatePid: true, privateTmp: true, ...privateUser };
    assertEquals(await stdoutAs(user, { options, argv: ["sh", "-c", `echo $$; ${LIST_PROCESSES}`] }), "1\n1\n");
  });

  if (user === "nobody") {
    isolatedTest(title("uid", "the caller is root inside (P4: it was 65534)"), async () => {
      const options = { privateUser: true, privatePid: true };
      assertEquals(
        await stdoutAs(user, { options, argv: ["sh", "-c", "id -u; cat /proc/self/uid_map"] }),
        "0\n         0      65534          1\n",
      );
    });
  }

  isolatedTest(title("2, 4, 5, 6", "a function is PID 1, alone, in an empty /tmp, and ends cleanly"), async () => {
    const marker = Deno.makeTempFileSync({ dir: "/tmp" });
    try {
      const seen = await evaluateAs(
        user,
        `const ns = new Namespace(${JSON.stringify({ privateTmp: true, privatePid: true, ...privateUser })});
         const child = ns.spawn(() => ({
           pid: Deno.pid,
           tmp: [...Deno.readDirSync("/tmp")].map((entry) => entry.name),
           pids: [...Deno.readDirSync("/proc")].map((entry) => entry.name).filter((name) => /^[0-9]+$/.test(name)),
           uid: Deno.uid(),
         }), { permissions: ${ALL}, env: ${NO_CACHE} });
         return [await child.result, await child.status, await ns.run(() => Deno.pid)];`,
      );
      const status = { success: true, code: 0, signal: null };
      assertEquals(seen, [{ pid: 1, tmp: [], pids: ["1"], uid: 0 }, status, 1]);
    } finally {
      Deno.removeSync(marker);
    }
  });

  isolatedTest(title("P5", "run() returns the value, or throws the error"), async () => {
    const seen = await evaluateAs(
      user,
      `const ns = new Namespace(${JSON.stringify({ privatePid: true, ...privateUser })});
       const thrown = await ns.run(() => { throw new RangeError("five"); }).catch((error) => error);
       return [await ns.run(() => 5), thrown instanceof RangeError, thrown.message];`,
    );
    assertEquals(seen, [5, true, "five"]);
  });

  isolatedTest(
    title("7, 8, 9", "SIGALRM to the parent ends PID 1 and what it started; then another is PID 1"),
    async () => {
      const { code, stdout, stderr } = await runProgram(
        `
        const ns = new Namespace(${JSON.stringify({ privatePid: true, privateTmp: true, ...privateUser })});
        async function alarmed(script) {
          const child = ns.command("sh", { args: ["-c", script], stdout: "piped" }).spawn();
          const reader = child.stdout.getReader();
          let text = new TextDecoder().decode((await reader.read()).value);
          raiseAlarm();
          for (let part = await reader.read(); !part.done; part = await reader.read()) text += new TextDecoder().decode(part.value);
          return { text, status: await child.status };
        }
        function raiseAlarm() {
          const libc = Deno.dlopen("libc.so.6", { kill: { parameters: ["i32", "i32"], result: "i32" } });
          libc.symbols.kill(Deno.pid, 14);
          libc.close();
        }
        console.log(JSON.stringify([
          await alarmed("echo $$; sleep 60; echo went on"),
          await alarmed("echo $$; (sleep 60; echo went on) & wait; echo went on"),
        ]));
      `,
        { user },
      );
      assertEquals([code, stderr], [0, ""]);
      const ends: { text: string; status: Deno.CommandStatus }[] = JSON.parse(stdout);
      assertEquals(ends.length, 2);
      for (const { text, status } of ends) {
        assertEquals(text, "1\n");
        assertEquals([status.success, status.signal], [false, "SIGKILL"]); // PID 1 ignores the TERM that comes first.
      }
    },
  );

  isolatedTest(
    title("7, 8, 9", "SIGALRM to the parent ends a function that is PID 1 and what it started; then another is PID 1"),
    async () => {
      await using program = startProgram(
        `
        const ns = new Namespace(${JSON.stringify({ privatePid: true, privateTmp: true, ...privateUser })});
        const permissions = { run: true, env: true };
        async function report(child) {
          const error = await child.result.catch((error) => error);
          console.log(JSON.stringify([error.name, error.signal]));
        }
        await ns.run(() => console.log("run", Deno.pid));
        await report(ns.spawn(async () => {
          console.log("asleep", Deno.pid);
          await new Promise((resolve) => setTimeout(resolve, 60_000));
          console.log("went on");
        }));
        await ns.run(() => console.log("run", Deno.pid));
        await report(ns.spawn(async () => {
          const child = new Deno.Command("sleep", { args: ["${MARK}"] }).spawn();
          console.log("asleep", Deno.pid, child.pid > 1);
          console.log("went on", (await child.status).code);
        }, { permissions }));
        console.log("end", Deno.pid);
        `,
        { user },
      );
      program.stdin.close();
      const lines = readLines(program.stdout);
      assertEquals([await lines(), await lines()], ["run 1", "asleep 1"]);
      Deno.kill(program.pid, "SIGALRM");
      // PID 1 is kept from the TERM that comes first.
      assertEquals([await lines(), await lines()], [`["RunError","SIGKILL"]`, "run 1"]);
      assertEquals(await lines(), "asleep 1 true");
      await until("it sleeps", () => sleepers() === 1, 20_000); // Its command line is there a little later than it is.
      Deno.kill(program.pid, "SIGALRM");
      assertEquals(await lines(), `["RunError","SIGKILL"]`);
      assertEquals(sleepers(), 0);
      assertEquals([await lines(), await lines()], [`end ${program.pid}`, undefined]);
      assertEquals([(await program.status).code, await program.stderr.text()], [0, ""]);
    },
  );
}

// In this process itself, which root alone can move.
isolatedTest("seed 10, 11 as root: setup() succeeds, and /tmp is then empty in the caller itself", async () => {
  const marker = Deno.makeTempFileSync({ dir: "/tmp" });
  try {
    const [before, after] = await told(`
      const before = [...Deno.readDirSync("/tmp")].length;
      new Namespace({ privateTmp: true }).setup();
      console.log(JSON.stringify([before, [...Deno.readDirSync("/tmp")].length]));
    `) as [number, number];
    assert(before > 0);
    assertEquals(after, 0);
  } finally {
    Deno.removeSync(marker);
  }
});

// P1: the child's own SIGCHLD set off TERM, a wait of 0.2 s, and KILL. A process that the kernel kills at the first signal
// that it sends runs any number of children, as long as they end by themselves.
isolatedTest("P1: no signal is sent for a child that ended by itself", async () => {
  const { code, signal, stdout, stderr } = await runProgram(
    `
      ${FILTER_CALLS}
      const ns = new Namespace({ privatePid: true });
      // Not tgkill(2): it asks after threads of this process itself.
      const kill = [62, 129], queue = [129, 138], pidfd = [424, 424];
      filterCalls([kill, queue, pidfd], 0x80000000, true);
      for (let round = 0; round < 3; round++) {
        console.log(ns.command("true").outputSync().code, (await ns.command("true").spawn().status).code);
        console.log(await ns.run(() => 5), await ns.run(() => { throw 6; }).catch((thrown) => thrown));
      }
      ns.command("sleep", { args: ["60"] }).spawn().kill("SIGKILL");
      console.log("sent one");
    `,
    { permissions: ["--allow-ffi"] },
  );
  assertEquals(stdout, "0 0\n5 6\n".repeat(3), stderr);
  assertEquals([code, signal], [159, "SIGSYS"]); // The filter does what it is for.
});

/** All that a running process can move into. */
const EVERYTHING: NamespaceOptions = {
  privateTmp: { size: "1m" },
  privateNet: true,
  privateSysvsem: true,
  hostname: "inside",
  privateCgroup: true,
};

// P3: setup() returned true though unshare had failed.
isolatedTest("P3: setup() throws when a step is refused, and everything is as it was", async () => {
  const [message, before, after, mounts, moreFds] = await told(`
    await load();
    new Namespace({ privateUts: true }).setup();
    const before = everyThread();
    const mountsBefore = Deno.readTextFileSync("/proc/thread-self/mountinfo");
    const beforeFds = fds();
    let message;
    try {
      filterCalls([[170, 161]], 0x50005, false); // sethostname fails with EIO.
      new Namespace(${JSON.stringify(EVERYTHING)}).setup();
    } catch (error) {
      message = error.message;
    }
    const moreFds = fds() - beforeFds;
    const mounts = Deno.readTextFileSync("/proc/thread-self/mountinfo") === mountsBefore;
    console.log(JSON.stringify([message, before, everyThread(), mounts, moreFds]));
  `) as [string, string[], string[], boolean, number];
  assertEquals(message, `Cannot set the hostname to "inside" for hostname: Input/output error (EIO)`);
  assertEquals([after, mounts, moreFds], [before, true, 0]);
});

// P8: output that the parent had not flushed was printed again by each child.
isolatedTest("P8: what the parent has written is written once, however many children there are", async () => {
  const { stdout, stderr } = await runProgram(`
    const ns = new Namespace({ privatePid: true });
    Deno.stdout.writeSync(new TextEncoder().encode("once"));
    const writer = Deno.stdout.writable.getWriter();
    const written = writer.write(new TextEncoder().encode(" and once"));
    for (let index = 0; index < 5; index++) {
      await ns.command("true").spawn().status;
      await ns.run(() => {});
      ns.command("true").outputSync();
    }
    await written;
  `);
  assertEquals([stdout, stderr], ["once and once", ""]);
});

/** Runs a program whose value is printed as JSON, with `--allow-ffi` alone. */
async function evaluateAs(user: User, body: string): Promise<unknown> {
  const { code, stdout, stderr } = await runProgram(`console.log(JSON.stringify(await (async () => {${body}})()));`, {
    user,
  });
  assertEquals([code, stderr], [0, ""]);
  return JSON.parse(stdout);
}

/** Takes a stream line by line; undefined at its end. */
function readLines(stream: ReadableStream<Uint8Array>): () => Promise<string | undefined> {
  const chunks = stream.values();
  const decoder = new TextDecoder();
  let text = "";
  return async () => {
    while (!text.includes("\n")) {
      const { value, done } = await chunks.next();
      if (done) return undefined;
      text += decoder.decode(value, { stream: true });
    }
    const end = text.indexOf("\n");
    const line = text.slice(0, end);
    text = text.slice(end + 1);
    return line;
  };
}

// 10 and 11 of an ordinary user, whose process cannot enter a user namespace while it runs: it starts over inside.
if ("reexec" in Namespace.prototype) {
  for (const user of USERS) {
    isolatedTest(`seed 10, 11 as ${user}: reexec() succeeds, and /tmp is then empty in the caller itself`, async () => {
      const folder = Deno.makeTempDirSync({ dir: "/var/tmp" }); // What lies in /tmp is not there when it starts over.
      try {
        Deno.chmodSync(folder, 0o755);
        await new Deno.Command("cp", { args: ["-r", `${packageFolder()}/.`, folder] }).output();
        const code = `
          import { Namespace } from "./mod.ts";
          await new Namespace({ privateTmp: true${user === "nobody" ? ", privateUser: true" : ""} }).reexec();
          console.log(Deno.uid(), [...Deno.readDirSync("/tmp")].length);
        `;
        Deno.writeTextFileSync(`${folder}/again.ts`, code, { mode: 0o644 });
        const argv = [
          denoPath(),
          "run",
          "--no-prompt",
          "--no-config",
          "--allow-ffi",
          "--allow-read",
          "--allow-sys",
        ];
        const ids = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        const [command, ...args] = [...(user === "nobody" ? ids : []), ...argv, `${folder}/again.ts`];
        const child = new Deno.Command(command!, {
          args,
          env: { DENO_DIR: `${folder}/cache`, DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
          stdout: "piped",
          stderr: "piped",
        }).spawn();
        const { code: status, stdout, stderr } = await child.output();
        assertEquals([status, new TextDecoder().decode(stderr)], [0, ""]);
        assertEquals(new TextDecoder().decode(stdout), "0 0\n");
      } finally {
        Deno.removeSync(folder, { recursive: true });
      }
    });
  }
}
