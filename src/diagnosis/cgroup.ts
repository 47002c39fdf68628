/**
 * Why there is no cgroup for a command: see cgroups(7).
 *
 * @module
 */

import { INTO_CGROUP } from "../plan/cgroup.ts";
import { describeArgument } from "../plan/describe.ts";
import { cgroupFolders, type Facts, mountsOf, userOf } from "./facts.ts";
import type { Refusal } from "./limits.ts";

/** The cause of the refusal of a step of option `cgroup`. */
export function cgroupCause({ step, code, section }: Refusal, facts: Facts): string | undefined {
  const folder = folderOf(section) ?? cgroupFolders(facts)[0] ?? "/sys/fs/cgroup";
  if (step.call === "clone") {
    return describeArgument(step.args[0]!).includes(INTO_CGROUP) ? cloneCause(code, folder) : undefined;
  }
  if (code === "EROFS") {
    return `Cgroups are mounted read-only here, as container engines do. Mount them anew, or give the container its own \
(docker run --cgroupns=private with /sys/fs/cgroup writable, podman run --security-opt unmask=ALL).`;
  }
  if (code === "EACCES" || code === "EPERM") return notDelegated(folder, facts);
  if (step.call === "faccessat" && code === "ENOENT") {
    return step.args[1] === "cgroup.kill"
      ? `To kill all of a cgroup takes Linux 5.14, and this is ${
        facts.text("/proc/sys/kernel/osrelease")?.trim() ?? "older"
      }. Leave the cgroup out.`
      : `This is no cgroup of version 2, or a limit of it. ${versionOne(facts, []) ?? `See "findmnt -t cgroup2".`}`;
  }
  if (code === "EBUSY" && /^enable /.test(step.what)) return `${hasProcesses(folder)}`;
  if (code === "EOPNOTSUPP") return threaded(folder);
  if (code === "EAGAIN" && step.call === "mkdirat") {
    return `There are as many cgroups as there may be, or they are nested too deep: see cgroup.max.descendants and \
cgroup.max.depth of "${folder}" and those around it.`;
  }
  const file = step.call === "openat" ? step.args[1] : undefined;
  if (code === "ENOENT" && typeof file === "string" && /^[a-z]+\.[\w.]+$/.test(file)) {
    return noFile(file, folder, facts);
  }
  if (step.call === "write") {
    return `The kernel does not take that value: a number may be too large, or name a CPU, a memory node or a size of pages \
that is not here.`;
  }
  return undefined;
}

/** No cgroup of version 2 is there at all, or this process is in none that can be seen. */
export function noCgroup(facts: Facts): string {
  const [own] = cgroupFolders(facts);
  if (own !== undefined) return `See "${own}".`;
  if (!mountsOf(facts).some(({ type }) => type === "cgroup2")) {
    return versionOne(facts, []) ?? `Cgroups of version 2 are not mounted: mount -t cgroup2 none /sys/fs/cgroup.`;
  }
  return `This process's cgroup cannot be seen from here: /proc/self/cgroup says where it is, and that is outside of what is \
mounted. Give cgroup.parent a folder that is below /sys/fs/cgroup.`;
}

/** The file of a limit is not there: its controller is not enabled, or has no such limit. */
function noFile(file: string, folder: string, facts: Facts): string {
  const controller = file.slice(0, file.indexOf("."));
  if (isListed(controller, `${folder}/cgroup.subtree_control`, facts)) {
    if (file.startsWith("memory.swap")) {
      return `This kernel does not count swap: boot with swapaccount=1, or leave cgroup.memorySwapMax out.`;
    }
    return `The ${controller} controller of this kernel has no such limit: it is too old, or was built without it.`;
  }
  return noController(controller, folder, facts);
}

/** Why a controller is not there for cgroups below a folder. */
export function noController(controller: string, folder: string, facts: Facts): string {
  if (isListed(controller, `${folder}/cgroup.controllers`, facts)) {
    return `The ${controller} controller is not enabled for what is below. ${hasProcesses(folder)}`;
  }
  return versionOne(facts, [controller]) ??
    `The cgroup "${folder}" has not got the ${controller} controller: see cgroup.controllers there. Enable it in \
cgroup.subtree_control of those around it, as root; with systemd run this by "systemd-run --user --scope -p Delegate=yes", \
or give the user's services all controllers (Delegate=cpu cpuset io memory pids of user@.service).`;
}

function isListed(controller: string, file: string, facts: Facts): boolean {
  return (facts.text(file) ?? "").split(/\s+/).includes(controller);
}

/** Controllers are in one version only: what version 1 has is missing in version 2. */
function versionOne(facts: Facts, needed: readonly string[]): string | undefined {
  const lines = (facts.text("/proc/self/cgroup") ?? "").split("\n").map((line) => line.split(":"));
  const ofOne = lines.filter(([number]) => number !== "0").flatMap(([, controllers]) => controllers?.split(",") ?? [])
    .filter((name) => name !== "" && !name.startsWith("name="));
  const missing = needed.length === 0 ? ofOne : needed.filter((name) => ofOne.includes(name === "io" ? "blkio" : name));
  if (missing.length === 0) return undefined;
  return `This machine has ${
    missing.join(", ")
  } in cgroups of version 1, and a controller can be in one version only. Boot it \
with cgroup_no_v1=all, or with systemd.unified_cgroup_hierarchy=1; or do without: rlimits are for each process.`;
}

function hasProcesses(folder: string): string {
  return `"${folder}" has processes of its own, and then the kernel enables no controllers below it. Give cgroup.parent \
another one that is empty; or put its processes into one below, as in: mkdir "${folder}/main"; \
echo PID > "${folder}/main/cgroup.procs".`;
}

function notDelegated(folder: string, facts: Facts): string {
  const user = userOf(facts) ?? "USER";
  const own = `${mountsOf(facts).find(({ type }) => type === "cgroup2")?.point ?? "/sys/fs/cgroup"}/own`;
  return `This user may not make cgroups in "${folder}". Run it by "systemd-run --user --scope -p Delegate=yes", or as root; \
or as root make one for it: mkdir ${own}; cd ${own}; chown ${user} . cgroup.procs \
cgroup.subtree_control cgroup.threads; give it as cgroup.parent, and start this program in one below it, as the kernel \
moves processes only within what is the user's.`;
}

function threaded(folder: string): string {
  return `"${folder}" is of a type that takes threads only: see cgroup.type there. Give cgroup.parent another one.`;
}

function cloneCause(code: string, folder: string): string | undefined {
  switch (code) {
    case "ENOSYS":
    case "E2BIG":
      return `To be born in a cgroup takes clone3(2) of Linux 5.7, which this kernel has not got, or a seccomp filter refuses. \
Leave the cgroup out, or run it outside of that container.`;
    case "EACCES":
      return `The kernel puts a process into a cgroup for who may write cgroup.procs of that and of the first one that is \
around both, it and the caller's own. Start this program in a cgroup that was given to this user: by \
"systemd-run --user --scope -p Delegate=yes", or in one below cgroup.parent; or as root.`;
    case "EOPNOTSUPP":
      return threaded(folder);
    case "EAGAIN":
      return `A limit on processes is reached: cgroup.pidsMax, or that of a cgroup around it, or of the user (ulimit -u).`;
    default:
      return undefined;
  }
}

/** What the steps say that the cgroup is made in. */
function folderOf(section: Refusal["section"]): string | undefined {
  const words = section.find(({ what }) => /^(?:make a|open the) cgroup (?:in )?"/.test(what))?.what;
  return words === undefined ? undefined : /"(.*)"$/.exec(words)?.[1];
}
