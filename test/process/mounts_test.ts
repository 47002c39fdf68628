import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { Namespace } from "../../mod.ts";
import { countMounts, readLine } from "../support/inside.ts";
import { isolatedTest } from "../support/leaks.ts";
import { runAs, stdoutAs, USERS } from "../support/nobody.ts";
import { programArgv, runArgv } from "../support/program.ts";

const utf8 = new TextDecoder();

for (const user of USERS) {
  isolatedTest(`privateTmp is an empty /tmp that anybody may write to, as ${user}`, async () => {
    const outside = Deno.makeTempFileSync({ dir: "/tmp" });
    try {
      const script = "ls -A /tmp; stat -c '%a %F' /tmp; echo x >/tmp/x && cat /tmp/x; ls -A /tmp";
      const options = { privateTmp: true };
      assertEquals(await stdoutAs(user, { options, argv: ["sh", "-c", script] }), "1777 directory\nx\nx\n");
      assertNotEquals(Deno.statSync(outside).isFile && Deno.readTextFileSync(outside), "x\n");
    } finally {
      Deno.removeSync(outside);
    }
  });

  isolatedTest(`privateTmp.size is the size that df shows, as ${user}`, async () => {
    const df = ["df", "--output=size", "-B1", "/tmp"] as const;
    const sizes = [["1m", 1 << 20], ["64K", 64 << 10], [8192, 8192], ["1g", 1 << 30]] as const;
    const results = await runAs(user, sizes.map(([size]) => ({ options: { privateTmp: { size } }, argv: df })));
    for (const [index, [size, bytes]] of sizes.entries()) {
      assertEquals(results[index]!.stdout.trim().split("\n")[1]?.trim(), String(bytes), String(size));
    }
  });

  isolatedTest(`privateTmp.size is a limit, as ${user}`, async () => {
    const script = "head -c 2097152 /dev/zero >/tmp/big; stat -c %s /tmp/big";
    const [result] = await runAs(user, [{ options: { privateTmp: { size: "1m" } }, argv: ["sh", "-c", script] }]);
    assertEquals(result!.stdout, "1048576\n");
    assertMatch(result!.stderr, /No space left on device/);
  });

  isolatedTest(`privateTmp takes mode, nrInodes, uid and gid, as ${user}`, async () => {
    const own = user === "root" ? 0 : 65534;
    const stat = ["sh", "-c", "stat -c '%a %u %g' /tmp; df --output=itotal /tmp | tail -1"] as const;
    const fields = async (privateTmp: object) =>
      (await stdoutAs(user, { options: { privateTmp }, argv: stat })).trim().split(/\s+/);
    assertEquals((await fields({ mode: 0o700 }))[0], "700");
    assertEquals((await fields({ mode: "0750" }))[0], "750");
    assertEquals((await fields({ mode: 0 }))[0], "0");
    assertEquals((await fields({ nrInodes: 77 }))[3], "77");
    assertEquals((await fields({ nrInodes: "2k" }))[3], "2048");
    assertEquals((await fields({ uid: own, gid: own, mode: 0o1777 })).slice(0, 3), ["1777", String(own), String(own)]);
    if (user === "root") assertEquals((await fields({ uid: 12, gid: 34 })).slice(1, 3), ["12", "34"]);
  });

  isolatedTest(`privateTmp and privatePid mount once each, as ${user}`, async () => {
    const mounts = await stdoutAs(user, {
      options: { privateTmp: true, privatePid: true },
      argv: ["cat", "/proc/self/mounts"],
    });
    const outside = Deno.readTextFileSync("/proc/self/mounts");
    for (const folder of ["/tmp", "/proc"]) {
      assertEquals(countMounts(mounts, folder), countMounts(outside, folder) + 1, folder);
    }
    assertEquals(mounts.trim().split("\n").length, outside.trim().split("\n").length + 2);
    assertMatch(mounts, /^tmpfs \/tmp tmpfs rw,nosuid,nodev,/m);
    assertMatch(mounts, /^proc \/proc proc rw,nosuid,nodev,noexec,/m);
  });

  isolatedTest(`privateMount alone changes no mount, as ${user}`, async () => {
    const mounts = await stdoutAs(user, { options: { privateMount: true }, argv: ["cat", "/proc/self/mounts"] });
    const sorted = (text: string) => text.trim().split("\n").toSorted();
    assertEquals(sorted(mounts), sorted(Deno.readTextFileSync("/proc/self/mounts")));
  });

  isolatedTest(`privateMount makes all mounts private, as ${user}`, async () => {
    const info = await stdoutAs(user, { options: { privateMount: true }, argv: ["cat", "/proc/self/mountinfo"] });
    assert(!/ (shared|master):/.test(info), info);
  });

  isolatedTest(`privateTmp hides the caller's folder when that is below /tmp, as ${user}`, async () => {
    // The caller's folder is / here: what is asked for as cwd is looked up inside.
    const [result] = await runAs(user, [
      { options: { privateTmp: true }, argv: ["pwd"], commandOptions: { cwd: "/tmp" } },
    ]);
    assertEquals(result!.stdout, "/tmp\n");
  });
}

