import { assert, assertEquals, assertGreater, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { Namespace } from "../mod.ts";
import { nsrun, nsrunArgv, type RunOptions, stdoutOf } from "./support/cli.ts";
import { countMounts, differentNamespaces, type NamespaceFile, READ_NAMESPACES } from "./support/inside.ts";
import { isolatedTest } from "./support/leaks.ts";
import { USERS } from "./support/nobody.ts";

/** What nobody has besides: a user namespace around the others. */
const NEEDED = { root: [], nobody: ["user"] } as const;

/** Options, and the namespaces that they make. */
const NAMESPACES: readonly (readonly [options: string[], made: NamespaceFile[]])[] = [
  [["--private-mount"], ["mnt"]],
  [["-m"], ["mnt"]],
  [["--private-tmp"], ["mnt"]],
  [["-t"], ["mnt"]],
  [["--private-pid"], ["mnt", "pid"]],
  [["-p"], ["mnt", "pid"]],
  [["--private-pid", "--no-proc"], ["pid"]],
  [["--private-net"], ["net"]],
  [["-n"], ["net"]],
  [["--private-ipc"], ["ipc"]],
  [["-i"], ["ipc"]],
  [["--private-sysvsem"], ["ipc"]],
  [["--private-uts"], ["uts"]],
  [["-u"], ["uts"]],
  [["--hostname", "box"], ["uts"]],
  [["--domainname=box.test"], ["uts"]],
  [["--private-cgroup"], ["cgroup"]],
  [["-C"], ["cgroup"]],
  [["--private-time"], ["time"]],
  [["-T"], ["time"]],
  [["--private-user"], ["user"]],
  [["-U"], ["user"]],
  [["-pnui"], ["mnt", "pid", "net", "ipc", "uts"]],
];

for (const user of USERS) {
  isolatedTest(`nsrun makes no namespace that is not asked for, as ${user}`, async () => {
    assertEquals(differentNamespaces(await stdoutOf(["readlink", ...READ_NAMESPACES], { user })), []);
  });

  for (const [options, made] of NAMESPACES) {
    isolatedTest(`nsrun ${options.join(" ")} makes these and no other namespaces: ${made}, as ${user}`, async () => {
      const different = differentNamespaces(await stdoutOf([...options, "readlink", ...READ_NAMESPACES], { user }));
      assertEquals(new Set<string>(different), new Set([...made, ...NEEDED[user]]));
    });
  }

  isolatedTest(`nsrun --private-pid makes the command PID 1, with its own /proc, as ${user}`, async () => {
    const script = "echo $$; cd /proc; echo [1-9]*; cat mounts";
    const [pid, folders, ...mounts] = (await stdoutOf(["-p", "sh", "-c", script], { user })).split("\n");
    assertEquals([pid, folders], ["1", "1"]);
    assertGreater(countMounts(mounts.join("\n"), "/proc"), 0);
  });

  isolatedTest(`nsrun --no-proc leaves /proc as it is, as ${user}`, async () => {
    const script = `echo $$; test -e /proc/${Deno.pid} && echo outer`;
    assertEquals(await stdoutOf(["-p", "--no-proc", "sh", "-c", script], { user }), "1\nouter\n");
  });

  isolatedTest(`nsrun --private-tmp has the parts that it was given, as ${user}`, async () => {
    const parts = "size=1m,mode=1750,nr-inodes=2k,huge=never";
    const ids = user === "root" ? ",uid=5,gid=6" : ",uid=65534,gid=65534";
    const script = "df --output=size,itotal /tmp | tail -1; stat -c '%a %u %g' /tmp; ls -A /tmp";
    const inside = await stdoutOf([`--private-tmp=${parts}${ids}`, "--", "sh", "-c", script], { user });
    const owner = user === "root" ? "5 6" : "65534 65534";
    assertEquals(inside.replaceAll(/ +/g, " ").trim(), `1024 2048\n1750 ${owner}`);
  });

  isolatedTest(`nsrun --private-net leaves a loopback that is up, as ${user}`, async () => {
    const inside = await stdoutOf(["--private-net", "sh", "-c", "grep -c : /proc/net/dev; cat /proc/net/fib_trie"], {
      user,
    });
    assertEquals(inside.split("\n")[0], "1");
    assertStringIncludes(inside, "127.0.0.1");
  });

  isolatedTest(`nsrun --hostname and --domainname name the inside, as ${user}`, async () => {
    const files = ["/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname"];
    const names = ["--hostname=007", "--domainname", "box.test"];
    assertEquals(await stdoutOf([...names, "cat", ...files], { user }), "007\nbox.test\n");
  });

  isolatedTest(`nsrun --private-time sets the clocks, as ${user}`, async () => {
    const outside = Number(Deno.readTextFileSync("/proc/uptime").split(" ")[0]);
    const offsets = "--private-time=boottime=1000000,monotonic=2000000.5";
    const inside = await stdoutOf([offsets, "cat", "/proc/uptime", "/proc/self/timens_offsets"], { user });
    assertGreater(Number(inside.split(" ")[0]), outside + 999_999);
    assertMatch(inside, /monotonic +2000000 +500000000/);
  });

  isolatedTest(`nsrun --private-user makes the caller who it is asked to be, as ${user}`, async () => {
    const self = user === "root" ? 0 : 65534;
    const who = async (option: string) => {
      const script = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map";
      const lines = (await stdoutOf([option, "sh", "-c", script], { user })).trim().split("\n");
      return lines.map((line) => line.trim().replaceAll(/ +/g, " "));
    };
    assertEquals(await who("--private-user"), ["0", "0", `0 ${self} 1`, `0 ${self} 1`]);
    assertEquals(await who("--private-user=root"), ["0", "0", `0 ${self} 1`, `0 ${self} 1`]);
    assertEquals(await who("-Uself"), [`${self}`, `${self}`, `${self} ${self} 1`, `${self} ${self} 1`]);
    assertEquals(await who("-U=uid=5,gid=6"), ["5", "6", `5 ${self} 1`, `6 ${self} 1`]);
    assertEquals(await who("--private-user=gid=6"), [`${self}`, "6", `${self} ${self} 1`, `6 ${self} 1`]);
  });

  isolatedTest(`nsrun runs the command where, as what and with what it was told, as ${user}`, async () => {
    const output = (...args: string[]) => stdoutOf(args, { user });
    assertEquals(await output("pwd"), "/\n");
    assertEquals(await output("--cwd", "/usr/bin", "pwd"), "/usr/bin\n");
    assertEquals(await output("-w/usr", "pwd"), "/usr\n");
    assertEquals(await output("-wusr", "pwd"), "/usr\n");
    assertEquals(await output("sh", "-c", "echo $PRESENT"), "yes\n");
    assertEquals(await output("-e", "A=1", "--env=PRESENT=b=c", "sh", "-c", "echo $A $PRESENT"), "1 b=c\n");
    assertEquals(await output("--clear-env", "-eA=1", "-e", "B=", "env"), "A=1\nB=\n");
    assertEquals(await output("--clear-env", "/usr/bin/env"), "");
    assertEquals(await output("--argv0", "-kitten", "cat", "/proc/self/cmdline"), "-kitten\0/proc/self/cmdline\0");
  });
}

isolatedTest("nsrun --uid and --gid make the command another's", async () => {
  assertEquals(await stdoutOf(["--uid", "5", "-G6", "sh", "-c", "id -u; id -g; id -G"]), "5\n6\n6\n");
  assertEquals(await stdoutOf(["-S", "5", "sh", "-c", "id -u; id -g; id -G"]), "5\n0\n0\n");
});

isolatedTest("nsrun --uid-map and --gid-map write the maps", async () => {
  const maps = ["--uid-map", "0:0", "--uid-map=10:1000:5", "--gid-map", "0:0:1", "--gid-map=20:2000"];
  const inside = await stdoutOf([...maps, "cat", "/proc/self/uid_map", "/proc/self/gid_map"]);
  const lines = inside.trim().split("\n").map((line) => line.trim().replaceAll(/ +/g, " "));
  assertEquals(lines, ["0 0 1", "10 1000 5", "0 0 1", "20 2000 1"]);
});

isolatedTest("nsrun --private-user=no makes none, and says so to who needs one", async () => {
  const options = ["--private-user=no", "--private-mount", "--private-net"];
  const links = await stdoutOf([...options, "readlink", ...READ_NAMESPACES]);
  assertEquals(differentNamespaces(links), ["mnt", "net"]);
  const { code, stdout, stderr } = await nsrun([...options, "true"], { user: "nobody" });
  assertEquals([code, stdout], [125, ""]);
  assertMatch(stderr, /^nsrun: Cannot make namespaces for --private-mount, --private-net: .*EPERM\)\n.*--private-user/);
});

