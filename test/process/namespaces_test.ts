import { assertEquals, assertMatch, assertNotEquals, assertThrows } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../../mod.ts";
import { differentNamespaces, type NamespaceFile, READ_NAMESPACES } from "../support/inside.ts";
import { isolatedTest } from "../support/leaks.ts";
import { runAs, stdoutAs, USERS } from "../support/nobody.ts";
import { runProgram } from "../support/program.ts";

/** Options, and exactly those namespaces that they make, in the order of NAMESPACE_FILES. */
const MADE: readonly (readonly [NamespaceOptions, ...NamespaceFile[]])[] = [
  [{}],
  [{ termChild: false }],
  [{ privatePid: false, privateTmp: false, privateTime: false }],
  [{ privateMount: true }, "mnt"],
  [{ privateTmp: true }, "mnt"],
  [{ privateTmp: { size: "1m" } }, "mnt"],
  [{ privatePid: true }, "mnt", "pid"],
  [{ privatePid: true, noProc: true }, "pid"],
  [{ privatePid: true, noProc: true, privateTmp: true }, "mnt", "pid"],
  [{ privateNet: true }, "net"],
  [{ privateIpc: true }, "ipc"],
  [{ privateSysvsem: true }, "ipc"],
  [{ privateUts: true }, "uts"],
  [{ hostname: "box" }, "uts"],
  [{ domainname: "box" }, "uts"],
  [{ privateUser: true }, "user"],
  [{ privateUser: "self" }, "user"],
  [{ privateCgroup: true }, "cgroup"],
  [{ privateTime: true }, "time"],
  [{ privateTime: { boottime: 60 } }, "time"],
  [{ privateUser: true, privatePid: true }, "mnt", "pid", "user"],
  [{ privateUser: true, privateNet: true, privateTime: { monotonic: 1 } }, "net", "user", "time"],
  [{ privateIpc: true, privateUts: true, privateCgroup: true }, "ipc", "uts", "cgroup"],
  [
    {
      privateUser: true,
      privateMount: true,
      privateTmp: true,
      privatePid: true,
      privateNet: true,
      privateIpc: true,
      privateUts: true,
      privateSysvsem: true,
      privateCgroup: true,
      privateTime: true,
    },
    "mnt",
    "pid",
    "net",
    "ipc",
    "uts",
    "user",
    "cgroup",
    "time",
  ],
];

