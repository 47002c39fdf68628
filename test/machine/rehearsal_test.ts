// Every plan, with every step refused in turn with every errno of its man page: the error names that step, nothing runs
// after it, nothing is left. On the simulated kernel, so all of them can be tried, and always come out the same.

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertNotEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { type CommandOptions, NamespaceError, type NamespaceOptions } from "../../mod.ts";
import type { Actor, Fault, SimulatedCall, SimulatedProcess } from "../../src/machine/simulated_kernel.ts";
import { Simulator } from "../../src/machine/simulator.ts";
import { type Settings, validate } from "../../src/options.ts";
import type { Caller } from "../../src/plan/caller.ts";
import { type ChildSettings, planChild } from "../../src/plan/child.ts";
import { describeCall } from "../../src/plan/describe.ts";
import { callerOf } from "../../src/plan/explain.ts";
import { planSetup } from "../../src/plan/setup.ts";
import { cloneStep, type Plan, type Step } from "../../src/plan/step.ts";
import { extraOf } from "../../src/process/descriptors.ts";
import { type CgroupExecutor, makeOwnCgroup } from "../../src/process/cgroup.ts";
import { END_SIGNAL } from "../../src/plan/cgroup.ts";
import { checkOptions, refusal, SPAWN_STDIO } from "../../src/process/command.ts";
import { setup } from "../../src/process/setup.ts";
import { errnosOf } from "../support/errnos.ts";
import { OPTION_SETS, PRIVILEGE_SETS } from "../support/option_sets.ts";
import "../support/load.ts";
import type { MountOptions } from "../../src/options_mounts.ts";
import { type Random, randomCommand, randomOptions, seeded } from "../support/random.ts";

const ROOT = callerOf({ uid: 0 });
const NOBODY = callerOf({ uid: 65534 });
const CALLERS: readonly Caller[] = [ROOT, NOBODY];

let rehearsed = 0;

addEventListener("unload", () => console.log(`${rehearsed} failures were rehearsed.`));

/** A child as `Command` has it planned, with pipes at 10, 11 and 12, and init at 13 and 14. */
function childOf(settings: Settings, command: string, options: CommandOptions): ChildSettings {
  const { program, stdio, descriptors, tty } = checkOptions(settings, command, options, SPAWN_STDIO, new Uint8Array());
  const [stdin, stdout, stderr] = stdio.map((from, fd) => from === "piped" || tty !== undefined ? 10 + fd : from);
  const init = settings.init && { launcher: 13, report: 14, onMainExit: settings.init };
  return {
    ...program,
    stdio: [stdin!, stdout!, stderr!],
    tty: tty !== undefined,
    ...extraOf(descriptors, (_, fd) => 20 + fd),
    init,
  };
}

/** Refuses the calls of one actor that were chosen, by how many it made before. */
function refusing(by: Actor, errnos: ReadonlyMap<number, string>): Fault {
  return (attempt, nth) => actorOf(attempt) === by ? errnos.get(nth) : undefined;
}

/** What a helper does is in the parent's section. */
function actorOf({ by }: { readonly by: Actor }): Actor {
  return by === "helper" ? "parent" : by;
}

function simulate(child: ChildSettings, caller: Caller, fault?: Fault): Simulator {
  const simulator = new Simulator({ caller, fault });
  for (const from of new Set([...child.stdio, ...child.extra ?? [], child.init?.launcher, child.init?.report])) {
    if (typeof from === "number") simulator.process.open({ path: "pipe" }, true, from);
  }
  return simulator;
}

/** Rehearses all that can go wrong with a child. */
function rehearse(settings: Settings, child: ChildSettings, caller: Caller): void {
  const plan = planChild(settings, child, caller);
  const work: Rehearsal = { plan, child, caller };
  rehearseClone(work);
  rehearseSection(work, "parent", plan.parent, 1, new Map(), new Set());
  rehearseSection(work, "child", plan.child, 0, new Map(), new Set());
}

interface Rehearsal {
  readonly plan: Plan;
  readonly child: ChildSettings;
  readonly caller: Caller;
}

