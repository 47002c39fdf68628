import { assertEquals, assertThrows } from "@std/assert";
import { parseCommandLine } from "../src/cli/arguments.ts";
import { UsageError } from "../src/cli/words.ts";
import { validate } from "../src/options.ts";

/** What a command line asks for, without all that it does not. */
function asked(...argv: string[]): Record<string, unknown> {
  const { asked: _, namespace, command, commandOptions: { args, env, clearEnv, ...rest }, own: __, ...flags } =
    parseCommandLine(argv);
  const said = Object.fromEntries(Object.entries(flags).filter(([, value]) => value));
  return {
    ...said,
    ...JSON.parse(JSON.stringify(namespace.termChild === true ? { ...namespace, termChild: undefined } : namespace)),
    ...(command === undefined ? {} : { run: [command, ...args ?? []] }),
    ...(Object.keys(env ?? {}).length === 0 ? {} : { env }),
    ...(clearEnv ? { clearEnv } : {}),
    ...rest,
  };
}

const MEANINGS: readonly (readonly [argv: string[], meaning: Record<string, unknown>])[] = [
  [[], {}],
  [["--private-mount"], { privateMount: true }],
  [["-m"], { privateMount: true }],
  [["--private-tmp"], { privateTmp: true }],
  [["-t"], { privateTmp: true }],
  [["--private-tmp=size=16m,mode=1770,nr-inodes=10k,uid=0,gid=7,huge=advise"], {
    privateTmp: { size: "16m", mode: "1770", nrInodes: "10k", uid: 0, gid: 7, huge: "advise" },
  }],
  [["-tsize=1m"], { privateTmp: { size: "1m" } }],
  [["-t=size=1m"], { privateTmp: { size: "1m" } }],
  [["--private-pid"], { privatePid: true }],
  [["-p", "--no-proc"], { privatePid: true, noProc: true }],
  [["--private-net"], { privateNet: true }],
  [["-n"], { privateNet: true }],
  [["--private-ipc"], { privateIpc: true }],
  [["-i"], { privateIpc: true }],
  [["--no-private-net", "--no-private-tmp", "--no-seccomp"], { privateNet: false, privateTmp: false, seccomp: false }],
  [["--private-user"], { privateUser: true }],
  [["-U"], { privateUser: true }],
  [["--private-user=root"], { privateUser: true }],
  [["--private-user=self"], { privateUser: "self" }],
  [["-Uself"], { privateUser: "self" }],
  [["--private-user=no"], { privateUser: false }],
  [["--private-user=uid=0"], { privateUser: { uid: 0 } }],
  [["--private-user=gid=5,uid=0"], { privateUser: { uid: 0, gid: 5 } }],
  [["--uid-map", "0:1000", "--uid-map=1:100000:65536", "--gid-map", "0:100:1"], {
    privateUser: {
      uidMap: [{ inside: 0, outside: 1000 }, { inside: 1, outside: 100000, count: 65536 }],
      gidMap: [{ inside: 0, outside: 100, count: 1 }],
    },
  }],
  [["-U", "--uid-map", "0:1", "--gid-map", "0:2"], {
    privateUser: { uidMap: [{ inside: 0, outside: 1 }], gidMap: [{ inside: 0, outside: 2 }] },
  }],
  [["--private-uts"], { privateUts: true }],
  [["-u"], { privateUts: true }],
  [["--hostname", "1e3"], { hostname: "1e3" }],
  [["--hostname=42", "--domainname", "0x10"], { hostname: "42", domainname: "0x10" }],
  [["--private-sysvsem"], { privateSysvsem: true }],
  [["--private-cgroup"], { privateCgroup: true }],
  [["-C"], { privateCgroup: true }],
  [["--private-time"], { privateTime: true }],
  [["-T"], { privateTime: true }],
  [["--private-time=monotonic=1.5,boottime=-60"], { privateTime: { monotonic: 1.5, boottime: -60 } }],
  [["--seccomp", "default"], { seccomp: "default" }],
  [["--landlock", "read=/a", "--landlock=execute=/b=c", "--landlock", "read=/d"], {
    landlock: { read: ["/a", "/d"], execute: ["/b=c"] },
  }],
  [["--landlock", "write=", "--landlock", "bind-tcp=", "--landlock", "connect-tcp=443"], {
    landlock: { write: [], bindTcp: [], connectTcp: [443] },
  }],
  [["--landlock", "read=/", "--landlock", "if-missing=skip"], { landlock: { read: ["/"], ifMissing: "skip" } }],
  [["--term-child"], {}],
  [["--no-term-child"], { termChild: false }],
  [["--no-term-child", "--term-child"], {}],
  [["--term-grace-ms", "0"], { termGraceMs: 0 }],
  [["--cwd", "/a b"], { cwd: "/a b" }],
  [["-w", "-odd"], { cwd: "-odd" }],
  [["-w/dir1"], { cwd: "/dir1" }],
  [["-wdir"], { cwd: "dir" }],
  [["-e", "A=1", "-eB=2=3", "--env=C=", "--env", "A=-4"], { env: { A: "-4", B: "2=3", C: "" } }],
  [["--clear-env"], { clearEnv: true }],
  [["--uid", "0", "--gid=0"], { uid: 0, gid: 0 }],
  [["-S5", "-G", "6"], { uid: 5, gid: 6 }],
  [["--argv0", "-sh"], { argv0: "-sh" }],
  [["--argv0", ""], { argv0: "" }],
  [["-d", "-h", "-V"], { debug: true, help: true, version: true }],
  [["-v"], { debug: true }],
  [["--verbose"], { debug: true }],
  [["-pnt", "sh"], { privatePid: true, privateNet: true, privateTmp: true, run: ["sh"] }],
  [["-pw", "/", "sh"], { privatePid: true, cwd: "/", run: ["sh"] }],
  // Where the command begins.
  [["ps", "--private-pid", "-h", "--", "x"], { run: ["ps", "--private-pid", "-h", "--", "x"] }],
  [["--", "--private-pid", "--", "-h"], { run: ["--private-pid", "--", "-h"] }],
  [["--private-pid", "true"], { privatePid: true, run: ["true"] }],
  [["-p", "false"], { privatePid: true, run: ["false"] }],
  [["--private-tmp", "size=1m"], { privateTmp: true, run: ["size=1m"] }],
  [["-T", "1"], { privateTime: true, run: ["1"] }],
  [["-", "--help"], { run: ["-", "--help"] }],
  [["", "a"], { run: ["", "a"] }],
  [["-p", "--", "007", "1e3"], { privatePid: true, run: ["007", "1e3"] }],
];