for (const user of USERS) {
  isolatedTest(`command() makes exactly the namespaces that were asked for, as ${user}`, async () => {
    const requests = MADE.map(([options]) => ({ options, argv: ["readlink", ...READ_NAMESPACES] as const }));
    const results = await runAs(user, requests);
    for (const [index, [options, ...made]] of MADE.entries()) {
      // An ordinary user cannot do without a user namespace around the others.
      const needsUser = user === "nobody" && made.length > 0 && !made.includes("user");
      const expected = [...made, ...(needsUser ? ["user" as const] : [])].toSorted();
      const { stdout, stderr, error } = results[index]!;
      assertEquals(stderr, "");
      assertEquals(error, undefined, JSON.stringify(options));
      assertEquals(differentNamespaces(stdout).toSorted(), expected, JSON.stringify(options));
    }
  });

  isolatedTest(`privateUser left out adds a user namespace only where it is needed, as ${user}`, async () => {
    const read = ["sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map"] as const;
    const [none, needed] = await runAs(user, [{ options: {}, argv: read }, {
      options: { privateUts: true },
      argv: read,
    }]);
    const words = (text: string) => text.trim().split(/\s+/).map(Number);
    const all = [0, 0, 4294967295];
    if (user === "root") {
      assertEquals(words(none!.stdout), [0, 0, ...all, ...all]);
      assertEquals(words(needed!.stdout), [0, 0, ...all, ...all]);
    } else {
      assertEquals(words(none!.stdout), [65534, 65534, ...all, ...all]);
      assertEquals(words(needed!.stdout), [65534, 65534, 65534, 65534, 1, 65534, 65534, 1]);
    }
  });

  isolatedTest(`privateUser maps the caller as it is told, as ${user}`, async () => {
    const self = user === "root" ? 0 : 65534;
    const read = ["sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map"] as const;
    const map = [{ inside: 7, outside: self }];
    const cases = [
      [true, [0, 0], [0, self, 1], [0, self, 1]],
      ["self", [self, self], [self, self, 1], [self, self, 1]],
      [{ uid: 1000 }, [1000, self], [1000, self, 1], [self, self, 1]],
      [{ gid: 1000 }, [self, 1000], [self, self, 1], [1000, self, 1]],
      [{ uid: 12, gid: 34 }, [12, 34], [12, self, 1], [34, self, 1]],
      [{ uidMap: map, gidMap: map }, [7, 7], [7, self, 1], [7, self, 1]],
    ] as const;
    const results = await runAs(
      user,
      cases.map(([privateUser]) => ({ options: { privateUser } as NamespaceOptions, argv: read })),
    );
    for (const [index, [privateUser, ...expected]] of cases.entries()) {
      const numbers = results[index]!.stdout.trim().split(/\s+/).map(Number);
      assertEquals(numbers, expected.flat(), JSON.stringify(privateUser));
    }
  });

  isolatedTest(`privateUser gives up setgroups(2) only without CAP_SETGID, as ${user}`, async () => {
    const read = { options: { privateUser: true }, argv: ["cat", "/proc/self/setgroups"] } as const;
    assertEquals(await stdoutAs(user, read), user === "root" ? "allow\n" : "deny\n");
  });

  isolatedTest(`privateUser: true lets the caller mount inside, as ${user}`, async () => {
    const options = { privateUser: true, privateMount: true };
    const script = "mount -t tmpfs tmpfs /mnt && echo x >/mnt/x && cat /mnt/x";
    assertEquals(await stdoutAs(user, { options, argv: ["sh", "-c", script] }), "x\n");
  });

  isolatedTest(`privatePid makes the command PID 1 and shows nobody else in /proc, as ${user}`, async () => {
    const script = "echo $$; echo /proc/[0-9]*; readlink /proc/self; cat /proc/1/comm; :"; // The last word keeps bash from becoming cat.
    const [, folders, , comm] = (await stdoutAs(user, { options: { privatePid: true }, argv: ["bash", "-c", script] }))
      .split("\n");
    assertEquals(comm, "bash");
    assertEquals(folders, "/proc/1");
    const pid = await stdoutAs(user, { options: { privatePid: true }, argv: ["readlink", "/proc/self"] });
    assertEquals(pid, "1\n");
  });

  isolatedTest(`noProc leaves /proc as it is, as ${user}`, async () => {
    const script = `echo $$; test -d /proc/${Deno.pid} && echo seen; readlink /proc/self`;
    const options = { privatePid: true, noProc: true };
    const [pid, seen, self] = (await stdoutAs(user, { options, argv: ["sh", "-c", script] })).split("\n");
    assertEquals([pid, seen], ["1", "seen"]);
    assertNotEquals(self, "1");
  });

  isolatedTest(`privateNet has a loopback that is up, and nothing else, as ${user}`, async () => {
    const options = { privateNet: true };
    // A server and a client on 127.0.0.1: one is only reached where lo is up and has its address.
    const code = `console.log(await new Namespace(${JSON.stringify(options)}).run(async () => {
      const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const [client, server] = await Promise.all([Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port }), listener.accept()]);
      await client.write(new TextEncoder().encode("hello"));
      const buffer = new Uint8Array(8);
      const count = await server.read(buffer);
      return [new TextDecoder().decode(buffer.subarray(0, count)), ...Deno.networkInterfaces().map(({ name }) => name)];
    }));`;
    const { stdout, stderr } = await runProgram(code, { user, permissions: ["-A"] });
    assertMatch(stdout, /^\[ "hello", "lo"(, "lo")* \]\n$/, stderr);
    const interfaces = await stdoutAs(user, { options, argv: ["cat", "/proc/self/net/dev"] });
    assertEquals(interfaces.trim().split("\n").slice(2).map((line) => line.trim().split(":")[0]), ["lo"]);
  });

  isolatedTest(`hostname and domainname are seen inside only, as ${user}`, async () => {
    const read = ["cat", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname"] as const;
    const outside = Deno.readTextFileSync("/proc/sys/kernel/domainname");
    const hostname = `${Deno.hostname()}\n`;
    const longest = "a".repeat(64);
    const results = await runAs(user, [
      { options: { hostname: "box.example.org" }, argv: read },
      { options: { domainname: "yp" }, argv: read },
      { options: { hostname: longest, domainname: "yp", privateUts: true }, argv: read },
      { options: { privateUts: true }, argv: read },
    ]);
    assertEquals(results.map(({ stdout }) => stdout), [
      `box.example.org\n${outside}`,
      `${hostname}yp\n`,
      `${longest}\nyp\n`,
      `${hostname}${outside}`,
    ]);
    assertEquals(Deno.readTextFileSync("/proc/sys/kernel/hostname"), hostname);
    assertEquals(Deno.readTextFileSync("/proc/sys/kernel/domainname"), outside);
  });

  isolatedTest(`privateTime moves the clocks by its offsets, as ${user}`, async () => {
    const before = performance.now();
    const uptime = () => Number(Deno.readTextFileSync("/proc/uptime").split(" ")[0]);
    const outside = uptime();
    const read = ["cat", "/proc/uptime", "/proc/self/timens_offsets"] as const;
    const results = await runAs(user, [
      { options: { privateTime: { boottime: 1_000_000, monotonic: 5.5 } }, argv: read },
      { options: { privateTime: { boottime: -0.5 } }, argv: read },
      { options: { privateTime: true }, argv: read },
      { options: { privateTime: { boottime: 1_000_000 }, privatePid: true }, argv: read },
    ]);
    const slack = (performance.now() - before) / 1000 + 0.02;
    for (const [index, offset] of [1_000_000, -0.5, 0, 1_000_000].entries()) {
      const difference = Number(results[index]!.stdout.split(" ")[0]) - outside - offset;
      if (!(difference >= -0.02 && difference <= slack)) throw new Error(`Off by ${difference} s with ${offset}`);
    }
    assertMatch(results[0]!.stdout, /^monotonic +5 +500000000$/m);
    assertMatch(results[1]!.stdout, /^boottime +-1 +500000000$/m);
  });

  isolatedTest(`privateSysvsem and privateIpc start without anything of the outside, as ${user}`, async () => {
    const make = ["sh", "-c", "ipcmk -S 1 >/dev/null && tail -n +2 /proc/sysvipc/sem | wc -l"] as const;
    const results = await runAs(user, [
      { options: { privateSysvsem: true }, argv: make },
      { options: { privateIpc: true }, argv: make },
    ]);
    assertEquals(results.map(({ stdout }) => stdout), ["1\n", "1\n"]);
  });
}

isolatedTest("command() makes new namespaces for each child", async () => {
  // Both are there at the same time: the number of one that is gone is used again.
  const command = new Namespace({ privatePid: true, privateUts: true, privateIpc: true }).command("cat", {
    stdin: "piped",
    stdout: "null",
  });
  const pair = [command.spawn(), command.spawn()];
  for (const name of ["mnt", "pid", "uts", "ipc"]) {
    const [first, second] = pair.map(({ pid }) => Deno.readLinkSync(`/proc/${pid}/ns/${name}`));
    assertNotEquals(first, second);
    assertNotEquals(first, Deno.readLinkSync(`/proc/self/ns/${name}`));
  }
  for (const child of pair) await child.stdin.close();
  assertEquals(await Promise.all(pair.map(async ({ status }) => (await status).code)), [0, 0]);
});

isolatedTest("privateUser: false makes no user namespace for an ordinary user, and says why", async () => {
  const names = [
    "privatePid",
    "privateNet",
    "privateMount",
    "privateUts",
    "privateIpc",
    "privateCgroup",
    "privateTime",
  ];
  const results = await runAs(
    "nobody",
    names.map((name) => ({ options: { privateUser: false, [name]: true }, argv: ["/bin/true"] as const })),
  );
  for (const [index, name] of names.entries()) {
    const { error } = results[index]!;
    assertEquals([error?.name, error?.code, error?.option], ["NamespaceError", "EPERM", name]);
    assertMatch(error!.message, new RegExp(`^Cannot [^\\n]* for ${name}: Operation not permitted \\(EPERM\\)\n`));
    assertMatch(error!.hint ?? "", /CAP_SYS_ADMIN.*user namespace/);
  }
  const [none] = await runAs("nobody", [{ options: { privateUser: false }, argv: ["id", "-u"] }]);
  assertEquals(none!.stdout, "65534\n");
});

isolatedTest("privateUser with ids that the caller may not map says so", async () => {
  const map = [{ inside: 0, outside: 0, count: 10 }];
  const [result] = await runAs("nobody", [
    { options: { privateUser: { uidMap: map, gidMap: map } }, argv: ["/bin/true"], commandOptions: { uid: 0, gid: 0 } },
  ]);
  const { error } = result!;
  assertEquals([error?.name, error?.code, error?.option], ["NamespaceError", "EPERM", "privateUser"]);
  assertMatch(error!.hint ?? "", /newuidmap maps the caller's own id, alone/);
});

isolatedTest("privateUser takes maps of several ranges from root", async () => {
  const uidMap = [{ inside: 0, outside: 0 }, { inside: 1000, outside: 100_000, count: 500 }];
  const gidMap = [{ inside: 0, outside: 0, count: 2 }];
  const script = "cat /proc/self/uid_map /proc/self/gid_map";
  const stdout = await stdoutAs("root", { options: { privateUser: { uidMap, gidMap } }, argv: ["sh", "-c", script] });
  assertEquals(stdout.trim().split(/\s+/).map(Number), [0, 0, 1, 1000, 100_000, 500, 0, 0, 2]);
});

for (const user of USERS) {
  isolatedTest(`env is what each command has over what it inherits, and under its own, as ${user}`, async () => {
    const options = { env: { A: "ns", B: "ns", C: "ns" } };
    const argv = ["sh", "-c", "echo $A $B ${C-none} ${HOME-none}"] as const;
    const results = await runAs(user, [
      { options, argv, commandOptions: { env: { B: "own" }, unsetEnv: ["C", "HOME"] } },
      { options, argv, commandOptions: { clearEnv: true } },
    ]);
    assertEquals(results.map(({ stdout }) => stdout), ["ns own none none\n", "ns ns ns none\n"]);
  });
}

isolatedTest("env is there in code and in what build() makes, and setup() refuses it", async () => {
  const ns = new Namespace({ env: { WORD: "hello" } });
  assertEquals(await ns.run(() => Deno.env.get("WORD")), "hello");
  const output = Deno.makeTempFileSync();
  try {
    await ns.build("sh", { args: ["-c", "echo $WORD"], output });
    assertEquals(new TextDecoder().decode(new Deno.Command(output).outputSync().stdout), "hello\n");
  } finally {
    Deno.removeSync(output);
  }
  assertThrows(() => ns.setup(), TypeError, `Cannot set up "env" in a running process`);
  assertThrows(() => new Namespace({ env: { "A=B": "" } }), TypeError, `Option "env" has a name that cannot be: "A=B"`);
  assertThrows(
    () => new Namespace({ env: { A: 1 as unknown as string } }),
    TypeError,
    `Option "env.A" must be a string`,
  );
});
