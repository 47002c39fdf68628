import { assert, assertEquals, assertThrows } from "@std/assert";
import { validate } from "../../src/options.ts";
import type { NamespaceOptions } from "../../src/options.ts";
import type { Caller } from "../../src/plan/caller.ts";
import { type ChildSettings, planChild } from "../../src/plan/child.ts";
import { describeCall } from "../../src/plan/describe.ts";
import type { Plan } from "../../src/plan/step.ts";

const ROOT: Caller = { uid: 0, gid: 0, capabilities: new Set(["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID"] as const) };
const USER: Caller = { uid: 1000, gid: 100, capabilities: new Set() };

const CHILD: ChildSettings = {
  command: "/bin/true",
  args: [],
  argv0: undefined,
  environment: new TextEncoder().encode("HOME=/\0"),
  stdio: ["inherit", "inherit", "inherit"],
  cwd: undefined,
  callerCwd: "/home/me",
  uid: undefined,
  gid: undefined,
};

function plan(options: NamespaceOptions, child: Partial<ChildSettings> = {}, caller = ROOT): Plan {
  return planChild(validate(options), { ...CHILD, ...child }, caller);
}

/** The child's calls that are there for the options given, without those of every child. */
function calls(options: NamespaceOptions, child: Partial<ChildSettings> = {}, caller = ROOT): string[] {
  const always = new Set(plan({}, {}, caller).child.map(describeCall));
  return plan(options, child, caller).child.map(describeCall).filter((call) => !always.has(call));
}

Deno.test("planChild() without options clones without namespaces, and ends in the program", () => {
  const { cloneFlags, parent, child } = plan({});
  assertEquals([cloneFlags.value, parent], [0, []]);
  assertEquals(child.map(describeCall), [
    "prctl(PR_SET_PDEATHSIG, SIGKILL)",
    "futex(&parent, FUTEX_WAIT, FUTEX_OWNER_DIED, {tv_sec=0, tv_nsec=0})",
    "close_range(3, ~0U, CLOSE_RANGE_CLOEXEC)",
    "close_range(3, ~0U, 0)",
    "rt_sigprocmask(SIG_SETMASK, [], NULL, 8)",
    `execve("/bin/true", ["/bin/true"], [1 strings])`,
    `openat(AT_FDCWD, "/bin/true", O_RDONLY|O_CLOEXEC)`,
    "read(<openat>, <head>, 4)",
    String.raw`futex(<head>, FUTEX_WAIT, "\x7fELF", {tv_sec=0, tv_nsec=0})`,
    `execve("/bin/sh", ["/bin/sh", "/bin/true"], [1 strings])`,
  ]);
});

Deno.test("planChild() makes exactly the namespaces that were asked for", () => {
  const cases: [NamespaceOptions, string][] = [
    [{ privateMount: true }, "CLONE_NEWNS"],
    [{ privatePid: true }, "CLONE_NEWNS|CLONE_NEWPID"],
    [{ privatePid: true, noProc: true }, "CLONE_NEWPID"],
    [{ privateNet: true }, "CLONE_NEWNET"],
    [{ privateSysvsem: true }, "CLONE_NEWIPC"],
    [{ privateUts: true }, "CLONE_NEWUTS"],
    [{ privateCgroup: true }, "CLONE_NEWCGROUP"],
    [{ privateUser: true }, "CLONE_NEWUSER"],
    [{ privateTime: true }, "0"],
  ];
  for (const [options, expected] of cases) assertEquals(plan(options).cloneFlags.name, expected);
});

// P6: CLONE_SYSVSEM given to clone shares the undo list instead of making one.
Deno.test("planChild() never passes CLONE_SYSVSEM, nor anything else that is shared, to clone", () => {
  const all: NamespaceOptions = {
    privateTmp: true,
    privatePid: true,
    privateNet: true,
    privateSysvsem: true,
    privateUser: true,
    privateUts: true,
    privateCgroup: true,
    privateTime: true,
  };
  const shared = 0x100 | 0x200 | 0x400 | 0x800 | 0x4_0000; // CLONE_VM, _FS, _FILES, _SIGHAND, _SYSVSEM
  assertEquals(plan(all).cloneFlags.value & shared, 0);
});

Deno.test("planChild() adds a user namespace exactly for a caller that needs it", () => {
  const kinds = (options: NamespaceOptions, caller: Caller) => plan(options, {}, caller).cloneFlags.name;
  assertEquals(kinds({ privateMount: true }, ROOT), "CLONE_NEWNS");
  assertEquals(kinds({ privateMount: true }, USER), "CLONE_NEWUSER|CLONE_NEWNS");
  assertEquals(kinds({ privateMount: true, privateUser: false }, USER), "CLONE_NEWNS");
  assertEquals(kinds({ privateTime: true }, USER), "CLONE_NEWUSER");
  assertEquals(kinds({}, USER), "0");
});

