import { assert, assertEquals, assertInstanceOf, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { type CommandOptions, Namespace, NamespaceError, type NamespaceOptions } from "../../mod.ts";
import { holdings, isolatedTest } from "../support/leaks.ts";
import { runAs, USERS } from "../support/nobody.ts";
import { programArgv, runArgv, type User } from "../support/program.ts";

new Namespace({ init: true }).command("true").outputSync(); // What is executed as init stays in memory.

/** Both ways to start a child fail alike, in place, and leave nothing: not even for a moment. */
function thrown(
  options: NamespaceOptions,
  command: string | URL,
  commandOptions: CommandOptions = {},
): Error & { code?: unknown } {
  const made = new Namespace(options).command(command, commandOptions);
  const errors = (["outputSync", "spawn", "output"] as const).map((method) => {
    const before = holdings();
    const error = assertThrows(() => made[method]());
    assertEquals(holdings(), before, method);
    assertInstanceOf(error, Error);
    return error;
  });
  assertEquals(new Set(errors.map((error) => `${error.constructor.name} ${error.message}`)).size, 1);
  return errors[0]!;
}

/** What Deno.Command throws for the same. */
function denos(command: string, options: Deno.CommandOptions = {}): Error & { code?: unknown } {
  const error = assertThrows(() => new Deno.Command(command, options).outputSync());
  assertInstanceOf(error, Error);
  return error;
}

/** Without the path, which Deno resolves before it tells it. */
function reason({ message }: Error): string {
  return message.replace(/^Failed to spawn '[^']*'/, "Failed to spawn 'x'");
}

const WORLDS: readonly NamespaceOptions[] = [{}, { privatePid: true, privateTmp: true, privateNet: true }, {
  privateUser: true,
}];

for (const command of ["no-such-command", "/no/such/command", "./no-such-command", ""]) {
  isolatedTest(`spawn() throws NotFound for the command "${command}"`, () => {
    for (const options of WORLDS) {
      const error = thrown(options, command);
      assertInstanceOf(error, Deno.errors.NotFound);
      assertEquals([reason(error), error.code], [reason(denos(command)), "ENOENT"]);
      assertStringIncludes(error.message, `'${command}'`);
      assertInstanceOf(error.cause, NamespaceError);
      assertEquals([error.cause.syscall, error.cause.code], ["execve", "ENOENT"]);
    }
  });
}

isolatedTest("spawn() throws PermissionDenied for what is not executable", () => {
  for (const command of ["/etc/passwd", "/etc"]) {
    for (const options of WORLDS) {
      const error = thrown(options, command);
      assertInstanceOf(error, Deno.errors.PermissionDenied);
      assertEquals([reason(error), error.code], [reason(denos(command)), "EACCES"]);
    }
  }
});

isolatedTest("spawn() throws NotADirectory for a command below a file, as Deno.Command does", () => {
  const error = thrown({}, "/etc/passwd/x");
  assertInstanceOf(error, Deno.errors.NotADirectory);
  assertEquals(reason(error), reason(denos("/etc/passwd/x")));
});

isolatedTest("spawn() throws NotFound that names a cwd that is not there", () => {
  for (const options of WORLDS) {
    const error = thrown(options, "true", { cwd: "/no/such/folder" });
    assertInstanceOf(error, denos("true", { cwd: "/no/such/folder" }).constructor as typeof Deno.errors.NotFound);
    assertMatch(error.message, /^Failed to spawn 'true': .*cwd '\/no\/such\/folder'/);
  }
});

isolatedTest("spawn() throws NotADirectory that names a cwd that is a file, as Deno.Command does", () => {
  for (const options of WORLDS) {
    const error = thrown(options, "true", { cwd: "/etc/passwd" });
    assertMatch(error.message, /^Failed to spawn 'true': cwd is not a directory '\/etc\/passwd'/);
    assertInstanceOf(error, denos("true", { cwd: "/etc/passwd" }).constructor as typeof Deno.errors.NotADirectory);
  }
});

isolatedTest("spawn() looks for cwd inside: one below the outer /tmp is not there with privateTmp", () => {
  const folder = Deno.makeTempDirSync({ dir: "/tmp" });
  try {
    const { code } = new Namespace().command("true", { cwd: folder }).outputSync();
    assertEquals(code, 0);
    assertInstanceOf(thrown({ privateTmp: true }, "true", { cwd: folder }), Deno.errors.NotFound);
  } finally {
    Deno.removeSync(folder);
  }
});

isolatedTest("spawn() tells what to do about arguments that are too large", () => {
  for (const options of WORLDS) {
    const error = thrown(options, "true", { args: ["x".repeat(200_000)] });
    assertInstanceOf(error, NamespaceError);
    assertEquals([error.code, error.errno, error.syscall], ["E2BIG", 7, "execve"]);
    assertMatch(error.message, /^Cannot execute "true": Argument list too long \(E2BIG\)\n/);
    assertMatch(error.hint ?? "", /128 KiB.*stdin or a file/);
  }
});

isolatedTest("spawn() tells why init cannot execute a command, as it does without init", () => {
  const landlock = { read: ["/"] };
  const cases: [NamespaceOptions, string, CommandOptions, RegExp][] = [
    [{ root: "empty" }, "id", {}, /^"\/usr\/bin\/id" is there outside; inside it is not/],
    [{ privatePid: true }, "nosuch", { env: { PATH: "/usr/bin:/usr/bin:/bin" } }, /^No folder .*: "\/usr\/bin:\/bin"/],
    [{ privatePid: true }, "ldconfig", { env: { PATH: "/bin" } }, /^It is in .*, which PATH does not have: "\/bin"/],
    [{ privatePid: true }, "/usr", {}, /^"\/usr" is a folder/],
    [{ privatePid: true }, "/usr/x", {}, /^The path ends at "\/usr"/],
    [{ privatePid: true, landlock }, "/usr/bin/id", {}, /^The rules of landlock name what can be executed/],
  ];
  for (const [options, command, commandOptions, hint] of cases) {
    const [without, by] = [options, { ...options, init: true }].map((world) => {
      const { cause } = thrown(world, command, commandOptions);
      assertInstanceOf(cause, NamespaceError);
      return cause;
    });
    assertMatch(by!.hint ?? "", hint);
    assertEquals([by!.hint, by!.step], [without!.hint, without!.step]);
  }
});

isolatedTest("spawn() refuses NUL characters and names of variables that cannot be", () => {
  const cases: [string, CommandOptions, string][] = [
    ["ec\0ho", {}, `"command" must not contain a NUL`],
    ["echo", { args: ["a", "b\0"] }, `"args[1]" must not contain a NUL`],
    ["echo", { argv0: "\0" }, `"argv0" must not contain a NUL`],
    ["echo", { cwd: "/\0" }, `"cwd" must not contain a NUL`],
    ["echo", { env: { A: "a\0" } }, `"env.A" must not contain a NUL`],
    ["echo", { env: { "A\0": "a" } }, `"env" must not contain a NUL`],
    ["echo", { env: { "A=B": "a" } }, `"A=B" is empty or has a "="`],
    ["echo", { env: { "": "a" } }, `"" is empty or has a "="`],
  ];
  for (const [command, commandOptions, message] of cases) {
    const error = thrown({}, command, commandOptions);
    assertInstanceOf(error, TypeError);
    assertStringIncludes(error.message, message);
  }
});

isolatedTest("spawn() refuses unknown options and wrong values, and names the nearest", () => {
  const cases: [object, typeof TypeError | typeof RangeError, RegExp][] = [
    [{ arg: ["x"] }, TypeError, /^Unknown option "arg": did you mean "args"\?$/],
    [{ stdOut: "null" }, TypeError, /^Unknown option "stdOut": did you mean "stdout"\?$/],
    [{ qqqqqqqqqq: 1 }, TypeError, /^Unknown option "qqqqqqqqqq": known are args, cwd, /],
    [{ stdout: "pipe" }, TypeError, /^Option "stdout" must be "piped", "inherit" or "null": got "pipe"$/],
    [{ stdin: 0 }, TypeError, /^Option "stdin" must be "piped", "inherit" or "null": got 0$/],
    [{ uid: -1 }, RangeError, /^Option "uid" must be an integer from 0 to 4294967294/],
    [{ gid: 2 ** 32 - 1 }, RangeError, /^Option "gid" must be an integer from 0/],
    [{ uid: "0" }, TypeError, /^Option "uid" must be a number/],
    [{ signal: "SIGTERM" }, TypeError, /^Option "signal" must be an AbortSignal$/],
    [{ cwd: 5 }, TypeError, /^Option "cwd" must be a string/],
    [{ cwd: new URL("https://example.org/") }, TypeError, /^Option "cwd" must be a path or a file URL/],
  ];
  for (const [commandOptions, Class, message] of cases) {
    const error = thrown({}, "true", commandOptions as CommandOptions);
    assertInstanceOf(error, Class);
    assertMatch(error.message, message);
  }
  assertInstanceOf(thrown({}, new URL("https://example.org/bin/true")), TypeError);
});

isolatedTest("spawn() throws the reason of a signal that is aborted already", () => {
  assertEquals(thrown({}, "true", { signal: AbortSignal.abort(new Error("over")) }).message, "over");
  assertEquals(thrown({ privatePid: true }, "true", { signal: AbortSignal.abort() }).name, "AbortError");
});

for (const user of USERS) {
  isolatedTest(
    `uid and gid that are not mapped in the user namespace are refused with a hint, as ${user}`,
    async () => {
      const results = await runAs(user, [
        { options: { privateUser: true }, argv: ["id"], commandOptions: { uid: 1000 } },
        { options: { privateUser: true }, argv: ["id"], commandOptions: { gid: 1000 } },
      ]);
      for (const [index, [option, syscall]] of ([["uid", "user"], ["gid", "group"]] as const).entries()) {
        const { error } = results[index]!;
        assertEquals([error?.name, error?.code, error?.option], ["NamespaceError", "EINVAL", option]);
        assertMatch(
          error!.message,
          new RegExp(`^Cannot become ${syscall} 1000 for ${option}: Invalid argument \\(EINVAL\\)`),
        );
        assertMatch(error!.hint ?? "", /not mapped.*that uid and gid, or a uidMap/);
      }
    },
  );
}

isolatedTest("another identity is refused to an ordinary user with a hint that leads to it", async () => {
  const denied = { uid: 0, gid: 0, setgroups: "deny" } as const;
  const asked: [User, NamespaceOptions, CommandOptions, RegExp][] = [
    ["nobody", {}, { uid: 0 }, /CAP_SETUID and CAP_SETGID.*give privateUser that uid and gid/],
    ["nobody", { groups: [5] }, {}, /takes CAP_SETGID.*let uidMap and gidMap be "auto"/],
    ["nobody", { privateUser: true, groups: [] }, {}, /setgroups\(2\) is given up.*Let uidMap and gidMap be "auto"/],
    ["nobody", { privateNet: true, groups: [5] }, {}, /setgroups\(2\) is given up/],
    ["root", { privateUser: denied, groups: [0] }, {}, /setgroups\(2\) is given up.*"deny"/],
  ];
  for (const [user, options, commandOptions, hint] of asked) {
    const [result] = await runAs(user, [{ options, argv: ["id"], commandOptions }]);
    assertEquals([result!.error?.name, result!.error?.code], ["NamespaceError", "EPERM"]);
    assertMatch(result!.error?.hint ?? "", hint);
  }
  const ids = { uid: 1000, gid: 1000 };
  const [result] = await runAs("nobody", [{ options: { privateUser: ids }, argv: ["id", "-u"], commandOptions: ids }]);
  assertEquals(result!.stdout, "1000\n");
});

isolatedTest("NamespaceError tells the step with its arguments", () => {
  const error = thrown({ privateTmp: { size: "1m", uid: 1000 }, privateUser: true }, "true");
  assertInstanceOf(error, NamespaceError);
  assertEquals([error.code, error.syscall, error.option], ["EINVAL", "mount", "privateTmp"]);
  assertEquals(error.step, `mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID|MS_NODEV, "mode=1777,size=1m,uid=1000")`);
  assertMatch(error.message, /^Cannot mount tmpfs at "\/tmp" for privateTmp: Invalid argument \(EINVAL\)\n/);
});

isolatedTest("privateTime refuses a clock before 0, with a hint", () => {
  const error = thrown({ privateTime: { boottime: -1_000_000_000 } }, "true");
  assertInstanceOf(error, NamespaceError);
  assertEquals([error.code, error.option], ["ERANGE", "privateTime"]);
  assertMatch(error.hint ?? "", /stand before 0/);
});

for (const user of USERS) {
  isolatedTest(
    `with few descriptors left nothing is begun that they do not do for, and none is lost, as ${user}`,
    async () => {
      const program = `
    const ns = new Namespace({ privatePid: true, init: true });
    const command = () => ns.command("true", { fds: { 3: "output" } });
    const ways = {
      outputSync: () => ns.command("true").outputSync(),
      output: () => ns.command("true").output(),
      run: () => ns.run(() => 1),
      spawn: async () => {
        await using child = command().spawn();
        await child.status;
      },
    };
    for (const way of Object.values(ways)) await way(); // Loads what stays loaded.
    const open: Deno.FsFile[] = [];
    const fill = () => {
      const before = open.length;
      try {
        while (true) open.push(Deno.openSync("/dev/null"));
      } catch {
        return open.length - before;
      }
    };
    fill();
    const refused: Record<string, string[]> = {};
    for (const [name, way] of Object.entries(ways)) {
      for (let free = 0, done = false; !done; free++) {
        for (let index = 0; index < free; index++) open.pop()!.close();
        let error: unknown;
        try {
          await way();
          done = true;
        } catch (reason) {
          error = reason;
        }
        let left = fill(); // More, where what waits was there from before.
        for (let tries = 0; done && left < free && tries < 500; tries++) { // What waits is closed when it has come back.
          await new Promise((resolve) => setTimeout(resolve, 10));
          left += fill();
        }
        if (left < free) throw new Error(\`\${name}: of \${free}, \${left} are left\`);
        if (done) break;
        if (!(error instanceof NamespaceError) || error.code !== "EMFILE") throw error;
        if (!error.hint?.includes("RLIMIT_NOFILE")) throw error;
        (refused[name] ??= []).push(error.syscall);
      }
    }
    console.log(JSON.stringify(refused));
    Deno.exit();
  `;
      const argv = programArgv(program, { user, permissions: ["-A"] });
      const { code, stdout, stderr } = await runArgv(["prlimit", "--nofile=96:96", ...argv]);
      assertEquals([stderr, code], ["", 0]);
      const refused: Record<string, string[]> = JSON.parse(stdout);
      assertEquals(Object.keys(refused), ["outputSync", "output", "run", "spawn"]);
      for (const calls of Object.values(refused)) for (const call of ["pipe2", "clone"]) assert(calls.includes(call));
    },
  );
}
