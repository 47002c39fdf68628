// What is done where the kernel, or a container's seccomp filter, does not know the newest calls, or forbids what is usual.

import { assertEquals, assertMatch } from "@std/assert";
import { Namespace } from "../../mod.ts";
import { lacking } from "../support/kernel.ts";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import { programArgv, runProgram } from "../support/program.ts";

const CLONE3 = 435;
const CLOSE_RANGE = 436;
const MOUNT_SETATTR = 442;
const LANDLOCK_CREATE_RULESET = 444;

/**
 * The text of a program in whose first thread, and what that starts, this system call fails with this errno; where
 * `third` is given, with that third argument only.
 */
function without(syscall: number, errno: number, code: string, third?: number): string {
  const [load, same, end, refuse] = [0x20, 0x15, 0x06, 0x0005_0000 + errno];
  // struct sock_filter: code, jt, jf, k. Is it that call, with that argument? Fail; or allow.
  const instructions = [
    ...[[load, 0, 0, 0], [same, 0, third === undefined ? 1 : 3, syscall]],
    ...(third === undefined ? [] : [[load, 0, 0, 32], [same, 0, 1, third]]),
    ...[[end, 0, 0, refuse], [end, 0, 0, 0x7fff0000]],
  ];
  return `
    const libc = Deno.dlopen("libc.so.6", {
      prctl: { parameters: ["i32", "usize", "buffer", "usize", "usize"], result: "i32" },
      _exit: { parameters: ["i32"], result: "void" },
    });
    const filter = new DataView(new ArrayBuffer(${instructions.length * 8}));
    ${JSON.stringify(instructions)}.forEach(
      ([code, yes, no, k], index) => {
        filter.setUint16(index * 8, code, true);
        filter.setUint8(index * 8 + 2, yes);
        filter.setUint8(index * 8 + 3, no);
        filter.setUint32(index * 8 + 4, k, true);
      },
    );
    const program = new BigUint64Array([${instructions.length}n, BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(filter)))]);
    if (libc.symbols.prctl(38, 1n, null, 0n, 0n) !== 0) throw new Error("no PR_SET_NO_NEW_PRIVS");
    if (libc.symbols.prctl(22, 2n, program, 0n, 0n) !== 0) throw new Error("no PR_SET_SECCOMP");
    ${code}
    libc.symbols._exit(0); // Deno may start a thread on its way out, which the filter would not let it.
  `;
}

const PRINT = `
  Namespace.debug = true;
  const script = "echo $$; grep -E '^Sig(Blk|Ign):' /proc/self/status; ls /proc/self/fd | wc -l";
  const { stdout } = new Namespace({ privatePid: true }).command("sh", { args: ["-c", script] }).outputSync();
  Deno.stdout.writeSync(stdout);
`;

const NOTHING_LEFT_OVER = [
  "1",
  "SigBlk:\t0000000000000000",
  "SigIgn:\t0000000000000000",
  "4", // 0, 1, 2, and the one of ls.
].join("\n");

for (
  const [name, syscall, errno] of [["clone3", CLONE3, 38], ["clone3", CLONE3, 1], [
    "close_range",
    CLOSE_RANGE,
    0,
  ]] as const
) {
  const title = errno === 0 ? "with every call there is" : `where ${name} fails with errno ${errno}`;
  isolatedTest(`spawn() gives default signals and no descriptors ${title}`, async () => {
    const code = errno === 0 ? PRINT : without(syscall, errno, PRINT);
    const { code: status, stdout, stderr } = await runProgram(code);
    assertEquals([status, stdout.trim()], [0, NOTHING_LEFT_OVER], stderr);
  });
}

const CLOSE_RANGE_CLOEXEC = 4;
/** As on Linux 5.9 and 5.10. */
const withoutCloexec = (code: string) => without(CLOSE_RANGE, 22, code, CLOSE_RANGE_CLOEXEC);

