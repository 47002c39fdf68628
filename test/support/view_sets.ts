/**
 * Roots and mounts of all kinds: what plans are tried with.
 *
 * @module
 */

import type { MountOptions } from "../../mod.ts";
import type { OptionSet } from "./option_sets.ts";

/** What a program needs to be executed in an empty root. */
export const SYSTEM: readonly MountOptions[] = [
  { type: "bind", source: "/usr", readonly: true },
  { type: "bind", source: "/bin", readonly: true, nosuid: true, nodev: true, ifMissing: "skip" },
  { type: "bind", source: "/lib", readonly: true, ifMissing: "skip" },
  { type: "bind", source: "/lib64", readonly: true, ifMissing: "skip" },
];

/** Each runs to a good end. */
export const VIEW_SETS: readonly OptionSet[] = [
  { options: { root: "host" } },
  { options: { root: "/" } },
  { options: { root: "empty", mounts: [...SYSTEM] } },
  {
    options: { root: "empty", mounts: [...SYSTEM], privateTmp: true, privatePid: true },
    commandOptions: { cwd: "/tmp" },
  },
  { options: { root: { overlay: { lower: ["/"], upper: "tmpfs" } } }, user: "root" },
  { options: { mounts: [{ type: "tmpfs", target: "/mnt", size: "1m", mode: 0o700, nrInodes: 99 }] } },
  {
    options: {
      mounts: [
        { type: "tmpfs", target: "/mnt" },
        { type: "bind", source: "/etc", target: "/mnt/deep/er/etc", readonly: true, noexec: true },
        { type: "bind", source: "/etc/passwd", target: "/mnt/deep/er/passwd" },
        { type: "bind", source: "/nowhere", ifMissing: "skip" },
        { type: "bind", source: "/mnt/deep/er", target: "/mnt/again", inside: true, readonly: true },
        { type: "bind", source: "/etc", target: "/nowhere", ifMissing: "skip" },
        { type: "dev", target: "/mnt/dev" },
        { type: "overlay", target: "/mnt/overlay", lower: ["/etc", "/usr"] },
        { type: "overlay", target: "/mnt/writable", lower: ["/etc"], upper: "tmpfs" },
        { type: "symlink", target: "/mnt/link", to: "deep" },
        { type: "dir", target: "/mnt/folder", mode: 0o700 },
        { type: "dir", target: "/mnt/group", mode: 0o2755 },
        { type: "dir", target: "/etc" },
        { type: "file", target: "/mnt/a/file", content: "text", mode: 0o600 },
        { type: "file", target: "/mnt/a/empty", content: "" },
        { type: "file", target: "/etc/hosts", content: "::1 localhost" },
        { type: "hide", target: "/etc/ssl" },
        { type: "hide", target: "/etc/passwd" },
        { type: "hide", target: "/nowhere" },
        { type: "remount", target: "/mnt", readonly: true, nosuid: true },
      ],
    },
  },
  { options: { privatePid: true, mounts: [{ type: "proc", target: "/mnt", readonly: true, hidepid: "invisible" }] } },
  { options: { privateIpc: true, privateNet: true, mounts: [{ type: "mqueue", target: "/mnt" }, { type: "sysfs" }] } },
];
