/**
 * Why a folder could not be entered or a command could not be executed. What is looked at is the outside: where the
 * inside differs, by the mounts of the plan, that is said.
 *
 * @module
 */

import { elfMachine } from "../abi/syscalls.ts";
import type { Step, Strings } from "../plan/step.ts";
import { type Facts, limitOf, mountOf, userOf } from "./facts.ts";
import { memoryLimit, type Refusal, tooManyProcesses } from "./limits.ts";

/** Why a folder or a file could not be opened or entered. */
export function folderCause({ step, code, section }: Refusal, facts: Facts): string | undefined {
  const path = step.args.find((argument) => typeof argument === "string" && argument !== "");
  if (typeof path !== "string") {
    return step.option === "cwd" ? `The path is empty. Name a folder, such as ".".` : undefined;
  }
  return hidden(path, section, facts) ?? pathCause(path, code, facts);
}

/** Where a path ends that leads nowhere. */
function pathCause(path: string, code: string, facts: Facts): string | undefined {
  const parts = prefixes(path);
  const end = parts.findIndex((part) => !facts.allows(part, "exist"));
  if (code === "ENOENT" && end > 0) {
    return `The path ends at "${parts[end - 1]}": there is no "${
      nameOf(parts[end]!)
    }" in it. Make it, or correct the path.`;
  }
  if (code === "EACCES") {
    const closed = parts.find((part) => facts.allows(part, "exist") && !facts.allows(part, "execute"));
    return closed === undefined
      ? undefined
      : `User ${userOf(facts) ?? "of this process"} may not enter "${closed}": see its mode and owner (ls -ld).`;
  }
  if (code === "ENOTDIR") {
    const file = parts.findLast((part) => facts.allows(part, "exist"));
    return file === undefined ? undefined : `"${file}" is no folder. Correct the path.`;
  }
  return undefined;
}

/** "/", "/a", "/a/b" of "/a/b". */
function prefixes(path: string): readonly string[] {
  const names = path.split("/").filter((name) => name !== "");
  const start = path.startsWith("/") ? "/" : "./";
  return [start, ...names.map((_, index) => `${start}${names.slice(0, index + 1).join("/")}`)];
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Says that a path of the outside is covered inside, where a mount of the same plan does that. */
function hidden(path: string, section: readonly Step[], facts: Facts): string | undefined {
  const cover = section.find(({ call, args: [, target, type] }) =>
    call === "mount" && typeof target === "string" && typeof type === "string" && target !== "/" &&
    path.startsWith(`${target}/`)
  );
  if (cover === undefined || !facts.allows(path, "exist")) return undefined;
  const target = String(cover.args[1]);
  return `"${path}" is outside: ${cover.option ?? "a mount"} puts a new, empty "${target}" over it. Have it in another \
folder than "${target}".`;
}

/** Why a program was not executed: see execve(2). */
export function executionCause(refusal: Refusal, facts: Facts): string | undefined {
  const { step, code, section } = refusal;
  const command = /^execute "(.*)"$/s.exec(step.what)?.[1] ?? "";
  const path = step.call === "execve" ? String(step.args[0]) : command;
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      if (command === "") return `The command is empty. Give a name or a path.`;
      return command.includes("/")
        ? hidden(path, section, facts) ?? interpreterMissing(path, facts) ?? notInside(path, section, facts) ??
          pathCause(path, code, facts)
        : notInPath(command, section, facts);
    case "EACCES":
      return notExecutable(path, facts);
    case "ENOEXEC":
      return wrongFormat(path, facts);
    case "ELIBBAD":
      return `The program's interpreter ("${
        elfInterpreter(facts.head(path)) ?? "PT_INTERP"
      }") is not one for this machine, \
which is ${facts.architecture}. Install the one that belongs to it.`;
    case "E2BIG":
      return tooLarge(step, facts);
    case "ENOMEM":
      return `There is too little memory to execute it${memoryLimit(facts)}. Raise the limit.`;
    case "EAGAIN":
      return tooManyProcesses(facts);
    case "ETXTBSY":
      return `Somebody has "${path}" open for writing. Close it first: lsof "${path}" says who has it.`;
    case "EPERM":
      return `"${path}" has capabilities that this process cannot get (getcap "${path}" shows them), or a security module \
forbids it. Take a copy of the file, which has none, or run it where they are allowed.`;
    default:
      return undefined;
  }
}