for (const [argv, meaning] of MEANINGS) {
  Deno.test(`parseCommandLine() understands ${JSON.stringify(argv)}`, () => {
    assertEquals(asked(...argv), meaning);
  });
}

Deno.test("parseCommandLine() knows options of a verb where they are its own, and nowhere else", () => {
  const own = { flags: ["json"], valued: ["as"] };
  const parsed = parseCommandLine(["-p", "--as", "uid:5", "--json", "ps", "--as"], own);
  assertEquals([parsed.own, parsed.command, parsed.commandOptions.args], [{ json: "true", as: "uid:5" }, "ps", [
    "--as",
  ]]);
  assertEquals(parseCommandLine(["--as=x"], own).own, { as: "x" });
  assertEquals(
    assertThrows(() => parseCommandLine(["--json=1"], own), UsageError).message,
    `--json takes no value: got "1"`,
  );
  assertEquals(assertThrows(() => parseCommandLine(["--as"], own), UsageError).message, `--as needs a value`);
  assertThrows(() => parseCommandLine(["--json"]), UsageError, `Unknown option "--json"`);
  assertThrows(() => parseCommandLine(["--as=x"]), UsageError, `Unknown option "--as"`);
});

Deno.test("parseCommandLine() makes options that the library accepts", () => {
  for (const [argv] of MEANINGS) {
    validate(parseCommandLine(argv).namespace);
  }
});

Deno.test("parseCommandLine() takes no variable for a prototype", () => {
  const { env } = parseCommandLine(["-e", "__proto__=x"]).commandOptions;
  assertEquals(Object.entries(env ?? {}), [["__proto__", "x"]]);
});

