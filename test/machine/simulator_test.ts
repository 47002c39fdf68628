import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { Simulator, type SimulatorOptions } from "../../src/machine/simulator.ts";
import { type NamespaceOptions, validate } from "../../src/options.ts";
import { type ChildSettings, planChild } from "../../src/plan/child.ts";
import { callerOf } from "../../src/plan/explain.ts";

const CHILD: ChildSettings = {
  command: "true",
  args: ["ü"],
  argv0: undefined,
  environment: new TextEncoder().encode("PATH=/a:/b\0"),
  stdio: ["null", "inherit", "inherit"],
  cwd: undefined,
  callerCwd: "/home",
  uid: undefined,
  gid: undefined,
};

function simulate(options: NamespaceOptions, more: SimulatorOptions = {}): [Simulator, ReturnType<Simulator["spawn"]>] {
  const simulator = new Simulator(more);
  const plan = planChild(validate(options), CHILD, more.caller ?? callerOf({ uid: 0 }));
  return [simulator, simulator.spawn(plan)];
}

Deno.test("Simulator needs no permission", { permissions: "none" }, () => {
  const [{ child }] = simulate({});
  assertEquals(child?.program, "/a/true");
});

Deno.test("Simulator shows what a child is in, and leaves the parent where it was", () => {
  const [{ child, process }, outcome] = simulate(
    { privateTmp: { size: "1m" }, privatePid: true, hostname: "box", privateNet: true, privateUser: { uid: 5 } },
    { caller: callerOf({ uid: 1000 }) },
  );
  assert("pid" in outcome && child !== undefined);
  const { namespaces } = child;
  assertEquals(namespaces.get("mnt")!.mounts.map(({ target, type, data }) => [target, type, data]), [
    ["/tmp", "tmpfs", "mode=1777,size=1m"],
    ["/proc", "proc", null],
  ]);
  assertEquals(Object.fromEntries(namespaces.get("user")!.facts), {
    setgroups: "deny",
    uid_map: "5 1000 1\n",
    gid_map: "1000 1000 1\n",
  });
  assertEquals(namespaces.get("uts")!.facts.get("sethostname"), "box");
  assertEquals(namespaces.get("net")!.facts.get("loopback"), "up");
  assertEquals(process.namespaces.get("mnt")!.mounts, []);
  assertEquals([...process.namespaces.get("uts")!.facts], []);
  for (const kind of ["ipc", "cgroup", "time"]) assert(namespaces.get(kind) === process.namespaces.get(kind));
  assertEquals([...child.fds].map(([fd, { description }]) => [fd, description.path]), [
    [0, "/dev/null"],
    [1, "outer"],
    [2, "outer"],
  ]);
});

Deno.test("Simulator sees that mounts without makePrivate would show outside", () => {
  const { process } = new Simulator();
  const simulator = new Simulator();
  const [unshare, mount] = [
    { call: "unshare", args: [0x20000], what: "unshare" },
    { call: "mount", args: ["a", "/b", "c", 0, null], what: "mount" },
  ] as const;
  const outer = simulator.process.namespaces.get("mnt")!;
  simulator.execute([unshare, mount]);
  assertEquals([outer.mounts.length, process.namespaces.get("mnt")!.mounts.length], [1, 0]);
});

Deno.test("Simulator reads the same of plans for both architectures", () => {
  const options = { privateTmp: true, privatePid: true, privateUser: true, privateTime: { boottime: 5 } };
  const [x86_64] = simulate(options);
  const [aarch64] = simulate(options, { architecture: "aarch64" });
  assertEquals(aarch64.calls, x86_64.calls);
  assert(x86_64.calls.length > 20);
});

Deno.test("Simulator looks for programs and folders where it is told they are", () => {
  const [{ child, calls }] = simulate({ privateTmp: true }, {
    isExecutable: (path) => path === "/b/true",
    isFolder: (path) => path === "/",
  });
  assertEquals([child!.program, child!.cwd], ["/b/true", "/"]);
  const made = calls.filter(({ call }) => call === "execve" || call === "chdir").map((
    { args, result },
  ) => [args[0], result]);
  assertEquals(made, [["/home", -2], ["/", 0], ["/a/true", -2], ["/b/true", 0]]);
  const [{ child: none }, refused] = simulate({}, { isExecutable: () => false });
  assert("step" in refused && none!.program === undefined);
  assertEquals([refused.errno, refused.results.filter((result) => result === -2).length], [2, 2]);
});

Deno.test("Simulator can be a kernel that does not know a call, or a flag", () => {
  const [, refused] = simulate({}, { fault: ({ call }) => call === "close_range" ? "ENOSYS" : undefined });
  assert("step" in refused);
  assertEquals([refused.step.call, refused.errno], ["close_range", 38]);
  // Linux 5.9 and 5.10: CLOSE_RANGE_CLOEXEC is not there yet.
  const [{ calls, child }] = simulate({}, {
    fault: ({ call, args }) => call === "close_range" && args[2] !== 0 ? "EINVAL" : undefined,
  });
  assertEquals(calls.filter(({ call }) => call === "close_range").map(({ result }) => result), [-22, 0]);
  assertNotEquals(child!.program, undefined);
});

Deno.test("a step that meets a race is made again, and not for ever", () => {
  const spawnWith = (races: number) => {
    let met = 0;
    return simulate({ mounts: [{ type: "hide", target: "/etc" }] }, {
      fault: ({ call }) => call === "openat2" && met++ < races ? "EAGAIN" : undefined,
    });
  };
  const [simulator, few] = spawnWith(3);
  assert("pid" in few);
  const tries = simulator.calls.filter(({ call }) => call === "openat2");
  assertEquals(tries.map(({ result }) => result < 0), [true, true, true, false]);
  const [, many] = spawnWith(1_000);
  assert("step" in many && many.step.call === "openat2");
});

Deno.test("Simulator shows what a helper does, apart from its parent", () => {
  const map = [{ inside: 0, outside: 1000 }, { inside: 1, outside: 100_000, count: 9 }];
  const options: NamespaceOptions = { privateUser: { uidMap: map, gidMap: map } };
  const caller = callerOf({ uid: 1000 });
  const [{ calls, child, process }, outcome] = simulate(options, { caller });
  assert("pid" in outcome);
  assertEquals(child!.program, "/a/true");
  assertEquals([...process.fds.keys()], [0, 1, 2, outcome.pidfd]);
  const executed = calls.filter(({ by, call }) => by === "helper" && call === "execve");
  assertEquals(
    executed.map(({ args: [path, argv] }) => [path, argv]),
    ["newuidmap", "newgidmap"].map((name) => {
      return [`/run/wrappers/bin/${name}`, [name, String(outcome.pid), "0", "1000", "1", "1", "100000", "9"]];
    }),
  );

  const isExecutable = (path: string) => !path.endsWith("/newgidmap");
  const [without, refused] = simulate(options, { caller, isExecutable });
  assert("step" in refused);
  assertEquals([refused.step.call, refused.step.args[0]], ["execve", "/usr/bin/newgidmap"]);
  assertEquals(without.child!.program, undefined);
  assertEquals([...without.process.fds.keys()], [0, 1, 2]);
});
