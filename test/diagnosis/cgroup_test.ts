// Where a cgroup can be, and why one cannot: on machines that were described.

import { assertEquals, assertMatch } from "@std/assert";
import { findCause } from "../../src/diagnosis/diagnosis.ts";
import { noCgroup } from "../../src/diagnosis/cgroup.ts";
import { type Facts, nothingKnown } from "../../src/diagnosis/facts.ts";
import { errnoNumber } from "../../src/abi/errno.ts";
import { cgroupSettings } from "../../src/options_cgroup.ts";
import { validate } from "../../src/options.ts";
import { explainCgroup, makeCgroup, openParent } from "../../src/plan/cgroup.ts";
import { planChild } from "../../src/plan/child.ts";
import { callerOf } from "../../src/plan/explain.ts";
import { cloneStep, type Step } from "../../src/plan/step.ts";
import { locate } from "../../src/process/cgroup.ts";

const UNIFIED = "30 20 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";

/** A machine with these files; what is writable is said by `writable`. */
function machine(files: Record<string, string>, writable: readonly string[] = []): Facts {
  return {
    ...nothingKnown("x86_64"),
    text: (path) => files[path],
    allows: (path, access) => access === "write" ? writable.includes(path) : path in files,
  };
}

/** A cgroup's files. */
function group(path: string, controllers: string, enabled: string, procs: string): Record<string, string> {
  const folder = `/sys/fs/cgroup${path}`;
  return {
    [`${folder}/cgroup.controllers`]: controllers,
    [`${folder}/cgroup.subtree_control`]: enabled,
    [`${folder}/cgroup.procs`]: procs,
    ...(path === "" ? {} : { [`${folder}/cgroup.type`]: "domain\n" }),
  };
}

const inGroup = (path: string): Record<string, string> => ({
  "/proc/thread-self/mountinfo": UNIFIED,
  "/proc/self/cgroup": `0::${path}\n`,
});

const PIDS = cgroupSettings({ pidsMax: 5 })!;
const NONE = cgroupSettings(true)!;

Deno.test("locate() takes this process's own cgroup where it has the controllers, or can have them", () => {
  const root = { ...inGroup("/"), ...group("", "cpu pids\n", "\n", "1\n2\n") };
  assertEquals(locate(PIDS, machine(root)), { folder: "/sys/fs/cgroup", enable: ["pids"] });
  assertEquals(locate(NONE, machine(root)), { folder: "/sys/fs/cgroup", enable: [] });
  const enabled = { ...inGroup("/a"), ...group("/a", "cpu pids\n", "pids\n", "") };
  assertEquals(locate(PIDS, machine(enabled)), { folder: "/sys/fs/cgroup/a", enable: [] });
});

Deno.test("locate() enables nothing where there are processes, and takes a place beside instead", () => {
  const files = {
    ...inGroup("/a/b"),
    ...group("/a", "cpu pids\n", "cpu pids\n", ""),
    ...group("/a/b", "cpu pids\n", "", "77\n"),
  };
  const beside = machine(files, ["/sys/fs/cgroup/a/cgroup.procs"]);
  assertEquals(locate(PIDS, beside), { folder: "/sys/fs/cgroup/a", enable: [] });
  assertEquals(locate(NONE, beside), { folder: "/sys/fs/cgroup/a/b", enable: [] });
  assertEquals(locate(PIDS, machine(files)), { folder: "/sys/fs/cgroup/a/b", enable: [] });
  const cause = causeOf(PIDS, "pids.max", "ENOENT", machine(files), "/sys/fs/cgroup/a/b");
  assertMatch(cause!, /^The pids controller is not enabled for what is below. "\/sys\/fs\/cgroup\/a\/b" has processes/);
  assertMatch(cause!, /mkdir "\/sys\/fs\/cgroup\/a\/b\/main"/);
});

Deno.test("locate() takes the parent that was given, and a hybrid machine's own place", () => {
  const settings = cgroupSettings({ parent: "/sys/fs/cgroup/jobs", pidsMax: 5 })!;
  const files = { ...inGroup("/a"), ...group("/jobs", "pids memory\n", "memory\n", "") };
  assertEquals(locate(settings, machine(files)), { folder: "/sys/fs/cgroup/jobs", enable: ["pids"] });
  const hybrid = {
    "/proc/thread-self/mountinfo": "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
    "/proc/self/cgroup": "8:pids:/x\n1:name=systemd:/y\n0::/z\n",
  };
  assertEquals(locate(NONE, machine(hybrid)), { folder: "/sys/fs/cgroup/unified/z", enable: [] });
});

