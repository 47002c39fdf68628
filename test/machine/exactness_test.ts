// What explain() says, what the simulator records, and what strace(1) sees the real parent and child do: all the same.

import { assert, assertEquals } from "@std/assert";
import type { ExplainedStep, Explanation } from "../../mod.ts";
import type { SimulatedCall } from "../../src/machine/simulated_kernel.ts";
import { lacking } from "../support/kernel.ts";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import { OPTION_SETS, type OptionSet } from "../support/option_sets.ts";
import { packageFolder } from "../support/program.ts";
import { trace, type TracedArgument, type TracedCall } from "../support/strace.ts";

/** All calls that plans make, and those around them. */
const CALLS = [
  ...[
    "chdir",
    "clone3",
    "close",
    "close_range",
    "dup3",
    "execve",
    "execveat",
    "fchmod",
    "fchmodat",
    "fchown",
    "fcntl",
    "futex",
    "ioctl",
    "mount",
  ],
  ...[
    "openat",
    "prctl",
    "rt_sigprocmask",
    "seccomp",
    "setdomainname",
    "setgroups",
    "sethostname",
    "setresgid",
    "setresuid",
    "setsid",
    "setpriority",
  ],
  ...["setns", "socket", "unshare", "write"],
  ...["chroot", "faccessat", "fallocate", "fchdir", "fsconfig", "fsmount", "fsopen", "mkdirat", "mknodat"],
  ...["mount_setattr", "move_mount", "open_tree", "openat2", "pivot_root", "symlinkat", "umask", "umount2"],
];

/** Flags that shim/spawn.zig adds. */
const CLONE_OWN = 0x1_0000_0000 + 0x1000; // _CLEAR_SIGHAND, _PIDFD
/** And those for a child in its parent's memory. */
const CLONE_SHARING = 0x100 + 0x20_0000; // _VM, _CHILD_CLEARTID

/** Bytes, as they come through JSON. */
interface SentBytes {
  readonly bytes: number[];
}

type SentCall = Omit<SimulatedCall, "args"> & {
  readonly args: readonly (Exclude<SimulatedCall["args"][number], Uint8Array> | SentBytes)[];
};

interface Sent {
  readonly parent: number;
  readonly children: readonly {
    readonly pid: number;
    readonly explanation: Pick<Explanation, "clone" | "steps">;
    readonly calls: readonly SentCall[];
  }[];
}

/** A program that explains, simulates and runs every set. Its text must need nothing but what it imports. */
function program(sets: readonly OptionSet[]): string {
  return `
    import { extraOf } from "./src/process/descriptors.ts";
    import { SPAWN_STDIO, checkOptions } from "./src/process/command.ts";
    import { library } from "./src/machine/library.ts";
    import { Simulator } from "./src/machine/simulator.ts";
    import { validate } from "./src/options.ts";
    import { planChild } from "./src/plan/child.ts";

    const children = [];
    for (const { options, command = "/bin/true", commandOptions = {}, fromTmp } of ${JSON.stringify(sets)} as any[]) {
      Deno.chdir(fromTmp ? "${packageFolder()}" : "/");
      const explanation = new Namespace(options).explain(command, commandOptions);

      const settings = validate(options);
      const { caller, environment } = library().context();
      const isFile = (path: string) => { if (path === "launcher") return true; try { return Deno.statSync(path).isFile; } catch { return false; } };
      const isThere = (path: string) => !path.startsWith("/nowhere");
      const isFolder = (path: string) => !(options.privateTmp && path.startsWith("/tmp/"));
      const simulator = new Simulator({ caller, isExecutable: isFile, isFolder, isFile, isThere });
      const { program, stdio, descriptors, tty } = checkOptions(settings, command, commandOptions, SPAWN_STDIO, environment);
      const open = (path: string) => simulator.process.open({ path }, true, 10); // Above those that are put in place.
      const terminal = tty && open("terminal");
      const pipes = stdio.map((from) => terminal ?? (from === "piped" ? simulator.process.open({ path: "pipe" }, true) : from)) as any;
      const others = extraOf(descriptors, () => open("pipe"));
      const init = settings.init && { launcher: open("launcher"), report: open("report"), onMainExit: settings.init };
      simulator.spawn(planChild(settings, { ...program, stdio: pipes, tty: tty !== undefined, ...others, init }, caller));

      const child = new Namespace(options).command(command, commandOptions).spawn();
      await child.status;
      for (const name of ["stdin", "stdout", "stderr"] as const) {
        if (commandOptions.tty && name === "stdout") await child.stdout.cancel();
        if (commandOptions[name] === "piped") await (name === "stdin" ? child.stdin.close() : child[name].cancel());
      }
      for (const stream of Object.values(child.inputs)) await (stream as any).close();
      for (const stream of Object.values(child.outputs)) await (stream as any).cancel();
      children.push({ pid: child.pid, explanation, calls: simulator.calls });
    }
    const plain = (_: string, value: unknown) => value instanceof Uint8Array ? { bytes: [...value] } : value;
    console.log(JSON.stringify({ parent: Deno.pid, children }, plain));
  `;
}

