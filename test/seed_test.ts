// The acceptance set of Sys::Linux::Namespace, by its own numbers, as far as it concerns commands: each assertion as root
// and, with privateUser, as an ordinary user.

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Namespace } from "../mod.ts";
import { isolatedTest } from "./support/leaks.ts";
import { stdoutAs, USERS } from "./support/nobody.ts";
import { runProgram } from "./support/program.ts";

/** What sh(1) prints of the numeric folders of /proc, without programs that would add themselves. */
const LIST_PROCESSES = "cd /proc && for entry in [0-9]*; do echo $entry; done";

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
}

// P8: output that the parent had not flushed was printed again by each child.
isolatedTest("P8: what the parent has written is written once, however many children there are", async () => {
  const { stdout } = await runProgram(
    `
      Deno.stdout.writeSync(new TextEncoder().encode("once"));
      for (let index = 0; index < 5; index++) await new Namespace({ privatePid: true }).command("true").spawn().status;
    `,
    { user: "root" },
  );
  assertEquals(stdout, "once");
});