const REFUSALS: readonly (readonly [argv: string[], message: string])[] = [
  [["--private-pdi"], `Unknown option "--private-pdi": did you mean "--private-pid"?`],
  [["--privatePid"], `Unknown option "--privatePid": did you mean "--private-pid"?`],
  [["--hostnam=box"], `Unknown option "--hostnam": did you mean "--hostname"?`],
  [["--proc"], "--proc needs a value"],
  [["--nonsense"], `Unknown option "--nonsense": see nsrun --help`],
  [["--__proto__=1"], `Unknown option "--__proto__": did you mean "--proc"?`],
  [["--_", "x"], `Unknown option "--_": see nsrun --help`],
  [["-x"], `Unknown option "-x": see nsrun --help`],
  [["-px"], `Unknown option "-x": see nsrun --help`],
  [["-😀"], `Unknown option "-😀": see nsrun --help`],
  [["--private-pid=no"], `--private-pid takes no value: got "no"`],
  [["-p=1"], `--private-pid takes no value: got "1"`],
  [["--no-proc=1"], `--no-proc takes no value: got "1"`],
  [["--no-term-child=1"], `--no-term-child takes no value: got "1"`],
  [["--hostname"], `--hostname needs a value`],
  [["-pw"], `--cwd needs a value`],
  [["--uid", ""], `--uid must be a number: got ""`],
  [["--uid", "0x10"], `--uid must be a number: got "0x10"`],
  [["--gid=root"], `--gid must be a number: got "root"`],
  [["--term-grace-ms", "1e3"], `--term-grace-ms must be a number: got "1e3"`],
  [["--env", "A"], `--env must be NAME=VALUE: got "A"`],
  [["--landlock", "connect-tcp=http"], `--landlock connect-tcp must be a number: got "http"`],
  [
    ["--landlock", "/usr"],
    `--landlock must be read=PATH, write=PATH, execute=PATH, bind-tcp=[PORT], connect-tcp=[PORT] or if-missing=skip: got "/usr"`,
  ],
  [["--landlock", "execute=/usr,read=/etc"], `--landlock takes one rule: give --landlock read=/etc as another`],
  [
    ["--remount", "/"],
    `--remount must be PATH:PARTS, with one of ro, nosuid, nodev, noexec, rw, suid, dev, exec: got "/"`,
  ],
  [
    ["--capabilities", "CAP_CHOWN"],
    `--capabilities must be none: got "CAP_CHOWN"; names go to --cap-keep, --cap-drop or --cap-add`,
  ],
  ...(["drop=ALL", "drop=", "keep=kill,", "add=all"] as const).map((word): [string[], string] => {
    const [which, names] = word.split("=") as [string, string];
    return [
      [`--cap-${word}`],
      `--cap-${which} must be CAP_NAME,…: got "${names.replace("kill,", "")}". To have none say --capabilities none; ` +
      `root has all, as --private-user makes the command`,
    ];
  }),
  [["--no-cgroup", "--pids-max", "3"], "--pids-max and --no-cgroup contradict each other"],
  [["--no-cgroup", "--hugetlb-max", "2MB=1"], "--hugetlb-max and --no-cgroup contradict each other"],
  [["--no-cgroup", "--pids-max=3", "--cgroup"], "--cgroup and --no-cgroup contradict each other"],
  [["--pid"], `Unknown option "--pid": here it is --private-pid`],
  [["--net=/run/netns/a"], `Unknown option "--net": here it is --private-net`],
  [["-rf"], `Unknown option "-r": here it is --private-user`],
  [["-f"], `Unknown option "-f": here it is nothing, it is always so`],
  [["--map-user=5"], `Unknown option "--map-user": here it is --private-user=uid=ID`],
  [["--tmp-overlay", "/a"], `Unknown option "--tmp-overlay": here it is --overlay DST:lower=DIR,upper=tmpfs`],
  [["--ro-bind-data", "5", "/a"], `Unknown option "--ro-bind-data": here it is --file DST:TEXT`],
  [["--json-status-fd", "5"], `Unknown option "--json-status-fd": here it is --status-fd N`],
  [["--env", "=A"], `--env must be NAME=VALUE: got "=A"`],
  [["--private-tmp=siz=1m"], `Unknown part "siz" of --private-tmp: did you mean "size"?`],
  [["--private-tmp=ro"], `Unknown part "ro" of --private-tmp: known are size, mode, nr-inodes, uid, gid, huge`],
  [["--private-tmp=size"], `--private-tmp=size needs a value: --private-tmp=size=…`],
  [["--private-tmp=size=1m,size=2m"], `--private-tmp=size is given twice`],
  [["--private-tmp=uid=me"], `--private-tmp=uid must be a number: got "me"`],
  [["--private-time=boottime=soon"], `--private-time=boottime must be a number: got "soon"`],
  [["--private-user=nobody"], `--private-user must be root, self, no or uid=ID,gid=ID: got "nobody"`],
  [["--private-user=pid=1"], `Unknown part "pid" of --private-user: did you mean "uid"?`],
  [["--uid-map", "0:1"], `--uid-map needs --gid-map beside it`],
  [["--gid-map", "0:1"], `--gid-map needs --uid-map beside it`],
  [["--uid-map", "0", "--gid-map", "0:1"], `--uid-map must be auto or INSIDE:OUTSIDE[:COUNT]: got "0"`],
  [["--uid-map", "0:1", "--gid-map", "0:-1"], `--gid-map must be auto or INSIDE:OUTSIDE[:COUNT]: got "0:-1"`],
  [
    ["--private-user=self", "--uid-map=0:1", "--gid-map=0:1"],
    `--uid-map and --private-user=self contradict each other`,
  ],
];