isolatedTest("spawn() closes descriptors where close_range does not know CLOSE_RANGE_CLOEXEC", async () => {
  const { code, stdout, stderr } = await runProgram(withoutCloexec(PRINT));
  assertEquals([code, stdout.trim()], [0, NOTHING_LEFT_OVER], stderr);
  assertMatch(stderr, /CLOSE_RANGE_CLOEXEC\) = -1 EINVAL\n.*close_range\(3, ~0U, 0\) = 0/);
});

isolatedTest("reexec() and executables say what they say where descriptors have to be closed at once", async () => {
  const reexec = `
    await new Namespace({ privatePid: true }).reexec();
    console.log(Deno.pid, Deno.args);`;
  const { stdout, stderr } = await runProgram(withoutCloexec(reexec), { permissions: ["-A"] });
  assertEquals([stdout, stderr], ["1 []\n", ""]);
  const build = `
    const folder = Deno.makeTempDirSync();
    try {
      for (const [index, command] of ["/nowhere", "/etc/passwd", "true"].entries()) {
        const output = folder + "/" + index;
        await new Namespace({ privatePid: true }).build(command, { output });
        const { code, stderr } = new Deno.Command(output).outputSync();
        console.log(code, new TextDecoder().decode(stderr).trim());
      }
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }`;
  const built = await runProgram(withoutCloexec(build), { permissions: ["-A"] });
  assertMatch(built.stdout, /^127 .*"\/nowhere".*\(ENOENT\)\n126 .*\(EACCES\)\n0 \n$/, built.stderr);
});

isolatedTest("spawn() says so where close_range does not work at all", async () => {
  const { code, stderr } = await runProgram(without(CLOSE_RANGE, 22, PRINT));
  assertEquals(code, 1);
  assertMatch(stderr, /NamespaceError: Cannot close all descriptors above 2: Invalid argument \(EINVAL\)/);
});

isolatedTest("the shim is loaded where vm.memfd_noexec forbids executable memfds", async () => {
  // The sysctl belongs to a pid namespace, so it is changed in one that is thrown away.
  const [deno, ...args] = programArgv(`console.log(new Namespace().command("true").outputSync().code);`);
  const script = `mount -t proc proc /proc && echo 2 > /proc/sys/vm/memfd_noexec && exec "$@"`;
  const { code, stdout, stderr } = await new Namespace({ privatePid: true })
    .command("sh", { args: ["-c", script, "sh", deno!, ...args] }).output();
  assertEquals([code, new TextDecoder().decode(stdout)], [0, "0\n"], new TextDecoder().decode(stderr));
}, lacking("vm.memfd_noexec"));

for (const [errno, name] of [[38, "ENOSYS"], [95, "EOPNOTSUPP"], [22, "EINVAL"], [7, "E2BIG"]] as const) {
  isolatedTest(`landlock is refused where the kernel says ${name}, unless it may be left out`, async () => {
    const { stdout, stderr } = await runProgram(without(
      LANDLOCK_CREATE_RULESET,
      errno,
      `
      const landlock = { read: ["/nowhere"] };
      try {
        new Namespace({ landlock }).command("true").outputSync();
      } catch (error) {
        console.log(error.code, error.option, error.hint.includes("ifMissing"));
      }
      console.log(new Namespace({ landlock: { ...landlock, ifMissing: "skip" } }).command("true").outputSync().code);`,
    ));
    assertEquals([stdout, stderr], [`${name} landlock true\n0\n`, ""]);
  });
}

/** Mounts with flags of their own, one over the other, one with a name that mountinfo writes in another way. */
const TREE = `
  mount -t tmpfs -o mode=777,nosuid tree /mnt
  mkdir -m 777 "/mnt/a b" /mnt/ab /mnt/over /mnt/over/hidden
  mount -t tmpfs -o mode=777,nodev,noexec,noatime "a b" "/mnt/a b"
  mkdir -m 777 "/mnt/a b/in"
  mount -t tmpfs -o mode=777 in "/mnt/a b/in"
  mount -t tmpfs -o ro,mode=777 hidden /mnt/over/hidden
  mount -t tmpfs -o mode=777 over /mnt/over
  mount -t tmpfs -o mode=777 twice /mnt/ab
  mount -t tmpfs -o mode=777 twice /mnt/ab
  touch "/mnt/a b/in/file"
`;

