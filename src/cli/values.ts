/**
 * The values of options on the command line, as the library takes them. Here is checked only what the library cannot
 * see any more: that numbers are numbers, and what is between commas and colons.
 *
 * @module
 */

import type { CapabilityName } from "../abi/capabilities.ts";
import type { CommandOptions } from "../command_options.ts";
import { nearest } from "../nearest.ts";
import type { IdMapping, NamespaceOptions, TimeOffsets, TmpOptions, UserIds } from "../options.ts";
import { UsageError } from "./words.ts";

/** A number in decimal digits, and nothing else that JavaScript would take for one. */
export function number(text: string, option: string): number {
  if (/^-?\d+(\.\d+)?$/.test(text)) return Number(text);
  throw new UsageError(`${option} must be a number: got ${JSON.stringify(text)}`);
}

const UNITS: Readonly<Record<string, number>> = { "": 1000, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Seconds, or a number with s, m, h or d, as timeout(1) has it; in milliseconds. */
export function duration(text: string, option: string): number {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)([smhd]?)$/.exec(text) ?? [];
  const ms = Number(amount) * UNITS[unit ?? ""]!;
  if (!(ms > 0) || ms > Number.MAX_SAFE_INTEGER) {
    throw new UsageError(`${option} must be a time such as 10, 1.5s, 5m, 1h or 2d: got ${JSON.stringify(text)}`);
  }
  return ms;
}

/** The number of a descriptor. */
export function descriptor(text: string, option: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new UsageError(`${option} must be the number of an open descriptor: got ${JSON.stringify(text)}`);
}

/** Numbers in a row, such as `0-3`, or one. */
export function range(text: string, option: string): number[] {
  const [, first, last] = /^(\d{1,4})-(\d{1,4})$/.exec(text) ?? [];
  if (first === undefined) return [number(text, option)];
  return Array.from({ length: Math.max(Number(last) - Number(first) + 1, 0) }, (_, index) => Number(first) + index);
}

