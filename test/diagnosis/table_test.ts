// Causes that cannot be brought about on this machine, found in facts that were recorded where they were.

import { assertEquals, assertMatch } from "@std/assert";
import { findCause } from "../../src/diagnosis/diagnosis.ts";
import type { Facts } from "../../src/diagnosis/facts.ts";
import { type NamespaceOptions, validate } from "../../src/options.ts";
import { capabilitiesOf } from "../../src/plan/caller.ts";
import { planChild } from "../../src/plan/child.ts";
import { openTerminal } from "../../src/plan/terminal.ts";
import type { Step } from "../../src/plan/step.ts";

/** No capability but what is not asked about. */
const NOBODY =
  "Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nTgid:\t5\nThreads:\t9\nSeccomp:\t0\nCapEff:\t0000000000000000\n";
const ROOT = NOBODY.replaceAll("1000", "0").replace("0000000000000000", "000001ffffffffff");
/** Docker's root: 14 capabilities, none of them CAP_SYS_ADMIN. */
const DOCKER = ROOT.replace("000001ffffffffff", "00000000a80425fb").replace("Seccomp:\t0", "Seccomp:\t2");

const STATUS = "/proc/thread-self/status";
const LABEL = "/proc/thread-self/attr/current";
const MOUNTINFO = "/proc/thread-self/mountinfo";
const RESTRICTED = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
/** What the initial user namespace has. */
const EVERYBODY = { "/proc/self/uid_map": "0 0 4294967295", "/proc/self/gid_map": "0 0 4294967295" };
const NAMESPACE_FILES = Object.fromEntries(
  ["", "/user", "/mnt", "/pid", "/net", "/ipc", "/uts", "/cgroup", "/time"].map((name) => [`/proc/self/ns${name}`, ""]),
);

/** A machine of which these files are known. A file that is there is allowed all; a folder ends with "/". */
function machine(files: Readonly<Record<string, string>>, more: Partial<Facts> = {}): Facts {
  const all: Record<string, string> = { ...EVERYBODY, ...NAMESPACE_FILES, ...files };
  return {
    architecture: "x86_64",
    executable: "/home/me/.deno/bin/deno",
    pid: 5,
    text: (path) => all[path],
    head: (path) => all[path] === undefined ? undefined : Uint8Array.from(all[path], (letter) => letter.charCodeAt(0)),
    place: () => undefined,
    allows: (path) => all[path] !== undefined,
    ...more,
  };
}

/** The steps of a child, by a caller without capabilities. */
function steps(options: NamespaceOptions, effective = 0): readonly Step[] {
  const child = {
    command: "/bin/x",
    args: [],
    argv0: undefined,
    environment: new Uint8Array(),
    cwd: undefined,
    callerCwd: "/",
    uid: undefined,
    gid: undefined,
    stdio: ["null", "null", "null"],
  } as const;
  const caller = { uid: 1000, gid: 1000, capabilities: capabilitiesOf(effective) };
  const plan = planChild(validate(options), child, caller);
  const clone: Step = { call: "clone", args: [plan.cloneFlags], what: "make namespaces", option: plan.cloneOption };
  return [clone, ...plan.parent, ...plan.child];
}

/** What is said when the first step that is described like this is refused. */
function cause(options: NamespaceOptions, what: string, code: string, facts: Facts): string {
  const section = steps(options);
  const step = section.find((step) => step.what.includes(what));
  if (step === undefined) throw new Error(`No step: ${what}`);
  return findCause({ step, code, section }, facts) ?? "nothing";
}

