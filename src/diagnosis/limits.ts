/**
 * Limits that any call can meet: on processes, and on memory.
 *
 * @module
 */

import type { Step } from "../plan/step.ts";
import { cgroupFolders, type Facts, limitOf, sysctl } from "./facts.ts";

/** A step that was refused. */
export interface Refusal {
  readonly step: Step;
  /** The name of the error number. */
  readonly code: string;
  /** The steps that it stands among; itself alone where there are no others. */
  readonly section: readonly Step[];
}

/** fork(2), EAGAIN. */
export function tooManyProcesses(facts: Facts): string {
  const full = fullPidsCgroup(facts);
  if (full !== undefined) {
    return `This process's cgroup has all the processes and threads that it may have: ${full.limit}, by "${full.file}". \
End some, or raise it: docker run --pids-limit, systemd's TasksMax=.`;
  }
  const [own, pids, threads] = [limitOf(facts, "Max processes"), "kernel.pid_max", "kernel.threads-max"];
  return `A limit on processes is reached: ${
    own === undefined ? "" : `this user may have ${own} (RLIMIT_NPROC, ulimit -u), `
  }\
${pids} is ${sysctl(facts, pids) ?? "unknown"}, ${threads} is ${
    sysctl(facts, threads) ?? "unknown"
  }, and each container or \
service has a pids.max of its own. End some processes, or raise the limit.`;
}

/** The memory that there is, where it is limited or little. */
export function memoryLimit(facts: Facts): string {
  const parts: string[] = [];
  const space = limitOf(facts, "Max address space");
  if (space !== undefined) {
    parts.push(`this process may have ${megabytes(space)} of address space (RLIMIT_AS, ulimit -v)`);
  }
  for (const folder of cgroupFolders(facts, "memory")) {
    for (const name of ["memory.max", "memory.limit_in_bytes"]) {
      const limit = Number.parseInt(facts.text(`${folder}/${name}`) ?? "");
      if (limit < 2 ** 53) parts.push(`"${folder}/${name}" is ${megabytes(limit)}`);
    }
  }
  const available = /^MemAvailable:\s*(\d+) kB/m.exec(facts.text("/proc/meminfo") ?? "")?.[1];
  if (available !== undefined) parts.push(`the system has ${megabytes(Number(available) * 1024)} left`);
  return parts.length === 0 ? "" : ` (${parts.join(", ")})`;
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}

/** A limit of a cgroup that is reached: that of this process, or one around it. */
interface CgroupLimit {
  readonly file: string;
  readonly limit: number;
}

/** The limit on processes of this process's cgroups that leaves no room for one more. */
function fullPidsCgroup(facts: Facts): CgroupLimit | undefined {
  for (const folder of cgroupFolders(facts, "pids")) {
    const file = `${folder}/pids.max`;
    const limit = Number.parseInt(facts.text(file) ?? "");
    const current = Number.parseInt(facts.text(`${folder}/pids.current`) ?? "");
    if (current >= limit) return { file, limit };
  }
  return undefined;
}
