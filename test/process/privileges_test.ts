import { assertEquals, assertMatch, assertNotEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../../mod.ts";
import { stdoutOf } from "../support/cli.ts";
import { isolatedTest } from "../support/leaks.ts";
import { type Request, runAs, stdoutAs, USERS } from "../support/nobody.ts";
import { programArgv, runArgv, runProgram } from "../support/program.ts";

const shell = (script: string): Request["argv"] => ["sh", "-c", script];
const STATUS = "grep -h '^Cap' /proc/self/status | cut -f 2 | sort -u | tr '\\n' ' '";
const NONE = "0000000000000000 ";

new Namespace({ init: true }).command("true").outputSync(); // What is executed as init stays in memory.

for (const user of USERS) {
  /** Who may give up capabilities, and set what only root may outside. */
  const privateUser = user === "nobody" ? { privateUser: true } : {};

  isolatedTest(`noNewPrivs cannot be undone, and set-user-ID programs give nothing, as ${user}`, async () => {
    const options = { noNewPrivs: true };
    const script = "grep NoNewPrivs /proc/self/status; setpriv --nnp true && grep NoNewPrivs /proc/self/status";
    assertEquals(await stdoutAs(user, { options, argv: shell(script) }), "NoNewPrivs:\t1\nNoNewPrivs:\t1\n");
    assertEquals(
      await stdoutAs(user, { options: {}, argv: shell("grep NoNewPrivs /proc/self/status") }),
      "NoNewPrivs:\t0\n",
    );
  });

  isolatedTest(`capabilities: "none" leaves none in any set, and none can be had again, as ${user}`, async () => {
    const options: NamespaceOptions = { capabilities: "none", ...privateUser };
    const script =
      `${STATUS}; mount -t tmpfs none /mnt 2>/dev/null && echo OUT; unshare -m true 2>/dev/null && echo OUT; :`;
    assertEquals(await stdoutAs(user, { options, argv: shell(script) }), NONE);
    for (const more of [{ init: true }, { privatePid: true }]) {
      assertEquals(await stdoutAs(user, { options: { ...options, ...more }, argv: shell(STATUS) }), NONE);
    }
  });

  isolatedTest(`capabilities: { keep } leaves these to any program, and { drop } all others, as ${user}`, async () => {
    const [kept, dropped] = await runAs(user, [
      { options: { capabilities: { keep: ["CAP_NET_BIND_SERVICE", "CAP_BPF"] }, ...privateUser }, argv: shell(STATUS) },
      {
        options: { capabilities: { drop: ["CAP_SYS_ADMIN"] }, ...privateUser },
        argv: shell("grep CapBnd /proc/self/status; unshare -m true || echo refused"),
      },
    ]);
    assertEquals(kept!.stdout, "0000008000000400 ");
    const [, bounding] = dropped!.stdout.split(/\s/);
    assertEquals(BigInt(`0x${bounding}`) >> 21n & 1n, 0n);
    assertEquals(BigInt(`0x${bounding}`) >> 10n & 1n, 1n);
    assertStringIncludes(dropped!.stdout, "refused");
  });

  isolatedTest(`rlimits are there, soft and hard, and cannot be raised again, as ${user}`, async () => {
    const options: NamespaceOptions = { rlimits: { nofile: 64, as: "1g", core: 0, fsize: [5, "1k"] }, ...privateUser };
    const script =
      "ulimit -n; ulimit -v; ulimit -c; ulimit -Hf; cat /proc/self/limits | grep 'Max file size'; ulimit -n 65 2>/dev/null && echo OUT; :";
    const capabilities = "none";
    const stdout = await stdoutAs(user, { options: { ...options, capabilities }, argv: shell(script) });
    assertMatch(stdout, /^64\n1048576\n0\n2\nMax file size +5 +1024 +bytes *\n$/);
  });

  isolatedTest(`umask, nice, cpuAffinity, oomScoreAdj and newSession are as asked for, as ${user}`, async () => {
    const options = { umask: 0o27, nice: 7, cpuAffinity: [0], oomScoreAdj: 321, newSession: true };
    const script = "umask; nice; grep Cpus_allowed_list /proc/self/status | cut -f 2; cat /proc/self/oom_score_adj; " +
      "read a b c d e sid rest < /proc/$$/stat; test $sid = $$ && echo own; :";
    for (const more of [{}, { init: true, noProc: true }]) {
      const stdout = await stdoutAs(user, { options: { ...options, ...more }, argv: shell(script) });
      assertEquals(stdout.split("\n").slice(0, 4), ["0027", "7", "0", "321"], JSON.stringify(more));
      if (!("init" in more)) assertMatch(stdout, /\nown\n$/);
    }
  });

  isolatedTest(`oomScoreAdj is the command's, and this process keeps its own, as ${user}`, async () => {
    const { stdout, stderr } = await runProgram(
      `const own = () => Deno.readTextFileSync("/proc/self/oom_score_adj").trim();
       const scores = [own()];
       const args = ["/proc/self/oom_score_adj"];
       for (const more of [{}, { privateUser: true }, { init: true, noProc: true }]) {
         const ns = new Namespace({ ...more, oomScoreAdj: 500 });
         scores.push(new TextDecoder().decode(ns.command("cat", { args }).outputSync().stdout).trim(), own());
         try {
           ns.command("/nowhere").outputSync();
         } catch {
           scores.push(own());
         }
       }
       console.log(scores.join(" "));`,
      { user, permissions: ["-A"] },
    );
    const own = Deno.readTextFileSync("/proc/self/oom_score_adj").trim();
    assertEquals([stderr, stdout], ["", `${own}${` 500 ${own} ${own}`.repeat(3)}\n`]);
  });

  isolatedTest(`privateKeyring has nothing of the caller's session keyring, as ${user}`, async () => {
    // keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0): with 1, whoever has none would get one of its own.
    const number = Deno.build.arch === "x86_64" ? 250 : 219;
    const argv = ["perl", "-e", `print syscall(${number}, 0, -3, 0)`] as const;
    const shared = { options: {}, argv };
    const apart = { options: { privateKeyring: true }, argv };
    const [own, again, first, second] = (await runAs(user, [shared, shared, apart, apart])).map(({ stdout }) => stdout);
    for (const id of [own!, again!, first!, second!]) assertMatch(id, /^\d+$/);
    assertEquals(own, again);
    assertEquals(new Set([own, first, second]).size, 3);
  });

  isolatedTest(`disableUserNamespaces lets nobody inside make one, as ${user}`, async () => {
    const before = Deno.readTextFileSync("/proc/sys/user/max_user_namespaces");
    const argv = shell(
      "unshare -U true 2>/dev/null && echo made; (echo 9 > /proc/sys/user/max_user_namespaces) 2>/dev/null && echo OUT; :",
    );
    const results = await runAs(user, [
      { options: { privateUser: { uid: 1000, gid: 1000 }, disableUserNamespaces: true }, argv },
      {
        options: { privateUser: true, disableUserNamespaces: true, capabilities: { drop: ["CAP_SYS_RESOURCE"] } },
        argv,
      },
      { options: { privateUser: "self" }, argv: shell("unshare -U true && echo made") },
    ]);
    assertEquals(results.map(({ stdout }) => stdout), ["", "", "made\n"]);
    assertEquals(Deno.readTextFileSync("/proc/sys/user/max_user_namespaces"), before);
    for (
      const options of [{}, { privateUser: "self" as const }, { privateUser: true }, {
        privateUser: true,
        capabilities: { keep: ["CAP_SYS_RESOURCE" as const] },
      }]
    ) {
      assertThrows(
        () => new Namespace({ ...options, disableUserNamespaces: true }),
        TypeError,
        `"privateUser.uid"`,
      );
    }
  });

  isolatedTest(`what cannot be had is refused with its cause, as ${user}`, async () => {
    const tooMuch: Request = { options: { ...privateUser, cpuAffinity: [1023] }, argv: ["true"] };
    const [affinity] = await runAs(user, [tooMuch]);
    assertEquals([affinity!.error?.code, affinity!.error?.option], ["EINVAL", "cpuAffinity"]);
    assertStringIncludes(affinity!.error!.hint!, "cpuset");
    if (user === "root") return;
    const [drop, nice, limit] = await runAs(user, [
      { options: { capabilities: "none" }, argv: ["true"] },
      { options: { nice: -5 }, argv: ["true"] },
      { options: { rlimits: { core: "unlimited", nofile: "unlimited" } }, argv: ["true"] },
    ]);
    assertEquals([drop!.error?.code, nice!.error?.option, limit!.error?.option], ["EPERM", "nice", "rlimits"]);
    assertStringIncludes(drop!.error!.hint!, "CAP_SETPCAP");
  });
}

isolatedTest("groups are those that were asked for, with and without another user", () => {
  const groupsOf = (groups: number[], ids: { uid?: number } = {}) => {
    const script = "grep Groups /proc/self/status | tr -s ' \\t' ' '";
    const { stdout } = new Namespace({ groups }).command("sh", { args: ["-c", script], ...ids }).outputSync();
    return new TextDecoder().decode(stdout).trim();
  };
  assertEquals(groupsOf([5, 7]), "Groups: 5 7");
  assertEquals(groupsOf([]), "Groups:");
  assertEquals(groupsOf([5, 7], { uid: 9 }), "Groups: 5 7");
});

isolatedTest("capabilities: { keep } lasts where the command becomes another user", () => {
  const ns = new Namespace({ capabilities: { keep: ["CAP_NET_BIND_SERVICE"] } });
  const { stdout } = ns.command("sh", { args: ["-c", `id -u; ${STATUS}`], uid: 7, gid: 7 }).outputSync();
  assertEquals(new TextDecoder().decode(stdout), "7\n0000000000000400 ");
});

isolatedTest("run() works with privileges given up", async () => {
  const ns = new Namespace({ capabilities: "none", noNewPrivs: true, rlimits: { nofile: 200 }, privatePid: true });
  assertEquals(await ns.run(() => Deno.pid), 1);
});

// By ptrace(2) a command could make PID 1 do what it may not do itself, if that had more capabilities.
isolatedTest("capabilities: { drop } leaves none of them to init", async () => {
  const script = "grep -hE '^Cap(Prm|Eff)' /proc/1/status /proc/self/status | cut -f 2 | sort -u";
  const options: NamespaceOptions = { init: true, capabilities: { drop: ["CAP_SYS_ADMIN", "CAP_BPF"] } };
  const { stdout } = new Namespace(options).command("sh", { args: ["-c", script] }).outputSync();
  const sets = [
    new TextDecoder().decode(stdout),
    await stdoutOf(["--init", "--cap-drop", "CAP_SYS_ADMIN,CAP_BPF", "sh", "-c", script]),
  ];
  for (const set of sets) {
    assertMatch(set, /^[0-9a-f]{16}\n$/); // One, for all.
    assertEquals(BigInt(`0x${set.trim()}`) & (1n << 21n | 1n << 39n), 0n);
  }
});

// CVE-2022-24769: engines started containers with inheritable capabilities, and root's programs had them again.
isolatedTest("capabilities: { drop } leaves none of them inheritable", async () => {
  const argv = programArgv(`
    const ns = new Namespace({ capabilities: { drop: ["CAP_NET_RAW"] } });
    const { stdout } = ns.command("sh", { args: ["-c", ${
    JSON.stringify(`grep -E "^Cap(Inh|Prm|Bnd)" /proc/self/status`)
  }] })
      .outputSync();
    console.log(new TextDecoder().decode(stdout));`);
  const { stdout, stderr } = await runArgv(["setpriv", "--inh-caps", "+net_raw", ...argv]);
  const [inheritable, permitted, bounding] = [...stdout.matchAll(/\t(\w+)/g)].map(([, set]) => BigInt(`0x${set}`));
  assertEquals([stderr, inheritable], ["", 0n]);
  assertEquals([permitted! & 1n << 13n, bounding! & 1n << 13n], [0n, 0n]);
  assertNotEquals(permitted! & 1n, 0n); // The others are there.
});
