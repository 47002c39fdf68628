import { assertEquals, assertStringIncludes } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../../mod.ts";
import { ANYBODY, type Caller } from "../../src/plan/caller.ts";
import { planUpToProgram } from "../../src/plan/child.ts";
import { validate } from "../../src/options.ts";
import { isolatedTest } from "../support/leaks.ts";
import { type Request, runAs, USERS } from "../support/nobody.ts";
import { stdoutOf } from "../support/cli.ts";
import { runArgv } from "../support/program.ts";

const STATUS = "grep -hE '^(NoNewPrivs|Cap)' /proc/self/status | cut -f 2 | tr '\\n' ' '";
const argv = ["sh", "-c", STATUS] as const;
const map = (inside: number, outside: number) => [{ inside, outside }];

/** NoNewPrivs, and whether anything is left in the sets that a program has or hands on. */
function read(stdout: string): readonly [boolean, boolean] {
  const [inheritable, permitted, effective, , ambient, noNewPrivs] = stdout.split(" ");
  const all = [inheritable, permitted, effective, ambient].map((set) => BigInt(`0x${set}`));
  return [noNewPrivs === "1", all.some((set) => set !== 0n)];
}

new Namespace({ init: true }).command("true").outputSync(); // What is executed as init stays in memory.

for (const user of USERS) {
  const own = user === "root" ? 0 : 65534;
  const isRoot = user === "root";

  isolatedTest(`who is not root in a user namespace of its own gains no privileges, as ${user}`, async () => {
    // Whether nobody gains any, and whether it has any: who is root inside has all of its namespace's.
    const cases: readonly (readonly [NamespaceOptions, Request["commandOptions"], readonly [boolean, boolean]])[] = [
      [{}, {}, [false, isRoot]],
      [{ privateUser: true }, {}, [false, true]],
      [{ privateUser: true }, { uid: 0 }, [false, true]],
      [{ privateUser: { uid: 1000, gid: 1000 } }, {}, [true, false]],
      [{ privateUser: { uid: 1000 } }, { uid: 1000 }, [true, false]],
      [{ privateUser: "self" }, {}, [!isRoot, isRoot]],
      [{ privateMount: true }, {}, [!isRoot, isRoot]], // Who needs a user namespace has one.
      [{ privatePid: true, init: true }, {}, [!isRoot, isRoot]],
      [{ privateUser: { uidMap: map(0, own), gidMap: map(0, own) } }, {}, [false, true]],
      [{ privateUser: { uidMap: map(7, own), gidMap: map(7, own) } }, {}, [true, false]],
      [{ privateUser: { uid: 1000 }, noNewPrivs: false }, {}, [false, false]],
      [{ privateMount: true, noNewPrivs: false }, {}, [false, isRoot]],
      [{ privateUser: true, noNewPrivs: true }, {}, [true, true]],
    ];
    const requests = cases.map(([options, commandOptions = {}]) => ({ options, commandOptions, argv }));
    const results = await runAs(user, requests);
    for (const [index, { stdout, error }] of results.entries()) {
      const what = JSON.stringify({ ...requests[index], error });
      assertEquals(read(stdout), cases[index]![2], what);
    }
  });

  isolatedTest(`an executable that was built asks who it is when it is run, as ${user}`, async () => {
    const folder = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "namespace-build-" });
    try {
      Deno.chmodSync(folder, 0o755);
      const expectations: readonly (readonly [NamespaceOptions, boolean])[] = [
        [{ privateUser: "self", privateUts: true }, !isRoot],
        [{ privateUser: true }, false],
        [{ privateUser: { uid: 5 } }, true],
        [{ privateUts: true }, !isRoot],
        [{ privateUser: "self", noNewPrivs: false }, false],
      ];
      for (const [index, [options, expected]] of expectations.entries()) {
        const output = `${folder}/${index}`;
        await new Namespace(options).build("sh", { args: ["-c", STATUS], output });
        const drop = isRoot ? [] : ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        const { stdout, stderr } = await runArgv([...drop, output]);
        assertEquals(stderr, "");
        assertEquals(read(stdout)[0], expected, JSON.stringify(options));
      }
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  });

  isolatedTest(`nsrun's command gains no privileges either, unless --new-privs is there, as ${user}`, async () => {
    const status = async (...words: string[]) => read(await stdoutOf([...words, ...argv], { user }))[0];
    assertEquals(await status("--private-user=uid=7,gid=7"), true);
    assertEquals(await status("--private-user=uid=7,gid=7", "--new-privs"), false);
    assertEquals(await status("--private-uts", "--private-user=self"), !isRoot);
  });
}

isolatedTest("root that becomes another user keeps what setpriv(1) keeps", () => {
  const status = (options: NamespaceOptions): readonly [boolean, boolean] => {
    const { stdout } = new Namespace(options).command("sh", { args: ["-c", STATUS], uid: 1000, gid: 1000 })
      .outputSync();
    return read(new TextDecoder().decode(stdout));
  };
  const ids = [{ inside: 0, outside: 0, count: 2000 }];
  assertEquals(status({}), [false, false]);
  assertEquals(status({ privatePid: true }), [false, false]);
  assertEquals(status({ privateUser: { uidMap: ids, gidMap: ids } }), [true, false]);
});

Deno.test("explain() says why nobody gains privileges", () => {
  const text = String(new Namespace({ privateMount: true }).explain("true", { as: { uid: 1000 } }));
  assertStringIncludes(text, "for noNewPrivs");
  assertStringIncludes(text, "as who is not root in a user namespace");
});

Deno.test("who is mapped to another than 0 is not root", () => {
  const caller: Caller = { uid: 7, gid: 7, capabilities: new Set(["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID"]) };
  const place = { cwd: undefined, callerCwd: undefined, uid: undefined, gid: undefined };
  const calls = (options: NamespaceOptions, uid: Caller["uid"]) =>
    planUpToProgram(validate(options), place, { ...caller, uid }, []).child
      .filter(({ option }) => option === "noNewPrivs").map(({ call }) => call);
  const maps = { uidMap: [{ inside: 0, outside: 5, count: 3 }], gidMap: map(0, 7) };
  assertEquals(calls({ privateUser: maps }, 5), []);
  assertEquals(calls({ privateUser: maps }, 6), ["prctl"]);
  assertEquals(calls({ privateUser: maps }, ANYBODY), ["geteuid", "futex", "prctl"]);
  assertEquals(calls({ privateUser: true }, ANYBODY), []);
});