function rehearseClone({ plan, child, caller }: Rehearsal): void {
  for (const errno of errnosOf("clone")) {
    const simulator = simulate(child, caller, refusing("parent", new Map([[0, errno]])));
    const before = descriptorsOf(simulator.process);
    const refused = simulator.spawn(plan);
    assert("step" in refused);
    checkError(refusal(refused, child), cloneStep(plan), errno);
    assertEquals(simulator.calls.length, 1);
    assertEquals(descriptorsOf(simulator.process), before);
    rehearsed++;
  }
}

/**
 * Refuses each step of a section that is reached by the way of the refusals given, and goes on along those that lead to a
 * step that is not made otherwise.
 *
 * @param offset How many calls the actor makes before the section.
 * @param way Refusals that the plan goes on after, by how many calls the actor made before.
 * @param tried Steps whose refusals were all rehearsed.
 */
function rehearseSection(
  work: Rehearsal,
  by: "parent" | "child",
  section: readonly Step[],
  offset: number,
  way: ReadonlyMap<number, string>,
  tried: Set<number>,
): void {
  const { plan, child, caller } = work;
  const made = walk(section, [...way].map(([nth, errno]) => [nth - offset, errno] as const));
  for (const [nth, index] of made.entries()) {
    if (tried.has(index) || nth + offset <= Math.max(-1, ...way.keys())) continue;
    tried.add(index);
    const step = section[index]!;
    for (const errno of errnosOf(step.call)) {
      const refusals = new Map([...way, [nth + offset, errno]]);
      const simulator = simulate(child, caller, refusing(by, refusals));
      const before = descriptorsOf(simulator.process);
      const outcome = simulator.spawn(plan);
      rehearsed++;
      if (step.tolerate?.some(([name]) => name === errno)) {
        const leads = walk(section, [...refusals].map(([nth, errno]) => [nth - offset, errno] as const));
        if (by === "child" && leads.length > nth + 1) checkStarted(simulator, outcome, child);
        rehearseSection(work, by, section, offset, refusals, tried);
        continue;
      }
      assert("step" in outcome, `${describeCall(step)} was refused with ${errno}, and nobody minds`);
      assert(outcome.step === step);
      checkError(refusal(outcome, child), ...told(section, index, errno));
      checkNothingLeft(simulator, by, nth + offset, before);
    }
  }
}

/** What the error is to name: the step that was refused, or the execve whose file another machine's turned out to be. */
function told(section: readonly Step[], index: number, errno: string): [Step, string] {
  const isOfFile = section[index]!.call === "futex" && section[index - 1]!.call === "read";
  if (!isOfFile || errno !== "ETIMEDOUT") return [section[index]!, errno];
  return [section.slice(0, index).findLast(({ call }) => call === "execve")!, "ENOEXEC"];
}

/** The indices of the steps that are made, where those (by how many were made before) are refused with these errnos. */
function walk(section: readonly Step[], refusals: readonly (readonly [number, string])[]): number[] {
  const errnos = new Map(refusals);
  const made: number[] = [];
  let helperEnd = 0;
  for (let index = 0; index < section.length;) {
    const step = section[index]!;
    const errno = errnos.get(made.length) ??
      (step.call === "futex" && step.tolerate !== undefined ? "EAGAIN" : undefined);
    made.push(index);
    if (step.helper && errno === undefined) {
      helperEnd = ++index + step.skip!;
      continue;
    }
    if (errno === undefined && step.call.startsWith("execve")) {
      if (index >= helperEnd) break;
      index = helperEnd;
      continue;
    }
    index += 1 + (errno === undefined ? step.skip ?? 0 : step.tolerate!.find(([name]) => name === errno)![1]);
  }
  return made;
}

/** The error, or its cause where it is Deno.Command's own. */
function checkError(error: Error, step: Step, errno: string): void {
  const refused = error instanceof NamespaceError ? error : error.cause;
  assertInstanceOf(refused, NamespaceError);
  assertEquals([refused.step, refused.syscall, refused.code], [describeCall(step), step.call, errno]);
  assertEquals(refused.option, step.option);
  assertStringIncludes(refused.message, `Cannot ${step.what}`);
}

function checkNothingLeft(simulator: Simulator, by: Actor, nth: number, before: readonly string[]): void {
  const { calls, child, process } = simulator;
  const made = calls.filter((call) => actorOf(call) === by);
  assert(made[nth]!.result < 0);
  assertEquals(made.slice(nth + 1).filter(({ call }) => call !== "close"), [], "something was done after the refusal");
  if (by === "parent") assertEquals(calls.filter(({ by }) => by === "child"), []);
  assertEquals(child!.program, undefined);
  assertEquals(descriptorsOf(process), before);
  assertEquals(process.namespaces.get("mnt")!.mounts, []);
}

