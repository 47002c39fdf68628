import { assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import { type CommandOptions, Namespace, type NamespaceOptions } from "../../mod.ts";
import { isolatedTest } from "../support/leaks.ts";

/** Files with what is in them and their mode, in a folder that is removed afterwards. */
function withFolder(files: Record<string, readonly [text: string, mode: number]>, use: (folder: string) => void): void {
  const folder = Deno.makeTempDirSync({ prefix: "namespace-path-" });
  try {
    for (const [name, [text, mode]] of Object.entries(files)) {
      Deno.mkdirSync(`${folder}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
      Deno.writeTextFileSync(`${folder}/${name}`, text);
      Deno.chmodSync(`${folder}/${name}`, mode);
    }
    use(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

function stdout(command: string | URL, commandOptions: CommandOptions = {}, options: NamespaceOptions = {}): string {
  const output = new Namespace(options).command(command, commandOptions).outputSync();
  assertEquals([output.code, new TextDecoder().decode(output.stderr)], [0, ""]);
  return new TextDecoder().decode(output.stdout);
}

const HELLO = ["#!/bin/sh\necho hello $1\n", 0o755] as const;

isolatedTest("command() looks for a name in each folder of PATH, in order", () => {
  withFolder({ "b/hello": HELLO, "c/hello": ["#!/bin/sh\necho wrong\n", 0o755] }, (folder) => {
    assertEquals(stdout("hello", { env: { PATH: `${folder}/a:${folder}/b:${folder}/c` } }), "hello\n");
    assertEquals(stdout("hello", { env: { PATH: `${folder}/c:${folder}/b` } }), "wrong\n");
  });
});

isolatedTest("command() goes on after a file in PATH that may not be executed", () => {
  withFolder({ "a/hello": ["", 0o644], "b/hello": HELLO, "file": ["", 0o644] }, (folder) => {
    assertEquals(stdout("hello", { env: { PATH: `${folder}/a:${folder}/file:${folder}/b` } }), "hello\n");
  });
});

isolatedTest("command() remembers a file in PATH that may not be executed when nothing else is found", () => {
  withFolder({ "a/hello": ["", 0o644], "b/x": ["", 0o644], "file": ["", 0o644] }, (folder) => {
    for (const path of [`${folder}/a:${folder}/b`, `${folder}/b:${folder}/a`, `${folder}/a:${folder}/file`]) {
      const command = new Namespace().command("hello", { env: { PATH: path } });
      const error = assertThrows(() => command.outputSync(), Deno.errors.PermissionDenied, "Failed to spawn 'hello'");
      assertInstanceOf(error.cause, Error);
    }
    const command = new Namespace().command("hello", { env: { PATH: `${folder}/b:${folder}` } });
    assertThrows(() => command.outputSync(), Deno.errors.NotFound, "Failed to spawn 'hello': entity not found");
  });
});

isolatedTest("command() takes a file in PATH for a folder that has nothing, the last one too", () => {
  withFolder({ "file": ["", 0o644] }, (folder) => {
    const command = new Namespace().command("hello", { env: { PATH: `/bin:${folder}/file` } });
    assertThrows(() => command.outputSync(), Deno.errors.NotFound, "Failed to spawn 'hello': entity not found");
  });
});

isolatedTest("command() takes PATH from env, over the caller's, and has a default without any", () => {
  withFolder({ "a/hello": HELLO }, (folder) => {
    assertThrows(() => new Namespace().command("hello").outputSync(), Deno.errors.NotFound);
    assertEquals(stdout("hello", { env: { PATH: `${folder}/a` }, clearEnv: true }), "hello\n");
    assertEquals(stdout("echo", { args: ["x"], clearEnv: true }), "x\n");
    assertThrows(
      () => new Namespace().command("echo", { env: { PATH: `${folder}/a` } }).outputSync(),
      Deno.errors.NotFound,
    );
  });
});

isolatedTest("command() takes an empty folder in PATH for the current one, inside", () => {
  withFolder({ "a/hello": HELLO }, (folder) => {
    assertEquals(stdout("hello", { env: { PATH: `/bin:` }, cwd: `${folder}/a` }), "hello\n");
    assertEquals(stdout("hello", { env: { PATH: `` }, cwd: `${folder}/a` }), "hello\n");
  });
});

isolatedTest("command() looks in the folders that there are inside", () => {
  withFolder({ "a/hello": HELLO }, (folder) => {
    const env = { PATH: `${folder}/a:/bin` };
    assertEquals(stdout("hello", { env }, { privatePid: true }), "hello\n");
    const hidden = new Namespace({ privateTmp: true }).command("hello", { env });
    assertThrows(() => hidden.outputSync(), Deno.errors.NotFound);
  });
});

isolatedTest("command() gives a file of no known format to /bin/sh", () => {
  const script = ["echo script $0 $1 $2; cat /proc/$$/comm\n", 0o755] as const;
  withFolder({ "a/script": script }, (folder) => {
    const path = `${folder}/a/script`;
    const args = ["one", "two words"];
    assertEquals(stdout(path, { args }), `script ${path} one two words\nsh\n`);
    assertEquals(
      stdout("script", { args, env: { PATH: `/nowhere:${folder}/a:/bin` } }),
      `script ${path} one two words\nsh\n`,
    );
    assertEquals(stdout(path, { args }, { privatePid: true }), `script ${path} one two words\nsh\n`);
  });
});

isolatedTest("command() begins a relative path at cwd", () => {
  withFolder({ "a/hello": HELLO, "hello": ["#!/bin/sh\necho wrong\n", 0o755] }, (folder) => {
    assertEquals(stdout("./hello", { cwd: `${folder}/a` }), "hello\n");
    assertEquals(stdout("a/hello", { cwd: folder }), "hello\n");
    const before = Deno.cwd();
    try {
      Deno.chdir(folder);
      assertEquals(stdout("./hello", { cwd: "a" }), "hello\n");
      assertEquals(stdout("../a/hello", { cwd: new URL(`file://${folder}/a/`) }), "hello\n");
      assertEquals(stdout("a/hello"), "hello\n");
      assertEquals(stdout("a/hello", {}, { privatePid: true }), "hello\n");
    } finally {
      Deno.chdir(before);
    }
  });
});

isolatedTest("command() takes a file URL, with its escapes", () => {
  withFolder({ "a b/h%c": HELLO }, (folder) => {
    assertEquals(stdout(new URL(`file://${folder}/a%20b/h%25c`), { args: ["you"] }), "hello you\n");
  });
});

isolatedTest("cwd that is relative begins at the caller's folder", () => {
  const before = Deno.cwd();
  try {
    Deno.chdir("/usr");
    assertEquals(stdout("pwd", { cwd: "bin/.." }), "/usr\n");
    assertEquals(stdout("pwd", { cwd: "lib" }, { privateTmp: true }), "/usr/lib\n");
  } finally {
    Deno.chdir(before);
  }
});
