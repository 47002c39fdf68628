// nsrun and what is built hand on the descriptors that they are told to, and no other.

import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { Namespace } from "../mod.ts";
import { nsrun, nsrunArgv } from "./support/cli.ts";
import { isolatedTest } from "./support/leaks.ts";

const WRITE_9 = "echo apart >&9; test -e /proc/self/fd/7 || echo closed >&9";

function shell(line: string, argv: readonly string[]): Deno.CommandOutput {
  return new Deno.Command("sh", { args: ["-c", `${line} "$@" 9>&2 7</dev/null`, "sh", ...argv] }).outputSync();
}

for (const init of [[], ["--init"]]) {
  Deno.test(`nsrun --inherit-fd hands on a descriptor, with ${init}`, () => {
    const { code, stderr } = shell("", nsrunArgv([...init, "-p", "--inherit-fd", "9", "sh", "-c", WRITE_9]));
    assertEquals([new TextDecoder().decode(stderr), code], ["apart\nclosed\n", 0]);
  });
}

Deno.test("nsrun --inherit-fd refuses what is not open, or no descriptor beyond the three", async () => {
  const closed = await nsrun(["--inherit-fd", "77", "true"]);
  assertEquals(closed.code, 125);
  assertStringIncludes(closed.stderr, "Cannot connect descriptor 77 for --inherit-fd: Bad file descriptor (EBADF)");
  assertStringIncludes((await nsrun(["--inherit-fd", "2", "true"])).stderr, "must be an integer from 3 to 255");
});

Deno.test("nsrun --inherit-fd hands on none of nsrun's own descriptors", () => {
  const file = Deno.makeTempFileSync({ suffix: ".json" });
  try {
    Deno.writeTextFileSync(file, JSON.stringify({ init: true, timeoutMs: 60_000 }));
    for (const fd of [3, 4, 5, 8, ...Array.from({ length: 20 }, (_, index) => 11 + index)]) {
      const argv = nsrunArgv(["--config", file, "--inherit-fd", String(fd), "true"], { permissions: ["-A"] });
      const { code, stderr } = new Deno.Command("sh", { args: ["-c", `exec "$@" ${fd}>&-`, "sh", ...argv] })
        .outputSync();
      assertEquals(code, 125, `${fd}`);
      assertStringIncludes(
        new TextDecoder().decode(stderr),
        `Cannot connect descriptor ${fd} for --inherit-fd: Bad file`,
      );
    }
  } finally {
    Deno.removeSync(file);
  }
});

isolatedTest("build() hands on descriptors, but has no other end for pipes", async () => {
  const path = Deno.makeTempFileSync();
  try {
    const ns = new Namespace({ privatePid: true });
    await ns.build("sh", { args: ["-c", WRITE_9], fds: { 9: "inherit" }, output: path });
    const { code, stderr } = shell("", [path]);
    assertEquals([new TextDecoder().decode(stderr), code], ["apart\nclosed\n", 0]);
    let error: unknown;
    await ns.build("true", { fds: { 3: "output" } }).catch((thrown) => error = thrown);
    assertThrows(
      () => {
        throw error;
      },
      TypeError,
      `"fds.3" must be "inherit" here`,
    );
  } finally {
    Deno.removeSync(path);
  }
});