Deno.test("findCause() knows Ubuntu's restriction wherever it shows, and the profile to install", () => {
  const ubuntu = machine({ [RESTRICTED]: "1\n", [STATUS]: NOBODY, [LABEL]: "unconfined\n" });
  const places: readonly [NamespaceOptions, string, string][] = [
    [{ privatePid: true }, "make namespaces", "EACCES"],
    [{ privatePid: true }, "map user ids", "EPERM"],
    [{ privatePid: true }, "open uid_map", "EACCES"],
    [{ privatePid: true }, "make all mounts private", "EACCES"],
    [{ privateTmp: true }, "mount tmpfs", "EACCES"],
    [{ privateNet: true }, "bring the loopback up", "EPERM"],
    [{ hostname: "box" }, "set the hostname", "EPERM"],
  ];
  for (const [options, what, code] of places) {
    const text = cause(options, what, code, ubuntu);
    assertMatch(text, /kernel.apparmor_restrict_unprivileged_userns is 1/, what);
    assertMatch(text, /profile deno "\/home\/me\/.deno\/bin\/deno" flags=\(unconfined\) \{\\n {2}userns,\\n\}/, what);
    assertMatch(text, /apparmor_parser -r .*; or .*sysctl -w kernel.apparmor_restrict_unprivileged_userns=0/, what);
  }
  const inside = machine({ [RESTRICTED]: "1\n", [STATUS]: ROOT, [LABEL]: "unprivileged_userns (enforce)\n" });
  assertMatch(cause({ privateTmp: true }, "mount tmpfs", "EACCES", inside), /apparmor_parser -r/);
  const allowed = machine({ [RESTRICTED]: "0\n", [STATUS]: NOBODY, [LABEL]: "unconfined\n" });
  assertEquals(/apparmor_restrict/.test(cause({ privateNet: true }, "loopback", "EPERM", allowed)), false);
  const root = machine({ [RESTRICTED]: "1\n", [STATUS]: ROOT, [LABEL]: "unconfined\n" });
  assertEquals(/apparmor_restrict/.test(cause({ privateNet: true }, "loopback", "EPERM", root)), false);
});

Deno.test("findCause() knows Debian's switch", () => {
  const debian = machine({ "/proc/sys/kernel/unprivileged_userns_clone": "0\n", [STATUS]: NOBODY });
  const text = cause({ privatePid: true }, "make namespaces", "EPERM", debian);
  assertMatch(text, /kernel.unprivileged_userns_clone is 0.*sysctl -w kernel.unprivileged_userns_clone=1/);
});

Deno.test("findCause() knows what container engines take away", () => {
  const docker = machine({ [STATUS]: DOCKER, [LABEL]: "docker-default (enforce)\n" });
  assertMatch(cause({ privatePid: true }, "make namespaces", "EPERM", docker), /seccomp filter.*--cap-add SYS_ADMIN/);
  assertMatch(
    cause({ privateTmp: true }, "make all mounts private", "EACCES", docker),
    /AppArmor profile "docker-default".*--security-opt apparmor=unconfined/,
  );
  const podman = machine({
    [STATUS]: NOBODY,
    [LABEL]: "system_u:system_r:container_t:s0\0",
    "/sys/fs/selinux/enforce": "1",
  });
  assertMatch(
    cause({ privateTmp: true }, "mount tmpfs", "EACCES", podman),
    /SELinux is enforcing.*container_t:s0".*ausearch -m avc.*label=disable/,
  );
});

const PROC = "22 27 0:21 / /proc rw,nosuid shared:1 - proc proc rw\n27 1 254:0 / / rw - ext4 /dev/vda rw\n";

Deno.test("findCause() knows why a container's /proc reveals too much", () => {
  const masked = machine({
    [STATUS]: NOBODY,
    [MOUNTINFO]: `${PROC}30 22 0:9 /null /proc/kcore rw - devtmpfs d rw\n31 22 0:21 /sys /proc/sys ro - proc proc rw
32 22 0:40 / /proc/sys/fs/binfmt_misc rw - binfmt_misc b rw\n`,
  });
  const text = cause({ privatePid: true }, "mount proc", "EPERM", masked);
  assertMatch(text, /here "\/proc\/kcore", "\/proc\/sys" are covered/);
  assertMatch(text, /Set noProc; or .*systempaths=unconfined.*unmask=ALL.*procMount: Unmasked/);
  const hidden = machine({
    [STATUS]: NOBODY,
    [MOUNTINFO]: PROC.replace("proc rw\n", "proc rw,hidepid=2,subset=pid\n"),
  });
  assertMatch(cause({ privatePid: true }, "mount proc", "EPERM", hidden), /only a part of it is mounted/);
  const none = machine({ [STATUS]: NOBODY, [MOUNTINFO]: "27 1 254:0 / / rw - ext4 /dev/vda rw\n" });
  assertMatch(cause({ privatePid: true }, "mount proc", "EPERM", none), /there is none at \/proc/);
  const open = machine({ [STATUS]: NOBODY.replace("Seccomp:\t0", "Seccomp:\t2"), [MOUNTINFO]: PROC });
  assertMatch(cause({ privatePid: true }, "mount proc", "EPERM", open), /seccomp filter/);
});

