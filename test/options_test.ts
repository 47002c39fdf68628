import { assertEquals, assertThrows } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../mod.ts";
import { checkProgram } from "../src/command_options.ts";
import { validate } from "../src/options.ts";

/** Options as JavaScript may pass them. */
function wrong(options: unknown): NamespaceOptions {
  return options as NamespaceOptions;
}

function kinds(options: NamespaceOptions): string[] {
  return [...validate(options).namespaces.keys()].sort();
}

Deno.test("validate() makes nothing private that was not asked for", () => {
  assertEquals(kinds({}), []);
  assertEquals(kinds({ privateMount: false, privatePid: false, privateTmp: false, privateUser: false }), []);
});

Deno.test("validate() works out what options imply", () => {
  const cases: [NamespaceOptions, string[]][] = [
    [{ privateTmp: true }, ["mount"]],
    [{ privateTmp: {} }, ["mount"]],
    [{ privatePid: true }, ["mount", "pid"]],
    [{ privatePid: true, noProc: true }, ["pid"]],
    [{ privateSysvsem: true }, ["ipc"]],
    [{ hostname: "box" }, ["uts"]],
    [{ domainname: "example.org" }, ["uts"]],
    [{ privateTime: {} }, ["time"]],
    [{ privateUser: "self" }, ["user"]],
    [{ privateCgroup: true, privateNet: true }, ["cgroup", "net"]],
  ];
  for (const [options, expected] of cases) assertEquals(kinds(options), expected, JSON.stringify(options));
});

Deno.test("validate() says which option asked for a namespace", () => {
  assertEquals(validate({ privateTmp: true, privatePid: true }).namespaces.get("mount"), "privateTmp");
  assertEquals(validate({ privateMount: true, privateTmp: true }).namespaces.get("mount"), "privateMount");
  assertEquals(validate({ privateSysvsem: true }).namespaces.get("ipc"), "privateSysvsem");
});

Deno.test("validate() takes 0 and undefined for what they are", () => {
  const settings = validate({
    privateTmp: { uid: 0, gid: 0, mode: 0 },
    privateUser: { uid: 0, gid: 0 },
    termGraceMs: 0,
  });
  assertEquals(settings.tmp, [["mode", "0"], ["uid", "0"], ["gid", "0"]]);
  assertEquals(settings.user, { ids: { uid: 0, gid: 0 } });
  assertEquals(settings.termGraceMs, 0);
  const unset = validate({ privateTmp: undefined, hostname: undefined, termChild: undefined, termGraceMs: undefined });
  assertEquals([unset.tmp, unset.hostname, unset.termChild, unset.termGraceMs], [undefined, undefined, true, 200]);
});

Deno.test("validate() writes tmpfs options in the kernel's words", () => {
  const tmp = { size: "16m", mode: "0755", nrInodes: "10k", uid: 5, gid: 6, huge: "never" } as const;
  assertEquals(
    validate({ privateTmp: tmp }).tmp?.map((entry) => entry.join("=")).join(),
    "mode=0755,size=16m,nr_inodes=10k,uid=5,gid=6,huge=never",
  );
  assertEquals(validate({ privateTmp: { mode: 0o1770, size: 4096 } }).tmp, [["mode", "1770"], ["size", "4096"]]);
});

Deno.test("validate() splits clock offsets into seconds and nanoseconds", () => {
  const { time } = validate({ privateTime: { monotonic: 1.5, boottime: -0.25 } });
  assertEquals(time?.monotonic, { seconds: 1, nanoseconds: 500_000_000 });
  assertEquals(time?.boottime, { seconds: -1, nanoseconds: 750_000_000 });
  assertEquals(validate({ privateTime: { monotonic: 0.9999999999 } }).time?.monotonic, { seconds: 1, nanoseconds: 0 });
});

// P13: an unknown option was accepted.
Deno.test("validate() refuses unknown options and names the nearest known one", () => {
  const cases: [unknown, string][] = [
    [{ privatTmp: true }, `Unknown option "privatTmp": did you mean "privateTmp"?`],
    [{ private_pid: true }, `Unknown option "private_pid": did you mean "privatePid"?`],
    [{ "private-net": true }, `Unknown option "private-net": did you mean "privateNet"?`],
    [{ privateTmp: { sise: "1m" } }, `Unknown option "privateTmp.sise": did you mean "privateTmp.size"?`],
    [{ privateTmp: { nr_inodes: 5 } }, `Unknown option "privateTmp.nr_inodes": did you mean "privateTmp.nrInodes"?`],
    [{ privateUser: { uid_map: 5 } }, `Unknown option "privateUser.uid_map": did you mean "privateUser.uidMap"?`],
    [{ privateTime: { bootime: 5 } }, `Unknown option "privateTime.bootime": did you mean "privateTime.boottime"?`],
  ];
  for (const [options, message] of cases) assertThrows(() => new Namespace(wrong(options)), TypeError, message);
  assertThrows(() => validate(wrong({ zzzzzzzzzzzz: 1 })), TypeError, "known are privateMount, privateTmp");
});

