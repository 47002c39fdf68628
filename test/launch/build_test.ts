import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { type BuildOptions, Namespace, type NamespaceOptions } from "../../mod.ts";
import { inspect } from "../../src/launch/build.ts";
import { bundleIn } from "../../src/launch/image.ts";
import { isolatedTest } from "../support/leaks.ts";
import { type ProgramOutput, runArgv, type User } from "../support/program.ts";
import { USERS } from "../support/nobody.ts";

/** A folder for executables that anybody can execute. */
let folder: string | undefined;
let files = 0;

addEventListener("unload", () => {
  if (folder !== undefined) Deno.removeSync(folder, { recursive: true });
});

async function built(namespace: NamespaceOptions, command: string, options: BuildOptions = {}): Promise<string> {
  folder ??= Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "namespace-build-" });
  Deno.chmodSync(folder, 0o755);
  const output = `${folder}/${++files}`;
  await new Namespace(namespace).build(command, { ...options, output });
  return output;
}

function as(user: User, argv: readonly string[]): Promise<ProgramOutput> {
  const drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
  return runArgv(user === "root" ? argv : [...drop, ...argv]);
}

for (const user of USERS) {
  isolatedTest(`an executable that was built runs its command in its namespaces, as ${user}`, async () => {
    const jail = await built(
      { privatePid: true, privateTmp: { size: "1m" }, privateNet: true, hostname: "box" },
      "sh",
      {
        args: ["-c", 'echo $$ $(cat /proc/sys/kernel/hostname) $(id -u) $(ls -A /tmp) "$@"; exit 9', "-"],
      },
    );
    const { code, stdout, stderr } = await as(user, [jail, "more", "arguments"]);
    assertEquals([code, stdout, stderr], [9, `1 box ${user === "root" ? 0 : 65534} more arguments\n`, ""]);
  });

  isolatedTest(`who runs it, where, and with what is decided when it is run, as ${user}`, async () => {
    const jail = await built({ privateUser: true, privateTmp: true }, "sh", {
      args: ["-c", 'id -u; pwd; echo "$A $B $HOME"; cat /proc/self/uid_map'],
      env: { A: "set" },
    });
    const { stdout, stderr } = await as(user, ["env", "-C", "/usr", "A=given", "B=given", "HOME=/somewhere", jail]);
    const [id, folder, variables, map] = stdout.split("\n");
    assertEquals([id, folder, variables, stderr], ["0", "/usr", "set given /somewhere", ""]);
    assertEquals(map!.trim().split(/\s+/), ["0", user === "root" ? "0" : "65534", "1"]);
  });

  isolatedTest(`maps that leave out who runs it are refused, or it is another, as ${user}`, async () => {
    const own = user === "root" ? 0 : 65534;
    const stay = await built(
      { privateUser: { uidMap: [{ inside: 5, outside: own }], gidMap: [{ inside: 6, outside: own }] } },
      "sh",
      { args: ["-c", "id -u; id -g"] },
    );
    assertEquals((await as(user, [stay])).stdout, "5\n6\n");
    if (user !== "root") return;
    const map = (count: number) => [{ inside: 0, outside: 100_000, count }];
    const script = { args: ["-c", "id -u; id -g; cat /etc/shadow"] };
    const few = await built({ privateUser: { uidMap: map(9), gidMap: map(9) } }, "sh", script);
    const refused = await as(user, [few]);
    assertEquals([refused.code, refused.stdout], [125, ""]);
    assertStringIncludes(refused.stderr, "Cannot stay the user that runs it for privateUser: Invalid argument");
    const many = await built({ privateUser: { uidMap: map(65_536), gidMap: map(65_536) } }, "sh", script);
    const other = await as(user, [many]);
    assertEquals(other.stdout, "65534\n65534\n"); // As there is one that is mapped.
    assertStringIncludes(other.stderr, "Permission denied");
  });

  isolatedTest(
    `it runs from an empty environment, through a link, and where there is nothing but it, as ${user}`,
    async () => {
      const jail = await built({ privatePid: true, noProc: true }, "/jail", { anyCommand: true, env: { LAST: "1" } });
      const link = `${jail}-link`;
      Deno.symlinkSync(jail, link);
      assertEquals((await as(user, ["env", "-i", link, "/bin/echo", "hello"])).stdout, "hello\n");
      // A root with one file in it, which runs itself once more: there is no /proc, no libc, no shell.
      const script = `mount -t tmpfs tmpfs /mnt && cp ${jail} /mnt/jail && cp ${jail} /mnt/inner && cd /mnt &&
      chroot /mnt /jail /inner /nothing; echo $?`;
      const { stdout, stderr } = await as(user, ["unshare", "-rm", "sh", "-c", script]);
      assertEquals([stdout, stderr], [
        "127\n",
        'inner: Cannot execute "/nothing": No such file or directory (ENOENT)\n',
      ]);
    },
  );

  isolatedTest(`a step that is refused is told as the library tells it, as ${user}`, async () => {
    const namespace = { privateTime: { boottime: -4e9 } };
    const jail = await built(namespace, "true");
    const error = assertThrows(() => new Namespace(namespace).command("true").outputSync(), Error);
    const { code, stderr } = await as(user, [jail]);
    assertEquals(code, 125);
    assertEquals(stderr, `${jail.split("/").at(-1)}: ${error.message}\n`);
  });
}

