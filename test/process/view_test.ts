import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../../mod.ts";
import { sandboxOptions } from "../../src/sandbox.ts";
import { lacking } from "../support/kernel.ts";
import { isolatedTest } from "../support/leaks.ts";
import { type Request, runAs, stdoutAs, USERS } from "../support/nobody.ts";
import { stdoutOf } from "../support/cli.ts";
import { runProgram, type User } from "../support/program.ts";
import { SYSTEM } from "../support/view_sets.ts";

// Init is kept in memory from its first use on.
new Namespace({ init: true }).command("/bin/true").outputSync();

/** What a shell says in such a world. */
async function shell(user: User, options: NamespaceOptions, script: string): Promise<string> {
  return await stdoutAs(user, { options, argv: ["/bin/sh", "-c", `exec 2>&1; ${script}; true`] });
}

const NOTHING = { root: "empty", mounts: [...SYSTEM] } as const satisfies NamespaceOptions;

/** An empty root with a system in it, and more. */
function empty(...mounts: NonNullable<NamespaceOptions["mounts"]>): NamespaceOptions {
  return { root: "empty", mounts: [...SYSTEM, ...mounts] };
}

/** A folder outside that anybody may enter, gone afterwards. */
async function withFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "namespace-view-" });
  Deno.chmodSync(folder, 0o777);
  try {
    await work(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

for (const user of USERS) {
  const overlays = ["overlays in user namespaces", "user.* attributes on tmpfs"] as const;
  const without = (...needed: readonly (typeof overlays[number])[]) => user === "root" ? undefined : lacking(...needed);

  isolatedTest(`root "empty" has what mounts put there and nothing else, as ${user}`, async () => {
    const bound = SYSTEM.map((mount) => "source" in mount ? mount.source.slice(1) : "").filter((name) => {
      try {
        return Deno.statSync(`/${name}`).isDirectory;
      } catch {
        return false;
      }
    });
    assertEquals((await shell(user, NOTHING, "pwd; ls -A /")).trim().split("\n"), ["/", ...bound.sort()]);
    const mounts = await shell(user, { ...empty({ type: "proc" }), privatePid: true }, "cat /proc/self/mountinfo");
    assert(!/\/old|\/new\b|prop/.test(mounts), mounts);
    assertMatch(mounts, / \/ \/ rw,nosuid,nodev/);
  });

  isolatedTest(`root can be a folder, whose links lead to itself, as ${user}`, async () => {
    await withFolder(async (folder) => {
      for (const name of ["usr", "bin", "lib", "lib64", "inside"]) Deno.mkdirSync(`${folder}/${name}`);
      Deno.symlinkSync("/inside", `${folder}/absolute`);
      Deno.symlinkSync("../../../../inside", `${folder}/upwards`);
      const mounts: NamespaceOptions["mounts"] = [
        ...SYSTEM,
        { type: "tmpfs", target: "/absolute" },
        { type: "bind", source: "/etc", target: "/upwards", readonly: true },
      ];
      const said = await shell(user, { root: folder, mounts }, "ls -d /inside/passwd; ls /absolute/passwd; ls -A /");
      assertEquals(said, "/inside/passwd\n/absolute/passwd\nabsolute\nbin\ninside\nlib\nlib64\nupwards\nusr\n");
      assertEquals([...Deno.readDirSync(`${folder}/inside`)], []);
    });
  });

  isolatedTest(`root can be an overlay, whose changes are gone afterwards, as ${user}`, async () => {
    await withFolder(async (folder) => {
      const name = `${folder}/a,b:c\\d`;
      Deno.mkdirSync(name);
      Deno.writeTextFileSync(`${name}/file`, "below\n");
      if (user === "nobody") Deno.chownSync(`${name}/file`, 65534, 65534); // Only what is mapped can be copied up.
      const mounts = empty({ type: "overlay", target: "/over", lower: [name], upper: "tmpfs" });
      assertEquals(await shell(user, mounts, "cat /over/file; echo new >/over/file; cat /over/file"), "below\nnew\n");
      assertEquals(Deno.readTextFileSync(`${name}/file`), "below\n");
      const readonly = empty({ type: "overlay", target: "/over", lower: [name, "/usr"] });
      assertMatch(
        await shell(user, readonly, "ls -d /over/bin /over/file; touch /over/x"),
        /^\/over\/bin\n\/over\/file\n[^]*Read-only file system/,
      );
      const root = { root: { overlay: { lower: [folder, "/usr"], upper: "tmpfs" } }, mounts: [...SYSTEM] };
      if (user === "root") assertMatch(await shell(user, root, "touch /x && ls -d /x /bin"), /^\/bin\n\/x\n$/);
    });
  }, without(...overlays));

  isolatedTest(`an overlay keeps changes in upper, as ${user}`, async () => {
    await withFolder(async (folder) => {
      for (const name of ["lower", "upper", "work"]) {
        Deno.mkdirSync(`${folder}/${name}`);
        Deno.chmodSync(`${folder}/${name}`, 0o777);
        if (user === "nobody") Deno.chownSync(`${folder}/${name}`, 65534, 65534);
      }
      const [lower, upper, work] = ["lower", "upper", "work"].map((name) => `${folder}/${name}`) as [
        string,
        string,
        string,
      ];
      await shell(user, empty({ type: "overlay", target: "/o", lower: [lower], upper, work }), "echo kept >/o/file");
      assertEquals(Deno.readTextFileSync(`${upper}/file`), "kept\n");
    });
  }, without(overlays[0]));

  isolatedTest(`bind is read-only for all that is below, as ${user}`, async () => {
    await withFolder(async (folder) => {
      const name = folder.slice("/tmp/".length);
      const options = empty({ type: "tmpfs", target: "/t" }, {
        type: "bind",
        source: "/",
        target: "/host",
        readonly: true,
      });
      const said = await shell(
        user,
        options,
        `touch /host/x /host/dev/shm/${name} /host${folder}/x; touch /t/x && ls /t`,
      );
      assertEquals(said.match(/Read-only file system/g)?.length, 3, said);
      assertMatch(said, /\nx\n$/);
    });
  });

  isolatedTest(`bind takes files, flags and what is missing, as ${user}`, async () => {
    const file = empty({ type: "bind", source: "/etc/passwd", target: "/a/b/c", readonly: true });
    assertEquals(await shell(user, file, "head -c 5 /a/b/c; ls /a /a/b"), "root:/a:\nb\n\n/a/b:\nc\n");
    const flags = await shell(
      user,
      { ...empty({ type: "bind", source: "/etc", nosuid: true, nodev: true, noexec: true }), privatePid: true },
      "grep ' /etc ' /proc/self/mountinfo",
    );
    assertMatch(flags, / \/etc rw,nosuid,nodev,noexec/);
    const [missing, skipped, below] = await runAs(user, [
      { options: empty({ type: "bind", source: "/nowhere" }), argv: ["/bin/true"] },
      { options: empty({ type: "bind", source: "/nowhere", ifMissing: "skip" }), argv: ["/bin/true"] },
      { options: { mounts: [{ type: "bind", source: "/etc", target: "/nowhere" }] }, argv: ["/bin/true"] },
    ]);
    assertEquals([missing!.error?.code, missing!.error?.option], ["ENOENT", "mounts"]);
    assertMatch(missing!.error!.message, /Cannot bind "\/nowhere" for mounts/);
    assertEquals(skipped!.code, 0);
    assertEquals(below!.error?.code, "ENOENT");
    assertThrows(() => Deno.statSync("/nowhere"), Deno.errors.NotFound);
    await withFolder(async (folder) => {
      const source = `${folder}/made/here`;
      await shell(user, empty({ type: "bind", source, target: "/m", ifMissing: "create" }), "touch /m/x");
      assert(Deno.statSync(`${source}/x`).isFile);
    });
  });

  isolatedTest(`mounts are in the order given, and what is hidden cannot be seen, as ${user}`, async () => {
    await withFolder(async (folder) => {
      Deno.writeTextFileSync(`${folder}/file`, "secret\n");
      Deno.mkdirSync(`${folder}/folder`);
      Deno.writeTextFileSync(`${folder}/folder/file`, "secret\n");
      const bind = { type: "bind", source: folder, target: "/d" } as const;
      const hidden = empty(bind, { type: "hide", target: "/d/file" }, { type: "hide", target: "/d/folder" }, {
        type: "hide",
        target: "/d/nowhere",
      });
      const script = "cat /d/file; ls -A /d/folder; touch /d/folder/x; echo x >>/d/file; ls /d";
      const said = await shell(user, hidden, script);
      assert(!said.includes("secret"), said);
      assertEquals(said.match(/Read-only|denied/g)?.length, 2, said);
      assertMatch(said, /file\nfolder\n$/);
      assertEquals(Deno.readTextFileSync(`${folder}/file`), "secret\n");
      const covered = empty({ type: "hide", target: "/usr/share" }, { type: "tmpfs", target: "/d" }, {
        ...bind,
        target: "/d/e",
      });
      assertEquals(await shell(user, covered, "cat /d/e/file; ls /usr/share"), "secret\n");
    });
  });

  isolatedTest(`file, dir, symlink and tmpfs are as asked for, whatever the umask, as ${user}`, async () => {
    const options = empty(
      { type: "file", target: "/f/g", content: "text", mode: 0o604 },
      { type: "file", target: "/big", content: "x".repeat(100_000) },
      { type: "dir", target: "/d/e", mode: 0o1777 },
      { type: "dir", target: "/d/e/g", mode: 0o2770 },
      { type: "dir", target: "/n/m" },
      { type: "dir", target: "/n", mode: 0o711 }, // It is there by then.
      { type: "dir", target: "/n/m" },
      { type: "symlink", target: "/l", to: "/f/g" },
      { type: "tmpfs", target: "/t", size: "64k", mode: "0710" },
    );
    const script =
      "stat -c '%a %n' /f/g /d /d/e /d/e/g /n /n/m /t; cat /l; echo; wc -c </big; stat -f -c '%S %b' /t; umask";
    const said = await shell(user, options, script);
    assertEquals(said.trim().split("\n").map((line) => line.trim()), [
      ...[
        "604 /f/g",
        "755 /d",
        "1777 /d/e",
        "2770 /d/e/g",
        "711 /n",
        "755 /n/m",
        "710 /t",
        "text",
        "100000",
        "4096 16",
      ],
      Deno.umask().toString(8).padStart(4, "0"),
    ]);
    const before = Deno.readTextFileSync("/etc/hosts");
    const covered: NamespaceOptions = { mounts: [{ type: "file", target: "/etc/hosts", content: "covered\n" }] };
    assertEquals(await shell(user, covered, "cat /etc/hosts"), "covered\n");
    assertEquals(Deno.readTextFileSync("/etc/hosts"), before);
  });

  isolatedTest(`dev, proc, mqueue and sysfs work, as ${user}`, async () => {
    const options: NamespaceOptions = {
      ...empty({ type: "dev" }, { type: "mqueue" }, { type: "sysfs" }, {
        type: "proc",
        target: "/p",
        readonly: true,
        hidepid: "invisible",
      }),
      privatePid: true,
      privateIpc: true,
      privateNet: true,
    };
    const script =
      "echo /dev/*; head -c 3 /dev/zero | wc -c; echo x >/dev/null && cat </dev/null; ls /sys/class/net; " +
      "stat -c %a /dev/shm; test -c /dev/pts/ptmx && echo pts; echo /p/[0-9]*; ls -A /dev/mqueue; grep -c /p\\  /proc/mounts";
    assertEquals(
      await shell(user, options, script),
      "/dev/fd /dev/full /dev/mqueue /dev/null /dev/ptmx /dev/pts /dev/random /dev/shm /dev/stderr /dev/stdin " +
        "/dev/stdout /dev/tty /dev/urandom /dev/zero\n3\nlo\n1777\npts\n/p/1\n1\n",
    );
  });

  isolatedTest(`cwd is looked for inside, as ${user}`, async () => {
    const folder = Deno.makeTempDirSync({ prefix: "namespace-view-" });
    try {
      const request = (cwd: string): Request => {
        return { options: { ...NOTHING, privateTmp: true }, argv: ["/bin/pwd"], commandOptions: { cwd } };
      };
      const [tmp, outside] = await runAs(user, [request("/tmp"), request(folder)]);
      assertEquals(tmp!.stdout, "/tmp\n");
      assertEquals([outside!.error?.name, outside!.error?.code], ["NotFound", "ENOENT"]);
    } finally {
      Deno.removeSync(folder);
    }
  });

  isolatedTest(`nothing is made in a folder of the outside, through links neither, as ${user}`, async () => {
    await withFolder(async (folder) => {
      Deno.mkdirSync(`${folder}/real`);
      Deno.chmodSync(`${folder}/real`, 0o777);
      const bind = { type: "bind", source: folder, target: "/b" } as const;
      const link = { type: "symlink", target: "/link", to: "/b/real" } as const;
      const made = { content: "x", mode: 0o600 };
      const results = await runAs(
        user,
        [
          empty(bind, { type: "dir", target: "/b/made" }),
          empty(bind, { type: "file", target: "/b/made", ...made }),
          empty(bind, { type: "tmpfs", target: "/b/real/made" }),
          empty(bind, link, { type: "dir", target: "/link/made" }),
          empty(bind, link, { type: "file", target: "/link/made", ...made }),
          empty(bind, link, { type: "symlink", target: "/link/made", to: "x" }),
          empty(bind, link, { type: "bind", source: "/etc", target: "/link/made/deeper" }),
          empty(bind, link, { type: "tmpfs", target: "/link/made" }),
        ].map((options) => ({ options, argv: ["/bin/true"] as const })),
      );
      for (const [index, { error }] of results.entries()) assertMatch(error?.code ?? "", /ENOENT|ELOOP/, String(index));
      assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["real"]);
      assertEquals([...Deno.readDirSync(`${folder}/real`)], []);
    });
  });

  isolatedTest(`nsrun mounts in the order of its options, as ${user}`, async () => {
    const options = ["--tmpfs", "/mnt", "--ro-bind", "/etc:/mnt/etc", "--hide=/mnt/etc/passwd", "--file=/mnt/a:b:c"];
    const said = await stdoutOf([...options, "sh", "-c", "wc -c /mnt/etc/passwd; ls /mnt; cat /mnt/a"], { user });
    assertEquals(said, "0 /mnt/etc/passwd\na\netc\nb:c");
    assertEquals(await stdoutOf(["--sandbox", "--init", "sh", "-c", "id -u; ls -A /home/sandbox"], { user }), "1000\n");
  });

  isolatedTest(`reexec() goes into a root with mounts, as ${user}`, async () => {
    const code = `
      await new Namespace({ mounts: [{ type: "hide", target: "/etc/passwd" }], privatePid: true }).reexec();
      console.log(Deno.pid, JSON.stringify(Deno.readTextFileSync("/etc/passwd")));`;
    const { stdout, stderr } = await runProgram(code, { user, permissions: ["--allow-all"] });
    assertEquals([stdout, stderr], ['1 ""\n', ""]);
  });

  isolatedTest(`sandbox() runs programs that see nothing else, as ${user}`, async () => {
    const script =
      "echo $HOME $USER $LOGNAME; id -un; id -u; ls -A / | tr '\\n' ' '; echo $$; hostname >/dev/null; ls -A /tmp /home/sandbox; " +
      "touch /x /usr/x /etc/x; touch /tmp/x ~/x && echo written; grep CapEff /proc/self/status";
    const options = sandboxOptions();
    const [result] = await runAs(user, [
      { options, argv: ["sh", "-c", script] },
    ]);
    assertMatch(
      result!.stdout,
      /^\/home\/sandbox sandbox sandbox\nsandbox\n1000\nbin dev etc home .*tmp usr 2\n[^]*written\nCapEff:\s0{16}\n$/,
    );
    assertEquals(result!.stderr.match(/Read-only file system/g)?.length, 3, result!.stderr);
  });
}

isolatedTest("a root of its own goes with all that writes to files of the outside before it is there", () => {
  const options: NamespaceOptions = {
    privateTime: { boottime: 86_400 },
    oomScoreAdj: 100,
    disableUserNamespaces: true,
  };
  for (const root of ["empty", "/"]) {
    const argv = [
      "-c",
      "cat /proc/self/oom_score_adj /proc/sys/user/max_user_namespaces; cat /proc/self/timens_offsets",
    ];
    const ns = Namespace.sandbox({ ...options, root });
    assertMatch(
      new TextDecoder().decode(ns.command("sh", { args: argv }).outputSync().stdout),
      /^100\n0\nmonotonic .*\nboottime +86400 +0\n$/,
    );
  }
});

isolatedTest("a command cannot change the outer /dev/null by its stdin", async () => {
  const before = Deno.statSync("/dev/null");
  const script = "chmod 666 /dev/stdin; touch -d @0 /proc/self/fd/0; cat </dev/stdin; echo x >&1 && echo written >&2";
  const child = Namespace.sandbox({ seccomp: false }).command("sh", {
    args: ["-c", script],
    stdin: "null",
    stderr: "piped",
  });
  const { stderr } = await child.output();
  assertMatch(new TextDecoder().decode(stderr), /Read-only file system[^]*Read-only file system[^]*written/);
  const { mode, mtime } = Deno.statSync("/dev/null");
  assertEquals([mode, mtime], [before.mode, before.mtime]);
});

isolatedTest("setup() refuses root and mounts", () => {
  assertThrows(() => new Namespace({ root: "empty" }).setup(), TypeError, `Cannot set up "root" in a running process`);
  const mounts = [{ type: "hide", target: "/etc" }] as const;
  assertThrows(() => new Namespace({ mounts: [...mounts] }).setup(), TypeError, `Cannot set up "mounts"`);
});

isolatedTest("init and run() work with a root and mounts", async () => {
  const ns = new Namespace({
    init: true,
    root: "/",
    mounts: [{ type: "hide", target: "/etc/passwd" }],
    privateTmp: true,
  });
  const { stdout } = ns.command("wc", { args: ["-c", "/etc/passwd"] }).outputSync();
  assertEquals(new TextDecoder().decode(stdout), "0 /etc/passwd\n");
  const other = new Namespace({
    mounts: [{ type: "file", target: "/etc/hosts", content: "inside" }],
    privatePid: true,
  });
  assertEquals(await other.run(() => Deno.readTextFileSync("/etc/hosts")), "inside");
});

isolatedTest("build() makes an executable with a root and mounts", async () => {
  const path = Deno.makeTempFileSync({ prefix: "namespace-view-" });
  try {
    await Namespace.sandbox().build("sh", { args: ["-c", "id -u; ls -A /tmp"], output: path });
    for (const argv of [[path], ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", path]] as const) {
      const { stdout, stderr } = new Deno.Command(argv[0], { args: argv.slice(1), cwd: "/" }).outputSync();
      assertEquals([new TextDecoder().decode(stdout), new TextDecoder().decode(stderr)], ["1000\n", ""]);
    }
  } finally {
    Deno.removeSync(path);
  }
});