isolatedTest("nsrun --debug says on stderr alone what is done", async () => {
  for (const option of ["-d", "--debug"]) {
    const { code, stdout, stderr } = await nsrun([option, "--hostname=box", "hostname"]);
    assertEquals([code, stdout], [0, "box\n"]);
    assertMatch(stderr, /clone\(CLONE_NEWUTS\)/);
    assertMatch(stderr, /sethostname\("box", 3\)/);
  }
});

isolatedTest("nsrun gives all that follows the command to the command", async () => {
  const echo = ["sh", "-c", 'printf "<%s>" "$@"', "sh"];
  const words = ["--private-pid", "-h", "--", "007", "", "--", "a b\nc", "ü"];
  const expected = words.map((word) => `<${word}>`).join("");
  for (const options of [[], ["--"], ["-p"], ["-p", "--"], ["-t"], ["--private-time"]]) {
    assertEquals(await stdoutOf([...options, ...echo, ...words]), expected);
  }
  assertEquals((await nsrun(["--private-pid", "false"])).code, 1);
});

isolatedTest("nsrun passes binary input and output through", async () => {
  const bytes = Uint8Array.from({ length: 1 << 20 }, (_, index) => (index * 7919) >> 3);
  const output = await nsrun(["-pnumt", "cat"], { stdin: bytes });
  assertEquals([output.code, output.stderr], [0, ""]);
  assert(output.bytes.length === bytes.length && output.bytes.every((byte, index) => byte === bytes[index]));
});

