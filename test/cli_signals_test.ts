import { assertEquals } from "@std/assert";
import { signalNumber } from "../src/abi/signals.ts";
import { type RunOptions, startNsrun } from "./support/cli.ts";
import { isRunning, readLine, until } from "./support/inside.ts";
import { isolatedTest } from "./support/leaks.ts";
import { USERS } from "./support/nobody.ts";

/** Longer than any test: who waits for it has been forgotten. */
const NEVER_MS = "600000";
/** Says what its pid is out here, as /proc is left alone, and that it is ready. */
const SAY_PID = "read pid rest < /proc/self/stat; echo $pid";

/** Starts nsrun with a shell, and waits until that has said its pid. */
async function start(
  options: readonly string[],
  script: string,
  runOptions: RunOptions,
): Promise<{ nsrun: Deno.ChildProcess; pid: number; end: () => Promise<Deno.CommandStatus> }> {
  const nsrun = startNsrun([...options, "sh", "-c", script], runOptions);
  const pid = Number(await readLine(nsrun.stdout));
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

for (const user of USERS) {
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGALRM"] as const) {
    isolatedTest(`nsrun that gets ${signal} hands it on to the command, as ${user}`, async () => {
      const script = `trap "exit 7" ${signal.slice(3)}; ${SAY_PID}; while :; do sleep 0.02; done`;
      for (const options of [[], ["--private-pid", "--no-proc"], ["--init", "--no-proc"]]) {
        const { nsrun, pid, end } = await start([...options, "--term-grace-ms", NEVER_MS], script, { user });
        nsrun.kill(signal);
        assertEquals(await end(), { success: false, code: 7, signal: null });
        assertEquals(isRunning(pid), false);
      }
    });
  }

  isolatedTest(`nsrun ends PID 1 by what would have ended any other process, as ${user}`, async () => {
    for (const signal of ["SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1"] as const) {
      const { nsrun, pid, end } = await start(
        ["--private-pid", "--no-proc", "--term-grace-ms", NEVER_MS],
        `${SAY_PID}; exec sleep 600`,
        { user },
      );
      nsrun.kill(signal);
      assertEquals(await end(), { success: false, code: 128 + signalNumber(signal), signal: null });
      assertEquals(isRunning(pid), false);
    }
  });

  isolatedTest(`nsrun kills after the grace a command that ignores SIGTERM, as ${user}`, async () => {
    const script = `trap "" TERM; ${SAY_PID}; exec sleep 600`;
    for (const options of [[], ["--private-pid", "--no-proc"]]) {
      const { nsrun, pid, end } = await start([...options, "--term-grace-ms=50"], script, { user });
      nsrun.kill("SIGTERM");
      assertEquals(await end(), { success: false, code: 137, signal: null });
      assertEquals(isRunning(pid), false);
    }
  });

  isolatedTest(`nsrun --no-term-child ends by the signal itself, and the command with it, as ${user}`, async () => {
    const script = `trap "exit 7" TERM; ${SAY_PID}; exec sleep 600`;
    for (const options of [[], ["--private-pid", "--no-proc"]]) {
      const { nsrun, pid, end } = await start([...options, "--no-term-child"], script, { user });
      nsrun.kill("SIGTERM");
      assertEquals((await end()).signal, "SIGTERM");
      await until("the command is gone", () => !isRunning(pid));
    }
  });

  isolatedTest(`nsrun that is killed leaves no command behind, as ${user}`, async () => {
    const script = `trap "" TERM HUP INT; ${SAY_PID}; exec sleep 600`;
    for (const options of [[], ["--private-pid", "--no-proc"], ["--private-user"]]) {
      const { nsrun, pid, end } = await start(options, script, { user });
      assertEquals(isRunning(pid), true);
      nsrun.kill("SIGKILL");
      assertEquals((await end()).signal, "SIGKILL");
      await until("the command is gone", () => !isRunning(pid), 10_000);
    }
  });
}