for (const [argv, message] of REFUSALS) {
  Deno.test(`parseCommandLine() refuses ${JSON.stringify(argv)}`, () => {
    assertEquals(assertThrows(() => parseCommandLine(argv), UsageError).message, message);
  });
}

Deno.test("parseCommandLine() takes away from a sandbox what is denied, and nothing that is asked for", () => {
  const preset = parseCommandLine(["--sandbox"]).namespace;
  const { privateNet, seccomp, ...rest } =
    parseCommandLine(["--sandbox", "--no-private-net", "--no-seccomp"]).namespace;
  assertEquals([privateNet, seccomp], [false, false]);
  assertEquals({ ...rest, privateNet: true, seccomp: "default" }, preset);
  assertThrows(
    () => parseCommandLine(["-n", "--no-private-net"]),
    UsageError,
    "--private-net and --no-private-net contradict each other",
  );
  assertThrows(() => parseCommandLine(["--no-private-net=x"]), UsageError, "--no-private-net takes no value");
  assertThrows(() => parseCommandLine(["--no-private-nte"]), UsageError, `did you mean "--no-private-net"?`);
  assertThrows(() => parseCommandLine(["--no-umask"]), UsageError, `Unknown option "--no-umask"`);
});

Deno.test("parseCommandLine() puts lists together, and refuses the second of what there is one of", () => {
  const { capabilities, groups, cpuAffinity, privateTmp, ephemeral } = parseCommandLine([
    ...["--cap-drop", "CAP_KILL", "--cap-drop=chown,cap_fowner", "--groups", "1", "--groups", "2"],
    ...["--cpu-affinity", "0-2", "--cpu-affinity=5", "-tsize=1m", "--private-tmp=mode=700", "-t"],
    ...["--ephemeral=readonly=/a", "--ephemeral=readonly=/b"],
  ]).namespace;
  assertEquals(
    capabilities,
    { drop: ["CAP_KILL", "CAP_CHOWN", "CAP_FOWNER"] },
  );
  assertEquals([groups, cpuAffinity], [[1, 2], [0, 1, 2, 5]]);
  assertEquals(JSON.parse(JSON.stringify(privateTmp)), { size: "1m", mode: "700" });
  assertEquals(ephemeral, { readonly: ["/a", "/b"] });
  for (
    const [words, text] of [
      [["--hostname", "a", "--hostname=b"], "--hostname is given twice"],
      [["-wa", "-w", "b"], "--cwd is given twice"],
      [["-tsize=1m", "-tsize=2m"], "--private-tmp=size is given twice"],
      [["--private-user", "--private-user=self"], "--private-user is given twice"],
      [["--tmpfs", "/m:size=1m,size=2m"], "--tmpfs has the part size twice"],
      [["--bind", "/a:/b:ro,rw"], "Parts of --bind contradict each other"],
      [["--ro-bind", "/a:/b:rw"], "--ro-bind and its part rw contradict each other"],
      [["--remount", "/a:nosuid,suid"], "Parts of --remount contradict each other"],
      [["--setenv", "A", "1"], "here it is --env NAME=VALUE"],
      [["--unshare-all"], "here it is --sandbox"],
    ] as const
  ) assertThrows(() => parseCommandLine(words), UsageError, text);
  assertThrows(
    () => parseCommandLine(["--comit"], { flags: ["commit"], valued: [] }),
    UsageError,
    `did you mean "--commit"?`,
  );
});

Deno.test("parseCommandLine() takes sources from the current folder on", () => {
  const here = Deno.cwd();
  const { mounts, root, landlock } = parseCommandLine([
    ...["--bind", ".:/work", "--ro-bind", "src/../test", "--overlay", "/o:lower=a,lower=/b/../c,upper=tmpfs"],
    ...["--root", "./r", "--landlock", "read=.", "--bind", "/a/./b:/c"],
  ]).namespace;
  assertEquals(JSON.parse(JSON.stringify(mounts)), [
    { type: "bind", source: here, target: "/work" },
    { type: "bind", source: `${here}/test`, readonly: true },
    { type: "overlay", target: "/o", lower: [`${here}/a`, "/c"], upper: "tmpfs" },
    { type: "bind", source: "/a/./b", target: "/c" },
  ]);
  assertEquals([root, landlock], [`${here}/r`, { read: [here] }]);
});