isolatedTest("nsrun passes on how the command ended", async () => {
  const ending = async (...args: string[]) => (await nsrun(args)).code;
  assertEquals(await ending("true"), 0);
  assertEquals(await ending("-p", "sh", "-c", "exit 7"), 7);
  assertEquals(await ending("sh", "-c", "exit 255"), 255);
  assertEquals(await ending("sh", "-c", "kill -TERM $$"), 128 + 15);
  assertEquals(await ending("sh", "-c", "kill -KILL $$"), 128 + 9);
});

/** Command lines that fail, with exit status and message. */
const FAILURES: readonly (readonly [args: string[], status: number, message: RegExp])[] = [
  [["--private-pdi", "true"], 125, /^Unknown option "--private-pdi": did you mean "--private-pid"\?\n$/],
  [["--private-tmp=size=x", "true"], 125, /^--private-tmp=size must be a positive number or .*: got "x"\n$/],
  [["--private-tmp=nr-inodes=0", "true"], 125, /^--private-tmp=nr-inodes must be .*: got "0"\n$/],
  [["--private-tmp=mode=9", "true"], 125, /^--private-tmp=mode must be one to four octal digits .*: got "9"\n$/],
  [["--private-tmp=huge=hostname", "true"], 125, /^--private-tmp=huge must be one of .*: got "hostname"\n$/],
  [["--no-proc", "true"], 125, /^--no-proc means something only together with --private-pid\n$/],
  [
    ["-n", "--disable-user-namespaces", "true"],
    125,
    /^--disable-user-namespaces must have --private-user=uid beside it, an id other than 0: .*\n$/,
  ],
  [
    ["-U=self", "--disable-user-namespaces", "true"],
    125,
    /^--disable-user-namespaces could .*let --private-user=uid be .*, or have CAP_SYS_RESOURCE in --cap-drop\n$/,
  ],
  [["--hostname", `"noProc"`, "true"], 125, /^--hostname must be letters.*: got "\\"noProc\\""\n$/],
  [["--hostname=", "true"], 125, /^--hostname must be 1 to 64 characters long: got 0\n$/],
  [["--term-grace-ms=-1", "true"], 125, /^--term-grace-ms must be an integer from 0 .*: got -1\n$/],
  [["--uid=-1", "true"], 125, /^--uid must be an integer from 0 to 4294967294 .*: got -1\n$/],
  [["--private-time=boottime=1000000000000", "true"], 125, /^--private-time=boottime must be between .*\n$/],
  [["--uid-map=0:0:0", "--gid-map=0:0", "true"], 125, /^--uid-map \(count\) must be an integer from 1 .*: got 0\n$/],
  [["--uid-map=0:0", "--gid-map=0:0", "--gid-map=0:1", "true"], 125, /^--gid-map has entries that overlap: .*\n$/],
  [
    ["-T=boottime=-4000000000", "true"],
    125,
    /^Cannot set the clock offsets .* for --private-time: .*\nThe clock .*\n$/,
  ],
  [
    ["-U", "--uid", "5", "true"],
    125,
    /^Cannot become user 5 for --uid: .*\(EINVAL\)\n.*--private-user that uid and gid, or a --uid-map.*\n$/,
  ],
  [
    ["--cwd", "/nowhere", "true"],
    125,
    /^Cannot enter the folder "\/nowhere" for --cwd: .*\(ENOENT\)\n.* ends at "\/": there is no "nowhere" .*\n$/,
  ],
  [
    ["--cwd", "", "true"],
    125,
    /^Cannot enter the folder "" for --cwd: .*\(ENOENT\)\nThe path is empty. Name a folder, such as "\.".\n$/,
  ],
  [
    ["--cwd", "/etc/passwd", "true"],
    125,
    /^Cannot enter the folder "\/etc\/passwd" for --cwd: .*\(ENOTDIR\)\n"\/etc\/passwd" is no folder.*\n$/,
  ],
  [["no-such-command"], 127, /^Cannot execute "no-such-command": .*\(ENOENT\)\nNo folder of PATH has it: .*\n$/],
  [
    ["-p", "/no/such/command"],
    127,
    /^Cannot execute "\/no\/such\/command": .*\(ENOENT\)\n.* there is no "no" in it.*\n$/,
  ],
  [[""], 127, /^Cannot execute "": .*\(ENOENT\)\nThe command is empty.*\n$/],
  [["-e", "PATH=/no:/where", "true"], 127, /^Cannot execute "true": .*\(ENOENT\)\nIt is in "\/usr\/bin", .*\n$/],
  [["/etc/passwd"], 126, /^Cannot execute "\/etc\/passwd": .*\(EACCES\)\n.*chmod \+x.*\n$/],
  [
    ["--bind", "/usr", "/etc", "true"],
    126,
    /^Cannot execute "\/etc": .*\n"\/etc" is a folder. .* Where it was meant as a target, that is "--bind \/usr:\/etc".\n$/,
  ],
  [
    ["--root", "empty", "/bin/sh", "--bind"],
    127,
    /^Cannot execute "\/bin\/sh": .*\n"\/bin\/sh" is there outside; inside it is not, or its .* as \/usr .*\/lib64.\n$/,
  ],
  [["--root", "empty", "sh"], 127, /^Cannot execute "sh": .*\n".*\/sh" is there outside; inside it is not.*\n$/],
  [
    ["--bind", "/etc:/etc/passwd", "true"],
    125,
    /^Cannot bind "\/etc" at "\/etc\/passwd": .*\nOne of the two is a folder.*\n$/,
  ],
  [
    ["--bind", "/no", "true"],
    125,
    /^Cannot bind "\/no": .*\nThere is no "\/no" outside. .*say if-missing=skip where.*\n$/,
  ],
  [["--root", "/no", "true"], 125, /^Cannot make "\/no" the new root for --root: .*\n.*outside. Correct the path.\n$/],
  [["--root", "/etc/passwd", "true"], 125, /^Cannot make "\/etc\/passwd" the new root .*\nA root is a folder.*\n$/],
  [
    ["--tmpfs", "/etc/passwd", "true"],
    125,
    /^Cannot mount tmpfs at "\/etc\/passwd": .*\nThere is something else than a folder at "\/etc\/passwd" .*\n$/,
  ],
  [["--dir", "/etc/passwd", "true"], 125, /^Cannot make the folder "\/etc\/passwd": .*\(ENOTDIR\)\n.*\n$/],
  [["-U", "--sysfs", "/mnt", "true"], 125, /^Cannot mount sysfs at "\/mnt": .*\n.* Set --private-net; or bind .*\n$/],
  [
    ["--inherit-fd", "77", "true"],
    125,
    /^Cannot connect descriptor 77 for --inherit-fd: .*\nThe caller has nothing.*\n$/,
  ],
  [
    ["-U", "--oom-score-adj=-9", "true"],
    125,
    /^Cannot set the score .* to -9 for --oom-score-adj: .*\n.*Give --oom-score-adj a value .* which is \d+\.\n$/,
  ],
  [["--rlimit", "nofile=-1", "true"], 125, /^--rlimit nofile must be a number from 0 on, .*: got "-1"\n$/],
  [["--umask", "999", "true"], 125, /^--umask must be one to four octal digits .*: got "999"\n$/],
  [["--tmpfs", "/a", "--dir", "b", "true"], 125, /^mount 2 \(target\) must be an absolute path: got "b"\n$/],
  [
    ["--cap-drop", "net_raww", "true"],
    125,
    /^--cap-drop must be one of "CAP_CHOWN", .* and 38 others: got "CAP_NET_RAWW", did you mean "CAP_NET_RAW"\?\n$/,
  ],
  [
    ["--sandbox", "--new-privs", "true"],
    125,
    /^--new-privs and --seccomp contradict each other: --seccomp comes .*\n$/,
  ],
  [
    ["--sandbox", "--hostname=x", "--no-private-uts", "true"],
    125,
    /^--hostname and --no-private-uts contradict each other: --hostname implies --private-uts\n$/,
  ],
  [["--rlimit", "nofil=1", "true"], 125, /^Unknown option --rlimit nofil: did you mean --rlimit nofile\?\n$/],
  [
    ["--overlay", "/mnt:lower=/etc,upper=/x", "true"],
    125,
    /^mount 1 \(upper\) needs mount 1 \(work\) beside it: an empty folder .*\n$/,
  ],
  [
    ["--root", "overlay:lower=/etc,upper=/x", "true"],
    125,
    /^--root overlay \(upper\) needs --root overlay \(work\) beside it: an empty folder .*\n$/,
  ],
  [["--bind", "/a:/b:if-missing=foo", "true"], 125, /^mount 1 \(if-missing\) must be one of "error", .*: got "foo"\n$/],
  [
    ["--landlock", "if-missing=skip", "true"],
    125,
    /^--landlock must have one of "read", .* "bind-tcp" and "connect-tcp": it rules nothing\n$/,
  ],
  [["--setgroups", "foo", "true"], 125, /^--setgroups must be one of "allow", "deny": got "foo"\n$/],
  [
    ["-U", "--disable-user-namespaces", "true"],
    125,
    /^--disable-user-namespaces .* let --private-user=uid be .* or have CAP_SYS_RESOURCE in --cap-drop\n$/,
  ],
  [["/etc"], 126, /^Cannot execute "\/etc": .*\(EACCES\)\n"\/etc" is a folder.*\n$/],
  [["/etc/passwd/x"], 126, /^Cannot execute "\/etc\/passwd\/x": .*\(ENOTDIR\)\n"\/etc\/passwd" is no folder.*\n$/],
];

