/**
 * Plans for people: every step in order, with the option that asked for it and a sentence about it.
 *
 * @module
 */

import { visible } from "../quoted.ts";
import { ANYBODY, type Caller, type Capability, type KnownCaller } from "./caller.ts";
import { describeArgument, describeCall } from "./describe.ts";
import { cloneStep, type Plan, type Step } from "./step.ts";

/** One system call of an {@linkcode Explanation}. */
export interface ExplainedStep {
  /**
   * Who makes it: this process, the child before it executes its program, or a helper, which executes newuidmap(1) or
   * newgidmap(1) while both wait.
   */
  readonly by: "parent" | "child" | "helper";
  /** Its name, such as `"mount"`. */
  readonly call: string;
  /** Its arguments as strace(1) would print them. `<openat>` stands for what an earlier openat(2) returned. */
  readonly args: readonly string[];
  /** Both, such as `sethostname("box", 3)`. */
  readonly text: string;
  /** What it does, such as `mount proc at "/proc"`. */
  readonly what: string;
  /** The option that asked for it, where one did. */
  readonly option: string | undefined;
  /**
   * Where it is not always made: errnos, with one of which a step before it must have been refused. Older kernels need
   * such a step, or a search in PATH.
   */
  readonly onlyAfter: readonly string[];
  /** Errnos that are no failure. */
  readonly tolerates: readonly string[];
}

/** Who asks, as far as plans depend on it. */
export interface ExplainedCaller {
  /** The effective user id; `"anybody"` for a plan that is made before that is known. */
  readonly uid: number | "anybody";
  /** The effective group id. */
  readonly gid: number | "anybody";
  /** Those effective capabilities that plans depend on. */
  readonly capabilities: readonly string[];
}

/** Somebody to explain a command for, without being it. */
export interface Somebody {
  /** The effective user id. */
  readonly uid: number;
  /** The effective group id. @default {the same number as the user id} */
  readonly gid?: number | undefined;
  /** The effective capabilities: see capabilities(7). @default {"all" for user 0, "none" for anybody else} */
  readonly capabilities?: "all" | "none" | readonly string[] | undefined;
}

/**
 * What is done to run a command: `Namespace.explain()` makes it. As a string it is for people to read, in JSON it is
 * {@linkcode caller}, {@linkcode before}, {@linkcode clone} and {@linkcode steps}.
 */
export class Explanation {
  /** Who asks. */
  readonly caller: ExplainedCaller;
  /** What this process does before the clone: it makes the cgroup of option `cgroup`. */
  readonly before: readonly ExplainedStep[];
  /** The clone(2) that makes the child, and its namespaces but the one for time. Other flags that it has are left out. */
  readonly clone: ExplainedStep;
  /** All that is done between the clone and the program's first instruction, in order; the parent's steps first. */
  readonly steps: readonly ExplainedStep[];

  /** Not for users: `Namespace.explain()` makes explanations. */
  constructor(plan: Plan, { uid, gid, capabilities }: Caller) {
    this.caller = { uid, gid, capabilities: [...capabilities] };
    this.before = explainSection("parent", plan.before ?? []);
    this.clone = explainStep("parent", cloneStep(plan), []);
    this.steps = [...explainSection("parent", plan.parent), ...explainSection("child", plan.child)];
  }

  /**
   * The explanation as text: the caller, the clone, then every step, under the option that asked for it.
   *
   * @param color Whether it is for a terminal that shows colours.
   * @returns Lines without a newline after the last.
   */
  toString(color = false): string {
    const [bold, dim, green, off] = color ? ["\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m"] : ["", "", "", ""];
    const { uid, gid, capabilities } = this.caller;
    const having = capabilities.length === 0 ? "without capabilities" : `with ${capabilities.join(", ")}`;
    const who = uid === ANYBODY ? "whoever runs it" : `user ${uid}, group ${gid}`;
    const lines = [`For ${who}, ${having}:`];
    let actor: string | undefined;
    let option: string | undefined | null = null;
    for (const step of [...this.before, this.clone, ...this.steps]) {
      const isFirst = step === this.clone || this.before.includes(step);
      const title = isFirst ? "This process" : TITLES[step.by];
      if (title !== actor) {
        lines.push("", `${bold}${title}:${off}`);
        option = null;
      }
      if (step.option !== option) lines.push(`  ${green}${reason(step)}${off}`);
      actor = title;
      option = step.option;
      lines.push(`    ${step.text}`, `      ${dim}${sentence(step)}${off}`);
    }
    return lines.join("\n");
  }