/** The program runs, bound to its parent, with the descriptors it is to have and no other. */
function checkStarted(
  simulator: Simulator,
  outcome: object,
  { extra = [], init, fromOutside }: ChildSettings,
): void {
  assert("pid" in outcome, JSON.stringify(outcome));
  const { child, process } = simulator;
  assertNotEquals(child!.program, undefined);
  assert(child!.bound);
  const given = [
    ...extra,
    ...(init === undefined ? [] : fromOutside !== undefined ? [init.report, "executable"] : [init.report]),
  ];
  const numbers = given.flatMap((from, index) => from === undefined ? [] : [3 + index]);
  assertEquals([...child!.fds.keys()].sort((a, b) => a - b), [0, 1, 2, ...numbers]);
  assertEquals(process.namespaces.get("mnt")!.mounts, []);
}

function descriptorsOf({ fds }: SimulatedProcess): string[] {
  return [...fds].map(([fd, { description }]) => `${fd} ${description.path}`).sort();
}

/** Where a process is. The namespaces themselves, and what is in them. */
function placeOf({ namespaces, cwd }: SimulatedProcess): readonly unknown[] {
  return [
    cwd,
    [...namespaces.values()],
    JSON.stringify([...namespaces.values()].map(({ mounts, facts }) => [mounts, [...facts]])),
  ];
}

function isSamePlace(a: readonly unknown[], b: readonly unknown[]): boolean {
  const [one, other] = [a[1], b[1]] as [unknown[], unknown[]];
  return a[0] === b[0] && a[2] === b[2] && one.every((namespace, index) => namespace === other[index]);
}

/** Rehearses all that can go wrong with `setup()`. Returns false where these settings are none for it. */
function rehearseSetup(settings: Settings): boolean {
  try {
    planSetup(settings, ROOT);
  } catch {
    return false;
  }
  const all = new Simulator();
  setup(settings, undefined, all);
  checkSetUp(all);
  const order: Record<Actor, number> = { parent: 0, helper: 0, child: 0, thread: 0 };
  for (const call of all.calls) {
    const nth = order[call.by]++;
    if (call.call === "close") continue;
    for (const errno of errnosOf(call.call)) rehearseSetupFailure(settings, call, nth, errno);
  }
  return true;
}

function checkSetUp({ process, threads }: Simulator): void {
  const place = placeOf(process);
  for (const thread of threads) assert(isSamePlace(placeOf(thread), place), "a thread is elsewhere");
  assertEquals(descriptorsOf(process).length, 3);
}

function rehearseSetupFailure(settings: Settings, refused: SimulatedCall, nth: number, errno: string): void {
  const simulator = new Simulator({ fault: refusing(refused.by, new Map([[nth, errno]])) });
  const all = [simulator.process, ...simulator.threads];
  const before = all.map(placeOf);
  let error: unknown;
  try {
    setup(settings, undefined, simulator);
  } catch (thrown) {
    error = thrown;
  }
  const title = `${refused.call}(${refused.args.join(", ")}), call ${nth} of the ${refused.by}, refused with ${errno}`;
  assertInstanceOf(error, NamespaceError, title);
  assertEquals([error.syscall, error.code], [refused.call, errno], title);
  const strings = refused.args.filter((argument) => typeof argument === "string");
  if (refused.by === "parent") {
    for (const text of strings) assertStringIncludes(error.step, JSON.stringify(text), title);
  }
  all.forEach((process, index) => assert(isSamePlace(placeOf(process), before[index]!), `${title}: it is not undone`));
  assertEquals(descriptorsOf(simulator.process).length, 3, title);
  rehearsed++;
}

Deno.test("spawn() survives the refusal of every step of every kind of plan, with every errno", () => {
  for (const caller of CALLERS) {
    for (const { options, command = "/bin/true", commandOptions = {} } of [...OPTION_SETS, ...PRIVILEGE_SETS]) {
      const settings = validate(options);
      const child = childOf(settings, command, commandOptions);
      const simulator = simulate(child, caller);
      checkStarted(simulator, simulator.spawn(planChild(settings, child, caller)), child);
      rehearse(settings, child, caller);
    }
  }
  assert(rehearsed >= 5_000, `only ${rehearsed}`);
});