isolatedTest("privateMount keeps what is mounted inside from the outside", async () => {
  const child = new Namespace({ privateMount: true }).command("sh", {
    args: ["-c", "mount -t tmpfs tmpfs /mnt && echo mounted && read -r line && ls /mnt"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const before = Deno.readTextFileSync("/proc/self/mountinfo");
  assertEquals(await readLine(child.stdout), "mounted");
  assertEquals(Deno.readTextFileSync("/proc/self/mountinfo"), before);
  const inside = Deno.readTextFileSync(`/proc/${child.pid}/mounts`);
  assertEquals(countMounts(inside, "/mnt"), countMounts(Deno.readTextFileSync("/proc/self/mounts"), "/mnt") + 1);
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode("\n"));
  await writer.close();
  await child.stdout.cancel();
  assertEquals((await child.status).code, 0);
});

isolatedTest("privateMount cuts off even a shared tree, which systemd makes of /", async () => {
  // unshare(1) makes a mount namespace in which / is shared; a program of the package runs in there.
  const code =
    `const script = "mount -t tmpfs tmpfs /mnt; grep -c ' /mnt ' /proc/self/mounts; grep -c shared: /proc/self/mountinfo";
    const { stdout } = new Namespace({ privateMount: true }).command("sh", { args: ["-c", script] }).outputSync();
    console.log(new TextDecoder().decode(stdout));`;
  const script = `"$@"; grep -c ' /mnt ' /proc/self/mounts; grep -m 1 -o shared: /proc/self/mountinfo`;
  const argv = ["unshare", "--mount", "--propagation", "shared", "sh", "-c", script, "sh", ...programArgv(code)];
  const { stdout, stderr } = await runArgv(argv);
  assertEquals([stdout.trim().split(/\s+/), stderr], [["1", "0", "0", "shared:"], ""]);
});

isolatedTest("privateTmp is entered anew by a caller whose folder is /tmp", () => {
  const before = Deno.cwd();
  const file = Deno.makeTempFileSync({ dir: "/tmp" });
  const folder = Deno.makeTempDirSync({ dir: "/tmp" });
  try {
    Deno.chdir("/tmp");
    const list = (options: object) =>
      utf8.decode(new Namespace(options).command("ls", { args: ["-A", "."] }).outputSync().stdout);
    assertEquals(list({ privateTmp: true }), "");
    assertNotEquals(list({}), "");
    Deno.chdir(folder);
    const pwd = new Namespace({ privateTmp: true }).command("sh", { args: ["-c", "pwd -P; ls -d tmp"] }).outputSync();
    assertEquals(utf8.decode(pwd.stdout), "/\ntmp\n"); // There is no such folder inside.
  } finally {
    Deno.chdir(before);
    Deno.removeSync(file);
    Deno.removeSync(folder);
  }
});

isolatedTest("privatePid enters the caller's folder in /proc anew", () => {
  const before = Deno.cwd();
  try {
    Deno.chdir("/proc");
    const output = new Namespace({ privatePid: true }).command("sh", { args: ["-c", "echo [0-9]*"] }).outputSync();
    assertEquals(utf8.decode(output.stdout), "1\n");
  } finally {
    Deno.chdir(before);
  }
});
