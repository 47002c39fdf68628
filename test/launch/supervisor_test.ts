// What supervises a command: the launcher, which nsrun becomes. Signals by the clock and by the key, and what it says.

import { assert, assertEquals, assertMatch } from "@std/assert";
import { signalNumber } from "../../src/abi/signals.ts";
import { nsrun, type RunOptions, startNsrun, stdoutOf } from "../support/cli.ts";
import { ImageFile } from "../support/image.ts";
import { isRunning, NAMESPACE_FILES, READ_NAMESPACES, readLine, statusField, until } from "../support/inside.ts";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import { Terminal } from "../support/terminal.ts";

/** Longer than any test: who waits for it has been forgotten. */
const NEVER_MS = "600000";
/** Says what its pid is out here, as /proc is left alone, and that it is ready. */
const SAY_PID = "read pid rest < /proc/self/stat; echo $pid";
/** Does nothing about any signal. A shell may still do, up to the moment when it has become another program. */
const SLEEP = `${SAY_PID}; exec sleep 600`;

const WORLDS = {
  "no namespaces": [],
  "no init": ["--private-pid", "--no-proc"],
  "init": ["--init", "--no-proc"],
} as const;

/** A running nsrun. `pid` is the command's out here. */
interface Running {
  readonly nsrun: Deno.ChildProcess;
  readonly pid: number;
  readonly end: () => Promise<Deno.CommandStatus>;
}

/** Starts nsrun with a shell, and waits until that has said its pid, and until it sleeps where it is to become that. */
async function start(options: readonly string[], script: string, runOptions: RunOptions = {}): Promise<Running> {
  const nsrun = startNsrun([...options, "sh", "-c", script], runOptions);
  const pid = Number(await readLine(nsrun.stdout));
  if (script.includes("exec sleep")) {
    const sleeps = () => statusField(pid, "Name") === "sleep" || !isRunning(pid); // It may be at its end already.
    await until("it sleeps", sleeps);
  }
  const end = async () => {
    await nsrun.stdin.close();
    const [status, stderr] = await Promise.all([
      nsrun.status,
      new Response(nsrun.stderr).text(),
      nsrun.stdout.cancel(),
    ]);
    assertEquals(stderr, "");
    return status;
  };
  return { nsrun, pid, end };
}

const SIGNALS = ["SIGTERM", "SIGHUP", "SIGINT", "SIGKILL"] as const;

/** nsrun was killed itself. */
const KILLED = "SIGKILL";
/** It goes on: the kernel keeps from PID 1 what it does not handle. */
const NOTHING = "nothing";

/**
 * How nsrun ends that runs a command which does nothing about signals: its exit status, for each of `SIGNALS`, by who
 * gets the signal. Without init the command is PID 1.
 */
const ENDS: readonly (readonly [keyof typeof WORLDS, "nsrun" | "PID 1" | "command", readonly (number | string)[]])[] = [
  ["no namespaces", "nsrun", [143, 129, 130, KILLED]],
  ["no namespaces", "command", [143, 129, 130, 137]],
  ["no init", "nsrun", [143, 129, 130, KILLED]],
  ["no init", "PID 1", [NOTHING, NOTHING, NOTHING, 137]],
  ["init", "nsrun", [143, 129, 130, KILLED]],
  ["init", "PID 1", [143, 129, 130, 137]],
  ["init", "command", [143, 129, 130, 137]],
];