/** A path as the shell has it, from the current folder on, and without "..". */
export function outside(path: string): string {
  if (path === "" || path.startsWith("/") && !path.includes("/..")) return path;
  const parts: string[] = [];
  for (const part of (path.startsWith("/") ? path : `${Deno.cwd()}/${path}`).split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

/** A command's options with its folder as the shell has it, which may have another meaning, or none, inside. */
export function fromHere(options: CommandOptions): CommandOptions {
  const { cwd } = options;
  return typeof cwd === "string" && cwd !== "" && !cwd.startsWith("/") ? { ...options, cwd: outside(cwd) } : options;
}

/**
 * A command's options, without what Deno has put into its own environment where there was no node in PATH: one of its own,
 * in front of all others.
 *
 * @param ofAll Variables that the command has in any case, but for those of its own options.
 * @param inherited Those that it inherits.
 */
export function withoutShim(
  options: CommandOptions,
  ofAll: Readonly<Record<string, string>> = {},
  inherited: Uint8Array,
): CommandOptions {
  const variables = new TextDecoder().decode(inherited).split("\0");
  if (options.clearEnv === true || !variables.includes("DENO_NODE_SHIM_ACTIVE=1")) return options;
  const path = variables.find((variable) => variable.startsWith("PATH="))?.slice("PATH=".length);
  const own = /^[^:]*\/node_compat_bin(?::|$)/.exec(path ?? "")?.[0];
  const given = { ...ofAll, ...options.env };
  const unset = new Set([...options.unsetEnv ?? [], "DENO_NODE_SHIM_ACTIVE"].filter((name) => !(name in given)));
  if (own === undefined || "PATH" in given || unset.has("PATH")) return { ...options, unsetEnv: [...unset] };
  const rest = path!.slice(own.length);
  if (rest === "") return { ...options, unsetEnv: [...unset, "PATH"] };
  return { ...options, unsetEnv: [...unset], env: { ...options.env, PATH: rest } };
}

/** What is in a file of JSON. */
export function jsonFile(path: string, option: string): unknown {
  return fromFile(path, option, (bytes) => JSON.parse(new TextDecoder().decode(bytes)));
}

/** What is in the files that were read, by their paths: a pipe has it only once. */
const files = new Map<string, Uint8Array<ArrayBuffer>>();

function fromFile<T>(path: string, option: string, read: (bytes: Uint8Array<ArrayBuffer>) => T): T {
  const name = JSON.stringify(path);
  try {
    const bytes = files.get(path) ?? (path === "-" ? stdin() : Deno.readFileSync(path));
    files.set(path, bytes);
    return read(bytes);
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) {
      // Deno wants all permissions for what it finds in /proc.
      const isStdin = /^\/dev\/stdin$|\/fd\/0$/.test(path);
      const remedy = isStdin ? `write ${option} -` : `run Deno with --allow-read=${path} beside --allow-ffi`;
      throw new UsageError(`${option} needs to read ${name}: ${remedy}`);
    }
    throw new UsageError(`Cannot read ${option} ${name}: ${error instanceof Error ? error.message : error}`);
  }
}

/** All of it, which takes no permission. */
function stdin(): Uint8Array<ArrayBuffer> {
  const chunk = new Uint8Array(65_536);
  let all = new Uint8Array();
  for (let size; (size = Deno.stdin.readSync(chunk)) !== null;) {
    const more = new Uint8Array(all.length + size);
    more.set(all);
    more.set(chunk.subarray(0, size), all.length);
    all = more;
  }
  return all;
}

/** The files that were read, for {@linkcode takeFiles}; undefined where none was. */
export function filesRead(): string | undefined {
  const contents = [...files].map(([path, bytes]) => [path, bytes.toBase64()]);
  return contents.length === 0 ? undefined : JSON.stringify(contents);
}

/** Takes these for the files, which are then not read. */
export function takeFiles(read: string): void {
  const contents: [string, string][] = JSON.parse(read);
  for (const [path, bytes] of contents) files.set(path, Uint8Array.fromBase64(bytes));
}

/** `default`, or the path of a file with a profile in JSON, or a program of BPF, which the library checks. */
export function seccompValue(text: string): NamespaceOptions["seccomp"] {
  if (text === "default") return text;
  return fromFile(text, "--seccomp", (bytes) => {
    const content = new TextDecoder().decode(bytes);
    return /^\s*[{"]/.test(content) ? JSON.parse(content) : bytes;
  });
}

/** What the library takes; it knows which words there are. */
export function onMainExit(text: string | undefined): NamespaceOptions["onMainExit"] {
  return text as NamespaceOptions["onMainExit"];
}

/** `read=/usr`, `connect-tcp=443` and the like, any number of times; a list that is there and has nothing ends in "=". */
export function landlockValue(entries: readonly string[]): NonNullable<NamespaceOptions["landlock"]> {
  const lists = new Map<string, (string | number)[]>();
  let ifMissing: string | undefined;
  for (const entry of entries) {
    const [, name, value] = /^(read|write|execute|bind-tcp|connect-tcp|if-missing)=(.*)$/s.exec(entry) ?? [];
    if (name === undefined || value === undefined) {
      throw new UsageError(
        `--landlock must be read=PATH, write=PATH, execute=PATH, bind-tcp=[PORT], connect-tcp=[PORT] or ` +
          `if-missing=skip: got ${JSON.stringify(entry)}`,
      );
    }
    const [, more] = /,((?:read|write|execute|bind-tcp|connect-tcp|if-missing)=.*)$/s.exec(value) ?? [];
    if (more !== undefined) throw new UsageError(`--landlock takes one rule: give --landlock ${more} as another`);
    if (name === "if-missing") {
      ifMissing = value;
      continue;
    }
    const isPort = name.endsWith("-tcp");
    const option = isPort ? name.replace("-tcp", "Tcp") : name;
    const list = lists.get(option) ?? [];
    if (value !== "") list.push(isPort ? number(value, `--landlock ${name}`) : outside(value));
    lists.set(option, list);
  }
  // The library knows which words there are.
  return { ...Object.fromEntries(lists), ...(ifMissing === undefined ? {} : { ifMissing: ifMissing as "skip" }) };
}

/** Options with one value that `cgroup` is made of. */
export const CGROUP_OPTIONS = [
  "cgroup-parent",
  "pids-max",
  "memory-max",
  "memory-high",
  "memory-swap-max",
  "cpu-max",
  "cpu-weight",
  "io-weight",
  "cpuset-cpus",
  "cpuset-mems",
] as const;

/** Those of them that are numbers. */
const CGROUP_NUMBERS: readonly string[] = ["pids-max", "cpu-weight", "io-weight"];

/** Any of them asks for a cgroup; `hugetlb-max` is `2MB=64m`, any number of times. */
export function cgroupValue(
  isAsked: boolean,
  given: Readonly<Partial<Record<typeof CGROUP_OPTIONS[number], string>>>,
  hugetlb: readonly string[],
): NamespaceOptions["cgroup"] {
  const values: [string, unknown][] = CGROUP_OPTIONS.flatMap((option): [string, unknown][] => {
    const text = given[option];
    if (text === undefined) return [];
    const isNumber = CGROUP_NUMBERS.includes(option) && text !== "max";
    const name = option === "cgroup-parent" ? "parent" : option.replaceAll(/-([a-z])/g, (_, a) => a.toUpperCase());
    return [[name, option === "cpu-max" ? cpuMax(text) : isNumber ? number(text, `--${option}`) : text]];
  });
  if (hugetlb.length > 0) {
    values.push([
      "hugetlbMax",
      Object.fromEntries(hugetlb.map((entry) => {
        const [, size, most] = /^([^=]+)=(.+)$/.exec(entry) ?? [];
        if (most !== undefined) return [size, most];
        throw new UsageError(`--hugetlb-max must be SIZE=BYTES, such as 2MB=64m: got ${JSON.stringify(entry)}`);
      })),
    ]);
  }
  return values.length > 0 ? Object.fromEntries(values) : isAsked || undefined;
}

/** A number of CPUs, or `QUOTA/PERIOD` in microseconds. */
function cpuMax(text: string): unknown {
  if (text === "max") return text;
  const [, quota, period] = /^(\d+)\/(\d+)$/.exec(text) ?? [];
  return quota === undefined ? number(text, "--cpu-max") : { quota: Number(quota), period: Number(period) };
}

/** As the library has it, however it is written: `CAP_KILL`, `cap_kill`, `kill`. */
function capability(name: string, option: string): CapabilityName {
  if (/^(all)?$/i.test(name)) {
    throw new UsageError(
      `${option} must be CAP_NAME,…: got ${
        JSON.stringify(name)
      }. To have none say --capabilities none; root has all, ` +
        `as --private-user makes the command`,
    );
  }
  return `CAP_${name.toUpperCase().replace(/^CAP_/, "")}` as CapabilityName;
}

/** `none`, or names with commas between of which to keep, drop or add. The library knows which there are. */
export function capabilitiesValue(
  none: string | undefined,
  lists: Readonly<Record<"keep" | "drop" | "add", string | undefined>>,
): NamespaceOptions["capabilities"] {
  const given = Object.entries(lists).flatMap(([which, text]) =>
    text === undefined ? [] : [[which, text.split(",").map((name) => capability(name, `--cap-${which}`))] as const]
  );
  if (none === undefined) return given.length === 0 ? undefined : Object.fromEntries(given);
  if (none !== "none") {
    throw new UsageError(
      `--capabilities must be none: got ${JSON.stringify(none)}; names go to --cap-keep, --cap-drop or --cap-add`,
    );
  }
  if (given.length > 0) throw new UsageError(`--capabilities none and --cap-${given[0]![0]} contradict each other`);
  return none;
}

/** `NAME=LIMIT` or `NAME=SOFT:HARD`, any number of times. */
export function limits(entries: readonly string[]): NonNullable<NamespaceOptions["rlimits"]> {
  return Object.fromEntries(entries.map((entry) => {
    const [, name, soft, hard] = /^(\w+)=([^:]+)(?::([^:]+))?$/.exec(entry) ?? [];
    if (name === undefined) {
      throw new UsageError(`--rlimit must be NAME=LIMIT or NAME=SOFT:HARD: got ${JSON.stringify(entry)}`);
    }
    const value = (text: string) => text === "0" ? 0 : text;
    return [name, hard === undefined ? value(soft!) : [value(soft!), value(hard)]];
  }));
}

/** `size=16m,mode=1777`, or nothing. */
export function tmpValue(text: string): true | TmpOptions {
  if (text === "") return true;
  const { size, mode, "nr-inodes": nrInodes, uid, gid, huge } = parts(text, "--private-tmp", [
    "size",
    "mode",
    "nr-inodes",
    "uid",
    "gid",
    "huge",
  ]);
  return {
    size,
    mode,
    nrInodes,
    uid: optionalNumber(uid, "--private-tmp=uid"),
    gid: optionalNumber(gid, "--private-tmp=gid"),
    huge: huge as TmpOptions["huge"], // The library knows which words there are.
  };
}

/** `monotonic=3600,boottime=-1.5`, or nothing. */
export function timeValue(text: string): true | TimeOffsets {
  if (text === "") return true;
  const { monotonic, boottime } = parts(text, "--private-time", ["monotonic", "boottime"]);
  return {
    monotonic: optionalNumber(monotonic, "--private-time=monotonic"),
    boottime: optionalNumber(boottime, "--private-time=boottime"),
  };
}

/** `root`, `self`, `no`, `uid=0,gid=0`, or nothing; or the maps, which imply the option and go with no value of it. */
export function userValue(
  text: string | undefined,
  uidMap: readonly string[],
  gidMap: readonly string[],
  setgroups?: string,
): NamespaceOptions["privateUser"] {
  if (setgroups !== undefined) {
    const user = userValue(text, uidMap, gidMap);
    if (user === false) throw new UsageError("--setgroups and --private-user=no contradict each other");
    const who = user === undefined || user === true ? { uid: 0, gid: 0 } : user === "self" ? {} : user;
    return { ...who, setgroups: setgroups as UserIds["setgroups"] }; // The library knows which words there are.
  }
  if (uidMap.length > 0 || gidMap.length > 0) {
    if (uidMap.length === 0) throw new UsageError("--gid-map needs --uid-map beside it");
    if (gidMap.length === 0) throw new UsageError("--uid-map needs --gid-map beside it");
    const maps = { uidMap: mappings(uidMap, "--uid-map"), gidMap: mappings(gidMap, "--gid-map") };
    if (!text) return maps;
    const ids = userValue(text, [], []);
    if (typeof ids !== "object" || maps.uidMap !== "auto" && maps.gidMap !== "auto") {
      throw new UsageError(`--uid-map and --private-user=${text} contradict each other`);
    }
    return { ...maps, ...Object.fromEntries(Object.entries(ids).filter(([, id]) => id !== undefined)) };
  }
  if (text === undefined) return undefined;
  if (text === "" || text === "root") return true;
  if (text === "no") return false;
  if (text === "self") return "self";
  if (!text.includes("=")) {
    throw new UsageError(`--private-user must be root, self, no or uid=ID,gid=ID: got ${JSON.stringify(text)}`);
  }
  const { uid, gid } = parts(text, "--private-user", ["uid", "gid"]);
  return { uid: optionalNumber(uid, "--private-user=uid"), gid: optionalNumber(gid, "--private-user=gid") };
}

/** `NAME=VALUE`, any number of times; the last of one name counts. */
export function environment(entries: readonly string[]): Record<string, string> {
  return Object.fromEntries(entries.map((entry) => {
    const at = entry.indexOf("=");
    if (at < 1) throw new UsageError(`--env must be NAME=VALUE: got ${JSON.stringify(entry)}`);
    return [entry.slice(0, at), entry.slice(at + 1)];
  }));
}

function optionalNumber(text: string | undefined, option: string): number | undefined {
  return text === undefined ? undefined : number(text, option);
}

function mappings(entries: readonly string[], option: string): IdMapping[] | "auto" {
  return entries.length === 1 && entries[0] === "auto" ? "auto" : entries.map((entry) => mapping(entry, option));
}

/** `INSIDE:OUTSIDE[:COUNT]`, in the order of user_namespaces(7). */
function mapping(text: string, option: string): IdMapping {
  const [, inside, outside, count] = /^(\d+):(\d+)(?::(\d+))?$/.exec(text) ?? [];
  if (inside === undefined) {
    throw new UsageError(`${option} must be auto or INSIDE:OUTSIDE[:COUNT]: got ${JSON.stringify(text)}`);
  }
  return { inside: Number(inside), outside: Number(outside), count: count === undefined ? undefined : Number(count) };
}

/** `name=value`, or with another sign between the two, with commas between. */
export function parts<Name extends string>(
  text: string,
  option: string,
  known: readonly Name[],
  sign: "=" | ":" = "=",
): Partial<Record<Name, string>> {
  const found: Partial<Record<Name, string>> = {};
  for (const part of text.split(",")) {
    const at = part.indexOf(sign);
    const given = at < 0 ? part : part.slice(0, at);
    const name = known.find((one) => one === given);
    if (name === undefined) {
      const guess = nearest(given, known);
      const hint = guess === undefined ? `known are ${known.join(", ")}` : `did you mean "${guess}"?`;
      throw new UsageError(`Unknown part "${given}" of ${option}: ${hint}`);
    }
    if (at < 0) throw new UsageError(`${option}=${name} needs a value: ${option}=${name}${sign}…`);
    if (found[name] !== undefined) throw new UsageError(`${option}=${name} is given twice`);
    found[name] = part.slice(at + 1);
  }
  return found;
}