for (const user of USERS) {
  isolatedTest(`explain() and the simulator say what strace sees, as ${user}`, async () => {
    const sets = OPTION_SETS.filter((set) => set.user === undefined || set.user === user);
    assert(sets.length >= 30);
    const { code, stdout, stderr, threads } = await trace(program(sets), { user, calls: CALLS, permissions: ["-A"] });
    assertEquals(code, 0, stderr);
    const { parent, children }: Sent = JSON.parse(stdout);
    assertEquals(children.length, sets.length);
    let compared = 0;
    for (const [index, { pid, explanation, calls }] of children.entries()) {
      const title = `${user}, ${JSON.stringify(sets[index])}`;
      const real = realCalls(threads.get(parent)!, threads.get(pid)!, pid);
      compareWithSimulator(real, calls, pid, title);
      compareWithExplanation(real, [explanation.clone, ...explanation.steps], pid, title);
      compared += real.length;
    }
    assert(compared > sets.length * 6);
  });
}

/** What is written to an ephemeral view is in a folder that is called otherwise each time. */
const STORE = /(?<=sys-linux-namespace-)[0-9a-f]{12}/g;

for (const user of USERS) {
  const lack = user === "root" ? undefined : lacking("overlays in user namespaces");
  isolatedTest(`explain() says of an ephemeral view what strace sees, as ${user}`, async () => {
    const code = `
      const ns = new Namespace({ ephemeral: { dir: "/dev/shm", readonly: ["/usr"] }, privatePid: true });
      const explanation = ns.explain("/bin/true");
      const child = ns.command("/bin/true").spawn();
      await child.status;
      await ns.discard();
      console.log(JSON.stringify({ parent: Deno.pid, pid: child.pid, explanation }));`;
    const { code: exit, stdout, stderr, threads } = await trace(code, { user, calls: CALLS, permissions: ["-A"] });
    assertEquals(exit, 0, stderr);
    const { parent, pid, explanation }: { parent: number; pid: number; explanation: Explanation } = JSON.parse(stdout);
    const real = realCalls(threads.get(parent)!, threads.get(pid)!, pid).map((traced): TracedCall => {
      const args = traced.args.map(({ value, text }): TracedArgument => {
        const told = typeof value === "string" ? value.replaceAll(STORE, "XXXXXXXXXXXX") : value;
        return { value: told, text: text.replaceAll(STORE, "XXXXXXXXXXXX") };
      });
      return { ...traced, args };
    });
    compareWithExplanation(real, [explanation.clone, ...explanation.steps], pid, user);
  }, lack);
}

/** What parent and child did between clone and program. */
function realCalls(parent: readonly TracedCall[], child: readonly TracedCall[], pid: number): TracedCall[] {
  const cloned = parent.findIndex(({ call, result }) => call === "clone3" && result === pid);
  assert(cloned >= 0);
  // Then it waits for the child or, where that was faster, puts its own affairs in order.
  const own = ["futex", "rt_sigprocmask", "set_robust_list"];
  const met = parent.findIndex(({ call }, index) => index > cloned && own.includes(call));
  const executed = child.findIndex(({ call, result }) => call.startsWith("execve") && result === 0);
  return [...parent.slice(cloned, met), ...child.slice(0, executed + 1)];
}

/** The simulator calls its first child this. */
const SIMULATED_PID = 1000;