Deno.test("planChild() has the parent write the maps, and the child wait for that", () => {
  const texts = (options: NamespaceOptions, caller: Caller) =>
    plan(options, {}, caller).parent.map(describeCall).filter((call) => call.startsWith("write"));
  assertEquals(texts({ privateUser: true }, ROOT), [
    `write(<openat>, "0 0 1\\n", 6)`,
    `write(<openat>, "0 0 1\\n", 6)`,
  ]);
  assertEquals(texts({ privateNet: true }, USER), [
    `write(<openat>, "deny", 4)`,
    `write(<openat>, "1000 1000 1\\n", 12)`,
    `write(<openat>, "100 100 1\\n", 10)`,
  ]);
  assertEquals(texts({ privateUser: { uid: 5 } }, USER).slice(1), [
    `write(<openat>, "5 1000 1\\n", 9)`,
    `write(<openat>, "100 100 1\\n", 10)`,
  ]);
  const maps = {
    uidMap: [{ inside: 7, outside: 0 }, { inside: 8, outside: 5000, count: 9 }],
    gidMap: [{ inside: 7, outside: 0 }],
  };
  assertEquals(texts({ privateUser: maps }, ROOT)[0], `write(<openat>, "7 0 1\\n8 5000 9\\n", 15)`);
  const waits = plan({ privateUser: true }).child.map(describeCall).indexOf("futex(&go, FUTEX_WAIT, 0, NULL)");
  assertEquals(waits, 2);
  assert(plan({ privateUser: true }).parent.filter((step) => step.call === "openat").every((step) => step.opens));
});

Deno.test("planChild() refuses maps that leave the caller out, where it is to stay who it is", () => {
  const map = [{ inside: 0, outside: 100_000, count: 65_536 }];
  const own = [{ inside: 7, outside: 0 }];
  const refused = (kind: string) => `Option "privateUser.${kind}Map" must have the caller's own id, 0: `;
  for (
    const [uidMap, gidMap, ids, message] of [
      [map, map, {}, refused("uid")],
      [own, map, {}, refused("gid")],
      [map, map, { gid: 0 }, refused("uid")],
      [map, map, { uid: 0 }, refused("gid")],
    ] as const
  ) {
    const options = { privateUser: { uidMap: [...uidMap], gidMap: [...gidMap] } };
    assertThrows(() => plan(options, ids), TypeError, message);
    plan(options, { uid: 0, gid: 0 });
  }
  plan({ privateUser: { uidMap: own, gidMap: own } });
});

// P12: /tmp and /proc were each mounted twice.
Deno.test("planChild() mounts each thing once, after it made all mounts private", () => {
  const mounts = calls({ privateMount: true, privateTmp: { size: "16m" }, privatePid: true }).filter((call) =>
    call.startsWith("mount")
  );
  assertEquals(mounts, [
    `mount("none", "/", NULL, MS_REC|MS_PRIVATE, NULL)`,
    `mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID|MS_NODEV, "mode=1777,size=16m")`,
    `mount("proc", "/proc", "proc", MS_NOSUID|MS_NODEV|MS_NOEXEC, NULL)`,
  ]);
  assertEquals(calls({ privatePid: true, noProc: true }), []);
});

Deno.test("planChild() sets names, loopback and clocks", () => {
  assertEquals(calls({ hostname: "box", domainname: "example.org" }), [
    `sethostname("box", 3)`,
    `setdomainname("example.org", 11)`,
  ]);
  assertEquals(calls({ privateNet: true }), [
    "socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, IPPROTO_IP)",
    `ioctl(<socket>, SIOCSIFFLAGS, {ifr_name="lo", ifr_flags=IFF_UP})`,
  ]);
  assertEquals(calls({ privateTime: { boottime: 60, monotonic: -0.5 } }), [
    "unshare(CLONE_NEWTIME)",
    `openat(AT_FDCWD, "/proc/self/timens_offsets", O_WRONLY|O_CLOEXEC)`,
    `write(<openat>, "monotonic -1 500000000\\nboottime 60 0\\n", 37)`,
    "close(<openat>)",
    `openat(AT_FDCWD, "/proc/self/ns/time_for_children", O_RDONLY|O_CLOEXEC)`,
    "setns(<openat>, CLONE_NEWTIME)",
  ]);
  assertEquals(calls({ privateTime: true }).map((call) => call.split("(")[0]), ["unshare", "openat", "setns"]);
});