Deno.test("findCause() knows kernels that are too old, or built without", () => {
  const old = machine({ [STATUS]: ROOT, "/proc/sys/kernel/osrelease": "5.4.0-42-generic\n" }, {
    allows: (path) => path !== "/proc/self/ns/time",
  });
  assertMatch(
    cause({ privateTime: true }, "make a time namespace", "EINVAL", old),
    /Linux 5.4.0-42-generic\) has no time namespaces.*CONFIG_TIME_NS.*5.6.*Leave that option out/,
  );
  assertMatch(
    cause({ privateTime: { boottime: 5 } }, "clock offsets", "ENOENT", old),
    /Linux 5.6, .*Leave privateTime out/,
  );
  const call = "close all descriptors";
  assertMatch(
    cause({}, call, "ENOSYS", old),
    /does not know the call: it is Linux 5.4.0-42-generic, and it takes 5.9/,
  );
  assertMatch(cause({}, call, "EINVAL", old), /it takes 5.9.*Run it on Linux 5.9 or newer/);
  const filtered = machine({ [STATUS]: DOCKER });
  assertMatch(cause({}, call, "ENOSYS", filtered), /seccomp/);
});

Deno.test("findCause() knows threads, which cannot enter user namespaces", () => {
  const step: Step = { call: "unshare", args: [{ value: 0x10000000, name: "CLONE_NEWUSER" }], what: "unshare" };
  const text = findCause({ step, code: "EINVAL", section: [step] }, machine({ [STATUS]: NOBODY }));
  assertMatch(text ?? "", /process with threads.*Use command\(\)/);
});