function compareWithSimulator(
  real: readonly TracedCall[],
  simulated: readonly SentCall[],
  pid: number,
  title: string,
): void {
  const [clone, ...others] = real;
  const flags = Number(/flags=(0x[0-9a-f]+)/.exec(clone!.line)![1]);
  const isAlone = simulated.some(({ call, args }) => {
    return ["setns", "setresuid", "setresgid"].includes(call) || args.includes("/proc/self/oom_score_adj");
  });
  assertEquals(simulated[0]!.args, [flags - CLONE_OWN - (isAlone ? 0 : CLONE_SHARING)], title);
  assertEquals(others.map(({ call }) => call), simulated.slice(1).map(({ call }) => call), title);

  const descriptors = new Map<number, number>(); // Simulated to real.
  const words = new Map<string, number>();
  for (const [index, { call, args, result, line }] of others.entries()) {
    const ours = simulated[index + 1]!;
    const where = `${title}\n${line}`;
    // How many prctl(2) has is another thing for each of its operations.
    if (call !== "prctl") assertEquals(args.length, ours.args.length, where);
    for (const [position, argument] of args.slice(0, ours.args.length).entries()) {
      let wanted = ours.args[position]!;
      if (isDescriptor(call, position) && !isMarked(ours) && typeof wanted === "number" && wanted > 2) {
        if (!descriptors.has(wanted)) descriptors.set(wanted, argument.value as number);
        wanted = descriptors.get(wanted)!;
      } else if (wanted === "&parent" || wanted === "&go") {
        if (!words.has(wanted)) words.set(wanted, argument.value as number);
        wanted = words.get(wanted)!;
      } else if (wanted === `/proc/${SIMULATED_PID}`) {
        wanted = `/proc/${pid}`;
      } else if (typeof wanted === "object" && wanted !== null && "bytes" in wanted) {
        const shown = call === "seccomp" ? argument.text.replace(/, filter=.*/s, "") : argument.text;
        assertEquals(argument.value ?? shown, describeBytes(call, wanted.bytes), where);
        continue;
      }
      if (wanted === "" && /^\/dev\/pts\/\d+$/.test(String(argument.value))) continue; // Filled in when it runs.
      if (call === "ioctl" && wanted === null) wanted = 0; // TIOCSCTTY takes a number there.
      // strace says [] of an empty set of signals and of an empty list alike.
      assertEquals(argument.value, wanted, where);
    }
    if (call === "futex" || isMarked(ours)) continue; // Whether it had to wait, or there is one, is not of the plan.
    assertEquals(result < 0, ours.result < 0, where);
    if (opens(call)) descriptors.set(ours.result, result);
  }
  const word = words.get("&parent")!;
  assertEquals(words.get("&go") ?? word + 4, word + 4, title);
}

/** Whether it is about whatever has a number. */
function isMarked({ call, args }: SentCall): boolean {
  return call === "fcntl" && args[1] === F_SETFD;
}

const F_SETFD = 2;

function isDescriptor(call: string, position: number): boolean {
  if (call === "move_mount") return position === 0 || position === 2;
  return position === (call === "symlinkat" ? 1 : 0) && DESCRIPTOR_CALLS.includes(call);
}

/** Calls that work on a descriptor. */
const DESCRIPTOR_CALLS = [
  ...["openat", "write", "ioctl", "close", "dup3", "execveat", "fcntl", "faccessat", "fallocate", "fchdir", "fchmod"],
  ...["fsconfig", "fsmount", "mkdirat", "mknodat", "mount_setattr", "open_tree", "openat2", "setns", "symlinkat"],
  ...["fchmodat", "fchown"],
];

function opens(call: string): boolean {
  return ["openat", "socket", "fcntl", "fsopen", "fsmount", "open_tree", "openat2"].includes(call);
}

/** Bytes as strace reads them. */
function describeBytes(call: string, bytes: readonly number[]): string | readonly string[] {
  const view = new DataView(Uint8Array.from(bytes).buffer);
  switch (call) {
    case "futex":
      return `{tv_sec=${view.getBigInt64(0, true)}, tv_nsec=${view.getBigInt64(8, true)}}`;
    case "ioctl": {
      const rest = bytes.filter((byte, index) => index > 1 && index !== 16 && byte !== 0);
      assertEquals([view.getUint16(16, true), rest], [1, []]);
      return `{ifr_name="${String.fromCharCode(...bytes.slice(0, 2))}", ifr_flags=IFF_UP}`;
    }
    case "openat2": {
      const opened = named(view, 0, [[0x1, "O_WRONLY"], [0x200, "O_TRUNC"], [0x80000, "O_CLOEXEC"], [
        0x200000,
        "O_PATH",
      ]]);
      const flags = opened.startsWith("O_WRONLY") ? opened : `O_RDONLY|${opened}`;
      const resolve = named(view, 16, [[2, "NO_MAGICLINKS"], [4, "NO_SYMLINKS"], [16, "IN_ROOT"]], "RESOLVE_");
      return `{flags=${flags}, resolve=${resolve}}`;
    }
    case "mount_setattr": {
      const [set, clear] = [0, 8].map((at) =>
        named(view, at, [[1, "RDONLY"], [2, "NOSUID"], [4, "NODEV"], [8, "NOEXEC"]], "MOUNT_ATTR_")
      );
      return `{attr_set=${set}, attr_clr=${clear}, propagation=0, userns_fd=0}`;
    }
    case "seccomp":
      return `{len=${view.getUint16(0, true)}`;
    case "rt_sigprocmask":
      return view.getBigUint64(0, true) === 0n ? [] : "some";
    default:
      return new TextDecoder().decode(Uint8Array.from(bytes));
  }
}

