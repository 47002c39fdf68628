/**
 * This program starts over inside: its process becomes the launcher, and that starts Deno again.
 *
 * @module
 */

import { errnoNumber } from "../abi/errno.ts";
import { stepError } from "../errors.ts";
import { compile, refuseEphemeral } from "../launch/compile.ts";
import { become } from "../machine/become.ts";
import { commandLine, readAll } from "../machine/command_line.ts";
import { withSubordinateIds } from "../machine/facts.ts";
import { library } from "../machine/library.ts";
import type { Settings } from "../options.ts";
import { AT_FDCWD, SEEK_SET } from "../plan/files.ts";
import type { Step } from "../plan/step.ts";
import { type Cgroup, makeOwnCgroup } from "../process/cgroup.ts";
import { ownExecutable } from "./executable.ts";
import { Command, type Trace } from "../process/command.ts";
import { EVERY_SEAL, sealedMemory } from "../process/memory.ts";

/**
 * Says which descriptor holds what this program has entered already. Only the descriptor is believed: who inherits the
 * variable from this program has no such descriptor.
 */
const VARIABLE = "SYS_LINUX_NAMESPACE_INSIDE";
/** It begins what is in there. */
const MARK = "sys-linux-namespace inside\n";
/** The first after stdin, stdout and stderr. */
const MARK_FD = 3;

const EBADF = errnoNumber("EBADF");
const O_PATH = { value: 0o10000000, name: "O_PATH" };
const F_GET_SEALS = { value: 1034, name: "F_GET_SEALS" };
const MFD_ALLOW_SEALING = { value: 2, name: "MFD_ALLOW_SEALING" };
const F_SETFD = { value: 2, name: "F_SETFD" };
const FD_CLOEXEC = { value: 1, name: "FD_CLOEXEC" };

/**
 * Starts this program over in namespaces, or returns where it has been.
 *
 * @throws {Deno.errors.NotSupported} When this program cannot be started over.
 * @throws {NamespaceError} When the kernel refuses a step.
 */
export function reexec(settings: Settings, trace: () => Trace | undefined): void {
  const entered = enteredSettings();
  const own = textOf(settings);
  if (entered.includes(own)) return;
  const argv = commandLine();
  if (argv === undefined) throw new Deno.errors.NotSupported("Cannot start this program over: there is no /proc");
  refuse(argv);
  refuseEphemeral(settings);
  const opened: number[] = [];
  let cgroup: Cgroup | undefined;
  try {
    const { caller } = library().context();
    let executable = ownExecutable(settings, caller);
    if (executable === "/proc/self/exe") executable = openDeno(); // That of the launcher is the launcher.
    if (typeof executable === "number") opened.push(executable);
    // What the kernel refuses must be thrown here, while there is somebody to catch it.
    new Command(
      settings,
      "deno",
      { args: ["--version"], stdin: "null", stdout: "null", stderr: "null" },
      trace,
      { fromOutside: executable },
    ).outputSync();
    const marked = mark([...entered, own]);
    opened.push(marked);
    const program = {
      command: argv[0]!,
      args: argv.slice(1),
      argv0: undefined,
      environment: new Map([...settings.environment, [VARIABLE, String(MARK_FD)]]),
      cwd: undefined,
      uid: undefined,
      gid: undefined,
    };
    if (settings.cgroup !== undefined) cgroup = makeOwnCgroup(settings.cgroup, trace());
    const image = compile(
      withSubordinateIds(settings, caller),
      program,
      {
        executable,
        extra: [marked],
        name: "reexec()",
        origin: "",
        caller,
        ...(cgroup === undefined ? {} : { cgroup: cgroup.handOver() }),
      },
      Deno.build.arch,
    );
    become(image, ["deno"]);
  } finally {
    cgroup?.end();
    cgroup?.close();
    for (const fd of opened) library().close(fd); // It has not become the launcher.
  }
}

/** This very Deno, open across execve(2). */
function openDeno(): number {
  const step: Step = { call: "openat", args: [AT_FDCWD, "/proc/self/exe", O_PATH], what: "open Deno" };
  const outcome = library().execute([step]);
  if ("step" in outcome) throw stepError(outcome.step, outcome.errno);
  return outcome.results[0]!;
}

function refuse(argv: readonly string[]): void {
  const reason = refusal(argv);
  if (reason !== undefined) throw new Deno.errors.NotSupported(`Cannot start this program over: ${reason}`);
}

function refusal(argv: readonly string[]): string | undefined {
  if ("WorkerGlobalScope" in globalThis) return "it is a Worker that asks, and the whole process would be replaced";
  if (argv.some((argument) => /^--inspect(-brk|-wait)?(=|$)/.test(argument))) {
    return "a debugger is attached, and would lose it; run it without --inspect";
  }
  if (Deno.mainModule.endsWith("/$deno$stdin.mts")) {
    return "it was read from stdin, which is used up; put it into a file";
  }
  return undefined;
}

/** What was entered, in memory that is open across execve(2). */
function mark(entered: readonly string[]): number {
  const bytes = new TextEncoder().encode(MARK + JSON.stringify(entered));
  const why = { what: "remember what this program has entered" };
  return sealedMemory({ bytes, name: "<entered>" }, MFD_ALLOW_SEALING, why);
}

/** Settings as text: the same where they are the same, and different where anything is. */
function textOf(settings: Settings): string {
  return JSON.stringify(settings, (_, value) => {
    if (value instanceof Map || value instanceof Set) return [...value];
    return typeof value === "bigint" || value === Infinity ? String(value) : value;
  });
}

/** What {@linkcode mark} has been told before this program was started over. */
function enteredSettings(): readonly string[] {
  const { environment } = library().context();
  if (!`\0${new TextDecoder().decode(environment)}`.includes(`\0${VARIABLE}=${MARK_FD}\0`)) return [];
  const what = "look at what this program has entered";
  const outcome = library().execute([
    { call: "fcntl", args: [MARK_FD, F_GET_SEALS], what },
    { call: "lseek", args: [MARK_FD, 0, SEEK_SET], what },
    { call: "fcntl", args: [MARK_FD, F_SETFD, FD_CLOEXEC], what }, // What this program starts has not called reexec().
  ]);
  if ("step" in outcome) {
    if (outcome.errno === EBADF || outcome.step.call === "fcntl") return []; // It is another program's variable.
    throw stepError(outcome.step, outcome.errno);
  }
  if (outcome.results[0] !== EVERY_SEAL.value) return [];
  const text = new TextDecoder().decode(readAll(MARK_FD));
  return text.startsWith(MARK) ? JSON.parse(text.slice(MARK.length)) : [];
}
