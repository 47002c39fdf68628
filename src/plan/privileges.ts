/**
 * What a command may do and use: limits, capabilities, and what else it gets or gives up.
 *
 * @module
 */

import { CAPABILITIES, type CapabilityName } from "../abi/capabilities.ts";
import { RESOURCES } from "../abi/resources.ts";
import type { LimitSettings, PrivilegeSettings } from "../options_privileges.ts";
import { ANYBODY, type Caller } from "./caller.ts";
import { AT_FDCWD, O_CLOEXEC_WRONLY } from "./files.ts";
import { FUTEX_WAIT, NO_TIME } from "./lifetime.ts";
import type { Bytes, Named, Step } from "./step.ts";

const utf8 = new TextEncoder();

const PR_SET_NO_NEW_PRIVS: Named = { value: 38, name: "PR_SET_NO_NEW_PRIVS" };
const PR_SET_KEEPCAPS: Named = { value: 8, name: "PR_SET_KEEPCAPS" };
const PR_CAPBSET_DROP: Named = { value: 24, name: "PR_CAPBSET_DROP" };
const PR_CAP_AMBIENT: Named = { value: 47, name: "PR_CAP_AMBIENT" };
const RAISE: Named = { value: 2, name: "PR_CAP_AMBIENT_RAISE" };
const CLEAR_ALL: Named = { value: 4, name: "PR_CAP_AMBIENT_CLEAR_ALL" };
const PRIO_PROCESS: Named = { value: 0, name: "PRIO_PROCESS" };
const JOIN_SESSION: Named = { value: 1, name: "KEYCTL_JOIN_SESSION_KEYRING" };
/** `_LINUX_CAPABILITY_VERSION_3`, and this process. */
const CAPABILITY_HEADER: Bytes = {
  bytes: new Uint8Array(Uint32Array.of(0x20080522, 0).buffer),
  name: "{version=_LINUX_CAPABILITY_VERSION_3, pid=0}",
};

/** Where in what capget(2) gives the two words of each set are. */
const EFFECTIVE = [0, 12] as const;
const PERMITTED = [4, 16] as const;
const INHERITABLE = [8, 20] as const;
/** Bits of a set. */
const CAPABILITIES_MAX = 64;

/** What has to be done where /proc is still the outer one. */
export function beforeMounts({ oomScoreAdj, disableUserNamespaces }: PrivilegeSettings): readonly Step[] {
  const steps: Step[] = [];
  const write = (path: string, value: number, what: string, option: string): void => {
    const content: Bytes = { bytes: utf8.encode(String(value)), name: `"${value}"` };
    const open: Step = { call: "openat", args: [AT_FDCWD, path, O_CLOEXEC_WRONLY], what, option };
    const fd = { resultOf: open };
    steps.push(
      open,
      { call: "write", args: [fd, content, content.bytes.length], what, option },
      { call: "close", args: [fd], what, option }, // A mount that is written to cannot be made read-only.
    );
  };
  if (disableUserNamespaces) {
    // Whoever's /proc it is, what is written is of the user namespace that the writer is in.
    const what = "forbid user namespaces inside";
    write("/proc/sys/user/max_user_namespaces", 0, what, "disableUserNamespaces");
  }
  if (oomScoreAdj !== undefined) {
    const what = `set the score for being killed when memory is short to ${oomScoreAdj}`;
    write("/proc/self/oom_score_adj", oomScoreAdj, what, "oomScoreAdj");
  }
  return steps;
}