/** The file is there, and what is to run it is not. */
function interpreterMissing(path: string, facts: Facts): string | undefined {
  const head = facts.head(path);
  const script = scriptInterpreter(head);
  if (script?.endsWith("\r")) {
    return `"${path}" has lines that end as on Windows, so its interpreter would be "${
      script.slice(0, -1)
    }" and a carriage \
return. Convert it: sed -i 's/\\r$//' "${path}".`;
  }
  if (script !== undefined && !facts.allows(script, "exist")) {
    return `"${path}" is there, and its interpreter is not: its first line says "#!${script}". Install that, or change the \
line.`;
  }
  const loader = elfInterpreter(head);
  if (loader === undefined || facts.allows(loader, "exist")) return undefined;
  const musl = loader.includes("ld-musl")
    ? "It was built for musl, and this system has another C library"
    : "It is missing";
  return `"${path}" is there, and its dynamic loader "${loader}" is not. ${musl}: install that, or take a program that was \
built for this system, or a static one.`;
}

function scriptInterpreter(head: Uint8Array | undefined): string | undefined {
  if (head === undefined || head[0] !== 0x23 || head[1] !== 0x21) return undefined;
  const end = head.indexOf(0x0a);
  const line = new TextDecoder().decode(head.subarray(2, end < 0 ? 256 : end));
  return /^[ \t]*([^ \t]+)/.exec(line)?.[1];
}

const ELF = 0x7f454c46;
const PT_INTERP = 3;

/** The path in PT_INTERP of a 64-bit, little-endian ELF file: see elf(5). */
function elfInterpreter(head: Uint8Array | undefined): string | undefined {
  const view = elfView(head);
  if (view === undefined || view.getUint8(4) !== 2 || view.getUint8(5) !== 1) return undefined;
  const [at, size, count] = [Number(view.getBigUint64(32, true)), view.getUint16(54, true), view.getUint16(56, true)];
  for (let index = 0; index < count && at + (index + 1) * size <= view.byteLength; index++) {
    const header = at + index * size;
    if (view.getUint32(header, true) !== PT_INTERP) continue;
    const [start, length] = [view.getBigUint64(header + 8, true), view.getBigUint64(header + 32, true)].map(Number);
    if (start! + length! > view.byteLength) return undefined;
    const path = head!.subarray(start!, start! + length!);
    return new TextDecoder().decode(path.subarray(0, path.indexOf(0)));
  }
  return undefined;
}

function elfView(head: Uint8Array | undefined): DataView | undefined {
  if (head === undefined || head.length < 64) return undefined;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  return view.getUint32(0) === ELF ? view : undefined;
}

/** ELF machine numbers that are met, from elf.h. */
const MACHINES: ReadonlyMap<number, string> = new Map([
  [3, "x86"],
  [8, "MIPS"],
  [21, "ppc64"],
  [22, "s390x"],
  [40, "arm"],
  [62, "x86_64"],
  [183, "aarch64"],
  [243, "riscv64"],
  [258, "loongarch64"],
]);

function wrongFormat(path: string, facts: Facts): string | undefined {
  const head = facts.head(path);
  const view = elfView(head);
  if (view === undefined) {
    return head?.length === 0
      ? `"${path}" is empty.`
      : `"${path}" is in no format that the kernel can execute. A script needs a first line such as "#!/bin/sh".`;
  }
  const machine = view.getUint16(18, view.getUint8(5) === 1);
  if (machine === elfMachine(facts.architecture)) return `"${path}" is an executable that is damaged, or not whole.`;
  return `"${path}" was built for ${MACHINES.get(machine) ?? `machine ${machine}`}, and this machine is \
${facts.architecture}. Take the build for ${facts.architecture}, or install qemu-user-static with binfmt_misc.`;
}

function notExecutable(path: string, facts: Facts): string | undefined {
  const mount = mountOf(facts, path);
  if (mount?.options.includes("noexec") === true) {
    return `"${path}" is on a mount with noexec, "${mount.point}", where nothing can be executed. Copy it elsewhere, or as \
root: mount -o remount,exec "${mount.point}".`;
  }
  if (facts.head(path) === undefined && facts.allows(`${path}/.`, "exist")) {
    return `"${path}" is a folder. Give the path of a program.`;
  }
  const closed = pathCause(path.slice(0, path.lastIndexOf("/")), "EACCES", facts);
  if (closed !== undefined) return closed;
  if (facts.allows(path, "exist") && !facts.allows(path, "execute")) {
    return `"${path}" is not executable for user ${
      userOf(facts) ?? "of this process"
    }. Make it so: chmod +x "${path}".`;
  }
  const script = scriptInterpreter(facts.head(path));
  return script === undefined
    ? undefined
    : `"${path}" says "#!${script}", and that may not be executed: see its mode and mount.`;
}

