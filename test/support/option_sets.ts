/**
 * Options of all kinds, by themselves and together: what plans are tried with.
 *
 * @module
 */

import type { CommandOptions, NamespaceOptions } from "../../mod.ts";
import type { User } from "./program.ts";
import { VIEW_SETS } from "./view_sets.ts";

/** One thing to run. All of it can be written as JSON. */
export interface OptionSet {
  readonly options: NamespaceOptions;
  /** @default {"/bin/true"} */
  readonly command?: string;
  readonly commandOptions?: Omit<CommandOptions, "signal">;
  /** Only this user may. @default {both may} */
  readonly user?: User;
  /** The program that asks is in a folder below /tmp. @default {it is in /} */
  readonly fromTmp?: boolean;
}

/** Every option, every kind of value, and what the order of steps depends on. Each runs to a good end. */
export const OPTION_SETS: readonly OptionSet[] = [
  { options: {} },
  { options: { privateMount: true } },
  { options: { privateTmp: true } },
  { options: { privateTmp: true }, fromTmp: true },
  { options: { privateTmp: { size: "16m", mode: 0o700, nrInodes: "10k", huge: "never" } } },
  { options: { privateTmp: { size: 4096, uid: 0, gid: 0 }, privateUser: true } },
  { options: { privatePid: true } },
  { options: { privatePid: true, noProc: true } },
  { options: { privateNet: true } },
  { options: { privateIpc: true } },
  { options: { privateSysvsem: true } },
  { options: { privateUts: true } },
  { options: { hostname: "box" } },
  { options: { hostname: "box", domainname: "example.org" } },
  { options: { privateCgroup: true } },
  { options: { privateTime: true } },
  { options: { privateTime: { monotonic: 3600.25, boottime: -0.5 } } },
  { options: { privateTime: { boottime: 60 }, privateUser: "self", privatePid: true } },
  { options: { privateUser: true } },
  { options: { privateUser: "self", privateMount: true } },
  { options: { privateUser: { uid: 5 } } },
  { options: { privateUser: { uid: 7, gid: 8 }, privateNet: true } },
  {
    options: {
      privateUser: {
        uidMap: [{ inside: 0, outside: 0 }, { inside: 1, outside: 100_000, count: 9 }],
        gidMap: [{ inside: 0, outside: 0 }, { inside: 5, outside: 7 }],
      },
    },
    commandOptions: { uid: 3, gid: 5 },
    user: "root",
  },
  {
    options: {
      privateUser: { uidMap: [{ inside: 9, outside: 65534 }], gidMap: [{ inside: 9, outside: 65534 }] },
      privateTmp: true,
    },
    commandOptions: { uid: 9, gid: 9 },
    user: "nobody",
  },
  { options: { privateUser: { uid: 0, gid: 0, setgroups: "deny" } }, commandOptions: { gid: 0 } },
  { options: { privateUser: { setgroups: "allow" } }, user: "root" },
  { options: { privatePid: true, privateTmp: true, privateNet: true, hostname: "box" } },
  {
    options: {
      privateTmp: true,
      privatePid: true,
      privateNet: true,
      privateSysvsem: true,
      privateUser: true,
      hostname: "all",
      privateCgroup: true,
      privateTime: { monotonic: 1, boottime: 1 },
    },
  },
  { options: { privateUser: false }, commandOptions: { cwd: "/usr" } },
  { options: { privateTmp: true }, commandOptions: { cwd: "/tmp" } },
  { options: { privateMount: true }, commandOptions: { uid: 65534, gid: 65534 }, user: "root" },
  { options: { privatePid: true, privateUser: true }, commandOptions: { uid: 0, gid: 0, cwd: "/" } },
  { options: {}, commandOptions: { gid: 65534 } },
  { options: {}, commandOptions: { stdin: "null" } },
  { options: { privateTmp: true }, commandOptions: { stdin: "null", stdout: "null", stderr: "null" } },
  { options: { privatePid: true }, commandOptions: { stdin: "piped", stdout: "piped", stderr: "piped" } },
  { options: {}, commandOptions: { args: ["", "a b", 'q"\\\n', "ü€😀", "x".repeat(300)], argv0: "-other" } },
  { options: { privateUts: true }, commandOptions: { clearEnv: true, env: { A: "1", B: "ü\n" } } },
  { options: {}, command: "true", commandOptions: { clearEnv: true, env: { PATH: "/nowhere:/etc/passwd:/bin" } } },
  { options: { privateMount: true, termChild: false }, command: "true" },
  ...VIEW_SETS,
  { options: { umask: 0o27, newSession: true, nice: 3 } },
  { options: { newSession: true, privatePid: true }, commandOptions: { tty: true } },
  { options: { seccomp: "default" } },
  { options: { seccomp: "default", privateTmp: true, privateUser: true }, commandOptions: { uid: 0 } },
  {
    options: {
      init: true,
      seccomp: {
        default: "log",
        rules: [{ calls: ["socket"], action: "kill", args: [{ index: 0, op: "==", value: 40 }] }],
      },
    },
  },
  { options: {}, commandOptions: { tty: true } },
  { options: { privateTmp: true }, commandOptions: { tty: true, uid: 7 }, user: "root" },
  { options: { mounts: [{ type: "dev" }, { type: "dev", target: "/mnt" }] }, commandOptions: { tty: true } },
  { options: { mounts: [{ type: "dev" }], init: true, privateUser: true }, commandOptions: { tty: true, uid: 0 } },
  { options: { privatePid: true, privateUser: true }, commandOptions: { tty: { rows: 5, columns: 6 }, uid: 0 } },
  {
    options: { privateTmp: true },
    commandOptions: { fds: { 3: "input", 5: "output" }, stdout: "null", unsetEnv: ["HOME"] },
  },
  { options: { init: true }, commandOptions: { fds: { 4: 1 }, tty: true } },
  { options: { privateMount: true }, commandOptions: { fds: { 3: "output", 4: 2 }, uid: 7 }, user: "root" },
  { options: { init: true } },
  { options: { init: true, onMainExit: "wait", privateTmp: true, privateUser: true }, commandOptions: { uid: 0 } },
];

