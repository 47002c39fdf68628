/**
 * The shim, loaded: the only place that knows of pointers and of the shared library's functions.
 *
 * With `--allow-ffi` alone there is no file to load it from, so it is put into memory (memfd_create(2)) and loaded from
 * there. Nothing is loaded before it is first needed.
 *
 * @module
 */

import { errnoName, errnoText } from "../abi/errno.ts";
import { type Architecture, elfMachine, type SyscallName, syscallNumber } from "../abi/syscalls.ts";
import { capabilitiesOf, type KnownCaller } from "../plan/caller.ts";
import { describeCall, describeResult } from "../plan/describe.ts";
import { encode, fillTerminal, LAYOUT, takeFilled } from "../plan/encode.ts";
import { cloneStep, type Plan, type Step } from "../plan/step.ts";
import { LIBRARIES } from "./artifacts.ts";

/** What every spawn needs. Each function costs some 80 µs when it is opened, so there are few. */
const symbols = {
  ns_abi: { type: "pointer" }, // const Abi ns_abi
  ns_run: {
    parameters: [
      "u32", // uint32_t in_child
      "i32", // int cgroup
      "buffer", // uint8_t *plan
      "u32", // uint32_t size
      "buffer", // Report *report
      "buffer", // int64_t *results
      "u32", // uint32_t results_len
    ],
    result: "i32",
  },
  ns_call: {
    parameters: [
      "u32", // uint32_t number
      "i32", // int32_t a
      "i32", // int32_t b
      "i32", // int32_t c
      "i32", // int32_t d
    ],
    result: "i32",
  },
  ns_context: {
    parameters: [
      "pointer", // char ***environ
      "buffer", // uint8_t *buffer
      "u32", // uint32_t capacity
      "u32", // uint32_t known
      "buffer", // Caller *caller
    ],
    result: "i32",
  },
  ns_wait: {
    parameters: [
      "i32", // int pidfd
      "u32", // uint32_t options
      "buffer", // Status *out
    ],
    result: "i32",
  },
  ns_epoll_control: {
    parameters: [
      "i32", // int epoll
      "u32", // uint32_t operation
      "i32", // int fd
      "u32", // uint32_t events
      "u32", // uint32_t token
    ],
    result: "i32",
  },
  ns_watched: { type: "pointer" }, // Event ns_watched[64]
  ns_watch: {
    parameters: [
      "i32", // int epoll
      "i32", // int timeout, in ms
      "i32", // int owner, a thread
    ],
    result: "i32",
    nonblocking: true,
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** What only pipes need. */
const pipeSymbols = {
  ns_pipe: {
    parameters: [
      "u32", // uint32_t ours
      "buffer", // int out[2]
    ],
    result: "i32",
  },
  ns_transfer: {
    parameters: [
      "u32", // uint32_t number
      "i32", // int fd
      "buffer", // void *buffer
      "u32", // uint32_t size
    ],
    result: "i32",
  },
  ns_epoll_wait: {
    parameters: [
      "i32", // int epoll
      "i32", // int timeout, in ms
      "buffer", // Event out[64]
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** What only `setup()` needs: once, so it is called by its address, and no library of Deno's stays open for it. */
const setupSymbols = {
  ns_move_threads: { type: "pointer" }, // int32_t ns_move_threads(…)
} as const satisfies Deno.ForeignLibraryInterface;
const moveThreadsFunction = {
  parameters: [
    "buffer", // const Target *targets
    "u32", // uint32_t count
    "i32", // int folder
  ],
  result: "i32",
} as const satisfies Deno.ForeignFunction;

/** What both sides know, in the order of `abi` in shim/library.zig. */
const ABI = ["version", "architecture", "header", "step", "words", "report", "caller", "status", "event"] as const;
const REPORT_WORDS = 5;
const CALLER_WORDS = 4;
const STATUS_WORDS = 3;
const EVENT_WORDS = 2 + STATUS_WORDS;
const EVENTS_MAX = 64;
/** `Stage` of shim/spawn.zig. */
const STAGES = ["none", "plan", "memory", "clone", "parent", "child"] as const;

const MFD_CLOEXEC = 1;
/** Since Linux 6.3. It is about execve, not about loading; and vm.memfd_noexec=2 refuses a memfd without it. */
const MFD_NOEXEC_SEAL = 8;

const O_CLOEXEC = 0o2000000;
const WNOHANG = 1;
const CLD_EXITED = 1;

/** What a child can have of its own. */
export interface Own {
  /** The child's side of its terminal. */
  readonly terminal?: number | undefined;
  /** Descriptor of the cgroup that it is born in. @default {this process's own cgroup} */
  readonly cgroup?: number | undefined;
}

/** A child that was cloned and has executed its program. */
export interface Spawned {
  readonly pid: number;
  /** To be closed by {@linkcode Library.close}. */
  readonly pidfd: number;
}

/** A step that was refused, and what all steps of its section returned; undefined for those that were not reached. */
export interface Refused {
  readonly step: Step;
  readonly errno: number;
  readonly section: readonly Step[];
  readonly results: readonly (number | undefined)[];
}

/** The two ends of a pipe. */
export type Ends = readonly [read: number, write: number];

/** How a child ended. */
export type Ending = { readonly code: number } | { readonly signal: number };

/** Bit of a token that says: the descriptor is a child's pidfd, to be reaped when it is ready. */
export const CHILD_TOKEN = 0x8000_0000;

/** A namespace to go to: a descriptor of it, and its kind as a CLONE_NEW* flag. */
export interface Target {
  readonly fd: number;
  readonly kind: number;
}

/** What {@linkcode Library.poll} reports. */
export interface Event {
  readonly token: number;
  /** How the child ended, where the token is a child's and it has. */
  readonly ending: Ending | undefined;
}

let loaded: Library | undefined;

/** The shim, loaded when it is first asked for. */
export function library(): Library {
  return loaded ??= new Library();
}

/** The architecture that this process runs on. */
const ARCHITECTURE: Architecture = Deno.build.arch;

/** The shim's functions, with the types of TypeScript. */
export class Library {
  readonly #shim: Deno.DynamicLibrary<typeof symbols>["symbols"];
  readonly #path: string;
  /** Each symbol takes a tenth of a millisecond or two, so they are loaded when they are first needed. */
  #pipeShim: Deno.DynamicLibrary<typeof pipeSymbols>["symbols"] | undefined;
  /** libc's `environ`, which follows Deno.env.set, as /proc/self/environ does not. */
  readonly #environ: Deno.PointerValue;
  #buffer = new Uint8Array(8192);
  #environment: Uint8Array = new Uint8Array();
  readonly #report = new Int32Array(REPORT_WORDS);
  #results = new BigInt64Array(64);
  readonly #status = new Int32Array(STATUS_WORDS);
  readonly #callerWords = new Uint32Array(CALLER_WORDS);
  /** The thread that runs this realm's JavaScript. */
  #thread: number | undefined;
  /** Where the shim leaves the events of {@linkcode watch}. */
  #watched: Int32Array | undefined;
  #effective: number | undefined;
  #caller: KnownCaller | undefined;

  /**
   * Loads the shim.
   *
   * @throws {Deno.errors.NotSupported} On anything but Linux on x86_64 or aarch64.
   * @throws {Deno.errors.NotCapable} Without `--allow-ffi`.
   */
  constructor() {
    if (Deno.build.os !== "linux") throw new Deno.errors.NotSupported("Cannot make namespaces: they are Linux's own");
    const libc = Deno.dlopen("libc.so.6", {
      memfd_create: { parameters: ["buffer", "u32"], result: "i32" }, // const char *name, unsigned int flags
      write: { parameters: ["i32", "buffer", "usize"], result: "isize" }, // int fd, const void *buffer, size_t size
      environ: { type: "pointer" },
    });
    this.#environ = libc.symbols.environ;
    const { memfd_create, write } = libc.symbols;
    const name = new TextEncoder().encode("sys-linux-namespace\0");
    let fd = memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (fd < 0) fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0) {
      throw new Deno.errors.NotSupported(
        "Cannot load the shim: memfd_create(2) is refused, by a seccomp filter perhaps, or there are as many files open " +
          "as there may be (ulimit -n)",
      );
    }
    const bytes = Uint8Array.fromBase64(LIBRARIES[ARCHITECTURE]);
    if (Number(write(fd, bytes, BigInt(bytes.length))) !== bytes.length) {
      throw new Deno.errors.WriteZero("Cannot load the shim: there is no memory for it");
    }
    // The descriptor stays open: glibc knows a library by its path, and would take the next one of this number for it.
    this.#path = `/proc/self/fd/${fd}`;
    this.#shim = Deno.dlopen(this.#path, symbols).symbols;
    this.#checkAbi();
  }

  #checkAbi(): void {
    const theirs = new Uint32Array(Deno.UnsafePointerView.getArrayBuffer(this.#shim.ns_abi!, ABI.length * 4));
    const ours: Record<typeof ABI[number], number> = {
      version: LAYOUT.version,
      architecture: elfMachine(ARCHITECTURE),
      header: LAYOUT.header,
      step: LAYOUT.step,
      words: LAYOUT.words,
      report: REPORT_WORDS * 4,
      caller: CALLER_WORDS * 4,
      status: STATUS_WORDS * 4,
      event: EVENT_WORDS * 4,
    };
    const different = ABI.filter((name, index) => theirs[index] !== ours[name]);
    if (different.length > 0) {
      throw new Error(`Cannot use the shim: its ${different.join(", ")} differ; run "deno task build"`);
    }
  }

  /**
   * Clones a child that executes the plan.
   *
   * @param trace Is told every step that was executed, and its result.
   * @param own What it has of its own.
   */
  spawn(plan: Plan, trace?: (line: string) => void, own: Own = {}): Spawned | Refused {
    const { parent, child } = plan;
    const count = parent.length + child.length;
    const bytes = encode(plan, ARCHITECTURE);
    const { terminal, cgroup = -1 } = own;
    if (terminal !== undefined) fillTerminal(bytes, () => this.#terminalNumber(terminal));
    const report = this.#run(true, bytes, count, cgroup);
    const pid = report[0]!, pidfd = report[1]!, stage = STAGES[report[2]!], index = report[3]!, errno = report[4]!;
    if (stage === "none" && trace === undefined) return { pid, pidfd };

    const results = this.#takeResults(count);
    const clone = cloneStep(plan);
    if (trace !== undefined) {
      traceSteps(trace, [clone, ...parent, ...child], [stage === "clone" ? -errno : pid, ...results]);
      const program = stage === "none" ? underWay(child, results.slice(parent.length)) : undefined;
      if (program !== undefined) trace(`${describeCall(program)} = 0`);
    }
    switch (stage) {
      case "none":
        return { pid, pidfd };
      case "clone":
        return { step: clone, errno, section: [clone], results: [-errno] };
      case "parent":
        return { step: parent[index]!, errno, section: parent, results };
      case "child":
        return { step: child[index] ?? child.at(-1)!, errno, section: child, results: results.slice(parent.length) };
      case "memory":
        return { step: MAPPING, errno, section: [MAPPING], results: [-errno] };
      default:
        throw new Error(`Cannot execute a plan: the machine refuses it (${errno})`);
    }
  }

  /** Executes steps in the calling thread, and says which was refused, or what they returned. */
  execute(
    steps: readonly Step[],
    trace?: (line: string) => void,
  ): Refused | { readonly results: readonly (number | undefined)[] } {
    const plan: Plan = { cloneFlags: { value: 0, name: "0" }, cloneOption: undefined, parent: [], child: steps };
    const report = this.#run(false, encode(plan, ARCHITECTURE), steps.length);
    const stage = STAGES[report[2]!], index = report[3]!, errno = report[4]!;
    const results = this.#takeResults(steps.length);
    takeFilled(plan);
    if (trace !== undefined) traceSteps(trace, steps, results);
    if (stage === "none") return { results };
    if (stage !== "child") throw new Error(`Cannot execute a plan: the machine refuses it (${errno})`);
    return { step: steps[index]!, errno, section: steps, results };
  }

  #run(inChild: boolean, bytes: Uint8Array<ArrayBuffer>, stepCount: number, cgroup = -1): Int32Array {
    if (this.#results.length < stepCount) this.#results = new BigInt64Array(stepCount * 2);
    this.#shim.ns_run(inChild ? 1 : 0, cgroup, bytes, bytes.length, this.#report, this.#results, stepCount);
    return this.#report;
  }

  /** What the steps of the last run returned. */
  #takeResults(stepCount: number): (number | undefined)[] {
    return Array.from(this.#results.subarray(0, stepCount), (value) => value === NOT_RUN ? undefined : Number(value));
  }

  /**
   * Who this process is at this moment, and its environment: strings that end with a NUL, one after the other. Both are
   * the same objects as before where nothing has changed.
   */
  context(): { readonly caller: KnownCaller; readonly environment: Uint8Array } {
    let known = this.#environment.length;
    while (true) {
      const size = this.#shim.ns_context(this.#environ, this.#buffer, this.#buffer.length, known, this.#callerWords);
      if (size < 0) break;
      if (size <= this.#buffer.length) {
        this.#environment = this.#buffer.slice(0, size);
        break;
      }
      this.#buffer = new Uint8Array(size * 2);
      known = 0;
    }
    const [uid, gid, effective] = this.#callerWords as unknown as [number, number, number];
    if (this.#effective !== effective || this.#caller?.uid !== uid || this.#caller.gid !== gid) {
      this.#effective = effective;
      this.#caller = { uid, gid, capabilities: capabilitiesOf(effective) };
    }
    return { caller: this.#caller, environment: this.#environment };
  }

  /** Waits for a child to end, and takes its ending. */
  wait(pidfd: number): Ending {
    return this.#wait(pidfd, 0)!;
  }

  /** Takes the ending of a child that has ended. */
  tryWait(pidfd: number): Ending | undefined {
    return this.#wait(pidfd, WNOHANG);
  }

  #wait(pidfd: number, options: number): Ending | undefined {
    const result = this.#shim.ns_wait(pidfd, options, this.#status);
    if (result < 0) this.#status[0] = result;
    return readEnding(this.#status, 0);
  }

  /** Sends a signal to a child; says whether it was still there to get it. */
  signal(pidfd: number, number: number): boolean {
    return this.#call("pidfd_send_signal", pidfd, number) === 0;
  }

  close(fd: number): void {
    this.#call("close", fd);
  }

  /** An epoll instance, close-on-exec, or minus an errno. */
  epollCreate(): number {
    return this.#call("epoll_create1", O_CLOEXEC);
  }

  /** A descriptor that is always ready to be written: an eventfd(2), close-on-exec; or minus an errno. */
  eventCounter(): number {
    return this.#call("eventfd2", 0, O_CLOEXEC);
  }

  /** epoll_ctl(2); says whether it was done. */
  epollControl(epoll: number, operation: number, fd: number, events: number, token: number): boolean {
    return this.#shim.ns_epoll_control(epoll, operation, fd, events, token) === 0;
  }

  #call(name: SyscallName, a: number, b = 0): number {
    return this.#shim.ns_call(syscallNumber(name, ARCHITECTURE), a, b, 0, 0);
  }

  get #pipes(): Deno.DynamicLibrary<typeof pipeSymbols>["symbols"] {
    return this.#pipeShim ??= Deno.dlopen(this.#path, pipeSymbols).symbols;
  }

  /** A pipe, close-on-exec, whose end for this process (0 to read, 1 to write, 2 neither) does not block; or an errno. */
  pipe(ours: 0 | 1 | 2): Ends | number {
    const ends = new Int32Array(2);
    const result = this.#pipes.ns_pipe(ours, ends);
    return result < 0 ? -result : [ends[0]!, ends[1]!];
  }

  /** Reads into a buffer that is not empty: a number of bytes, 0 at the end, or minus an errno. */
  read(fd: number, buffer: Uint8Array<ArrayBuffer>): number {
    return this.#pipes.ns_transfer(syscallNumber("read", ARCHITECTURE), fd, buffer, buffer.length);
  }

  /** Writes from a buffer that is not empty: a number of bytes, or minus an errno. */
  write(fd: number, buffer: Uint8Array<ArrayBuffer>): number {
    return this.#pipes.ns_transfer(syscallNumber("write", ARCHITECTURE), fd, buffer, buffer.length);
  }

  /** Of a terminal in /dev/pts: the minor number of its device. */
  #terminalNumber(fd: number): number {
    const stat = new Uint8Array(144);
    this.#pipes.ns_transfer(syscallNumber("fstat", ARCHITECTURE), fd, stat, stat.length);
    const device = new DataView(stat.buffer).getUint32(ARCHITECTURE === "x86_64" ? 40 : 32, true);
    return (device & 0xff) | (device >>> 12 & 0xfff00);
  }

  /** epoll_wait(2) in this thread, which does nothing else meanwhile. `timeout` is in milliseconds, -1 for none. */
  poll(epoll: number, timeout: number): Event[] {
    const events = new Int32Array(EVENTS_MAX * EVENT_WORDS);
    return readEvents(events, this.#pipes.ns_epoll_wait(epoll, timeout, events));
  }

  /** Moves every thread of this process but the calling one, with its current folder; an errno, 0 when it was done. */
  moveThreads(targets: readonly Target[], folder: number): number {
    const words = Int32Array.from(targets.flatMap(({ fd, kind }) => [fd, kind]));
    const shim = Deno.dlopen(this.#path, setupSymbols);
    const address = shim.symbols.ns_move_threads as Deno.PointerObject<typeof moveThreadsFunction>;
    shim.close(); // The shim itself stays: it was loaded before.
    return Math.abs(new Deno.UnsafeFnPointer(address, moveThreadsFunction).call(words, targets.length, folder));
  }

  /** {@linkcode poll} in another thread; one call at a time. */
  async watch(epoll: number, timeout: number): Promise<Event[]> {
    this.#thread ??= this.#call("gettid", 0);
    const count = await this.#shim.ns_watch(epoll, timeout, this.#thread);
    const size = EVENTS_MAX * EVENT_WORDS * 4;
    this.#watched ??= new Int32Array(Deno.UnsafePointerView.getArrayBuffer(this.#shim.ns_watched!, size));
    return readEvents(this.#watched, count);
  }
}

/** What a child has before it is made: its stack, and the plan. The shim knows how long it is. */
const MAPPING: Step = {
  call: "mmap",
  args: [
    null,
    { value: 0, name: "<plan and stack>" },
    { value: 3, name: "PROT_READ|PROT_WRITE" },
    { value: 0x22, name: "MAP_PRIVATE|MAP_ANONYMOUS" },
    -1,
    0,
  ],
  what: "get memory for a child",
};

/** `not_run` of shim/plan.zig. */
const NOT_RUN = -(2n ** 63n);

function readEvents(words: Int32Array, count: number): Event[] {
  if (count < 0) throw new Error(`Cannot wait for events: ${errnoText(-count)} (${errnoName(-count)})`);
  return Array.from({ length: count }, (_, index) => {
    const at = index * EVENT_WORDS;
    return { token: words[at]! >>> 0, ending: readEnding(words, at + 2) };
  });
}

/** `Status` of shim/library.zig. A child that somebody else reaped has an ending nobody knows: exit code 255 stands for it. */
function readEnding(words: Int32Array, at: number): Ending | undefined {
  const [pid, code, value] = words.subarray(at, at + STATUS_WORDS) as unknown as [number, number, number];
  if (pid === 0) return undefined;
  if (pid < 0) return { code: 255 };
  return code === CLD_EXITED ? { code: value } : { signal: value };
}

/** Tells the steps that returned, and what. */
function traceSteps(
  trace: (line: string) => void,
  steps: readonly Step[],
  results: readonly (number | undefined)[],
): void {
  for (const [index, step] of steps.entries()) {
    const result = results[index];
    if (result !== undefined) trace(`${describeCall(step)} ${describeResult(result)}`);
  }
}

/** The step after the last one that returned, where that is an execve: it has succeeded. */
function underWay(steps: readonly Step[], results: readonly (number | undefined)[]): Step | undefined {
  const last = results.findLastIndex((result) => result !== undefined);
  if (last < 0) return undefined;
  const errno = -results[last]!;
  const rule = steps[last]!.tolerate?.find(([name]) => errnoName(errno) === name);
  const next = steps[last + 1 + (rule?.[1] ?? steps[last]!.skip ?? 0)];
  return next?.call.startsWith("execve") ? next : undefined;
}
