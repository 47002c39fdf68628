// Rules for files and ports, from inside: what they leave, what they take, and ways around them that lead nowhere.

import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { type LandlockOptions, Namespace } from "../../mod.ts";
import { launcherFd } from "../../src/process/init.ts";
import { nsrun, stdoutOf } from "../support/cli.ts";
import { lacking } from "../support/kernel.ts";
import { isolatedTest } from "../support/leaks.ts";
import { runAs, stdoutAs, USERS } from "../support/nobody.ts";
import { runArgv, runProgram } from "../support/program.ts";

launcherFd(); // It is kept: no test is to be blamed for that.

const PROGRAMS = ["/usr", "/bin", "/lib", "/lib64"].filter((path) => {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
});

/** Does something with a folder that anybody can write to; `secret` and `own/` are in it, a rule's path is `own`. */
async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync({ dir: "/var/tmp" });
  try {
    Deno.writeTextFileSync(`${folder}/secret`, "secret\n");
    Deno.mkdirSync(`${folder}/own`);
    Deno.writeTextFileSync(`${folder}/own/file`, "own\n");
    for (const path of ["", "/secret", "/own", "/own/file"]) Deno.chmodSync(folder + path, 0o777);
    await work(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** A shell that says "yes" for each command that succeeds, and "no" for the others. */
function asked(...commands: readonly string[]): readonly ["sh", "-c", string] {
  return [
    "sh",
    "-c",
    commands.map((command) => `if (${command}) >/dev/null 2>&1; then echo yes; else echo no; fi`).join("\n"),
  ];
}

/** Most of what follows rules both. */
const LACK = lacking("Landlock for all of files", "Landlock for TCP");

for (const user of USERS) {
  isolatedTest(`landlock rules files and ports, or says what that takes, as ${user}`, async () => {
    const options = { landlock: { execute: ["/"], connectTcp: [443] } };
    const [result] = await runAs(user, [{ options, argv: ["/bin/true"] }]);
    if (LACK === undefined) return assertEquals([result!.code, result!.error], [0, undefined]);
    assertEquals(result!.error?.option, "landlock");
    assertMatch(result!.error!.hint!, /Linux (5\.13|6\.2|6\.7)|lsm=/);
    assertMatch(result!.error!.hint!, /"ifMissing"/);
  });

  isolatedTest(`landlock leaves what is named, as ${user}`, async () => {
    await withFolder(async (folder) => {
      const of = (landlock: LandlockOptions) => ({
        landlock: { ...landlock, execute: [...PROGRAMS, ...landlock.execute ?? []] },
      });
      const argv = asked(
        `cat ${folder}/own/file`,
        `ls ${folder}/own`,
        `echo more >> ${folder}/own/file`,
        `touch ${folder}/own/new && mv ${folder}/own/new ${folder}/own/newer && rm ${folder}/own/newer`,
        `cat ${folder}/secret`,
        `ls ${folder}`,
        `touch ${folder}/other`,
        `: > ${folder}/secret`,
      );
      const own = `${folder}/own`;
      const results = await runAs(user, [
        { options: of({ read: [own], write: ["/dev/null"] }), argv },
        { options: of({ write: [own, "/dev/null"] }), argv },
        { options: of({ read: [`${own}/file`], write: [`${own}/file`, "/dev/null"] }), argv },
        { options: of({ read: ["/"], write: ["/dev/null"] }), argv },
        { options: { landlock: { connectTcp: [] } }, argv },
      ]);
      const answers = results.map(({ stdout }) => stdout.trim().split("\n").map((word) => word[0]).join(""));
      assertEquals(answers, ["yynnnnnn", "nnyynnnn", "ynynnnnn", "yynnyynn", "yyyyyyyy"]);
    });
  }, LACK);

  isolatedTest(`landlock says what can be executed, and why a command cannot, as ${user}`, async () => {
    await withFolder(async (folder) => {
      Deno.copyFileSync("/bin/true", `${folder}/own/true`);
      Deno.chmodSync(`${folder}/own/true`, 0o755);
      const [whole, copied, none] = await runAs(user, [
        { options: { landlock: { execute: [...PROGRAMS, `${folder}/own/true`] } }, argv: [`${folder}/own/true`] },
        { options: { landlock: { execute: PROGRAMS, read: [folder] } }, argv: [`${folder}/own/true`] },
        { options: { landlock: { read: ["/"] } }, argv: ["/bin/true"] },
      ]);
      assertEquals(whole!.code, 0);
      assertEquals([copied!.error?.name, none!.error?.name], ["PermissionDenied", "PermissionDenied"]);
      const { stdout } = await runProgram(
        `try { new Namespace({ landlock: { read: ["/"] } }).command("/bin/true").outputSync(); }
         catch (error) { console.log(error.cause.hint); }`,
        { user },
      );
      assertMatch(stdout, /^The rules of landlock name what can be executed/);
    });
  }, LACK);

  isolatedTest(`landlock rules TCP by port, as ${user}`, async () => {
    using open = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    using closed = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = open.addr as Deno.NetAddr;
    const { port: other } = closed.addr as Deno.NetAddr;
    const connect = (port: number) =>
      `perl -MSocket -e 'socket(S,2,1,0); print connect(S,sockaddr_in(${port},inet_aton("127.0.0.1"))) ? "yes" : $!'; echo`;
    const bind = (port: number) =>
      `perl -MSocket -e 'socket(S,2,1,0); print bind(S,sockaddr_in(${port},inet_aton("127.0.0.1"))) ? "yes" : $!'; echo`;
    const argv = ["sh", "-c", [connect(port), connect(other), bind(0), bind(port)].join("; ")] as const;
    const lines = (stdout: string) => stdout.trim().split("\n");
    const [connects, binds, neither] = await Promise.all([
      stdoutAs(user, { options: { landlock: { connectTcp: [port] } }, argv }),
      stdoutAs(user, { options: { landlock: { bindTcp: [0] } }, argv }),
      stdoutAs(user, { options: { landlock: { connectTcp: [], bindTcp: [] } }, argv }),
    ]);
    const denied = "Permission denied";
    const inUse = "Address already in use";
    assertEquals(lines(connects), ["yes", denied, "yes", inUse]);
    assertEquals(lines(binds), ["yes", "yes", "yes", denied]);
    assertEquals(lines(neither), [denied, denied, denied, denied]);
  }, LACK);

  isolatedTest(`nothing leads around landlock, as ${user}`, async () => {
    await withFolder(async (folder) => {
      const own = `${folder}/own`;
      Deno.symlinkSync(`${folder}/secret`, `${own}/link`);
      const landlock = { execute: PROGRAMS, read: [own, "/proc"], write: [own, "/dev/null"] };
      const argv = asked(
        `cat ${own}/link`,
        `cat ${own}/../secret`,
        `cat /proc/self/root${folder}/secret`,
        `cat /proc/1/root${folder}/secret`,
        `cat /proc/$PPID/root${folder}/secret`,
        `cd ${folder} && cat secret`,
        `ln ${folder}/secret ${own}/hard && cat ${own}/hard`,
        `mv ${folder}/secret ${own}/moved && cat ${own}/moved`,
        `mv ${own}/file ${folder}/out`,
        `ln -s ${folder}/secret ${own}/soft && cat ${own}/soft`,
        `mount --bind ${folder} ${own} && cat ${own}/secret`,
        `unshare -Urm sh -c 'mount --bind ${folder} ${own} && cat ${own}/secret'`,
        `unshare -Urm sh -c 'mount -t tmpfs none ${own}'`,
        `mknod ${own}/device c 1 3`,
        `cp /bin/cat ${own}/cat && ${own}/cat ${own}/file`,
        // PTRACE_ATTACH, 16, to who made this: it is not under these rules.
        `perl -e 'exit(syscall(${Deno.build.arch === "x86_64" ? 101 : 117}, 16, ${Deno.pid}, 0, 0) == 0 ? 0 : 1)'`,
      );
      for (const more of [{}, { privateUser: true }, { init: true, privateUser: "self" as const }]) {
        // Were a mount to succeed, it would be gone with its namespace.
        const stdout = await stdoutAs(user, { options: { landlock, privateMount: true, ...more }, argv });
        assertEquals(stdout, "no\n".repeat(argv[2].split("\n").length), JSON.stringify(more));
      }
      assertEquals(Deno.readTextFileSync(`${folder}/secret`), "secret\n");
    });
  }, LACK);

  isolatedTest(`landlock holds for init, run() and reexec(), as ${user}`, async () => {
    const write = `
      const landlock = { execute: ["/"], write: ["/dev/null"] };
      const write = () => {
        try {
          Deno.writeTextFileSync("/tmp/landlock-" + Deno.pid, "");
          return "written";
        } catch (error) {
          return error.name;
        }
      };`;
    const { stdout, stderr } = await runProgram(
      `${write}
       console.log(await new Namespace({ landlock, seccomp: "default", privatePid: true }).run(write));
       const script = "cat /proc/1/comm; grep NoNewPrivs /proc/1/status; touch /tmp/landlock-1 || exit 7";
       const inside = new Namespace({ landlock, init: true }).command("sh", { args: ["-c", script] }).outputSync();
       console.log(inside.code, new TextDecoder().decode(inside.stdout));`,
      { user, permissions: ["-A"] },
    );
    assertEquals([stdout, stderr], ["PermissionDenied\n7 init\nNoNewPrivs:\t1\n\n", ""]);
    const again = await runProgram(`${write}\nawait new Namespace({ landlock }).reexec();\nconsole.log(write());`, {
      user,
      permissions: ["-A"],
    });
    assertEquals([again.stdout, again.stderr], ["PermissionDenied\n", ""]);
  }, LACK);

  isolatedTest(`what is built has its rules, as ${user}`, async () => {
    const folder = Deno.makeTempDirSync({ dir: "/var/tmp" });
    try {
      Deno.chmodSync(folder, 0o755);
      for (const init of [true, false]) {
        const ns = new Namespace({ landlock: { execute: PROGRAMS }, init });
        await ns.build("cat", { args: ["/etc/passwd"], output: `${folder}/cat` });
        const drop = user === "root" ? [] : ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        const { code, stdout, stderr } = await runArgv([...drop, `${folder}/cat`]);
        assertEquals([code, stdout], [1, ""]);
        assertMatch(stderr, /Permission denied/);
      }
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  }, LACK);

  isolatedTest(`a path that is not there is refused by its name, as ${user}`, async () => {
    const [missing] = await runAs(user, [{ options: { landlock: { read: ["/nowhere"] } }, argv: ["true"] }]);
    const { code, option, message } = missing!.error!;
    assertEquals([code, option], ["ENOENT", "landlock"]);
    assertStringIncludes(message, `"/nowhere"`);
  }, LACK);

  Deno.test(`nsrun --landlock leaves what it names, as ${user}`, { ignore: LACK !== undefined }, async () => {
    const rules = [...PROGRAMS.map((path) => `execute=${path}`), "write=/dev/null"].flatMap((
      rule,
    ) => ["--landlock", rule]);
    assertEquals(await stdoutOf([...rules, ...asked("cat /etc/passwd")], { user }), "no\n");
    assertEquals(await stdoutOf([...rules, "--landlock=read=/etc", ...asked("cat /etc/passwd")], { user }), "yes\n");
    const { code, stderr } = await nsrun(["--landlock", "read=/nowhere", "true"], { user });
    assertEquals(code, 125);
    assertStringIncludes(stderr, `Cannot rule what can be done with "/nowhere" for --landlock`);
  });
}

Deno.test("setup() refuses landlock", () => {
  const ns = new Namespace({ landlock: { read: ["/"] } });
  assertThrows(() => ns.setup(), TypeError, `Cannot set up "landlock" in a running process`);
});