/** What takes capabilities, before they are given up. */
export function beforeIds(settings: PrivilegeSettings, hasSession: boolean, changesIds: boolean): readonly Step[] {
  const { rlimits, newSession, nice, cpuAffinity, privateKeyring, capabilities, umask } = settings;
  const steps: Step[] = [];
  if (newSession && !hasSession) {
    steps.push({ call: "setsid", args: [], what: "begin a session of its own", option: "newSession" });
  }
  for (const limit of rlimits) steps.push(setLimit(limit));
  if (nice !== undefined) {
    steps.push({ call: "setpriority", args: [PRIO_PROCESS, 0, nice], what: `be nice by ${nice}`, option: "nice" });
  }
  if (cpuAffinity !== undefined) steps.push(setAffinity(cpuAffinity));
  if (privateKeyring) {
    const what = "have a session keyring of its own";
    const tolerate = [["ENOSYS", 0]] as const; // A kernel without keyrings has none to share.
    steps.push({ call: "keyctl", args: [JOIN_SESSION, null], what, option: "privateKeyring", tolerate });
  }
  if (umask !== undefined) {
    const args = [{ value: umask, name: `0${umask.toString(8)}` }];
    steps.push({ call: "umask", args, what: "set the umask", option: "umask" });
  }
  if (capabilities !== undefined) {
    const option = "capabilities";
    for (const [number, name] of CAPABILITIES.entries()) {
      if (capabilities.left.has(name)) continue;
      const args = [PR_CAPBSET_DROP, { value: number, name }];
      // A kernel that does not know it has nothing to drop.
      steps.push({ call: "prctl", args, what: `drop ${name}`, option, tolerate: [["EINVAL", 0]] });
    }
    if (capabilities.isKept) {
      // And those of kernels to come. They are numbered without gaps.
      for (let number = CAPABILITIES.length; number < CAPABILITIES_MAX; number++) {
        const tolerate = [["EINVAL", CAPABILITIES_MAX - 1 - number]] as const;
        const what = `drop capability ${number}`;
        steps.push({ call: "prctl", args: [PR_CAPBSET_DROP, number], what, option, tolerate });
      }
    }
    const { isKept, left, added } = capabilities;
    if ((isKept ? left : added).size > 0 && changesIds) {
      steps.push({ call: "prctl", args: [PR_SET_KEEPCAPS, 1], what: "keep capabilities as another user", option });
    }
  }
  return steps;
}

/** What filters of system calls and rules for files take of who has no CAP_SYS_ADMIN, and what makes them safe to have. */
export function giveUpNewPrivileges(option: string): Step {
  const what = "give up gaining privileges by execve(2)";
  return { call: "prctl", args: [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0], what, option };
}

/** What is left to be given up when the command's user is who it is. */
export function afterIds({ capabilities }: PrivilegeSettings): readonly Step[] {
  if (capabilities === undefined) return [];
  const { isKept, left, added } = capabilities;
  if (isKept) return keep(left);
  return left.size < CAPABILITIES.length ? [...giveUp(left), ...add(added)] : add(added);
}

/**
 * Gives up gaining privileges, where that was asked for, or not forbidden to who is not root in a user namespace of its own.
 *
 * @param uid Who the command is in its user namespace; undefined where it has none of its own.
 */
export function noNewPrivileges(asked: boolean | undefined, uid: Caller["uid"] | undefined): readonly Step[] {
  const option = "noNewPrivs";
  const give = giveUpNewPrivileges(option);
  if (asked !== undefined) return asked ? [give] : [];
  if (uid === undefined || uid === 0) return [];
  const step: Step = { ...give, what: `${give.what}, as who is not root in a user namespace` };
  if (uid !== ANYBODY) return [step];
  const known: Bytes = { bytes: new Uint8Array(4), name: "<uid>" };
  const what = "see whether the command is root";
  return [
    { call: "geteuid", args: [], what, option, stores: { in: known, at: 0 } },
    // The word is compared, and nobody waits: root leaves out the next step.
    {
      call: "futex",
      args: [known, FUTEX_WAIT, 0, NO_TIME],
      what,
      option,
      tolerate: [["EAGAIN", 0], ["ETIMEDOUT", 1]],
    },
    step,
  ];
}

/** Ambient capabilities are what a program has that knows nothing of them. */
function keep(left: ReadonlySet<CapabilityName>): readonly Step[] {
  const option = "capabilities";
  const words = new Uint32Array(6);
  for (const [number, name] of CAPABILITIES.entries()) {
    if (!left.has(name)) continue;
    const half = number >> 5; // Effective, permitted and inheritable, of the lower 32, and of the higher.
    for (const set of [0, 1, 2]) words[half * 3 + set] = words[half * 3 + set]! | 1 << (number & 31);
  }
  const sets: Bytes = { bytes: new Uint8Array(words.buffer), name: left.size === 0 ? "<none>" : [...left].join("|") };
  const none = left.size === 0;
  return [
    {
      call: "prctl",
      args: [PR_CAP_AMBIENT, CLEAR_ALL, 0, 0, 0],
      what: "give up ambient capabilities",
      option,
    },
    {
      call: "capset",
      args: [CAPABILITY_HEADER, sets],
      what: none ? "give up all capabilities" : "keep capabilities",
      option,
    },
    ...[...left].map((name) => raise(name, "keep")),
  ];
}

function raise(name: CapabilityName, verb: "keep" | "give"): Step {
  const args = [PR_CAP_AMBIENT, RAISE, { value: CAPABILITIES.indexOf(name), name }, 0, 0];
  return { call: "prctl", args, what: `${verb} ${name} for any program`, option: "capabilities" };
}