for (const user of USERS) {
  for (const [world, target, ends] of ENDS) {
    isolatedTest(`signals to ${target} in a world of ${world} end it as the table says (P9), as ${user}`, async () => {
      const seen = await Promise.all(SIGNALS.map(async (signal, index) => {
        const { nsrun, pid, end } = await start([...WORLDS[world], "--term-grace-ms", NEVER_MS], SLEEP, { user });
        const first = world === "init" ? Number(statusField(pid, "PPid")) : pid;
        Deno.kill({ "nsrun": nsrun.pid, "PID 1": first, "command": pid }[target], signal);
        if (ends[index] === NOTHING) {
          await new Promise((resolve) => setTimeout(resolve, 50));
          assertEquals([isRunning(nsrun.pid), isRunning(pid)], [true, true]);
          nsrun.kill("SIGTERM");
          assertEquals((await end()).code, 143);
          return NOTHING;
        }
        const status = await end();
        await until("the command and init are gone", () => !isRunning(pid) && !isRunning(first));
        return status.signal ?? status.code;
      }));
      assertEquals(seen, ends);
    });
  }

  isolatedTest(`nsrun that gets a signal hands it on, and ends with the command's own code, as ${user}`, async () => {
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGALRM", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const) {
      const script = `trap "exit 7" ${signal.slice(3)}; ${SAY_PID}; while :; do sleep 0.02; done`;
      await Promise.all(
        Object.values(WORLDS).map(async (options) => {
          const { nsrun, pid, end } = await start([...options, "--term-grace-ms", NEVER_MS], script, { user });
          nsrun.kill(signal);
          assertEquals(await end(), { success: false, code: 7, signal: null });
          assertEquals(isRunning(pid), false);
        }),
      );
    }
  });

  isolatedTest(`nsrun kills after the grace a command that ignores SIGTERM, as ${user}`, async () => {
    for (const options of Object.values(WORLDS)) {
      const { nsrun, pid, end } = await start([...options, "--term-grace-ms=50"], `trap "" TERM; ${SLEEP}`, { user });
      nsrun.kill("SIGTERM");
      assertEquals(await end(), { success: false, code: 137, signal: null });
      assertEquals(isRunning(pid), false);
    }
  });

  isolatedTest(`nsrun --no-term-child ends by the signal, and the command with it (P10), as ${user}`, async () => {
    const script = `trap "exit 7" TERM; ${SLEEP}`;
    for (const options of Object.values(WORLDS)) {
      const { nsrun, pid, end } = await start([...options, "--no-term-child"], script, { user });
      nsrun.kill("SIGTERM");
      assertEquals((await end()).signal, "SIGTERM");
      await until("the command is gone", () => !isRunning(pid));
    }
  });

  isolatedTest(`nsrun --timeout ends what takes longer, whatever it ignores, and says 124, as ${user}`, async () => {
    const ignoring = { user, before: ["sh", "-c", 'trap "" TERM; exec "$@"', "sh"] };
    for (const options of Object.values(WORLDS)) {
      const timed = ["--timeout", "0.1", ...options];
      const ending = async (running: Promise<Running>) => {
        const { pid, end } = await running;
        const { code } = await end();
        await until("the command is gone", () => !isRunning(pid));
        return code;
      };
      assertEquals(await ending(start([...timed, "--term-grace-ms", NEVER_MS], SLEEP, { user })), 124);
      assertEquals(await ending(start([...timed, "--term-grace-ms=30"], `trap "" TERM; ${SLEEP}`, { user })), 124);
      assertEquals(await ending(start([...timed, "--term-grace-ms=30"], SLEEP, ignoring)), 124);
      assertEquals(await ending(start([...timed, "--no-term-child", "--term-grace-ms=30"], SLEEP, { user })), 124);
      const stopping = `trap "exit 0" TERM; ${SAY_PID}; kill -STOP $$; while :; do sleep 0.02; done`;
      if (options.length === 0) {
        assertEquals(await ending(start([...timed, "--term-grace-ms", NEVER_MS], stopping, { user })), 124);
      }
    }
    assertEquals((await nsrun(["--timeout=600", "sh", "-c", "exit 3"], { user })).code, 3);
  });

  isolatedTest(`nsrun leaves ignored what was ignored, as nohup(1) has it, as ${user}`, async () => {
    const before = ["sh", "-c", 'trap "" HUP INT; exec "$@"', "sh"];
    for (const options of Object.values(WORLDS)) {
      const { nsrun, pid, end } = await start(options, SLEEP, { user, before });
      const ignored = BigInt(`0x${statusField(pid, "SigIgn")}`);
      assertEquals(ignored & 3n, 3n);
      assertEquals(BigInt(`0x${statusField(pid, "SigBlk")}`), 0n);
      nsrun.kill("SIGHUP");
      nsrun.kill("SIGINT");
      await new Promise((resolve) => setTimeout(resolve, 50));
      assertEquals(isRunning(pid), true);
      nsrun.kill("SIGTERM");
      assertEquals((await end()).code, 143);
    }
  });

  isolatedTest(`nsrun --status-fd tells of the start, the namespaces and the end, as ${user}`, async () => {
    const all = ["-mpniuCT", "--init"];
    for (const options of [[], ["-p"], all]) {
      const args = ["--status-fd", "2", ...options, "readlink", ...READ_NAMESPACES];
      const { code, stdout, stderr } = await nsrun(args, { user });
      assertEquals(code, 0);
      const [started, ended, ...more] = stderr.trim().split("\n").map((line) => JSON.parse(line));
      assertEquals(ended, { event: "exited", code: 0 });
      assertEquals(more, []);
      assertEquals([started.event, started.innerPid], ["started", options.length === 0 ? started.pid : 1]);
      const inodes = stdout.trim().split("\n").map((link) => Number(/\[(\d+)\]/.exec(link)![1]));
      const expected = NAMESPACE_FILES.map((name, index) => [name, inodes[index]]);
      assertEquals(started.namespaces, Object.fromEntries(expected));
    }
    const events = async (...args: string[]) => {
      const { stderr } = await nsrun(["--status-fd=2", ...args], { user });
      return stderr.trim().split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
    };
    for (const options of [[], ["--init"]]) {
      const [, ended] = await events(...options, "sh", "-c", "kill -TERM $$");
      assertEquals(ended, { event: "exited", signal: 15 });
      const [refused] = await events(...options, "--cwd=/nowhere", "true");
      assertEquals([refused.event, refused.step, refused.code], ["failed", 'chdir("/nowhere")', "ENOENT"]);
      const [missing, ...rest] = await events(...options, "/no/such/command");
      assertEquals(rest, []);
      assertEquals([missing.event, missing.step, missing.code, missing.errno], ["failed", "execve", "ENOENT", 2]);
    }
    const closed = await nsrun(["--status-fd=9", "true"], { user });
    assertEquals([closed.code, closed.stderr], [125, "nsrun: the descriptor for the status is not open\n"]);
  });

  isolatedTest(`nsrun lets no descriptor but 0 to 2 through, its own among them, as ${user}`, async () => {
    const before = ["sh", "-c", 'exec 5</dev/null 9>/dev/null; exec "$@"', "sh"];
    for (const options of [[], ["-p"], ["--init"]]) {
      const look = "for n in 3 4 5 6 7 8 9 10 11; do [ -e /proc/self/fd/$n ] && echo $n; done; echo done";
      assertEquals(await stdoutOf(["--status-fd=9", ...options, "sh", "-c", look], { user, before }), "done\n");
    }
  });
}

