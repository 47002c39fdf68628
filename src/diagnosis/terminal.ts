/**
 * Why there is no terminal to be had: see pty(7).
 *
 * @module
 */

import { type Facts, sysctl } from "./facts.ts";
import type { Refusal } from "./limits.ts";

const MOUNT = `mount -t devpts -o ptmxmode=0666 devpts /dev/pts`;

/** The cause of a refusal of `tty`, where it is known. */
export function terminalCause({ step, code }: Refusal, facts: Facts): string | undefined {
  if (step.call !== "openat" && step.call !== "ioctl") return undefined;
  switch (code) {
    case "ENOENT":
      return `There is no "/dev/ptmx", by which terminals are opened: ${MOUNT} && ln -s pts/ptmx /dev/ptmx.`;
    case "ENODEV":
    case "ENXIO":
      return `"/dev/ptmx" has no devpts mounted at "/dev/pts" beside it: ${MOUNT}.`;
    case "EACCES":
    case "EPERM":
      return `This user may not open "/dev/ptmx", which everybody is to: chmod 666 /dev/ptmx, or mount what it is on \
without nodev.`;
    case "ENOSPC":
      return `As many terminals are open as may be: kernel.pty.max is ${
        sysctl(facts, "kernel.pty.max") ?? "unknown"
      }, and \
a mount of devpts can have less (max=). Close some, or raise it.`;
    default:
      return undefined;
  }
}