/** It changes the second word, whoever waits for the first: futex(2). The operand is the number of a bit. */
const FUTEX_WAKE_OP: Named = { value: 5, name: "FUTEX_WAKE_OP" };
const BIT_OPERATIONS = {
  OR: 0xa000_0000, // (FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT) << 28
  ANDN: 0xb000_0000,
} as const;

/** Changes the bit of a capability in a set. */
function changeBit(
  operation: keyof typeof BIT_OPERATIONS,
  name: CapabilityName,
  sets: Bytes,
  places: readonly [number, number],
): Step {
  const number = CAPABILITIES.indexOf(name);
  const word = { in: sets, at: places[number >> 5]! };
  const bit = {
    value: BIT_OPERATIONS[operation] + ((number & 31) << 12),
    name: `FUTEX_OP(${operation}, 1 << ${number & 31})`,
  };
  const what = `${operation === "OR" ? "give" : "drop"} ${name}`;
  return { call: "futex", args: [word, FUTEX_WAKE_OP, 0, 0, word, bit], what, option: "capabilities" };
}

/** What is ambient has to be inheritable. The other sets are written as they are. */
function add(added: ReadonlySet<CapabilityName>): readonly Step[] {
  if (added.size === 0) return [];
  const option = "capabilities";
  const what = `give ${[...added].join(", ")}`;
  const sets: Bytes = { bytes: new Uint8Array(24), name: "<sets>" };
  return [
    { call: "capget", args: [CAPABILITY_HEADER, sets], what, option },
    ...[...added].map((name) => changeBit("OR", name, sets, INHERITABLE)),
    { call: "capset", args: [CAPABILITY_HEADER, sets], what, option },
    ...[...added].map((name) => raise(name, "give")),
  ];
}

/**
 * Root gets by execve(2) what is inheritable, whatever was dropped from the bounding set: CVE-2022-24769. And init, which
 * is not always executed, would have what the command could take from there by ptrace(2). What is left is written as it
 * is; 0, which both calls before return, is what is inheritable.
 */
function giveUp(left: ReadonlySet<CapabilityName>): readonly Step[] {
  const option = "capabilities";
  const sets: Bytes = { bytes: new Uint8Array(24), name: "<sets>" };
  const dropped = CAPABILITIES.filter((name) => !left.has(name));
  const what = "give up inheritable capabilities, and what is dropped";
  return [
    { call: "capget", args: [CAPABILITY_HEADER, sets], what, option, stores: { in: sets, at: INHERITABLE[0] } },
    {
      call: "prctl",
      args: [PR_CAP_AMBIENT, CLEAR_ALL, 0, 0, 0],
      what: "give up ambient capabilities",
      option,
      stores: { in: sets, at: INHERITABLE[1] },
    },
    ...[EFFECTIVE, PERMITTED].flatMap((places) => dropped.map((name) => changeBit("ANDN", name, sets, places))),
    { call: "capset", args: [CAPABILITY_HEADER, sets], what, option },
  ];
}

function setLimit({ name, soft, hard }: LimitSettings): Step {
  const shown = (value: number) => value === Infinity ? "RLIM64_INFINITY" : String(value);
  const words = BigUint64Array.from([soft, hard], (value) => value === Infinity ? 2n ** 64n - 1n : BigInt(value));
  const limits: Bytes = {
    bytes: new Uint8Array(words.buffer),
    name: `{rlim_cur=${shown(soft)}, rlim_max=${shown(hard)}}`,
  };
  const resource: Named = { value: RESOURCES.indexOf(name), name: `RLIMIT_${name.toUpperCase()}` };
  const what = `limit ${name} to ${soft === hard ? inWords(soft) : `${inWords(soft)}, at most ${inWords(hard)}`}`;
  return { call: "prlimit64", args: [0, resource, limits, null], what, option: "rlimits" };
}

function inWords(value: number): string {
  return value === Infinity ? "unlimited" : String(value);
}

function setAffinity(cpus: readonly number[]): Step {
  const bytes = new Uint8Array(Math.ceil((Math.max(...cpus) + 1) / 64) * 8);
  for (const cpu of cpus) bytes[cpu >> 3] = bytes[cpu >> 3]! | 1 << (cpu & 7);
  const mask: Bytes = { bytes, name: `[${[...new Set(cpus)].sort((a, b) => a - b).join(" ")}]` };
  return {
    call: "sched_setaffinity",
    args: [0, bytes.length, mask],
    what: `run on CPU ${cpus.join(", ")}`,
    option: "cpuAffinity",
  };
}