for (const [args, status, message] of FAILURES) {
  isolatedTest(`nsrun ${args.join(" ")} fails with ${status} and says why`, async () => {
    const { code, stdout, stderr } = await nsrun(args);
    assertEquals([code, stdout, stderr.slice(0, 7)], [status, "", "nsrun: "]);
    assertMatch(stderr.slice(7), message);
  });
}

isolatedTest("nsrun without a command says how it is used", async () => {
  const usage = "Usage: nsrun [options] [--] command [arguments]";
  for (const args of [[], ["--"], ["--private-pid"], ["--tmpfs", "id"]]) {
    const { code, stdout, stderr } = await nsrun(args);
    const [first, second] = stderr.split("\n");
    assertEquals([code, stdout], [125, ""]);
    if (args.length === 0) assertEquals(first, usage);
    else assertEquals([first, second], ["nsrun: No command is given", usage]);
  }
});

isolatedTest("nsrun fails with 125 where Deno forbids it", async () => {
  const { code, stderr } = await nsrun(["true"], { permissions: [] });
  assertEquals(code, 125);
  assertMatch(stderr, /^nsrun: Requires ffi access/);
});

isolatedTest("nsrun needs no permission to speak of itself, and does no more than that", async () => {
  const permissions: RunOptions = { permissions: [] };
  for (const option of ["-h", "--help"]) {
    assertMatch(await stdoutOf([option, "echo", "ran"], permissions), /^nsrun \d.*\n\nUsage:\n(?!.*\bran\b)/s);
  }
});

