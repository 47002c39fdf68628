/**
 * The machine of the shim, in WebAssembly, over a simulated kernel: what a plan does, seen call by call without doing it,
 * and what comes of it when a call is refused. It needs no permission, and works on any system.
 *
 * @module
 */

import { errnoNumber } from "../abi/errno.ts";
import { type Architecture, elfMachine, type SyscallName, syscallNumber } from "../abi/syscalls.ts";
import type { Caller } from "../plan/caller.ts";
import { encode } from "../plan/encode.ts";
import { cloneStep, type Plan, type Step } from "../plan/step.ts";
import type { Refused, Spawned, Target } from "./library.ts";
import {
  type Actor,
  answer,
  type Decoded,
  type Fault,
  type Files,
  type SimulatedCall,
  SimulatedProcess,
} from "./simulated_kernel.ts";
import { SIMULATOR } from "./simulator_artifact.ts";

/** How to read an argument. `size` bytes are at the address; `counted`: as many as the next argument says. */
type Kind = "number" | "text" | "texts" | "word" | "counted" | { readonly size: number };

/** The arguments of each call that plans make; a plan with any other is refused. */
const SIGNATURES: Readonly<Partial<Record<SyscallName, readonly Kind[]>>> = {
  capget: [{ size: 8 }, { size: 24 }],
  capset: [{ size: 8 }, { size: 24 }],
  chdir: ["text"],
  chroot: ["text"],
  clone: ["number"],
  close: ["number"],
  close_range: ["number", "number", "number"],
  dup3: ["number", "number", "number"],
  execve: ["text", "texts", "texts"],
  execveat: ["number", "text", "texts", "texts", "number"],
  faccessat: ["number", "text", "number"],
  fallocate: ["number", "number", "number", "number"],
  fchdir: ["number"],
  fchmod: ["number", "number"],
  fchmodat: ["number", "text", "number"],
  fchown: ["number", "number", "number"],
  fcntl: ["number", "number", "number"],
  fsconfig: ["number", "number", "text", "text", "number"],
  fsmount: ["number", "number", "number"],
  fsopen: ["text", "number"],
  futex: ["word", "number", "number", { size: 16 }],
  getegid: [],
  geteuid: [],
  ioctl: ["number", "number", { size: 40 }],
  keyctl: ["number", "number"],
  landlock_add_rule: ["number", "number", { size: 16 }, "number"],
  landlock_create_ruleset: ["counted", "number", "number"],
  landlock_restrict_self: ["number", "number"],
  mkdirat: ["number", "text", "number"],
  mknodat: ["number", "text", "number"],
  mount: ["text", "text", "text", "number", "text"],
  mount_setattr: ["number", "text", "number", { size: 32 }, "number"],
  move_mount: ["number", "text", "number", "text", "number"],
  open_tree: ["number", "text", "number"],
  openat: ["number", "text", "number"],
  openat2: ["number", "text", { size: 24 }, "number"],
  pivot_root: ["text", "text"],
  prctl: ["number", "number"],
  prlimit64: ["number", "number", { size: 16 }, "number"],
  read: ["number", "counted", "number"],
  remount_tree: ["number", "text", "number", { size: 32 }, "number", "number"],
  rt_sigprocmask: ["number", { size: 8 }, { size: 8 }, "number"],
  sched_setaffinity: ["number", "number", { size: 16 }],
  seccomp: ["number", "number", { size: 16 }],
  setdomainname: ["text", "number"],
  setgroups: ["number", { size: 4 }],
  sethostname: ["text", "number"],
  setns: ["number", "number"],
  setpriority: ["number", "number", "number"],
  setresgid: ["number", "number", "number"],
  setresuid: ["number", "number", "number"],
  setsid: [],
  socket: ["number", "number", "number"],
  symlinkat: ["text", "number", "text"],
  umask: ["number"],
  umount2: ["text", "number"],
  unshare: ["number"],
  write: ["number", "counted", "number"],
};

interface Machine {
  readonly memory: WebAssembly.Memory;
  reserve(size: number, steps: number): number;
  open(architecture: number, pid: number): number;
  words(): number;
  execute(section: number): bigint;
  closeOpened(section: number): void;
}

const PARENT_SECTION = 0;
const CHILD_SECTION = 1;
/** `not_run` of shim/plan.zig. */
const NOT_RUN = -(2n ** 63n);
/** Stops the machine where a process has become another program: an errno that Linux does not have. */
const REPLACED = 4095;
/** What the first simulated child is called. */
const FIRST_PID = 1000;

let compiled: WebAssembly.Module | undefined;

/** What the simulated process is like. */
export interface SimulatorOptions extends Files {
  /** Refuses calls. @default {none is refused} */
  readonly fault?: Fault | undefined;
  /** Whose call numbers plans have. @default {"x86_64"} */
  readonly architecture?: Architecture | undefined;
  /** Who asks. @default {root} */
  readonly caller?: Caller | undefined;
}