isolatedTest("it is run as nobody else than who runs it", async () => {
  const jail = await built({ privateUts: true }, "id", { args: ["-u"] });
  Deno.chmodSync(jail, 0o4755);
  const { code, stdout, stderr } = await as("nobody", [jail]);
  assertEquals([code, stdout], [125, ""]);
  assertStringIncludes(stderr, "this file must have no set-user-ID or set-group-ID bit, and no capabilities");
  assertEquals((await as("root", [jail])).stdout, "0\n");
});

isolatedTest("a command is named without what could mislead a terminal", async () => {
  const jail = await built({ privateUts: true }, "/no/\x1b[31mcommand", {});
  const { code, stderr } = await runArgv([jail]);
  assertEquals(code, 127);
  assertStringIncludes(stderr, 'Cannot execute "/no/\\u001b[31mcommand"');
});

isolatedTest("anyCommand replaces the command by the arguments at run time", async () => {
  const jail = await built({ privatePid: true }, "echo", { args: ["one"], anyCommand: true });
  assertEquals((await runArgv([jail])).stdout, "one\n");
  assertEquals((await runArgv([jail, "sh", "-c", "echo $$ $0"])).stdout, "1 sh\n");
});

isolatedTest("timeoutMs ends the command", async () => {
  const jail = await built({ privatePid: true, init: true, termGraceMs: 0 }, "sleep", { args: ["600"], timeoutMs: 20 });
  assertEquals((await runArgv([jail])).code, 124);
});

isolatedTest("cwd, uid, gid, clearEnv and argv0 are as for a command", async () => {
  const options = { cwd: "/usr", uid: 5, gid: 6, clearEnv: true, env: { A: "1" }, argv0: "shell" };
  const jail = await built({}, "/bin/sh", { ...options, args: ["-c", "id -u; id -g; pwd; echo $0 $A $HOME."] });
  assertEquals((await runArgv([jail])).stdout, "5\n6\n/usr\nshell 1 .\n");
});

Deno.test("what was truncated or altered is refused before anything runs", async () => {
  const jail = await built({ hostname: "box" }, "touch", { args: ["/var/tmp/never"] });
  const image = Deno.readFileSync(jail);
  const bundleAt = image.length - bundleIn(image).length;
  const broken = `${jail}-broken`;
  for (
    const size of [bundleAt, bundleAt + 8, bundleAt + 200, image.length - 4096, image.length - 8, image.length - 1]
  ) {
    Deno.writeFileSync(broken, image.subarray(0, size), { mode: 0o755 });
    const { code, stderr } = await runArgv([broken]);
    assertEquals(code, 125, `${size}: ${stderr}`);
    assertMatch(stderr, /truncated|altered|nothing to launch/);
    assertThrows(() => inspect(image.slice(0, size)), TypeError);
  }
  for (let at = bundleAt; at < image.length; at += 211) {
    const changed = image.slice();
    changed[at]! ^= 1 << at % 8;
    Deno.writeFileSync(broken, changed, { mode: 0o755 });
    assertEquals((await runArgv([broken])).code, 125, String(at));
    assertThrows(() => inspect(changed), TypeError);
  }
  assertThrows(() => Deno.statSync("/var/tmp/never"), Deno.errors.NotFound);
});

Deno.test("an executable for the other architecture is made as well", async () => {
  const arch = Deno.build.arch === "x86_64" ? "aarch64" : "x86_64";
  const image = await new Namespace({ privatePid: true }).build("true", { arch });
  assertEquals(new DataView(image.buffer).getUint16(18, true), arch === "x86_64" ? 62 : 183);
  assertEquals(inspect(image).options.arch, arch);
});

Deno.test("inspect() tells what an executable was built from", async () => {
  const image = await new Namespace({ privateTmp: { size: "1m" } }).build("sh", { args: ["-c", "x"], env: { A: "1" } });
  const { namespace, command, options } = inspect(image);
  assertEquals([namespace, command, options.args, options.env], [{ privateTmp: { size: "1m" } }, "sh", ["-c", "x"], {
    A: "1",
  }]);
  assertThrows(() => inspect(new Uint8Array(1000)), TypeError, "it is no executable");
  assertThrows(() => inspect(Deno.readFileSync("/proc/self/exe")), TypeError, "there is no plan in it");
});

Deno.test("build() refuses wrong options, and leaves no file where it cannot write", async () => {
  const ns = new Namespace();
  await assertRejects(() => ns.build("x", { arch: "mips" as "x86_64" }), TypeError, '"arch"');
  await assertRejects(() => ns.build("x", { timeoutMs: 0 }), RangeError, '"timeoutMs"');
  await assertRejects(() => ns.build("x\0"), TypeError, '"command"');
  await assertRejects(() => ns.build("x", { outptu: "y" } as BuildOptions), TypeError, "output");
  await assertRejects(() => ns.build("x", { output: "/nowhere/at/all" }), Deno.errors.NotFound);
  const target = await built({}, "true");
  Deno.mkdirSync(`${target}-folder`);
  await assertRejects(() => ns.build("x", { output: `${target}-folder` }));
  assert([...Deno.readDirSync(folder!)].every(({ name }) => name.length < 20), "a temporary file is left");
  assertStringIncludes(new TextDecoder("latin1").decode(Deno.readFileSync(target)), "NSBL");
});
