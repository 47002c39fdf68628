// Filters of system calls, from inside: what is refused, and how; what works all the same; that nothing takes them off.

import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { Namespace, type SeccompProfile } from "../../mod.ts";
import { errnoName } from "../../src/abi/errno.ts";
import type { Architecture } from "../../src/abi/syscalls.ts";
import { numbersOf } from "../../src/seccomp/syscalls.ts";
import { launcherFd } from "../../src/process/init.ts";
import { nsrun, stdoutOf } from "../support/cli.ts";
import { isolatedTest } from "../support/leaks.ts";
import { runAs, USERS } from "../support/nobody.ts";
import { runArgv, runProgram, type User } from "../support/program.ts";
import { seeded } from "../support/random.ts";

launcherFd(); // It is kept: no test is to be blamed for that.

const NUMBERS = numbersOf(Deno.build.arch as Architecture);
const STATUS = ["sh", "-c", "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status"] as const;
const FILTERED = "NoNewPrivs:\t1\nSeccomp:\t2\n";
const TIOCSTI = 0x5412;
const SIGSYS = 31;

type Call = readonly [name: string, ...args: (number | bigint)[]];

/** Makes calls, one after the other. Its text goes to another program: it must need nothing from here. */
function makeCalls(calls: readonly (readonly [number: number, ...args: bigint[]])[]): number[] {
  const libc = Deno.dlopen("libc.so.6", {
    syscall: { parameters: ["i64", "i64", "i64", "i64", "i64", "i64", "i64"], result: "i64" },
    __errno_location: { parameters: [], result: "pointer" },
  });
  const errno = new Deno.UnsafePointerView(libc.symbols.__errno_location()!);
  return calls.map(([number, a = 0n, b = 0n, c = 0n, d = 0n, e = 0n, f = 0n]) => {
    const call = () => libc.symbols.syscall(BigInt(number), a, b, c, d, e, f) === -1n ? errno.getInt32() : 0;
    let failure = call();
    // What Deno does before errno is read may change it: twice the same is what the call has said.
    for (let again; failure !== 0 && (again = call()) !== failure;) failure = again;
    return failure;
  });
}

/** How calls fail inside; "" where they do not. */
async function failures(user: User, options: object, calls: readonly Call[]): Promise<string[]> {
  const numbered = calls.map(([name, ...args]) => `[${NUMBERS.get(name)}, ${args.map((arg) => `${arg}n`).join(", ")}]`);
  const { stdout, stderr } = await runProgram(
    `const ns = new Namespace(${JSON.stringify(options)});
     console.log(JSON.stringify(await ns.run(${makeCalls}, [${numbered.join()}])));`,
    { user },
  );
  assertEquals(stderr, "");
  return (JSON.parse(stdout) as number[]).map((errno) => errno === 0 ? "" : errnoName(errno));
}

const O_CREAT = 0o100;
const O_TMPFILE = 0o2000_0000;
/** Without the permissions, which are last. */
const WITH_SET_IDS: readonly Call[] = [
  ["chmod", 0],
  ["fchmod", -1],
  ["fchmodat", -1, 0],
  ["fchmodat2", -1, 0],
  ["creat", 0],
  ["mknod", 0],
  ["mknodat", -1, 0],
  ["open", 0, O_CREAT],
  ["open", 0, O_TMPFILE],
  ["openat", -1, 0, O_CREAT],
  ["openat", -1, 0, O_TMPFILE],
];
/** Refused for their arguments, or harmless, where there is no filter. */
const REFUSED: readonly Call[] = [
  ["mount"],
  ["unshare", 0],
  ["setns", -1, 0],
  ["keyctl", 9999],
  ["add_key"],
  ["userfaultfd", -1],
  ["perf_event_open"],
  ["clock_settime", 9999, 0],
  ["ioctl", -1, TIOCSTI, 0],
  ["ioctl", -1, 2n ** 32n + BigInt(TIOCSTI), 0],
  ["socket", 40, 0, 0],
  ...WITH_SET_IDS.flatMap(([name, ...args]) =>
    [0o4755, 0o2755, 2n ** 32n + 0o6000n].map((mode): Call => [name, ...args, mode])
  )
    .filter(([name]) => NUMBERS.has(name)),
];
/** Not to be tried without one. */
const REFUSED_TOO: readonly Call[] = [
  ["clone", 0x1000_0000], // CLONE_NEWUSER
  ["personality", 0x0040_0000], // READ_IMPLIES_EXEC
  ...["bpf", "io_uring_setup", "init_module", "finit_module", "delete_module", "kexec_load", "reboot", "swapon"]
    .map((name): Call => [name]),
  ...["acct", "move_mount", "quotactl", "pivot_root", "umount2", "open_by_handle_at", "settimeofday"].map((
    name,
  ): Call => [name]),
];