/** A file of no known format is given to a shell, after a look at it. */
function isAttempt({ call }: Step, before: Step | undefined): boolean {
  return call === "execve" && before?.call !== "futex";
}

/**
 * The step that would execute the command in a folder of PATH, which shim/program.zig counts by number; the last one where
 * there is no such folder.
 */
export function attemptIn(folder: number, section: readonly Step[], environment: Uint8Array): Step {
  const attempts = section.filter((step, index) => isAttempt(step, section[index - 1]));
  const path = /(?:^|\0)PATH=([^\0]*)/.exec(new TextDecoder().decode(environment))?.[1];
  const folders = path === undefined || attempts.length === 1 ? undefined : path.split(":");
  // A folder that PATH has twice is one step.
  const index = folders === undefined ? folder : [...new Set(folders)].indexOf(folders[folder]!);
  return attempts[index] ?? section.at(-1)!;
}

/** The outside has the program, and inside it is hidden, or what interprets it is. */
function notInside(path: string, section: readonly Step[], facts: Facts): string | undefined {
  if (!facts.allows(path, "execute") || !section.some(({ call }) => call === "pivot_root")) return undefined;
  return `"${path}" is there outside; inside it is not, or its interpreter or dynamic loader is not. Bind the folders that \
they are in, such as /usr and what leads there: /bin, /lib and /lib64.`;
}

/** Where programs often are. */
const USUAL_FOLDERS = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"] as const;

function notInPath(command: string, section: readonly Step[], facts: Facts): string {
  const looked = section.filter((step, index) =>
    isAttempt(step, section[index - 1]) && step.what === `execute "${command}"`
  )
    .map(({ args: [path] }) => String(path)).filter((path) => path.endsWith(`/${command}`));
  const covered = looked.map((path) => hidden(path, section, facts)).find((text) => text !== undefined);
  if (covered !== undefined) return covered;
  const broken = looked.map((path) => facts.allows(path, "exist") ? interpreterMissing(path, facts) : undefined)
    .find((text) => text !== undefined);
  if (broken !== undefined) return broken;
  const outside = looked.map((path) => notInside(path, section, facts)).find((text) => text !== undefined);
  if (outside !== undefined) return outside;
  const folders = looked.map((path) => path.slice(0, -command.length - 1));
  const other = USUAL_FOLDERS.find((folder) =>
    !folders.includes(folder) && facts.allows(`${folder}/${command}`, "execute")
  );
  const where = folders.length === 0 ? "any folder" : `"${folders.join(":")}"`;
  return other === undefined
    ? `No folder of PATH has it: ${where}. Install it, or give its path.`
    : `It is in "${other}", which PATH does not have: ${where}. Add that folder to PATH, or give the path "${other}/${command}".`;
}

/** 32 pages: MAX_ARG_STRLEN of linux/binfmts.h. */
const STRING_MAX = 131_072;

function tooLarge({ args }: Step, facts: Facts): string {
  let total = 0;
  let largest = 0;
  for (const argument of args) {
    if (typeof argument !== "object" || argument === null || !("strings" in argument)) continue;
    for (const size of sizes(argument.strings)) {
      total += size;
      largest = Math.max(largest, size);
    }
  }
  const stack = limitOf(facts, "Max stack size");
  const one = largest > STRING_MAX ? `one string has ${largest} bytes, and each may have 128 KiB` : undefined;
  const all = `they have ${total} bytes, and may have a quarter of RLIMIT_STACK${
    stack === undefined ? "" : ` (${Math.floor(stack / 4)} here)`
  }, at most 6 MiB`;
  return `The arguments and the environment are too large: ${one ?? all}. Pass the data by stdin or a file${
    one === undefined ? ", or raise ulimit -s" : ""
  }.`;
}

function sizes(strings: Strings["strings"]): readonly number[] {
  if (!(strings instanceof Uint8Array)) return strings.map((text) => new TextEncoder().encode(String(text)).length + 1);
  const all: number[] = [];
  for (let start = 0, end; (end = strings.indexOf(0, start)) >= 0; start = end + 1) all.push(end + 1 - start);
  return all;
}
