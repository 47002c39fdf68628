// What a command gets beyond stdin, stdout and stderr: descriptors by number, a terminal, and what it does not inherit.

import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { type CommandOptions, Namespace } from "../../mod.ts";
import { isolatedTest } from "../support/leaks.ts";
import { runAs, USERS } from "../support/nobody.ts";
import { runProgram } from "../support/program.ts";

function sh(script: string, options: CommandOptions, namespace = {}) {
  return new Namespace(namespace).command("sh", { args: ["-c", script], ...options });
}

async function write(stream: WritableStream<Uint8Array>, text: string): Promise<void> {
  const writer = stream.getWriter();
  await writer.write(new TextEncoder().encode(text));
  await writer.close();
}

// The library keeps what init is executed from.
new Namespace({ init: true }).command("true").outputSync();

const FDS = `ls /proc/self/fd | tr "\\n" " "`;

for (const init of [false, true]) {
  isolatedTest(`fds are pipes at their numbers, and no other is open, with init ${init}`, async () => {
    const script = `cat <&3 >&9; ${FDS}`;
    const child = sh(script, { fds: { 3: "input", 9: "output" }, stdout: "piped" }, { init, privatePid: true }).spawn();
    await write(child.inputs[3]!, "through");
    assertEquals(await child.outputs[9]!.text(), "through");
    assertEquals(await child.stdout.text(), "0 1 2 3 4 9 "); // 4 is that of ls itself.
    assertEquals((await child.status).code, 0);
  });

  isolatedTest(`a terminal is the command's own: size, session, ^D and ^C, with init ${init}`, async () => {
    await using child = sh("stty size; read a; echo got $a; cat; stty size; tty; exec sleep 60", {
      tty: { rows: 30, columns: 90 },
    }, { init, privatePid: init }).spawn();
    const shown = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    const until = async (pattern: RegExp) => {
      while (!pattern.test(text)) {
        const { value, done } = await shown.read();
        if (done) break;
        text += value;
      }
      assertMatch(text, pattern);
    };
    await until(/^30 90\r\n/);
    child.resize(31, 91);
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode("abc\n\x04"));
    await until(/got abc\r\n31 91\r\n\/dev\/pts\/\d+\s+$/);
    await writer.write(new TextEncoder().encode("\x03"));
    assertEquals((await child.status).signal, "SIGINT");
    while (!(await shown.read()).done) { /* To its end. */ }
    assertThrows(() => child.resize(1, 1), TypeError, "already terminated");
  });
}

isolatedTest("fds can be descriptors of this process, whatever becomes of stdio", async () => {
  const code = `
    const { stdout } = new Namespace().command("sh", { args: ["-c", "echo apart >&5; echo here"], fds: { 5: 2 } }).outputSync();
    console.log(new TextDecoder().decode(stdout));`;
  for (const user of USERS) {
    const { stdout, stderr } = await runProgram(code, { user });
    assertEquals([stdout, stderr], ["here\n\n", "apart\n"]);
  }
});

isolatedTest("a descriptor of the caller's keeps its permissions when the command changes its ids", async () => {
  const path = Deno.makeTempFileSync();
  try {
    Deno.chmodSync(path, 0o600);
    const outer = `exec 8>${path}; exec "$0" "$@"`;
    const code =
      `await new Namespace().command("sh", { args: ["-c", "echo x >&8"], fds: { 8: "inherit" }, uid: 7 }).output();`;
    const file = Deno.makeTempFileSync({ suffix: ".ts" });
    Deno.writeTextFileSync(file, `import { Namespace } from "${new URL("../../mod.ts", import.meta.url)}";\n${code}`);
    const args = ["-c", outer, Deno.execPath(), "run", "--allow-ffi", "--no-prompt", file];
    const { success, stderr } = await new Deno.Command("sh", { args }).output();
    Deno.removeSync(file);
    assert(success, new TextDecoder().decode(stderr));
    assertEquals([Deno.readTextFileSync(path), Deno.statSync(path).mode! & 0o777], ["x\n", 0o600]);
  } finally {
    Deno.removeSync(path);
  }
});

for (const user of USERS) {
  isolatedTest(`output() and outputSync() on a terminal come to an end, as ${user}`, async () => {
    const code = `
      const command = new Namespace().command("sh", { args: ["-c", "cat; tty; echo end >/dev/tty"], tty: true });
      for (const { code, stdout } of [await command.output(), command.outputSync()]) {
        console.log(code, JSON.stringify(new TextDecoder().decode(stdout)));
      }`;
    const { stdout, stderr } = await runProgram(code, { user });
    assertMatch(stdout, /^(0 "\/dev\/pts\/\d+\\r\\nend\\r\\n"\n){2}$/, stderr);
  });

  isolatedTest(`unsetEnv leaves variables out of what is inherited, as ${user}`, async () => {
    const commandOptions = { unsetEnv: ["PATH", "NOT_THERE"], env: { NEW: "1" } };
    const [result] = await runAs(user, [{ options: {}, argv: ["/usr/bin/env"], commandOptions }]);
    assertEquals([result!.code, /^PATH=/m.test(result!.stdout), /^NEW=1$/m.test(result!.stdout)], [0, false, true]);
    assert(result!.stdout.split("\n").length > 3);
  });
}

isolatedTest("a command whose terminal or descriptors cannot be leaves nothing", async () => {
  assertThrows(() => sh("true", { fds: { 4: 250 } }).spawn(), Error, "Cannot connect descriptor 4 for fds: Bad file");
  assertThrows(
    () => new Namespace().command("/nowhere", { fds: { 3: "input" }, tty: true }).spawn(),
    Deno.errors.NotFound,
  );
  await assertRejects(
    async () => await new Namespace().command("/nowhere", { tty: true }).output(),
    Deno.errors.NotFound,
  );
});

Deno.test("what descriptors, terminals and variables cannot be is refused by its name", () => {
  const refusals: readonly [CommandOptions, typeof TypeError | typeof RangeError, string][] = [
    [{ fds: { 2: "input" } }, RangeError, `"fds" must be an integer from 3 to 255`],
    [{ fds: { 256: "input" } }, RangeError, `"fds" must be an integer from 3`],
    [{ fds: { x: "input" } as never }, RangeError, `"fds" must be an integer from 3`],
    [{ fds: { 3: "piped" as never } }, TypeError, `"fds.3" must be "input", "output", "inherit" or a number`],
    [{ fds: { 3: -1 } }, RangeError, `"fds.3" must be an integer from 0`],
    [{ fds: [] as never }, TypeError, `"fds" must be an object`],
    [{ tty: 1 as never }, TypeError, `"tty" must be true, false or { rows, columns }`],
    [{ tty: { rows: 0 } }, RangeError, `"tty.rows" must be an integer from 1`],
    [{ tty: { colums: 7 } as never }, TypeError, `Unknown option "tty.colums": did you mean "tty.columns"?`],
    [{ tty: true, stdout: "piped" }, TypeError, `Options "tty" and "stdout" contradict each other`],
    [{ unsetEnv: "A" as never }, TypeError, `"unsetEnv" must be an array of names`],
    [{ unsetEnv: ["A=B"] }, TypeError, `"unsetEnv" has a name that cannot be`],
    [{ unsetEnv: ["A"], env: { A: "1" } }, TypeError, `Options "env" and "unsetEnv" contradict each other`],
  ];
  for (const [options, Class, message] of refusals) assertThrows(() => sh("true", options).spawn(), Class, message);
  assertThrows(() => sh("true", { fds: { 3: "output" } }).outputSync(), TypeError, `"spawn()" only`);
});