Deno.test("run() survives the refusal of every step", () => {
  for (const caller of CALLERS) {
    const mounts: MountOptions[] = [{ type: "tmpfs", target: "/mnt" }];
    for (const options of [{}, { privateTmp: true, privatePid: true }, { init: true }, { mounts }]) {
      const settings = validate(options);
      const child = {
        ...childOf(settings, "/usr/bin/deno", { args: ["run"], uid: 7 }),
        extra: [3, 20],
        fromOutside: "/usr/bin/deno",
      };
      const simulator = simulate(child, caller);
      checkStarted(simulator, simulator.spawn(planChild(settings, child, caller)), child);
      rehearse(settings, child, caller);
    }
  }
});

Deno.test("setup() is undone after the refusal of every step, with every errno", () => {
  const sets = OPTION_SETS.filter(({ options }) => rehearseSetup(validate(options)));
  assert(sets.length >= 10, `only ${sets.length}`);
});

/** Makes a cgroup on the simulated kernel; `endings`: of its keeper. */
function simulateCgroup(fault?: Fault): { simulator: Simulator; endings: string[]; make: () => { fd: number } } {
  const simulator = new Simulator({ fault });
  const launcher = simulator.process.open({ path: "launcher" }, true);
  const endings: string[] = [];
  const shim: CgroupExecutor = {
    execute: (steps) => simulator.execute(steps),
    spawn: (plan) => simulator.spawn(plan),
    close: (fd) => simulator.close(fd),
    signal: (_, number) => endings.push(`signal ${number}`) > 0,
    wait: () => endings.push("wait") > 0 ? { code: 0 } : { code: 1 },
  };
  const settings = validate({ cgroup: { pidsMax: 5, memoryMax: "1m" } }).cgroup!;
  const location = { folder: "/sys/fs/cgroup/own", enable: ["pids", "memory"] };
  return { simulator, endings, make: () => makeOwnCgroup(settings, undefined, shim, location, () => launcher) };
}

Deno.test("a cgroup is not there after the refusal of any step, nor is its keeper", () => {
  const all = simulateCgroup();
  const before = descriptorsOf(all.simulator.process);
  const { fd } = all.make();
  assert(fd >= 256);
  assertEquals(descriptorsOf(all.simulator.process).length, before.length + 2); // It, and the keeper's pidfd.
  assertEquals(all.endings, []);
  const order: Record<Actor, number> = { parent: 0, helper: 0, child: 0, thread: 0 };
  for (const { by, call } of all.simulator.calls) {
    const nth = order[by]++;
    if (call === "close") continue;
    for (const errno of errnosOf(call)) {
      if (call === "futex" && errno === "EAGAIN") continue; // The parent is alive.
      const { simulator, endings, make } = simulateCgroup(refusing(by, new Map([[nth, errno]])));
      const title = `${call}, call ${nth} of the ${by}, refused with ${errno}`;
      const error = assertThrows(make, NamespaceError);
      assertEquals([error.syscall, error.code], [call, errno], title);
      assert(/^cgroup/.test(error.option ?? "") || by === "child", title);
      const hasKeeper = simulator.child?.program !== undefined;
      assertEquals(endings, hasKeeper ? [`signal ${END_SIGNAL.value}`, "wait"] : [], title);
      assertEquals(descriptorsOf(simulator.process), before, title);
      rehearsed++;
    }
  }
});

/** Another one can be tried with NAMESPACE_SEED. */
const SEED = Number(Deno.env.get("NAMESPACE_SEED") ?? 20_240_229);
const RANDOM_SETS = 60;

Deno.test("spawn() and setup() survive the refusal of every step of random plans", () => {
  for (let number = 0; number < RANDOM_SETS; number++) {
    const seed = SEED + number;
    const random: Random = seeded(seed);
    const options: NamespaceOptions = randomOptions(random);
    const [command, commandOptions] = randomCommand(random);
    try {
      const settings = validate(options);
      rehearse(settings, childOf(settings, command, commandOptions), random() < 0.5 ? ROOT : NOBODY);
      rehearseSetup(settings);
    } catch (error) {
      throw new Error(`NAMESPACE_SEED=${seed}: ${JSON.stringify({ options, command, commandOptions })}`, {
        cause: error,
      });
    }
  }
});