isolatedTest("nsrun --version is that of deno.json", async () => {
  const { version } = JSON.parse(Deno.readTextFileSync(new URL("../deno.json", import.meta.url)));
  for (const option of ["-V", "--version"]) {
    assertEquals(await stdoutOf([option], { permissions: [] }), `nsrun ${version}\n`);
  }
});

isolatedTest("nsrun colours what a terminal shows, and nothing else", async () => {
  const escape = "\x1b[";
  const piped = await nsrun(["--help"]);
  assert(!piped.stdout.includes(escape));
  assert(!(await nsrun(["--nonsense"])).stderr.includes(escape));
  const shown = (args: string, env: string) =>
    terminal(`env -u NO_COLOR ${env} ${Deno.execPath()} run --allow-ffi ${MAIN} ${args}`);
  assertStringIncludes(shown("--help", ""), `${escape}1mUsage${escape}0m`);
  assertStringIncludes(shown("--nonsense", ""), `${escape}1;31mnsrun:${escape}0m Unknown option`);
  assertStringIncludes(shown("--help", "NO_COLOR=1"), "\nUsage:\r\n");
  assertStringIncludes(shown("--nonsense", "NO_COLOR=1"), "nsrun: Unknown option");
});

const MAIN = new URL("../src/cli/main.ts", import.meta.url).pathname;