/** Bits by their names; all of them must have one. */
function named(view: DataView, at: number, names: readonly (readonly [number, string])[], prefix = ""): string {
  const value = Number(view.getBigUint64(at, true));
  const known = names.filter(([bit]) => (value & bit) !== 0);
  assertEquals(known.reduce((sum, [bit]) => sum + bit, 0), value);
  return known.map(([, name]) => prefix + name).join("|") || "0";
}

function compareWithExplanation(
  real: readonly TracedCall[],
  steps: readonly ExplainedStep[],
  pid: number,
  title: string,
): void {
  const left = [...steps];
  const earlier: TracedCall[] = [];
  let before: ExplainedStep | undefined;
  for (const traced of real) {
    const next = left.find(({ onlyAfter }) => onlyAfter.length === 0);
    // Of what was opened for the section.
    if (traced.call === "close" && left[0]?.call !== "close" && next?.call !== "close") continue;
    let step = left.shift();
    // A step that is not always made is left out, unless the one before was refused and it is just what was made then.
    const isSame = ({ call, args }: ExplainedStep): boolean =>
      call === traced.call &&
      traced.args.every((argument, index) => isExplainedBy(argument, args[index] ?? "", earlier, pid));
    const followsOn = (step: ExplainedStep): boolean =>
      earlier.at(-1)?.errno === undefined && step.onlyAfter.some((errno) => before?.onlyAfter.includes(errno));
    const isMade = (step: ExplainedStep): boolean =>
      (step.onlyAfter.includes(earlier.at(-1)?.errno ?? "") || followsOn(step)) && isSame(step);
    // And so is what a refusal of the one before leaves out.
    const leftOut = (step: ExplainedStep): boolean => earlier.at(-1)?.errno !== undefined && !isSame(step);
    while (step !== undefined && (step.onlyAfter.length > 0 && !isMade(step) || leftOut(step))) step = left.shift();
    assert(step !== undefined, `${title}\nis not explained: ${traced.line}`);
    const where = `${title}\n${step.text}\n${traced.line}`;
    if (step.call === "clone") {
      const names = /flags=0x\w+ \/\* (.*?) \*\//.exec(traced.line)![1]!.split("|");
      const made = names.filter((name) => name.startsWith("CLONE_NEW"));
      assertEquals(made.sort(), step.args[0]!.split("|").filter((name) => name !== "0").sort(), where);
    } else {
      assertEquals(traced.call, step.call, where);
      assertEquals(traced.args.length, step.args.length, where);
      for (const [index, argument] of traced.args.entries()) {
        const explained = step.args[index]!;
        assert(isExplainedBy(argument, explained, earlier, pid), `${where}\n${argument.text} is not ${explained}`);
      }
    }
    if (traced.errno !== undefined && traced.call !== "futex") assert(step.tolerates.includes(traced.errno), where);
    earlier.push(traced);
    before = step;
  }
  assertEquals(left.filter(({ onlyAfter }) => onlyAfter.length === 0), [], title);
}

/** What explain() has names for and strace has not. */
const NAMES: ReadonlyMap<string, number> = new Map([["FUTEX_OWNER_DIED", 0x4000_0000], ["~0U", 0xffff_ffff]]);

function isExplainedBy(
  { value, text }: TracedArgument,
  explained: string,
  earlier: readonly TracedCall[],
  pid: number,
): boolean {
  if (text === explained || typeof value === "number" && explained === String(value)) return true;
  if (NAMES.has(explained)) return value === NAMES.get(explained);
  if (explained === "<filter>") return text.startsWith("{len=");
  if (explained === "&parent" || explained === "&go") return typeof value === "number" && value > 4096;
  if (explained === "<pipe>" || explained === "<terminal>" || explained === "<launcher>") {
    return typeof value === "number" && value > 2;
  }
  const [, from] = /^<(\w+)>$/.exec(explained) ?? [];
  if (from !== undefined) return earlier.some(({ call, result }) => call === from && result === value);
  if (explained === "<terminal's file>") return /^\/dev\/pts\/\d+$/.test(String(value));
  if (explained === `"/proc/<child>"`) return value === `/proc/${pid}`;
  const shown = (text: string): string =>
    text.length > 64 ? `${JSON.stringify(text.slice(0, 64))}…` : JSON.stringify(text);
  if (/^<\d+ bytes>$/.test(explained)) return explained === `<${String(value).length} bytes>`;
  if (typeof value === "string") return explained === shown(value);
  if (!Array.isArray(value)) return false;
  if (explained === `[${value.length} strings]`) return true;
  return explained === `[${value.slice(0, 8).map(shown).join(", ")}${value.length > 8 ? ", …" : ""}]`;
}
