/**
 * A time namespace and its clocks: see time_namespaces(7).
 *
 * @module
 */

import { CLONE_NEWTIME } from "../abi/clone.ts";
import type { TimeSettings } from "../options.ts";
import { AT_FDCWD, O_CLOEXEC_WRONLY } from "./files.ts";
import type { Step } from "./step.ts";

const utf8 = new TextEncoder();

/**
 * Makes the namespace, which this process's execve enters, and sets its clocks, which must be done before that.
 * clone(2) has no room for the flag: its bits are those of the exit signal. The file shows the process itself even in
 * the outer /proc, which is still there.
 */
export function enterTime(time: TimeSettings): readonly Step[] {
  const option = "privateTime";
  const unshare: Step = {
    call: "unshare",
    args: [{ value: CLONE_NEWTIME, name: "CLONE_NEWTIME" }],
    what: "make a time namespace",
    option,
  };
  const lines = (["monotonic", "boottime"] as const)
    .map((clock) => ({ clock, ...time[clock] }))
    .filter(({ seconds, nanoseconds }) => seconds !== 0 || nanoseconds !== 0)
    .map(({ clock, seconds, nanoseconds }) => `${clock} ${seconds} ${nanoseconds}\n`);
  if (lines.length === 0) return [unshare];
  const content = lines.join("");
  const bytes = utf8.encode(content);
  const open: Step = {
    call: "openat",
    args: [AT_FDCWD, "/proc/self/timens_offsets", O_CLOEXEC_WRONLY],
    what: "open the clock offsets of the time namespace",
    option,
    opens: true,
  };
  const write: Step = {
    call: "write",
    args: [{ resultOf: open }, { bytes, name: JSON.stringify(content) }, bytes.length],
    what: `set the clock offsets (${content.trim().replaceAll("\n", ", ")})`,
    option,
  };
  return [unshare, open, write];
}