/**
 * A process that executes plans, as `Library` does in the real one, and with its interface as far as plans go.
 * It lives on from one plan to the next.
 */
export class Simulator {
  /** Every call that was made, in order; the parent's before its child's. */
  readonly calls: SimulatedCall[] = [];
  /** The process itself; of its threads the one that calls. */
  readonly process: SimulatedProcess = new SimulatedProcess();
  /** Two other threads: where one is moved and the other refuses, they differ. */
  readonly threads: readonly SimulatedProcess[] = [
    new SimulatedProcess(this.process),
    new SimulatedProcess(this.process),
  ];
  /** The last child; it has ended, without a program, where a step was refused. */
  child: SimulatedProcess | undefined;
  readonly #options: SimulatorOptions;
  readonly #architecture: Architecture;
  readonly #names: ReadonlyMap<number, SyscallName>;
  readonly #machine: Machine;
  readonly #made = { parent: 0, child: 0, thread: 0 };
  #helper: SimulatedProcess | undefined;
  #pid = FIRST_PID - 1;
  #by: Actor = "parent";
  /** Where the results of the present plan's section are. */
  #resultsAt = 0;

  /** Makes a process that is root, in its home folder, with 0, 1 and 2 open. */
  constructor(options: SimulatorOptions = {}) {
    this.#options = options;
    this.#architecture = options.architecture ?? "x86_64";
    const names = Object.keys(SIGNATURES) as SyscallName[];
    this.#names = new Map(names.map((name) => [syscallNumber(name, this.#architecture), name]));
    compiled ??= new WebAssembly.Module(Uint8Array.fromBase64(SIMULATOR));
    const kernel = {
      call: (number: number, ...args: bigint[]): bigint => BigInt(this.#call(number, args)),
      close: (fd: bigint): void => {
        this.#record("close", [Number(fd)]);
      },
      helped: (): number => {
        this.#by = "parent";
        return Number(this.#helper?.program !== undefined);
      },
    };
    this.#machine = new WebAssembly.Instance(compiled, { kernel }).exports as unknown as Machine;
  }

  /** As `Library.context`; the environment is empty. */
  context(): { readonly caller: Caller; readonly environment: Uint8Array } {
    const root: Caller = { uid: 0, gid: 0, capabilities: new Set(["CAP_SETGID", "CAP_SETUID", "CAP_SYS_ADMIN"]) };
    return { caller: this.#options.caller ?? root, environment: new Uint8Array() };
  }

  /** As `Library.spawn`: clones a child that executes the plan. */
  spawn(plan: Plan): Spawned | Refused {
    const { parent, child, cloneFlags } = plan;
    const pid = ++this.#pid;
    this.child = undefined;
    this.#by = "parent";
    const cloned = this.#record("clone", [cloneFlags.value], () => {
      this.child = new SimulatedProcess(this.process, cloneFlags.value);
      return pid;
    });
    if (cloned < 0) {
      const step = cloneStep(plan);
      return { step, errno: -cloned, section: [step], results: [cloned] };
    }
    this.process.making = this.child;
    const pidfd = this.process.open({ path: "pidfd" }, true);
    this.#load(plan, pid);

    const refused = this.#section(PARENT_SECTION, parent) ??
      this.#inChild(() => this.#section(CHILD_SECTION, child));
    this.process.making = undefined;
    if (refused === undefined) return { pid, pidfd };
    this.child!.fds.clear(); // It is ended, and reaped.
    this.process.fds.delete(pidfd);
    return refused;
  }

  /** As `Library.execute`: executes steps in the calling thread. */
  execute(steps: readonly Step[]): Refused | { readonly results: readonly (number | undefined)[] } {
    const plan: Plan = { cloneFlags: { value: 0, name: "0" }, cloneOption: undefined, parent: [], child: steps };
    this.#by = "parent";
    this.#load(plan, 0);
    const refused = this.#section(CHILD_SECTION, steps);
    return refused ?? { results: this.#results(steps.length) };
  }

  /** As `Library.moveThreads`. */
  moveThreads(targets: readonly Target[], folder: number): number {
    this.#by = "thread";
    for (const thread of this.threads) {
      // Threads have one table of descriptors.
      for (const fd of thread.fds.keys()) thread.fds.delete(fd);
      for (const [fd, descriptor] of this.process.fds) thread.fds.set(fd, descriptor);
      for (const { fd, kind } of targets) {
        const result = this.#record("setns", [fd, kind], () => answer(thread, "setns", [fd, kind], undefined, {}));
        if (result < 0) return -result;
      }
      if (folder >= 0) answer(thread, "fchdir", [folder], undefined, {});
      else thread.cwd = this.process.cwd;
    }
    return 0;
  }

  /** As `Library.close`. */
  close(fd: number): void {
    this.#by = "parent";
    this.#record("close", [fd]);
  }

  #inChild<Result>(work: () => Result): Result {
    const words = this.#machine.words();
    if (words !== 0) this.#view().setUint32(words + 4, 1, true); // The parent's steps are done.
    this.#by = "child";
    const result = work();
    this.#by = "parent";
    return result;
  }

  #load(plan: Plan, pid: number): void {
    const bytes = encode(plan, this.#architecture);
    const at = this.#machine.reserve(bytes.length, Math.max(plan.parent.length, plan.child.length));
    if (at === 0) throw new RangeError(`Cannot simulate a plan of ${bytes.length} bytes: there is no memory for it`);
    new Uint8Array(this.#machine.memory.buffer).set(bytes, at);
    this.#resultsAt = at + Math.ceil(bytes.length / 8) * 8;
    const refusal = this.#machine.open(elfMachine(this.#architecture), pid);
    if (refusal !== 0) throw new Error(`Cannot simulate a plan: the machine refuses it (${refusal})`);
    const words = this.#machine.words();
    if (words !== 0) this.#view().setUint32(words, FIRST_PID - 1, true); // Its parent's tid.
  }

  /** Executes one section; returns what was refused. */
  #section(section: number, steps: readonly Step[]): Refused | undefined {
    if (steps.length === 0) return undefined;
    const outcome = this.#machine.execute(section);
    const results = this.#results(steps.length);
    const index = Number(outcome & 0xffff_ffffn), errno = Number(outcome >> 32n);
    if (errno === REPLACED) return undefined;
    if (this.#by === "parent") this.#machine.closeOpened(section);
    if (this.#by === "child" && errno === 0) {
      return { step: steps.at(-1)!, errno: errnoNumber("ENOEXEC"), section: steps, results };
    }
    return errno === 0 ? undefined : { step: steps[index]!, errno, section: steps, results };
  }

  #results(stepCount: number): (number | undefined)[] {
    const words = new BigInt64Array(this.#machine.memory.buffer, this.#resultsAt, stepCount);
    return Array.from(words, (value) => value === NOT_RUN ? undefined : Number(value));
  }

  #view(): DataView {
    return new DataView(this.#machine.memory.buffer);
  }

  #call(number: number, raw: readonly bigint[]): number {
    const name = this.#names.get(number);
    if (name === undefined) throw new Error(`Cannot simulate a plan: there is no model of system call ${number}`);
    const args = SIGNATURES[name]!.map((kind, index) => this.#decode(kind, raw, index));
    const word = name === "futex" ? this.#view().getUint32(Number(raw[0]), true) : undefined;
    const process = this.#actor();
    const result = this.#record(name, args, () => {
      return name === "clone" ? this.#help() : answer(process, name, args, word, this.#options);
    });
    if (name === "clone" && result > 0) this.#by = "helper";
    return name.startsWith("execve") && result === 0 ? -REPLACED : result;
  }

