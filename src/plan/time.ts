/**
 * A time namespace and its clocks: see time_namespaces(7).
 *
 * @module
 */

import { CLONE_NEWTIME } from "../abi/clone.ts";
import type { TimeSettings } from "../options.ts";
import { AT_FDCWD, O_CLOEXEC_RDONLY, O_CLOEXEC_WRONLY } from "./files.ts";
import type { Named, Step } from "./step.ts";

const NEWTIME: Named = { value: CLONE_NEWTIME, name: "CLONE_NEWTIME" };

const utf8 = new TextEncoder();

/**
 * Makes the namespace, sets its clocks, which must be done before anybody is in it, and enters it. execve(2) enters it
 * too, but not before Linux 6.3, where besides no thread could be made by who is not in the namespace of his children.
 * clone(2) has no room for the flag: its bits are those of the exit signal. The files show the process itself even in
 * the outer /proc, which is still there. setns(2) takes a process that shares its memory with none: `Plan.ownMemory`.
 */
export function enterTime(time: TimeSettings): readonly Step[] {
  const option = "privateTime";
  const unshare: Step = {
    call: "unshare",
    args: [NEWTIME],
    what: "make a time namespace",
    option,
  };
  const lines = (["monotonic", "boottime"] as const)
    .map((clock) => ({ clock, ...time[clock] }))
    .filter(({ seconds, nanoseconds }) => seconds !== 0 || nanoseconds !== 0)
    .map(({ clock, seconds, nanoseconds }) => `${clock} ${seconds} ${nanoseconds}\n`);
  const namespace: Step = {
    call: "openat",
    args: [AT_FDCWD, "/proc/self/ns/time_for_children", O_CLOEXEC_RDONLY],
    what: "open the time namespace",
    option,
    opens: true,
  };
  const enter: Step = {
    call: "setns",
    args: [{ resultOf: namespace }, NEWTIME],
    what: "enter the time namespace",
    option,
  };
  if (lines.length === 0) return [unshare, namespace, enter];
  const content = lines.join("");
  const bytes = utf8.encode(content);
  const open: Step = {
    call: "openat",
    args: [AT_FDCWD, "/proc/self/timens_offsets", O_CLOEXEC_WRONLY],
    what: "open the clock offsets of the time namespace",
    option,
  };
  const write: Step = {
    call: "write",
    args: [{ resultOf: open }, { bytes, name: JSON.stringify(content) }, bytes.length],
    what: `set the clock offsets (${content.trim().replaceAll("\n", ", ")})`,
    option,
  };
  // A mount that is written to cannot be made read-only: see `ViewPlan.finish`.
  const close: Step = { call: "close", args: [{ resultOf: open }], what: "have set the clock offsets", option };
  return [unshare, open, write, close, namespace, enter];
}