Deno.test("findCause() knows memory that is limited", () => {
  const small = machine({
    "/proc/self/limits": "Max address space         2097152              2097152              bytes\n",
    "/proc/self/cgroup": "0::/a/b\n",
    [MOUNTINFO]: "30 1 0:3 / /sys/fs/cgroup rw - cgroup2 none rw\n",
    "/sys/fs/cgroup/a/b/memory.max": "max\n",
    "/sys/fs/cgroup/a/memory.max": "33554432\n",
    "/proc/meminfo": "MemTotal: 100 kB\nMemAvailable:   10240 kB\n",
  });
  for (const what of [`execute "/bin/x"`, "make namespaces", "mount tmpfs"]) {
    const text = cause({ privateTmp: true }, what, "ENOMEM", small);
    assertMatch(text, /2 MiB of address space \(RLIMIT_AS.*"\/sys\/fs\/cgroup\/a\/memory.max" is 32 MiB.*10 MiB left/);
  }
});

Deno.test("findCause() finds the cgroup that is full, of either version, in a container too", () => {
  const full = (cgroup: string, mount: string, folder: string) =>
    machine({
      "/proc/self/cgroup": cgroup,
      [MOUNTINFO]: mount,
      [`${folder}/pids.max`]: "20\n",
      [`${folder}/pids.current`]: "20\n",
    });
  const cases: readonly [string, string, string][] = [
    ["0::/a/b\n", "30 1 0:3 / /sys/fs/cgroup rw - cgroup2 none rw\n", "/sys/fs/cgroup/a"],
    ["8:pids:/a\n0::/\n", "30 1 0:3 / /cg/pids rw - cgroup none rw,pids\n", "/cg/pids/a"],
    ["8:pids:/docker/1/x\n", "30 1 0:3 /docker/1 /cg/pids rw - cgroup none rw,pids\n", "/cg/pids/x"],
    ["0::/\n", "30 1 0:3 / /sys/fs/cgroup rw - cgroup2 none rw\n", "/sys/fs/cgroup"],
  ];
  for (const [cgroup, mount, folder] of cases) {
    const text = cause({ privatePid: true }, "make namespaces", "EAGAIN", full(cgroup, mount, folder));
    assertMatch(text, new RegExp(`may have: 20, by "${folder}/pids.max".*TasksMax`), folder);
  }
});

Deno.test("findCause() tells tmpfs's options apart", () => {
  const text = (tmp: NamespaceOptions["privateTmp"]) =>
    cause({ privateTmp: tmp }, "mount tmpfs", "EINVAL", machine({ [STATUS]: NOBODY }));
  assertMatch(text({ huge: "always" }), /CONFIG_TRANSPARENT_HUGEPAGE.*Leave "huge" out/);
  assertMatch(text({ uid: 5 }), /must be mapped.*uidMap and a gidMap/);
  assertMatch(text({ size: "1m" }), /"mode=1777,size=1m"/);
});

Deno.test("findCause() knows descriptors and file systems that there are no more of", () => {
  const facts = machine({
    "/proc/self/limits": "Max open files            256                  256                  files\n",
  });
  assertMatch(cause({ privatePid: true }, "open uid_map", "EMFILE", facts), /it may \(RLIMIT_NOFILE: 256\)/);
  assertMatch(cause({ privatePid: true }, "mount proc", "EMFILE", facts), /it may \(RLIMIT_NOFILE: 256\)/);
  const mapping: Step = { call: "mmap", args: [null], what: "get memory for a child" };
  assertMatch(
    findCause({ step: mapping, code: "ENOMEM", section: [mapping] }, facts) ?? "",
    /too little memory.*ulimit -v/,
  );
  const step: Step = { call: "mount", args: ["x", "/mnt", "overlay", 0, null], what: "mount overlay" };
  assertMatch(
    findCause({ step, code: "ENODEV", section: [step] }, facts) ?? "",
    /no file system "overlay".*modprobe overlay/,
  );
});

Deno.test("findCause() knows what goes wrong with a root and mounts", () => {
  const options: NamespaceOptions = {
    root: "empty",
    mounts: [
      { type: "bind", source: "/gone", readonly: true, target: "/a/b" },
      { type: "bind", source: "/etc" },
      { type: "file", target: "/file", content: "x" },
      { type: "overlay", target: "/o", lower: ["/a", "/b"] },
      { type: "hide", target: "/etc/x" },
      { type: "remount", target: "/etc", nosuid: true },
    ],
  };
  const facts = machine({ [STATUS]: ROOT, "/proc/sys/kernel/osrelease": "5.10.0" });
  const all = steps(options, 0xffff_ffff | 0);
  const text = (call: string, code: string, what = "") => {
    const step = all.find((step) => step.call === call && step.what.includes(what));
    return step === undefined ? "no such step" : findCause({ step, code, section: all }, facts) ?? "nothing";
  };
  assertMatch(text("open_tree", "ENOENT", "/gone"), /no "\/gone" outside.*ifMissing: "skip"/);
  assertMatch(text("open_tree", "EINVAL"), /unbindable.*do not say recursive: false/);
  assertMatch(text("move_mount", "EINVAL", "bind"), /One of the two is a folder, and the other is not/);
  assertMatch(text("openat2", "ELOOP", "/a/b"), /symbolic link on the way to "\/a"/);
  assertMatch(text("openat2", "ENOENT", "flags"), /no "\/etc" inside.*mount a tmpfs above/);
  assertMatch(text("mount_setattr", "EINVAL", "flags"), /not a mount/);
  assertMatch(text("remount_tree", "ENOENT"), /no "\/proc\/thread-self\/mountinfo"/);
  assertMatch(text("remount_tree", "EACCES"), /below it.*cannot enter.*Linux 5.12/);
  assertMatch(text("remount_tree", "EBUSY"), /below it.*meanwhile/);
  assertMatch(text("remount_tree", "EINVAL", "flags"), /not a mount/);
  assertMatch(text("pivot_root", "EINVAL"), /in a chroot, or in an initial ramfs/);
  assertMatch(text("fallocate", "ENOSPC"), /larger than the tmpfs/);
  for (const call of ["mount_setattr", "remount_tree"]) {
    assertMatch(text(call, "EPERM", "flags"), /the kernel locks the flags/);
    assertEquals(text(call, "EPERM", "hide"), "nothing");
  }
  for (const code of ["ELOOP", "EBUSY"]) {
    assertMatch(text("mount", code, "overlay"), /overlay.*lower "\/a", lower "\/b"\.$/);
  }
  assertMatch(text("mount", "ENOENT", "overlay"), /^The lower layer, "\/a", is not there outside/);
  const ofLayers = (code: string, data: string, files: Record<string, string>) => {
    const args = ["overlay", "x", "overlay", 0, data];
    const mount: Step = { call: "mount", args, what: "mount an overlay" };
    return findCause({ step: mount, code, section: [mount] }, machine(files, { head: () => undefined })) ?? "nothing";
  };
  const escaped = String.raw`lowerdir=/a\,\:\\b:/c,upperdir=prop1,workdir=prop2,userxattr`;
  const named = /The layers are lower "\/a,:\\b", lower "\/c", upper a tmpfs, work a tmpfs\.$/;
  for (const code of ["ENOENT", "ENOTDIR", "EINVAL"]) {
    assertMatch(ofLayers(code, escaped, { "/a,:\\b": "", "/c": "" }), named);
    assertMatch(ofLayers(code, escaped, { "/a,:\\b": "" }), /^The lower layer, "\/c", is not there outside/);
  }
  const args = ["overlay", "x", "overlay", 0, "lowerdir=/a,userxattr"];
  const step: Step = { call: "mount", args, what: "mount an overlay" };
  const refused = (release: string) => {
    const there = machine({ [STATUS]: NOBODY, "/proc/sys/kernel/osrelease": `${release}\n` });
    return findCause({ step, code: "EPERM", section: [step] }, there) ?? "";
  };
  const sysfs: Step = {
    call: "mount",
    args: ["sysfs", ".", "sysfs", 0, null],
    what: `mount sysfs at "/s"`,
    option: "mounts",
  };
  const ofSysfs = (code: string, around: readonly Step[] = []) =>
    findCause({ step: sysfs, code, section: [...around, sysfs] }, machine({ [STATUS]: ROOT })) ?? "nothing";
  assertMatch(ofSysfs("EPERM"), /Set privateNet; or bind/);
  assertEquals(ofSysfs("EPERM", [{ ...sysfs, option: "privateNet" }]), "nothing");
  assertMatch(ofSysfs("EBUSY"), /The same sysfs is mounted there already/);
  assertMatch(refused("5.10.0-32-amd64"), /Linux 5.10.0-32-amd64\) makes no overlay in a user namespace.*5.11/);
  for (const release of ["5.11.0", "6.1.0"]) assertEquals(refused(release).includes("no overlay"), false);
});