  #actor(): SimulatedProcess {
    return this.#by === "child" ? this.child! : this.#by === "helper" ? this.#helper! : this.process;
  }

  /** Makes a helper, who calls from then on. */
  #help(): number {
    this.#helper = new SimulatedProcess(this.process);
    return ++this.#pid;
  }

  /** Answers a call of whoever acts, and keeps what was answered. */
  #record(call: SyscallName, args: readonly Decoded[], work?: () => number): number {
    const process = this.#actor();
    const attempt = { by: this.#by, call, args };
    const errno = this.#options.fault?.(attempt, this.#made[this.#by === "helper" ? "parent" : this.#by]++);
    const result = errno !== undefined
      ? -errnoNumber(errno)
      : work?.() ?? answer(process, call, args, undefined, this.#options);
    this.calls.push({ ...attempt, result });
    return result;
  }

  #decode(kind: Kind, raw: readonly bigint[], index: number): Decoded {
    const value = Number(BigInt.asIntN(64, raw[index]!));
    if (kind === "number") return value;
    if (value === 0) return null;
    if (kind === "text") return this.#text(value);
    if (kind === "word") return ["&parent", "&go"][(value - this.#machine.words()) / 4] ?? value;
    if (kind === "texts") {
      const texts: string[] = [];
      for (let at = value;; at += 8) {
        const address = Number(this.#view().getBigUint64(at, true));
        if (address === 0) return texts;
        texts.push(this.#text(address));
      }
    }
    const size = kind === "counted" ? Number(raw[index + 1]) : kind.size;
    return new Uint8Array(this.#machine.memory.buffer).slice(value, value + size);
  }

  #text(address: number): string {
    const bytes = new Uint8Array(this.#machine.memory.buffer);
    return new TextDecoder().decode(bytes.subarray(address, bytes.indexOf(0, address)));
  }
}