Deno.test("validate() refuses wrong types, naming the option", () => {
  const cases: [unknown, string][] = [
    [null, "Options must be an object: got null"],
    [[], "Options must be an object: got an array"],
    [{ privatePid: 1 }, `Option "privatePid" must be true or false: got 1`],
    [{ privatePid: null }, `Option "privatePid" must be true or false: got null`],
    [{ privateMount: "yes" }, `Option "privateMount" must be true or false: got "yes"`],
    [{ noProc: "yes" }, `Option "noProc" must be true or false: got "yes"`],
    [{ privateTmp: "16m" }, `Option "privateTmp" must be true, false or an object such as { size: "16m" }: got "16m"`],
    [{ privateTmp: { size: true } }, `Option "privateTmp.size" must be a number or a string such as "16m"`],
    [
      { privateTmp: { huge: "maybe" } },
      `Option "privateTmp.huge" must be one of "never", "always", "within_size", "advise"`,
    ],
    [{ privateUser: "root" }, `Option "privateUser" must be true, false, "self"`],
    [{ privateUser: { uidMap: [] } }, `Option "privateUser.uidMap" must have 1 to 340 entries: got 0`],
    [
      { privateUser: { uidMap: [{ inside: 0, outside: 0 }] } },
      `Option "privateUser.gidMap" must be "auto" or an array`,
    ],
    [{ hostname: 5 }, `Option "hostname" must be a string: got 5`],
    [{ hostname: "a\0b" }, `Option "hostname" must not contain a NUL character: got "a\\u0000b"`],
    [{ privateTime: 5 }, `Option "privateTime" must be true, false or an object`],
    [{ cpuAffinity: 0 }, `Option "cpuAffinity" must be an array such as [0, 1]: got 0`],
    [{ cpuAffinity: [] }, `Option "cpuAffinity" must have at least one CPU: got an empty array`],
    [{ termGraceMs: "200" }, `Option "termGraceMs" must be a number (milliseconds): got "200"`],
  ];
  for (const [options, message] of cases) assertThrows(() => validate(wrong(options)), Error, message);
});

Deno.test("validate() refuses values that cannot be", () => {
  const cases: unknown[] = [
    { privateTmp: { size: 0 } },
    { privateTmp: { size: -1 } },
    { privateTmp: { size: 1.5 } },
    { privateTmp: { size: NaN } },
    { privateTmp: { size: "0" } },
    { privateTmp: { size: "1x" } },
    { privateTmp: { size: "1m,mode=777" } },
    { privateTmp: { size: "17179869184g" } }, // 2^64: no limit.
    { privateTmp: { size: "17179869185g" } }, // And 1 GiB more: that.
    { privateTmp: { size: "99999999%" } },
    { privateTmp: { nrInodes: "17179869185g" } },
    { mounts: [{ type: "tmpfs", target: "/mnt", size: "9".repeat(30) }] },
    { rlimits: { nofile: "16777216t" } },
    { rlimits: { nofile: [1, "999999999999999t"] } },
    { privateTmp: { mode: "9" } },
    { privateTmp: { mode: 0o10000 } },
    { privateTmp: { nrInodes: "10%" } },
    { privateTmp: { uid: -1 } },
    { privateTmp: { uid: 2 ** 32 - 1 } },
    { privateUser: { uid: 1.5 } },
    { privateUser: { uidMap: [{ inside: 0, outside: 0, count: 0 }], gidMap: [{ inside: 0, outside: 0 }] } },
    { hostname: "" },
    { hostname: "a".repeat(65) },
    { hostname: "-box" },
    { hostname: "box-" },
    { hostname: "a..b" },
    { hostname: "a b" },
    { hostname: "bücher" },
    { domainname: "a/b" },
    { privateTime: { monotonic: Infinity } },
    { privateTime: { boottime: 1e12 } },
    { termGraceMs: -1 },
    { termGraceMs: 2 ** 31 },
  ];
  for (const options of cases) {
    assertThrows(() => validate(wrong(options)), RangeError, `Option "`, JSON.stringify(options));
  }
});

