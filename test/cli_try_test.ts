import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { Change } from "../mod.ts";
import { describeChanges } from "../src/cli/try.ts";
import { nsrun, nsrunArgv } from "./support/cli.ts";
import { lacking } from "./support/kernel.ts";
import { isolatedTest } from "./support/leaks.ts";
import { USERS } from "./support/nobody.ts";
import { Terminal } from "./support/terminal.ts";

/** A folder that anybody may write to, gone afterwards. */
async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "nsrun-try-", dir: "/var/tmp" });
  Deno.chownSync(folder, 65534, 65534);
  try {
    await work(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("describeChanges() says what, where and to what, and nothing that moves a cursor", () => {
  const about = { mode: 0o644, owner: "0:0" };
  const changes: Change[] = [
    { path: "/a", kind: "added", type: "directory", size: 0, ...about, mode: 0o755 },
    { path: "/a/b\x1b[2J", kind: "added", type: "file", size: 5, ...about },
    { path: "/c", kind: "changed", type: "file", size: 7, previousSize: 6, ...about },
    { path: "/d", kind: "removed", type: "symlink", size: 0, ...about },
    { path: "/e\x9b1A\u202e\u{e0041}", kind: "removed", type: "file", size: 1, ...about, mode: 0o4755 },
    { path: "/f", kind: "added", type: "file", size: 1, ...about, mode: 0o4755 },
    {
      ...{ path: "/g", kind: "changed", type: "file", size: 1, previousSize: 1, ...about },
      ...{ mode: 0o4755, previousMode: 0, previousOwner: "5:6" },
    },
  ];
  assertEquals(describeChanges(changes, false), [
    "A  /a/",
    `A  "/a/b\\u001b[2J"  (5 bytes)`,
    "M  /c  (6 → 7 bytes)",
    "D  /d (symlink)",
    `D  "/e\\u009b1A\\u202e\\udb40\\udc41"  (1 bytes)`,
    "A  /f  (1 bytes, mode 4755)",
    "M  /g  (1 bytes, mode 000 → 4755, owner 5:6 → 0:0)",
  ]);
  assertEquals(describeChanges(changes, true)[3], "\x1b[31mD\x1b[0m  /d (symlink)");
});

for (const user of USERS) {
  const lack = user === "root" ? undefined : lacking("overlays in user namespaces");

  isolatedTest(`nsrun try drops what it is not told to keep, as ${user}`, async () => {
    await withFolder(async (folder) => {
      const file = `${folder}/file`;
      const words = ["--cwd", folder, "sh", "-c", "echo to stdout; echo x > file; exit 3"];
      const dropped = await nsrun(["try", ...words], { user });
      assertEquals(dropped.stderr, `A  ${file}  (2 bytes)\nnsrun: 1 change dropped\n`);
      assertEquals([dropped.code, dropped.stdout], [3, "to stdout\n"]);
      const failed = await nsrun(["try", "--commit", ...words], { user });
      assertEquals([failed.code, failed.stderr], [3, dropped.stderr]);
      assertEquals([...Deno.readDirSync(folder)], []);
      words[4] = "echo x > file; mkdir folder";
      const kept = await nsrun(["try", "--commit", ...words], { user });
      assertEquals(
        [kept.code, kept.stderr],
        [0, `A  ${file}  (2 bytes)\nA  ${folder}/folder/\nnsrun: 2 changes kept\n`],
      );
      assertEquals(Deno.readTextFileSync(file), "x\n");
      const nothing = await nsrun(["try", "--discard", "--private-pid", "--private-tmp", "touch", "/tmp/x"], { user });
      assertEquals([nothing.code, nothing.stderr], [0, "nsrun: nothing was changed\n"]);
    });
  }, lack);
}

isolatedTest("nsrun try tells a program what was changed", async () => {
  await withFolder(async (folder) => {
    const inner = nsrunArgv(["try", "--status-fd", "7", "--cwd", folder, "touch", "file"]);
    const script = new Deno.Command("sh", {
      args: ["-c", `exec "$@" 7>"$0/status"`, folder, ...inner],
      env: { NO_COLOR: "1" },
      stderr: "null",
    });
    assertEquals((await script.output()).code, 0);
    const events = Deno.readTextFileSync(`${folder}/status`).trim().split("\n").map((line) => JSON.parse(line));
    assertEquals(events.map(({ event }) => event), ["started", "exited", "changes"]);
    assertEquals(events[1].code, 0);
    const about = { mode: 0o644, owner: "0:0" };
    assertEquals(events[2].changes, [{ path: `${folder}/file`, kind: "added", type: "file", size: 0, ...about }]);
  });
});

isolatedTest("nsrun try ends what takes too long, and says why it cannot begin", async () => {
  const late = await nsrun(["try", "--timeout", "0.1", "sleep", "1000"]);
  assertEquals([late.code, late.stderr], [124, "nsrun: nothing was changed\n"]);
  const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
    [[], 125, /try needs a command/],
    [["--commit", "--discard", "true"], 125, /--commit and --discard contradict each other/],
    [["--root", "empty", "true"], 125, /--root cannot be had with try, whose command sees the file system as it is/],
    [["--sandbox", "true"], 125, /--sandbox cannot be had with try/],
    [["--ephemeral=dir=/no/such", "true"], 125, /Cannot make "\/no\/such\/.*" for --ephemeral: No such file/],
    [["--ephemeral=size=5", "true"], 125, /--ephemeral must have dir=DIR, readonly=PATH or writable=DIR: got "size=5"/],
    [["/no/such/program"], 127, /Cannot execute "\/no\/such\/program"/],
    [["/etc/passwd"], 126, /Permission denied/],
  ];
  for (const [words, code, message] of cases) {
    const output = await nsrun(["try", ...words]);
    assertMatch(output.stderr, message);
    assertEquals([output.code, output.stdout], [code, ""], output.stderr);
  }
  const alone = await nsrun(["--ephemeral", "true"]);
  assertEquals(alone.code, 125);
  assertStringIncludes(alone.stderr, "--ephemeral is for commands that this program waits for");
});

isolatedTest("nsrun try asks at a terminal", async () => {
  await withFolder(async (folder) => {
    for (const [answer, said, there] of [["n", "dropped", []], ["y", "kept", ["file"]]] as const) {
      const terminal = new Terminal(nsrunArgv(["try", "--cwd", folder, "touch", "file"]).join(" "));
      await terminal.shows("keep this outside? [y/N]");
      await terminal.type(`${answer}\r`);
      assertEquals(await terminal.end(), 0, terminal.shown);
      assertStringIncludes(terminal.shown, `${folder}/file`);
      assertStringIncludes(terminal.shown, `nsrun: 1 change ${said}`);
      assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), [...there]);
    }
  });
});

isolatedTest("nsrun try refuses what it cannot have, before anything runs", async () => {
  await withFolder(async (folder) => {
    const file = `${folder}/file`;
    for (
      const [words, text] of [
        [["--tty"], "--tty cannot be had with try"],
        [["--status-fd", "11"], "--status-fd 11 is not open"], // One of Deno's own may have that number.
        [["--inherit-fd", "6"], "--inherit-fd 6 is not open"],
        [["--commit", "--discard"], "contradict each other"],
      ] as const
    ) {
      const { code, stderr } = await nsrun(["try", ...words, "touch", file]);
      assertEquals(code, 125);
      assertStringIncludes(stderr, text);
    }
    assertEquals(JSON.parse((await nsrun(["try", "-p", "--print-config", "touch", file])).stdout).command, "touch");
    assertEquals([...Deno.readDirSync(folder)], []);
  });
});
