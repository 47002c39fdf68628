// isolated() as test authors meet it: files of tests, and what the runner says of them.

import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { isolated, type IsolatedOptions, type NamespaceOptions } from "../../mod.ts";
import { denoPath } from "../support/deno.ts";
import { isolatedTest } from "../support/leaks.ts";
import { packageFolder, runArgv } from "../support/program.ts";

interface Outcome {
  readonly code: number;
  /** What the runner printed, errors included. */
  readonly text: string;
  readonly stderr: string;
}

/** Runs the runner on files of the folder beside this file. */
async function test(
  files: readonly string[],
  flags: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command(denoPath(), {
    args: ["test", "-A", "--no-check", ...flags, ...files.map((file) => `test/code/isolated/${file}.ts`)],
    cwd: new URL("../..", import.meta.url),
    env: { NO_COLOR: "1", ...env },
  }).output();
  return { code, text: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
}

/** A line without the time that it took. */
function lines(text: string): string[] {
  return text.split("\n").map((line) => line.replace(/ \(\d+(?:ms|s|µs)\)$/, ""));
}

/** What comes after a test's name in the list of errors. */
function errorOf(text: string, name: string): string {
  const errors = text.slice(text.indexOf("\n ERRORS \n"), text.indexOf("\n FAILURES \n"));
  const at = errors.indexOf(`\n${name} => `);
  assert(at >= 0, `no error of "${name}" in ${text}`);
  const next = errors.slice(at + 1).search(/\n\n\S.* => /);
  return errors.slice(at + 1, next < 0 ? undefined : at + 1 + next);
}

isolatedTest("isolated() lets two tests have the same port and the same path in /tmp at the same time", async () => {
  const folder = Deno.makeTempDirSync({ dir: "/var/tmp" });
  try {
    const env = { ISOLATED_TEST_MEETING: folder, DENO_JOBS: "2" };
    const { code, text } = await test(["first", "second"], ["--parallel"], env);
    assertEquals(code, 0, text);
    assertStringIncludes(text, "ok | 2 passed (2 steps) | 0 failed");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

isolatedTest("isolated() passes with all sanitizers, with steps in steps, and leaves no file", async () => {
  const lock = new URL("../../deno.lock", import.meta.url);
  const before = Deno.statSync(lock);
  const { code, text } = await test(["passing"]);
  const left = Number(text.match(/left (\d+)/)?.[1]);
  if (left > 1) Deno.kill(left, "SIGKILL");
  assertEquals(code, 0, text);
  assertStringIncludes(text, "ok | 4 passed (4 steps) | 0 failed | 0 ignored (2 steps)");
  assert(left > 1, text);
  assertEquals(Deno.statSync(lock).mtime, before.mtime);
  const seen = lines(text);
  const at = seen.indexOf("passes 1 ...");
  assertEquals(seen.slice(at, at + 6), [
    "passes 1 ...",
    "  outer step ...",
    "    inner step ... ok",
    "  outer step ... ok",
    "  ignored step ... ignored",
    "passes 1 ... ok",
  ]);
});

isolatedTest("isolated() reports failures of tests and steps as the runner reports its own", async () => {
  const { code, text } = await test(["failing"]);
  assertEquals(code, 1);
  assertStringIncludes(text, "FAILED | 0 passed (4 steps) | 7 failed (4 steps) | 0 ignored (1 step)");

  const differ = errorOf(text, "values differ");
  assertStringIncludes(differ, "error: AssertionError: Values are not equal.");
  assertMatch(differ, /-\s+2,\n\+\s+3,\n/);
  assertEquals(differ.split("[Diff]").length, 2, differ); // Once, not twice.
  assertMatch(differ, /at file:\/\/\/.*\/isolated\/failing\.ts:11:5\n?$/);
  assert(!/isolated_|\$deno/.test(differ.slice(differ.indexOf("\n"))), differ);

  assertStringIncludes(text, "nested < passes < steps < \n");
  assertStringIncludes(text, "true false false false true true");
  const seen = lines(text).filter((line) => /^ +\S.* \.\.\. /.test(line));
  assertEquals(seen.slice(0, 6), [
    "    nested ... ok",
    "  passes ... ok",
    "  is left out ... ignored",
    "  fails ... FAILED",
    "    deep ... FAILED",
    "  fails by its step ... FAILED (due to 1 failed step)",
  ]);
  assertStringIncludes(errorOf(text, "steps ... fails"), "a variable around the test");
  const deep = errorOf(text, "steps ... fails by its step ... deep");
  assertMatch(deep, /error: TypeError: deep down\n +at .*failing\.ts:29:17\)?\n/);
  assertStringIncludes(deep, "Caused by: Error: the cause");

  for (const name of ["exits ... in a step", "exits"]) {
    const error = errorOf(text, name);
    assertMatch(
      error,
      /error: RunError: Cannot get a result: the process exited with code 3 .*\n +at file:.*failing.ts\n?$/,
    );
  }
  assertStringIncludes(errorOf(text, "rejects for nobody"), "error: Error: that nobody looks at");
  assertStringIncludes(errorOf(text, "is made too late"), "isolated() must be called while");
  assertStringIncludes(errorOf(text, "throws what is no error"), "a word");
  assertStringIncludes(errorOf(text, "throws what is its own cause"), "error: Error: round and round");
});

isolatedTest("isolated() works for nobody with --allow-ffi alone, where all of it lies in /tmp", async () => {
  const file = `${packageFolder()}/isolated.ts`;
  Deno.writeTextFileSync(
    file,
    `import { isolated } from "./mod.ts";
     const word = "around";
     const options = { privateTmp: true, privateNet: true, privatePid: true };
     Deno.test("as they are", isolated(options, { permissions: { read: true, sys: true } }, async (t) => {
       await t.step("empty", () => {
         const seen = [word, Deno.pid, Deno.uid(), [...Deno.readDirSync("/tmp")].length].join();
         if (seen !== "around,1,65534,0") throw new Error(seen);
       });
     }));
     Deno.test("as root", isolated({ ...options, privateUser: true }, { permissions: { read: true, sys: true } }, () => {
       const seen = [Deno.uid(), [...Deno.readDirSync("/tmp")].length].join();
       if (seen !== "0,0") throw new Error(seen);
     }));`,
    { mode: 0o644 },
  );
  const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
  const deno = [denoPath(), "test", "--no-prompt", "--no-config", "--no-check", "--allow-ffi", file];
  const { code, stdout } = await runArgv([...nobody, ...deno]);
  assertEquals(code, 0, stdout);
  assertStringIncludes(stdout, "ok | 2 passed (1 step) | 0 failed");
});

isolatedTest(
  "isolated() finds the modules that the runner finds: by its flags, and by the folder that it began in",
  async () => {
    const folder = Deno.makeTempDirSync();
    try {
      Deno.writeTextFileSync(`${folder}/word.ts`, `export const word = "mapped";`);
      Deno.writeTextFileSync(`${folder}/map.json`, `{ "imports": { "word": "./word.ts" } }`);
      const options = JSON.stringify({ privateTmp: true });
      Deno.writeTextFileSync(
        `${folder}/mapped.ts`,
        `import { word } from "word";
       import { isolated } from ${JSON.stringify(import.meta.resolve("../../mod.ts"))};
       const body = () => { if (word !== "mapped") throw new Error(word); };
       Deno.test("mapped", isolated(${options}, body));
       Deno.test("from another folder", async (t) => {
         Deno.chdir("/");
         await inner(t);
       });
       const inner = isolated(${options}, body);`,
      );
      const run = async (...flags: string[]): Promise<void> => {
        const args = ["test", "-A", "--no-check", ...flags, "mapped.ts"];
        const command = new Deno.Command(denoPath(), { args, cwd: folder, env: { NO_COLOR: "1" } });
        const { code, stdout } = await command.output();
        const text = new TextDecoder().decode(stdout);
        assertEquals(code, 0, text);
        assertStringIncludes(text, "ok | 2 passed | 0 failed");
      };
      await run("--config", "map.json");
      await run("-c=map.json", "--no-lock");
      await run("--no-config", "--import-map=map.json");
      Deno.renameSync(`${folder}/map.json`, `${folder}/deno.json`);
      await run();
      assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), ["deno.json", "mapped.ts", "word.ts"]);
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  },
);

Deno.test("isolated() refuses wrong options when it is called, and to be called as what is no test", async () => {
  const body = (): void => {};
  assertThrows(() => isolated({ privateTemp: true } as NamespaceOptions, body), TypeError, `"privateTmp"`);
  assertThrows(() => isolated({}, { argz: 1 } as unknown as IsolatedOptions, body), TypeError, `"argz"`);
  await assertRejects(async () => await isolated({}, body)(undefined as never), TypeError, "without its context");
  assertThrows(() => isolated({}, {}, undefined as unknown as typeof body), TypeError, "its body is no function");
});
