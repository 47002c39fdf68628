// Signals to a program with workers: with calls they end the workers that have them, without calls the program.

import { assertEquals, assertMatch } from "@std/assert";
import { isRunning, readLine, until } from "../support/inside.ts";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import { packageFolder, programArgv, startProgram } from "../support/program.ts";
import { Terminal } from "../support/terminal.ts";

const WORKERS = {
  pool: `const workers = new Namespace(options).pool({ size: 2 });`,
  worker: `const workers = await new Namespace(options).worker();`,
} as const;

/** Calls, and then says which processes there are. */
const program = (kind: keyof typeof WORKERS, options: string) => `
  const options = ${options};
  ${WORKERS[kind]}
  const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  await Promise.all([workers.run(wait, 50), workers.run(wait, 50)]);
  const children = Deno.readTextFileSync("/proc/self/task/" + Deno.pid + "/children").trim();
  console.log("pids", Deno.pid, children);`;
const IDLE = `await new Promise((resolve) => setTimeout(resolve, 600_000));`;
const BUSY = `
  const error = await workers.run(() => new Promise((resolve) => setTimeout(resolve, 600_000))).catch((error) => error);
  console.log(error.name, await workers.run(() => 7).catch((error) => error.name));
  await workers[Symbol.asyncDispose]();`;

function pidsIn(text: string): number[] {
  return /pids ([\d ]+)/.exec(text)![1]!.trim().split(" ").map(Number);
}

for (const kind of ["pool", "worker"] as const) {
  for (const options of ["{}", "{ privatePid: true }", "{ init: true, privateTmp: true }"]) {
    for (const user of USERS) {
      isolatedTest(
        `Ctrl-C ends a program with an idle ${kind} in ${options}, and its workers, as ${user}`,
        async () => {
          const argv = programArgv(`${program(kind, options)}\n${IDLE}`, { user, permissions: ["-A"] });
          const terminal = new Terminal(
            `DENO_DIR=${packageFolder()}/cache DENO_NO_UPDATE_CHECK=1 NO_COLOR=1 exec ${argv.join(" ")}`,
          );
          await terminal.shows("pids");
          await until("all is said", () => /pids [\d ]+\r\n/.test(terminal.shown));
          const pids = pidsIn(terminal.shown);
          assertEquals(pids.length, kind === "pool" ? 3 : 2);
          await terminal.type("\x03");
          assertEquals(await terminal.end(), 130);
          await until("all have ended", () => !pids.some(isRunning));
          assertMatch(terminal.shown, /pids [\d ]+\r\n(\^C)?(\r\n)?$/);
        },
      );
    }
  }

  isolatedTest(`signals end a program with an idle ${kind}, and the calls of one that has some`, async () => {
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
      for (const options of ["{ privatePid: true }", "{ privatePid: true, termChild: false }"]) {
        const idle = startProgram(`${program(kind, options)}\n${IDLE}`, { permissions: ["-A"] });
        await idle.stdin.close();
        const pids = pidsIn(await readLine(idle.stdout));
        idle.kill(signal);
        assertEquals((await idle.output()).signal, signal);
        await until("the workers have ended", () => !pids.some(isRunning));
      }
      const busy = startProgram(`${program(kind, "{ privatePid: true }")}\n${BUSY}`, { permissions: ["-A"] });
      await busy.stdin.close();
      await readLine(busy.stdout);
      await new Promise((resolve) => setTimeout(resolve, 100));
      busy.kill(signal);
      const { code, stdout } = await busy.output();
      const after = kind === "pool" ? "7" : "RunError";
      assertEquals([code, new TextDecoder().decode(stdout)], [0, `RunError ${after}\n`]);
    }
  });
}