const IN_TREE = `
  const options = (mounts) => ({ privatePid: true, mounts: [{ type: "tmpfs", target: "/tmp" }, ...mounts] });
  const script = \`
    cut -d " " -f 5,6 /proc/self/mountinfo | grep -E "^/(tmp/x|mnt($|/a))"
    for folder in "/tmp/x" "/tmp/x/a b" "/tmp/x/a b/in" /tmp/x/ab /tmp/x/over /mnt "/mnt/a b/in"; do
      touch "$folder/new" 2> /dev/null && echo "$folder: written" && rm "$folder/new"
    done
    find /tmp/x /mnt | sort\`;
  for (
    const mounts of [
      [{ type: "bind", source: "/mnt", target: "/tmp/x", readonly: true }],
      [{ type: "bind", source: "/mnt", target: "/tmp/x", nosuid: true, nodev: true, noexec: true }],
      [{ type: "bind", source: "/mnt/a b/in/file", target: "/tmp/x", readonly: true }],
      [{ type: "bind", source: "/mnt/a b", target: "/tmp/x" }, { type: "remount", target: "/tmp/x", readonly: true }],
      [
        { type: "bind", source: "/mnt/a b", target: "/tmp/x" },
        { type: "remount", target: "/tmp/x", recursive: false, readonly: true, nosuid: true },
      ],
      [{ type: "remount", target: "/mnt", readonly: true }, { type: "hide", target: "/mnt/a b/in" }],
      [{ type: "hide", target: "/mnt/a b/in/file" }],
      [{ type: "bind", source: "/mnt/a b", target: "/tmp/x", readonly: true }, { type: "tmpfs", target: "/tmp/x/in" }],
    ]
  ) {
    const { code, stdout } = new Namespace(options(mounts)).command("sh", { args: ["-c", script] }).outputSync();
    console.log(JSON.stringify(mounts), code);
    Deno.stdout.writeSync(stdout);
  }
  try {
    const mounts = [{ type: "bind", source: "/mnt/a b", target: "/tmp/x" }, { type: "remount", target: "/tmp/x", noexec: false }];
    new Namespace(options(mounts)).command("true").outputSync();
    console.log("changed");
  } catch (error) {
    console.log(error.code, error.message.split("\\n")[0]);
  }
`;

/** Without the lines of mounts that others are over, which nothing leads to. */
function uncovered(text: string): string {
  const target = (line: string | undefined) => line?.match(/^(\S+) r[ow],/)?.[1];
  const lines = text.split("\n").filter((line) => target(line)?.endsWith("/over/hidden") !== true);
  return lines.filter((line, index) => target(line) === undefined || target(line) !== target(lines[index + 1]))
    .join("\n");
}

for (const user of USERS) {
  isolatedTest(`mounts have the same flags where there is no mount_setattr, as ${user}`, async () => {
    const [now, before] = await Promise.all([IN_TREE, without(MOUNT_SETATTR, 38, IN_TREE)].map(async (code) => {
      const argv = programArgv(code, { user });
      const { code: status, stdout, stderr } = await new Namespace({ privateMount: true })
        .command("sh", { args: ["-ec", `${TREE}exec "$@"`, "sh", ...argv] }).output();
      assertEquals(status, 0, new TextDecoder().decode(stderr));
      return uncovered(new TextDecoder().decode(stdout));
    }));
    assertEquals(before, now);
    assertEquals(now!.match(/^\/tmp\/x.* ro,/gm)?.length, 10, now);
    assertEquals(now!.match(/written/g)?.length, 19, now);
  });
}