  /** What JSON.stringify() takes. */
  toJSON(): Pick<Explanation, "caller" | "before" | "clone" | "steps"> {
    return { caller: this.caller, before: this.before, clone: this.clone, steps: this.steps };
  }
}

const TITLES = { parent: "This process, then", helper: "A helper", child: "The child" } as const;

function reason({ by, call, option }: ExplainedStep): string {
  if (option !== undefined) return `for ${option}`;
  // The maps of a user namespace that nobody has asked for.
  return by === "parent" && call !== "clone" ? "for a caller without CAP_SYS_ADMIN" : "for every command";
}

function sentence({ what, onlyAfter, tolerates }: ExplainedStep): string {
  const parts = [`${what[0]!.toUpperCase()}${what.slice(1)}.`];
  if (onlyAfter.length > 0) parts.push(`Only after ${either(onlyAfter)}.`);
  if (tolerates.length > 0) parts.push(`Goes on after ${either(tolerates)}.`);
  return parts.join(" ");
}

function either(errnos: readonly string[]): string {
  return errnos.length < 2 ? errnos.join() : `${errnos.slice(0, -1).join(", ")} or ${errnos.at(-1)}`;
}

function explainStep(by: ExplainedStep["by"], step: Step, onlyAfter: readonly string[]): ExplainedStep {
  return {
    by,
    call: step.call,
    args: step.args.map(describeArgument),
    text: describeCall(step),
    what: visible(step.what),
    option: step.option,
    onlyAfter,
    tolerates: (step.tolerate ?? []).map(([errno]) => errno),
  };
}

function explainSection(by: "parent" | "child", section: readonly Step[]): ExplainedStep[] {
  const always = new Set<number>();
  let helperEnd = 0;
  for (let index = 0; index < section.length;) {
    const { call, helper, skip = 0 } = section[index]!;
    always.add(index);
    if (helper) helperEnd = index + 1 + skip;
    // It does not return.
    if (call.startsWith("execve") && index >= helperEnd) break;
    index = call.startsWith("execve") ? helperEnd : index + 1 + (helper ? 0 : skip);
  }
  const onlyAfter: string[][] = section.map(() => []);
  const helpers = new Set<number>();
  for (const [index, { call, helper, skip = 0, tolerate = [] }] of section.entries()) {
    if (helper) { for (let nth = 1; nth <= skip; nth++) helpers.add(index + nth); }
    for (const [errno, left] of tolerate) onlyAfter[index + 1 + left]?.push(errno);
    // What follows on a step that is not always made is not always made either, and for the same reason.
    if (!always.has(index) && !call.startsWith("execve")) onlyAfter[index + 1 + skip]?.push(...onlyAfter[index]!);
  }
  return section.map((step, index) => {
    const actor = helpers.has(index) ? "helper" : by;
    return explainStep(actor, step, always.has(index) ? [] : [...new Set(onlyAfter[index])]);
  });
}

/** The capabilities that there are, from linux/capability.h. */
const CAPABILITIES: readonly string[] =
  ("CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE " +
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN " +
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE " +
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE")
    .split(" ").map((name) => `CAP_${name}`);

/** Those that plans depend on. */
const DEPENDED_ON = ["CAP_SETGID", "CAP_SETUID", "CAP_SYS_ADMIN"] as const satisfies readonly Capability[];

/**
 * Somebody as a caller of plans.
 *
 * @throws {TypeError} When there is no such capability.
 */
export function callerOf({ uid, gid = uid, capabilities = uid === 0 ? "all" : "none" }: Somebody): KnownCaller {
  const has = capabilities === "all" ? CAPABILITIES : capabilities === "none" ? [] : capabilities;
  const unknown = has.find((name) => !CAPABILITIES.includes(name));
  if (unknown !== undefined) {
    throw new TypeError(
      `Option "as.capabilities" must have names such as "CAP_SYS_ADMIN": got ${JSON.stringify(unknown)}`,
    );
  }
  return { uid, gid, capabilities: new Set(DEPENDED_ON.filter((name) => has.includes(name))) };
}