isolatedTest("the launcher keeps the SIGPIPE of its own status to itself", async () => {
  using image = new ImageFile(["--status-fd=3", "sh", "-c", "sleep 0.1; echo alive"]);
  const script = `{ sleep 0.1; ${image.path} 3>&1 >&4; echo $? >&4; } 4>&2 | true`;
  const { stderr } = await new Deno.Command("sh", { args: ["-c", script] }).output();
  assertEquals(new TextDecoder().decode(stderr), "alive\n0\n");
});

isolatedTest("the launcher lets go of the output when the command does", async () => {
  for (const options of [["-p"], ["--init"]]) {
    using image = new ImageFile([...options, "sh", "-c", "exec >&- 2>&-; read x; exit 4"]);
    const child = new Deno.Command(image.path, { stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
    assertEquals(await Promise.all([child.stdout.text(), child.stderr.text()]), ["", ""]);
    assertEquals(isRunning(child.pid), true);
    await child.stdin.close();
    assertEquals((await child.status).code, 4);
  }
});

isolatedTest("the launcher loses no signal, however early it comes (P15)", async () => {
  for (const options of Object.values(WORLDS)) {
    using image = new ImageFile([...options, "--term-grace-ms", NEVER_MS, "sleep", "600"]);
    for (let round = 0; round < 40; round++) {
      const child = new Deno.Command(image.path).spawn();
      const until = performance.now() + round * 0.05;
      while (performance.now() < until) { /* Timers are not fine enough. */ }
      child.kill("SIGTERM");
      assertEquals((await child.status).code, 143);
    }
  }
});

isolatedTest("the launcher outlives a storm of SIGSTOP and SIGCONT, and the command's end within one", async () => {
  for (const options of Object.values(WORLDS)) {
    using image = new ImageFile([
      ...options,
      "sh",
      "-c",
      "i=0; while [ $i -lt 20 ]; do sleep 0.01; i=$((i+1)); done; exit 6",
    ]);
    const child = new Deno.Command(image.path).spawn();
    let ended = false;
    child.status.then(() => ended = true);
    const send = (signal: Deno.Signal) => {
      if (isRunning(child.pid)) child.kill(signal);
    };
    while (!ended) {
      send("SIGSTOP");
      await new Promise((resolve) => setTimeout(resolve, 1));
      send("SIGCONT");
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    assertEquals((await child.status).code, 6);
  }
});

isolatedTest("the launcher that is stopped while the command ends tells how, when it goes on", async () => {
  for (const options of Object.values(WORLDS)) {
    using image = new ImageFile([...options, "sh", "-c", "read x; exit 8"]);
    const child = new Deno.Command(image.path, { stdin: "piped" }).spawn();
    const inner = () => Deno.readTextFileSync(`/proc/${child.pid}/task/${child.pid}/children`).trim();
    await until("the command is there", () => inner() !== "");
    const pid = Number(inner());
    child.kill("SIGSTOP");
    await child.stdin.close();
    await until("the command has ended", () => !isRunning(pid));
    child.kill("SIGCONT");
    assertEquals((await child.status).code, 8);
  }
});

/** The children of a process. */
function childrenOf(pid: number): number[] {
  return Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).trim().split(" ").filter(Boolean).map(Number);
}

/** Whether keys on the terminal reach a process. */
function isForeground(pid: number): boolean {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /s, "").split(" ");
  return fields[2] === fields[5];
}

function state(pid: number): string | undefined {
  return statusField(pid, "State")?.[0];
}

/** The pids that the launcher's own line has said, and those below it, down to the command. */
async function processes(terminal: Terminal, name: string): Promise<number[]> {
  let pids: number[] = [];
  await terminal.shows("launcher=");
  await until(`${name} runs`, () => {
    pids = [Number(/launcher=(\d+)/.exec(terminal.shown)?.[1])];
    for (let next = childrenOf(pids[0]!); next.length > 0; next = childrenOf(pids.at(-1)!)) pids.push(next[0]!);
    return statusField(pids.at(-1)!, "Name") === name;
  }, 5_000);
  return pids;
}

for (const [world, options] of Object.entries(WORLDS)) {
  isolatedTest(`job control: Ctrl-Z, bg, fg and Ctrl-C in a world of ${world}`, async () => {
    using image = new ImageFile([...options, "sleep", "600"]);
    const terminal = new Terminal("bash --norc --noprofile -i");
    await terminal.type(`bash -c 'echo launch''er=$$; exec ${image.path}'\n`);
    const pids = await processes(terminal, "sleep");
    const stopped = () => [state(pids[0]!), state(pids.at(-1)!)].join("") === "TT";
    await terminal.type("\x1a");
    await terminal.shows("Stopped");
    await until("both have stopped", stopped);
    await terminal.type("bg\n");
    await until("both go on", () => state(pids[0]!) === "S" && state(pids.at(-1)!) === "S");
    await terminal.type("fg\n");
    await until("it has the terminal", () => isForeground(pids[0]!));
    await terminal.type("\x1a");
    await until("both have stopped again", stopped);
    await terminal.type("fg\n");
    await until("it has the terminal again", () => isForeground(pids[0]!) && state(pids[0]!) === "S");
    await until("the command goes on", () => state(pids.at(-1)!) === "S");
    await terminal.type("\x03");
    await until("all are gone", () => !pids.some(isRunning));
    await terminal.type("echo status=$?; exit 5\n");
    assertEquals(await terminal.end(), 5);
    assertMatch(terminal.shown, /status=130/);
  });

  isolatedTest(`Ctrl-Z where no shell could let it go on stops nothing, Ctrl-C ends it: ${world}`, async () => {
    using image = new ImageFile([...options, "sleep", "600"]);
    const terminal = new Terminal(`echo launcher=$$; exec ${image.path}`);
    const pids = await processes(terminal, "sleep");
    await terminal.type("\x1a");
    await new Promise((resolve) => setTimeout(resolve, 100));
    assertEquals([state(pids[0]!), state(pids.at(-1)!)], ["S", "S"]);
    await terminal.type("\x03");
    assertEquals(await terminal.end(), 130);
  });

  isolatedTest(`a terminal that hangs up ends the command: ${world}`, async () => {
    using image = new ImageFile([...options, "sleep", "600"]);
    const terminal = new Terminal(`echo launcher=$$; exec ${image.path}`);
    const pids = await processes(terminal, "sleep");
    terminal.hangUp();
    await terminal.end();
    await until("all are gone", () => !pids.some(isRunning));
  });

  if (world === "no init") continue; // PID 1 cannot kill itself.
  isolatedTest(`a terminal is as it was after a command that was killed: ${world}`, async () => {
    using image = new ImageFile([...options, "sh", "-c", "stty raw -echo; kill -KILL $$"]);
    const killer = `before=$(stty -g); ${image.path}; echo status=$?; [ "$before" = "$(stty -g)" ] && echo same`;
    const terminal = new Terminal(killer);
    await terminal.end();
    assertMatch(terminal.shown, /status=137\r\nsame\r\n/);
  });
}

isolatedTest("a background job that is killed leaves the terminal to who uses it", async () => {
  using image = new ImageFile(["sleep", "600"]);
  const script = `set -m; ${image.path} & sleep 0.2; stty -echo; kill -KILL $(cat /proc/$!/task/$!/children); ` +
    `wait $!; echo status=$?; stty -a`;
  const terminal = new Terminal(`bash -c '${script}'`);
  await terminal.end();
  assertMatch(terminal.shown, /status=137/);
  assert(terminal.shown.includes("-echo "), terminal.shown);
});

isolatedTest("nsrun is one process of its own, and tells the 128 + n of each signal", async () => {
  const { nsrun, pid, end } = await start([], SLEEP);
  assertEquals(childrenOf(nsrun.pid), [pid]);
  assertEquals(statusField(nsrun.pid, "Threads"), "1");
  nsrun.kill("SIGUSR2");
  assertEquals((await end()).code, 128 + signalNumber("SIGUSR2"));
});
