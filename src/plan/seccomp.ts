/**
 * The last thing before a command: the filter of its system calls.
 *
 * @module
 */

import type { Architecture } from "../abi/syscalls.ts";
import type { SeccompSettings } from "../options_seccomp.ts";
import { compileFilter, interpret, RET } from "../seccomp/compile.ts";
import { numbersOf } from "../seccomp/syscalls.ts";
import { giveUpNewPrivileges } from "./privileges.ts";
import type { FilterProgram, Step } from "./step.ts";

const SECCOMP_SET_MODE_FILTER = { value: 1, name: "SECCOMP_SET_MODE_FILTER" };

/**
 * Installs a filter. Without no_new_privs that takes CAP_SYS_ADMIN, and a program that changes its ids by execve(2) would
 * be at the mercy of calls that fail as it does not expect.
 */
export function installFilter(settings: SeccompSettings): readonly Step[] {
  return [
    giveUpNewPrivileges("seccomp"),
    {
      call: "seccomp",
      args: [SECCOMP_SET_MODE_FILTER, 0, filterProgram(settings)],
      what: "install the filter of system calls",
      option: "seccomp",
    },
  ];
}

const programs = new WeakMap<SeccompSettings, FilterProgram>();

/** The same for every plan, so that it is compiled once. */
function filterProgram(settings: SeccompSettings): FilterProgram {
  let program = programs.get(settings);
  if (program !== undefined) return program;
  const compiled = new Map<Architecture, Uint8Array>();
  program = {
    filter(architecture) {
      let bytes = compiled.get(architecture);
      if (bytes !== undefined) return bytes;
      if ("program" in settings) checkProgram(bytes = settings.program, settings.needed, architecture);
      else bytes = compileFilter(settings, architecture);
      compiled.set(architecture, bytes);
      return bytes;
    },
  };
  programs.set(settings, program);
  return program;
}

/**
 * A child that is ended before its execve(2) is still in its parent's memory, and before Linux 5.16 the kernel ends the
 * parent with it.
 *
 * @throws {TypeError} When a program refuses what has to be done under it.
 */
function checkProgram(program: Uint8Array, needed: readonly string[], architecture: Architecture): void {
  for (const call of needed) {
    const decided = interpret(program, architecture, numbersOf(architecture).get(call)!, []);
    // What is no program, the kernel refuses.
    if (decided === undefined || decided === RET.allow || decided === RET.log) continue;
    throw new TypeError(
      `Option "seccomp" must allow "${call}" on ${architecture}: it is made under the filter, to execute the command`,
    );
  }
}