Deno.test("validate() refuses holes in lists, by name", () => {
  const hole = Array(1);
  const rule = (change: object) => ({
    seccomp: { default: "allow", rules: [{ calls: [], action: "allow", ...change }] },
  });
  const cases: [unknown, string][] = [
    [{ groups: hole }, "groups[0]"],
    [{ cpuAffinity: hole }, "cpuAffinity[0]"],
    [{ mounts: hole }, "mounts[0]"],
    [{ mounts: [{ type: "overlay", target: "/mnt", lower: hole, upper: "tmpfs" }] }, "mounts[0].lower[0]"],
    [{ ephemeral: { writable: hole } }, "ephemeral.writable[0]"],
    [{ privateUser: { uidMap: hole, gidMap: hole } }, "privateUser.uidMap[0]"],
    [{ capabilities: { drop: hole } }, "capabilities.drop[0]"],
    [{ rlimits: { nofile: Array(2) } }, "rlimits.nofile"],
    [{ landlock: { read: hole } }, "landlock.read[0]"],
    [{ seccomp: { default: "allow", rules: hole } }, "seccomp.rules[0]"],
    [rule({ calls: hole }), "seccomp.rules[0].calls[0]"],
    [rule({ args: hole }), "seccomp.rules[0].args[0]"],
  ];
  for (const [options, name] of cases) {
    assertThrows(() => validate(wrong(options)), TypeError, `Option "${name}" must be `);
  }
  for (const [args, name] of [[hole, "args[0]"], ["text", "args"]] as const) {
    const check = () => checkProgram("true", { args: args as string[] }, new Map());
    assertThrows(check, TypeError, `Option "${name}" must be `);
  }
});

Deno.test("validate() refuses what would be another string in UTF-8", () => {
  const half = "/\ud800";
  for (const options of [{ root: half }, { mounts: [{ type: "bind", source: half }] }, { env: { A: half } }]) {
    assertThrows(() => validate(wrong(options)), TypeError, "must not contain half a surrogate pair");
  }
  validate({ env: { A: "\u{1f600}" } });
});

Deno.test("validate() refuses maps that overlap", () => {
  const gidMap = [{ inside: 0, outside: 0 }];
  const twice = [{ inside: 0, outside: 5, count: 3 }, { inside: 2, outside: 100 }];
  assertThrows(() => validate({ privateUser: { uidMap: twice, gidMap } }), RangeError, "id 2 is inside twice");
  const outside = [{ inside: 0, outside: 5 }, { inside: 1, outside: 5 }];
  assertThrows(() => validate({ privateUser: { uidMap: outside, gidMap } }), RangeError, "id 5 is outside twice");
});

Deno.test("validate() refuses contradictions, naming both options", () => {
  const cases: [unknown, string, string][] = [
    [{ privateTmp: true, privateMount: false }, "privateTmp", "privateMount"],
    [{ privatePid: true, privateMount: false }, "privatePid", "privateMount"],
    [{ privateSysvsem: true, privateIpc: false }, "privateSysvsem", "privateIpc"],
    [{ hostname: "box", privateUts: false }, "hostname", "privateUts"],
    [{ noProc: true }, "noProc", "privatePid"],
    [{ noProc: true, privatePid: false }, "noProc", "privatePid"],
    [{ privateUser: { uid: 0, uidMap: [], gidMap: [] } }, "privateUser.uid", "privateUser.uidMap"],
  ];
  for (const [options, one, other] of cases) {
    const error = assertThrows(() => validate(wrong(options)), TypeError);
    assertEquals([error.message.includes(`"${one}"`), error.message.includes(other)], [true, true], error.message);
  }
  assertEquals(kinds({ privatePid: true, noProc: true, privateMount: false }), ["pid"]);
});

Deno.test("validate() refuses to leave programs what a filter or rules for files take", () => {
  const takers: NamespaceOptions[] = [{ seccomp: "default" }, { landlock: { read: ["/"] } }];
  for (const more of takers) {
    assertThrows(() => validate({ noNewPrivs: false, ...more }), TypeError, "contradict each other");
    validate({ noNewPrivs: true, ...more });
  }
  validate({ noNewPrivs: false, seccomp: false });
});