for (const user of USERS) {
  isolatedTest(`the default profile refuses what container engines do, as ${user}`, async () => {
    const without = await failures(user, {}, REFUSED);
    for (const [index, errno] of without.entries()) assertNotEquals(errno, "EPERM", REFUSED[index]!.join());
    const all = [...REFUSED, ...REFUSED_TOO];
    assertEquals(await failures(user, { seccomp: "default" }, all), all.map(() => "EPERM"));
  });

  isolatedTest(`the default profile leaves what programs need, as ${user}`, async () => {
    const calls: Call[] = [
      ["getpid"],
      ["personality", 0xffff_ffff],
      ["ioctl", -1, 0x5413],
      ["clone3"],
      ["openat2", -1],
      ["fchmod", -1, 0o1777],
      ["openat", -1, 0, 0, 0o6000], // It reads no mode.
      ["mkdirat", -1, 0, 0o2755],
    ];
    assertEquals(
      await failures(user, { seccomp: "default" }, calls),
      ["", "", "EBADF", "ENOSYS", "ENOSYS", "EBADF", "EFAULT", "EFAULT"],
    );
    const { stdout, stderr } = await runProgram(
      `const ns = new Namespace({ seccomp: "default", privatePid: true, privateTmp: true });
       console.log(await ns.run(async () => { await new Promise((end) => setTimeout(end, 1)); return Deno.pid; }));
       await using worker = await ns.worker();
       console.log(await worker.run((n) => n * 2, 21));`,
      { user },
    );
    assertEquals([stdout, stderr], ["1\n42\n", ""]);
  });

  isolatedTest(`arguments are compared as the rules say, by the kernel, as ${user}`, async () => {
    // Calls without arguments have those of the test in their registers, which only the filter looks at.
    const calls = ["getppid", "getuid", "getgid", "geteuid", "getegid", "getpgrp", "getpid"];
    const random = seeded(13);
    const half = () =>
      [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, Math.floor(random() * 2 ** 32)][
        Math.floor(random() * 6)
      ]!;
    const value = () => BigInt(half()) << 32n | BigInt(half());
    const compared = { "==": 0, "<": 1, "<=": 2, ">": 3, ">=": 4, "!=": 5 } as const;
    for (let round = 0; round < 4; round++) {
      const wanted = value() || 1n;
      const mask = round % 2 === 0 ? 2n ** 64n - 1n : 0xffff_ffffn;
      const ops = Object.keys(compared).map((op) => op as keyof typeof compared)
        .filter((op) => !(op === "<" && (wanted & mask) === 0n || op === ">" && (wanted & mask) === mask));
      const rules = ops.map((op) => ({
        calls: [calls[compared[op]]!],
        action: { errno: "ERANGE" },
        args: [{ index: 3, op, value: String(wanted & mask), mask: String(mask) }],
      }));
      const given = [wanted, wanted - 1n, BigInt.asUintN(64, wanted + 1n), ...Array.from({ length: 30 }, value)];
      const made = ops.flatMap((op) => given.map((one): Call => [calls[compared[op]]!, 0, 0, 0, one]));
      const expected = ops.flatMap((op) =>
        given.map((all) => {
          const [one, other] = [all & mask, wanted & mask];
          const order = one < other ? -1 : one > other ? 1 : 0;
          const holds = {
            "==": order === 0,
            "<": order < 0,
            "<=": order <= 0,
            ">": order > 0,
            ">=": order >= 0,
            "!=": order !== 0,
          };
          return holds[op] ? "ERANGE" : "";
        })
      );
      const options = { seccomp: { default: "allow", rules } };
      assertEquals(await failures(user, options, made), expected, `${wanted} & ${mask}`);
    }
  });

  isolatedTest(`a filter cannot be taken off, as ${user}`, async () => {
    const { stdout, stderr } = await runProgram(
      `const ns = new Namespace({ seccomp: "default" });
       console.log(await ns.run((makeCalls, number) => {
         const program = Uint8Array.of(6, 0, 0, 0, 0, 0, 0xff, 0x7f); // return SECCOMP_RET_ALLOW
         const pointer = (bytes) => BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
         const fprog = new BigUint64Array([1n, pointer(program)]);
         return (0, eval)("(" + makeCalls + ")")([
           [number.seccomp, 1n, 0n, pointer(fprog)],
           [number.mount],
           [number.prctl, 38n, 0n], // PR_SET_NO_NEW_PRIVS
         ]).join();
       }, ${JSON.stringify(String(makeCalls))}, ${JSON.stringify(Object.fromEntries(NUMBERS))}));`,
      { user },
    );
    assertEquals([stdout, stderr], ["0,1,22\n", ""]); // Another one is put over it; EPERM; EINVAL.
  });

  isolatedTest(`rules refuse with an errno, by arguments, and end processes, as ${user}`, async () => {
    const seccomp: SeccompProfile = {
      default: "allow",
      rules: [
        { calls: ["mkdir", "mkdirat"], action: { errno: "ENOSPC" } },
        { calls: ["rmdir", "unlinkat"], action: "log" },
        { calls: ["kill"], action: { errno: "ESRCH" }, args: [{ index: 1, op: "==", value: 10, mask: 0xffff_ffff }] },
        { calls: ["sync"], action: "kill" },
      ],
    };
    const only = {
      seccomp: {
        default: { errno: "EPERM" } as const,
        rules: [{ calls: [...NUMBERS.keys()].filter((name) => !name.startsWith("mkdir")), action: "allow" as const }],
      },
    };
    const [made, removed, killed, ended, listed, initEnded, status] = await runAs(user, [
      { options: { seccomp }, argv: ["mkdir", "/proc/x"] },
      { options: { seccomp }, argv: ["rmdir", "/proc"] },
      { options: { seccomp }, argv: ["sh", "-c", "trap '' USR1; kill -USR1 $$; echo $?; kill -0 $$; echo $?"] },
      { options: { seccomp }, argv: ["sync"] },
      { options: only, argv: ["mkdir", "/proc/x"] },
      { options: { seccomp, init: true }, argv: ["sync"] },
      { options: { seccomp }, argv: STATUS },
    ]);
    assertMatch(made!.stderr, /No space left on device/);
    assertMatch(removed!.stderr, /rmdir: .*\n/);
    assertEquals(killed!.stdout, "1\n0\n");
    assertEquals([ended!.code, initEnded!.code], [128 + SIGSYS, 128 + SIGSYS]);
    assertMatch(listed!.stderr, /Operation not permitted/);
    assertEquals(status!.stdout, FILTERED);
  });

  isolatedTest(`init, and what it starts, are under the filter, as ${user}`, async () => {
    const [both] = await runAs(user, [{
      options: { seccomp: "default", init: true },
      argv: ["sh", "-c", `cat /proc/1/comm; grep -E "^Seccomp:" /proc/1/status; ${STATUS[2]}; (true &); exit 7`],
    }]);
    assertEquals([both!.code, both!.stderr, both!.stdout], [7, "", `init\nSeccomp:\t2\n${FILTERED}`]);
  });

  isolatedTest(`a program of the caller's own is installed as it is, as ${user}`, async () => {
    // ld [4]; jeq of this architecture, or else allow; ld nr; mkdir and mkdirat: ENOSPC; allow
    const record = (code: number, yes: number, no: number, k: number): number[] => [
      ...[code & 0xff, code >> 8, yes, no],
      ...new Uint8Array(Uint32Array.of(k).buffer),
    ];
    const program = Uint8Array.from([
      ...record(0x20, 0, 0, 0),
      ...record(0x15, 1, 0, NUMBERS.get("mkdir") ?? 9999),
      ...record(0x15, 0, 1, NUMBERS.get("mkdirat")!),
      ...record(0x06, 0, 0, 0x0005_001c),
      ...record(0x06, 0, 0, 0x7fff_0000),
    ]);
    const { stdout, stderr } = await runProgram(
      `const ns = new Namespace({ seccomp: Uint8Array.from([${program}]) });
       console.log(new TextDecoder().decode(ns.command("mkdir", { args: ["/proc/x"] }).outputSync().stderr));
       const bad = new Namespace({ seccomp: Uint8Array.of(5, 0, 0, 0, 9, 0, 0, 0) });
       try { bad.command("true").outputSync(); } catch (error) { console.log(error.code, error.option, error.message); }`,
      { user },
    );
    assertEquals(stderr, "");
    assertMatch(stdout, /No space left on device\n\nEINVAL seccomp Cannot install the filter[^]*checked by the kernel/);
  });

  isolatedTest(`reexec() starts over under the filter, as ${user}`, async () => {
    const { stdout, stderr } = await runProgram(
      `await new Namespace({ seccomp: "default" }).reexec();
       await new Namespace().command("sh", { args: ${
        JSON.stringify(STATUS.slice(1))
      }, stdin: "null" }).spawn().status;`,
      { user },
    );
    assertEquals([stdout, stderr], [FILTERED, ""]);
  });

  isolatedTest(`what is built has its filter, with init and without, as ${user}`, async () => {
    const folder = Deno.makeTempDirSync({ dir: "/var/tmp" });
    Deno.chmodSync(folder, 0o755);
    try {
      for (const init of [true, false]) {
        const rules = [{
          calls: ["sync"],
          action: "kill" as const,
          args: [{ index: 5, op: "!=" as const, value: 1n }],
        }];
        for (const [command, seccomp] of [["sh", "default"], ["sync", { default: "allow", rules }]] as const) {
          const args = command === "sh" ? STATUS.slice(1) : [];
          const options = { seccomp: typeof seccomp === "string" ? seccomp : { default: "allow" as const, rules } };
          await new Namespace({ ...options, init }).build(command, { args, output: `${folder}/${command}` });
        }
        const drop = user === "root" ? [] : ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        const status = await runArgv([...drop, `${folder}/sh`]);
        assertEquals([status.code, status.stdout, status.stderr], [0, FILTERED, ""]);
        const ended = await runArgv([...drop, `${folder}/sync`]);
        assertEquals(ended.signal === "SIGSYS" ? 128 + SIGSYS : ended.code, 128 + SIGSYS);
      }
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  });

  Deno.test(`nsrun --seccomp takes the default profile, or a file, as ${user}`, async () => {
    assertEquals(await stdoutOf(["--seccomp", "default", ...STATUS], { user }), FILTERED);
    assertEquals(await stdoutOf(["--seccomp=default", "--init", ...STATUS], { user }), FILTERED);
    const file = Deno.makeTempFileSync({ dir: "/var/tmp" });
    try {
      Deno.chmodSync(file, 0o644);
      const rules = [{
        calls: ["kill"],
        action: { errno: "ESRCH" },
        args: [{ index: 1, op: "==", value: "0xa", mask: "0xffffffff" }],
      }];
      Deno.writeTextFileSync(file, JSON.stringify({ default: "allow", rules }));
      const words = ["--seccomp", file, "sh", "-c", "trap '' USR1; kill -USR1 $$ 2>&-; echo $?"];
      assertEquals(await stdoutOf(words, { user, permissions: ["--allow-ffi", `--allow-read=${file}`] }), "1\n");
      const { code, stderr } = await nsrun(words, { user });
      assertEquals([code, stderr.includes(`--seccomp needs to read "${file}"`)], [125, true]);
    } finally {
      Deno.removeSync(file);
    }
  });
}

isolatedTest("@system-service is what an ordinary program needs, and @known is all there is", () => {
  const run = (calls: string[], ...argv: string[]) => {
    const seccomp = { default: { errno: "EPERM" }, rules: [{ calls, action: "allow" as const }] };
    const [command, ...args] = argv;
    return new Namespace({ seccomp }).command(command!, { args }).outputSync();
  };
  const script = "echo hello | cat; ls / >/dev/null; mount -t tmpfs none /mnt || echo refused";
  const { code, stdout } = run(["@system-service"], "sh", "-c", script);
  assertEquals([code, new TextDecoder().decode(stdout)], [0, "hello\nrefused\n"]);
  assertEquals(run(["@known"], "unshare", "-m", "true").code, 0);
});