Deno.test("findCause() knows why a filter of system calls is refused", () => {
  const root = machine({ [STATUS]: ROOT });
  const filter = (code: string, facts: Facts): string =>
    cause({ seccomp: "default" }, "filter of system calls", code, facts);
  assertMatch(filter("EINVAL", root), /A program that is given as bytes is checked by the kernel/);
  assertMatch(filter("EINVAL", machine({ [STATUS]: ROOT.replace("Seccomp:\t0\n", "") })), /SECCOMP_FILTER/);
  assertMatch(filter("ENOMEM", root), /32768 instructions/);
  assertMatch(filter("ENOSYS", root), /3\.17/);
});

Deno.test("findCause() knows why there is no terminal to be had", () => {
  const [open] = openTerminal({ rows: 24, columns: 80 });
  const facts = machine({ "/proc/sys/kernel/pty/max": "4096\n" });
  const text = (code: string) => findCause({ step: open, code, section: [open] }, facts) ?? "nothing";
  assertMatch(text("ENOENT"), /no "\/dev\/ptmx".*mount -t devpts/);
  assertMatch(text("ENODEV"), /no devpts mounted at "\/dev\/pts"/);
  assertMatch(text("EACCES"), /chmod 666 \/dev\/ptmx/);
  assertMatch(text("ENOSPC"), /kernel\.pty\.max is 4096/);
  assertEquals(text("EIO"), "nothing");
});

Deno.test("findCause() says nothing where nothing is known", () => {
  assertEquals(cause({ hostname: "box" }, "set the hostname", "EIO", machine({})), "nothing");
  assertEquals(cause({}, `execute "/bin/x"`, "EIO", machine({})), "nothing");
  assertEquals(cause({ privateNet: true }, "loopback", "EPERM", machine({ [STATUS]: ROOT })), "nothing");
});

Deno.test("findCause() does without any fact", () => {
  const blind = machine({}, { text: () => undefined, allows: () => false, executable: undefined });
  const options = { privatePid: true, privateTmp: true, privateNet: true, privateTime: { boottime: 1 }, hostname: "x" };
  const codes = [
    "EPERM",
    "EACCES",
    "EINVAL",
    "ENOSPC",
    "ENOMEM",
    "EAGAIN",
    "ENOENT",
    "ENOSYS",
    "EROFS",
    "E2BIG",
    "ENODEV",
  ];
  let told = 0;
  for (const step of steps(options)) {
    for (const code of codes) {
      const text = findCause({ step, code, section: [step] }, blind);
      assertEquals(/undefined|NaN|null|\[object|\n/.test(text ?? ""), false, text);
      if (text !== undefined) told++;
    }
  }
  assertEquals(told > 50, true, String(told));
});