/** What strace(1) shows in too many ways to be compared. */
export const PRIVILEGE_SETS: readonly OptionSet[] = [
  { options: { privateUser: { uid: 5 }, disableUserNamespaces: true } },
  {
    // By newuidmap and newgidmap, by who may not write them.
    options: {
      privateUser: {
        uidMap: [{ inside: 0, outside: 65534 }, { inside: 1, outside: 100_000, count: 9 }],
        gidMap: [{ inside: 0, outside: 65534 }, { inside: 1, outside: 100_000, count: 9 }],
      },
    },
    commandOptions: { uid: 3, gid: 5 },
  },
  {
    options: {
      privateUser: {
        uidMap: [{ inside: 0, outside: 100_000, count: 9 }],
        gidMap: [{ inside: 9, outside: 65534 }],
        setgroups: "deny",
      },
    },
    commandOptions: { uid: 3, gid: 9 },
  },
  { options: { groups: [5, 6] }, commandOptions: { uid: 7 }, user: "root" },
  { options: { privateUser: true, noNewPrivs: true, umask: "077" } },
  { options: { rlimits: { nofile: 64, as: "1g", core: 0, nproc: [100, "unlimited"] }, cpuAffinity: [0, 65] } },
  { options: { privateUser: true, capabilities: "none", privateKeyring: true, oomScoreAdj: 5 } },
  { options: { privateUser: true, capabilities: { drop: ["CAP_NET_RAW", "CAP_SYS_PTRACE"] } } },
  { options: { privateUser: { uid: 5 }, capabilities: { add: ["CAP_NET_RAW", "CAP_BPF"], drop: ["CAP_KILL"] } } },
  { options: { capabilities: { add: ["CAP_CHOWN"] } }, commandOptions: { uid: 7 }, user: "root" },
  { options: { cgroup: { pidsMax: 5, cpuMax: 0.5 }, privateCgroup: true } },
  { options: { cgroup: true, privateUser: true, privatePid: true } },
  { options: { landlock: { execute: ["/"], read: ["/etc/passwd"], write: ["/dev/null"], connectTcp: [443] } } },
  { options: { privateUser: true, landlock: { bindTcp: [], ifMissing: "skip" }, privatePid: true, init: true } },
  {
    options: { capabilities: { keep: ["CAP_NET_BIND_SERVICE", "CAP_BPF"] } },
    commandOptions: { uid: 7 },
    user: "root",
  },
];