Deno.test("locate() knows that there is no place", () => {
  const one = {
    "/proc/thread-self/mountinfo": "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
    "/proc/self/cgroup": "1:cpu:/\n",
  };
  assertEquals(locate(NONE, machine(one)), undefined);
  assertMatch(noCgroup(machine(one)), /^This machine has cpu in cgroups of version 1/);
  assertMatch(noCgroup(machine({})), /^Cgroups of version 2 are not mounted/);
});

function causeOf(
  settings: typeof PIDS,
  file: string,
  code: string,
  facts: Facts,
  folder = "/sys/fs/cgroup",
): string | undefined {
  const { steps } = makeCgroup(settings, { parent: 9, folder, name: "n", enable: ["pids"] });
  const step = steps.find(({ args, call }) => args.includes(file) && (call === "openat" || call === "faccessat"))!;
  return cause(step, code, steps, facts);
}

function cause(step: Step, code: string, section: readonly Step[], facts: Facts): string | undefined {
  assertEquals(errnoNumber(code) > 0, true);
  return findCause({ step, code, section }, facts);
}

Deno.test("the cause of each refusal of a cgroup is told", () => {
  const swap = cgroupSettings({ memorySwapMax: 0 })!;
  const files = { ...inGroup("/"), ...group("", "memory\n", "memory\n", "") };
  assertMatch(causeOf(swap, "memory.swap.max", "ENOENT", machine(files))!, /^This kernel does not count swap/);
  assertMatch(causeOf(PIDS, "cgroup.kill", "ENOENT", machine({}))!, /takes Linux 5\.14/);
  const missing = causeOf(PIDS, "pids.max", "ENOENT", machine(files))!;
  assertMatch(missing, /^The cgroup "\/sys\/fs\/cgroup" has not got the pids controller/);
  const { steps } = makeCgroup(PIDS, { parent: 9, folder: "/sys/fs/cgroup", name: "n", enable: ["pids"] });
  const make = steps.find(({ call }) => call === "mkdirat")!;
  assertMatch(cause(make, "EROFS", steps, machine({}))!, /mounted read-only/);
  assertMatch(cause(make, "EAGAIN", steps, machine({}))!, /cgroup\.max\.descendants/);
  assertMatch(cause(make, "EACCES", steps, machine({}))!, /systemd-run --user --scope -p Delegate=yes/);
  const enable = steps.find(({ call }) => call === "write")!;
  assertMatch(cause(enable, "EBUSY", steps, machine({}))!, /^"\/sys\/fs\/cgroup" has processes of its own/);
  assertMatch(cause(steps.at(-1)!, "EINVAL", steps, machine({}))!, /^The kernel does not take that value/);
  const parent = openParent("/tmp");
  assertMatch(cause(parent[1]!, "ENOENT", parent, machine({}))!, /^This is no cgroup of version 2/);
});

Deno.test("the cause of a clone into a cgroup is told, and that of others is not mistaken for it", () => {
  const plan = (options: Parameters<typeof validate>[0]) => {
    const program = { command: "/bin/true", args: [], argv0: undefined, environment: new Uint8Array() };
    const place = { cwd: undefined, callerCwd: "/", uid: undefined, gid: undefined };
    const child = { ...program, ...place, stdio: ["inherit", "inherit", "inherit"] as const };
    return cloneStep(planChild(validate(options), child, callerOf({ uid: 0 })));
  };
  const step = plan({ cgroup: true, privatePid: true });
  const of = (code: string, one = step) => cause(one, code, [one], machine({}));
  assertMatch(of("EACCES")!, /cgroup\.procs of that and of the first one/);
  assertMatch(of("E2BIG")!, /clone3\(2\) of Linux 5\.7/);
  assertMatch(of("EOPNOTSUPP")!, /threads only/);
  assertMatch(of("EAGAIN")!, /cgroup\.pidsMax/);
  assertMatch(of("EAGAIN", plan({ privatePid: true }))!, /^A limit on processes is reached: kernel/);
  assertMatch(of("ENOSPC")!, /max_pid_namespaces|nested too deep/);
});

Deno.test("explainCgroup() needs to know nothing of the machine", () => {
  const calls = explainCgroup(PIDS).map(({ call }) => call);
  assertEquals(calls, [
    ...["openat", "faccessat", "faccessat", "clone", "mkdirat", "openat", "fcntl", "faccessat", "openat", "write"],
  ]);
});