/** What a command line writes to a terminal: script(1) gives it one. */
function terminal(line: string): string {
  const env = { TERM: "xterm", SHELL: "/bin/sh" };
  const { stdout } = new Deno.Command("script", { args: ["-qec", line, "/dev/null"], env, stdin: "null" }).outputSync();
  return new TextDecoder().decode(stdout);
}

isolatedTest("nsrun --cwd is a folder of the caller's, wherever the command would begin", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "nsrun-cwd-" });
  try {
    Deno.mkdirSync(`${folder}/etc`);
    const run = (...words: string[]) =>
      new Deno.Command("sh", { args: ["-c", 'cd "$0" && exec "$@"', folder, ...nsrunArgv(words)] }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    assertEquals(text((await run("-m", "-w", "etc", "pwd")).stdout), `${folder}/etc\n`);
    const hidden = await run("-t", "-w", "etc", "pwd"); // And not /etc.
    assertEquals([hidden.code, text(hidden.stdout)], [125, ""]);
    assertStringIncludes(text(hidden.stderr), `Cannot enter the folder "${folder}/etc" for --cwd`);
    assertThrows(
      () => new Namespace({ privateTmp: true }).command("pwd", { cwd: `${folder}/etc` }).outputSync(),
      Deno.errors.NotFound,
    );
    const built = `${folder}/built`;
    await new Namespace({ privateTmp: true }).build("pwd", { cwd: "etc", output: built });
    const relative = await new Deno.Command(built, { cwd: folder }).output();
    assertEquals([relative.code, text(relative.stdout)], [125, ""]);
    assertStringIncludes(text(relative.stderr), "Cannot enter the current folder again for cwd");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

isolatedTest("nsrun hands on the PATH that it was given, and no node of Deno's own", async () => {
  const before = ["env", "PATH=/no/node"]; // Deno puts its own in front of that.
  for (const words of [[], ["try", "--discard"], ["-e", "A=1"]]) {
    const { stdout } = await nsrun([...words, "/usr/bin/env"], { before, permissions: ["--allow-all"] });
    assertEquals(
      stdout.split("\n").filter((line) => /^PATH=|^DENO_NODE/.test(line)),
      ["PATH=/no/node"],
      words.join(" "),
    );
  }
  for (
    const [words, path] of [[["-e", "PATH=/a"], ["PATH=/a"]], [["--unset-env", "PATH"], []], [
      ["--clear-env"],
      [],
    ]] as const
  ) {
    const said = await stdoutOf([...words, "/usr/bin/env"], { before });
    assertEquals(said.split("\n").filter((line) => /^PATH=|^DENO_NODE/.test(line)), [...path], words.join(" "));
  }
  const { stderr } = await nsrun(["no-such-command"], { before });
  assertStringIncludes(stderr, `No folder of PATH has it: "/no/node".`);
});
