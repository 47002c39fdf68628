/**
 * The mounts of a private mount namespace: propagation, /tmp, /proc.
 *
 * @module
 */

import { MOUNT_FLAG_NAMES, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_REC } from "../abi/mount.ts";
import type { TmpSettings } from "../options.ts";
import { flags, type Step } from "./step.ts";

/**
 * Cuts every mount off from the outside, so that nothing mounted or unmounted inside is seen there.
 * It must be the first of the mounts: systemd makes / shared, and a new mount namespace inherits that.
 */
export function makePrivate(option: string | undefined): Step {
  return {
    call: "mount",
    args: ["none", "/", null, flags(MS_REC | MS_PRIVATE, MOUNT_FLAG_NAMES), null],
    what: "make all mounts private",
    option,
  };
}

/** A fresh tmpfs on /tmp. */
export function mountTmp(tmp: TmpSettings): Step {
  return {
    call: "mount",
    args: [
      "tmpfs",
      "/tmp",
      "tmpfs",
      flags(MS_NOSUID | MS_NODEV, MOUNT_FLAG_NAMES),
      tmp.map(([key, value]) => `${key}=${value}`).join(","),
    ],
    what: `mount tmpfs at "/tmp"`,
    option: "privateTmp",
  };
}

/** The /proc of the new pid namespace: it shows the processes of whoever mounts it. */
export function mountProc(): Step {
  return {
    call: "mount",
    args: ["proc", "/proc", "proc", flags(MS_NOSUID | MS_NODEV | MS_NOEXEC, MOUNT_FLAG_NAMES), null],
    what: `mount proc at "/proc"`,
    option: "privatePid",
  };
}

/**
 * What files of /proc that are the system's are in. Where the caller is root, the kernel still takes the command for the
 * owner of these, capabilities or not: it could set the machine's sysctls.
 */
export const SYSTEM_PROC = ["acpi", "bus", "fs", "irq", "mtrr", "scsi", "sys", "sysrq-trigger"];