Deno.test("planChild() enters the caller's folder anew where a mount may have hidden it", () => {
  assertEquals(calls({ privateTmp: true }).slice(-2), [`chdir("/home/me")`, `chdir("/")`]);
  assertEquals(calls({ privateTmp: true }, { callerCwd: undefined }).slice(-1), [`chdir("/")`]);
  assertEquals(calls({ privateTmp: true }, { cwd: "/srv" }).slice(-1), [`chdir("/srv")`]);
  assertEquals(calls({ privateMount: true }).filter((call) => call.startsWith("chdir")), []);
});

Deno.test("planChild() changes ids after the mounts, and asks again to die with the parent", () => {
  const changed = calls({ privateTmp: true }, { uid: 5, gid: 6, cwd: "/srv" });
  assertEquals(changed.slice(2), ["setgroups(0, NULL)", "setresgid(6, 6, 6)", "setresuid(5, 5, 5)", `chdir("/srv")`]);
  const steps = plan({}, { uid: 0 }).child.map((step) => step.call);
  assertEquals(steps.slice(0, 6), ["prctl", "futex", "setgroups", "setresuid", "prctl", "futex"]);
  assertEquals(calls({}, { gid: 0 }, USER), ["setresgid(0, 0, 0)"]);
});

Deno.test("planChild() connects stdio", () => {
  assertEquals(calls({}, { stdio: ["null", 7, "inherit"] }), [
    `openat(AT_FDCWD, "/dev/null", O_RDWR)`,
    "dup3(<openat>, 0, 0)",
    "dup3(7, 1, 0)",
  ]);
});

Deno.test("planChild() looks for a name in PATH as execvp does", () => {
  const environment = new TextEncoder().encode("XPATH=/no\0PATH=/a:/b::/a\0");
  const executed = plan({}, { command: "x", args: ["1"], argv0: "y", environment }).child.filter((step) =>
    step.call === "execve"
  );
  assertEquals(executed.map((step) => step.args[0]), ["/a/x", "/bin/sh", "/b/x", "/bin/sh", "x", "/bin/sh"]);
  assertEquals(executed.map((step) => (step.args[1] as { strings: string[] }).strings), [
    ["y", "1"],
    ["/bin/sh", "/a/x", "1"],
    ["y", "1"],
    ["/bin/sh", "/b/x", "1"],
    ["y", "1"],
    ["/bin/sh", "x", "1"],
  ]);
  assert(executed[0]!.tolerate?.some(([errno, skip]) => errno === "EACCES" && skip === 4));
  assertEquals(executed[4]!.tolerate, [["ENOEXEC", 0]]);
  const fallback = plan({}, { command: "x", environment: new Uint8Array() }).child.filter((step) =>
    step.call === "execve"
  );
  assertEquals(fallback.map((step) => step.args[0]), ["/bin/x", "/bin/sh", "/usr/bin/x", "/bin/sh"]);
});

Deno.test("planChild() has a child that becomes somebody else be in no memory of its parent's", () => {
  const own = (options: NamespaceOptions, child: Partial<ChildSettings> = {}) => plan(options, child).ownMemory;
  assertEquals([own({}), own({ privateUser: { uid: 5 }, groups: [] }), own({ capabilities: "none" })], [
    false,
    false,
    false,
  ]);
  assertEquals([own({}, { uid: 5 }), own({}, { gid: 5 }), own({ oomScoreAdj: 5 })], [true, true, true]);
});

Deno.test("planChild() opens a program from outside before anything can hide it", () => {
  const steps = plan({ privateTmp: true }, { command: "/tmp/deno", fromOutside: "/tmp/deno", args: ["run"] }).child.map(
    describeCall,
  );
  assertEquals(steps[2], `openat(AT_FDCWD, "/tmp/deno", O_RDONLY|O_CLOEXEC|O_PATH)`);
  assertEquals(steps.slice(-2), [
    `execveat(<fcntl>, "", ["/tmp/deno", "run"], [1 strings], AT_EMPTY_PATH)`,
    `execveat(3, "", ["/tmp/deno", "run"], [1 strings], AT_EMPTY_PATH)`, // Where all above had to be closed before.
  ]);
});

Deno.test("planChild() names for every step that an option asked for that option", () => {
  const { child, parent } = plan({
    privateTmp: true,
    privatePid: true,
    privateNet: true,
    hostname: "box",
    privateUser: true,
  });
  const options = new Set([...parent, ...child].map((step) => step.option).filter((option) => option !== undefined));
  assertEquals([...options].sort(), ["hostname", "privateNet", "privatePid", "privateTmp", "privateUser"]);
});
