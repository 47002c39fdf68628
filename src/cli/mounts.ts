/**
 * The options of nsrun about what is seen of the file system, as the library takes them. Their order counts.
 *
 * @module
 */

import { nearest } from "../nearest.ts";
import {
  type EphemeralOptions,
  MOUNT_TYPES,
  type MountOptions,
  type OverlayLayers,
  type OverlayRoot,
} from "../options_mounts.ts";
import { outside } from "./values.ts";
import { UsageError } from "./words.ts";

/** Options that mount something. */
export const MOUNT_OPTIONS = [...MOUNT_TYPES, "ro-bind"] as const;

/** The name of one of them. */
export type MountOption = typeof MOUNT_OPTIONS[number];

/** One of them, with its value. */
export type MountWord = readonly [option: MountOption, value: string];

/** Whether it is one. */
export function isMountOption(name: string): name is MountOption {
  return (MOUNT_OPTIONS as readonly string[]).includes(name);
}

/** What the library takes for such an option. */
export function mountValue([option, value]: MountWord): MountOptions {
  const name = `--${option}`;
  const words = split(value, ":");
  const most = option === "symlink" ? 2 : option === "bind" || option === "ro-bind" ? 3 : 2;
  if (option !== "file" && words.length > most) {
    throw new UsageError(`${name} has too many colons: write "\\:" for one that is part of a path, in ${shown(value)}`);
  }
  const [first = "", second] = words as [string, string | undefined];
  const target = plain(first);
  switch (option) {
    case "bind":
    case "ro-bind": {
      const parts = partsOf(words[2], name, ["if-missing"], [...FLAGS, "inside", "no-recursive"]);
      if (option === "ro-bind" && parts.has("rw")) {
        throw new UsageError(`${name} and its part rw contradict each other`);
      }
      return {
        type: "bind",
        source: parts.has("inside") ? target : outside(target),
        target: second === undefined ? undefined : plain(second),
        ...flagsOf(parts, name),
        ...(option === "ro-bind" ? { readonly: true } : {}),
        inside: parts.has("inside") || undefined,
        recursive: parts.has("no-recursive") ? false : undefined,
        ifMissing: parts.get("if-missing") as "skip" | undefined, // The library knows which words there are.
      };
    }
    case "tmpfs": {
      const parts = partsOf(second, name, ["size", "mode", "nr-inodes"], []);
      return {
        type: "tmpfs",
        target,
        size: parts.get("size"),
        mode: parts.get("mode"),
        nrInodes: parts.get("nr-inodes"),
      };
    }
    case "proc": {
      const parts = partsOf(second, name, ["hidepid", "subset"], ["ro"]);
      return {
        type: "proc",
        target,
        readonly: parts.has("ro") || undefined,
        hidepid: parts.get("hidepid") as "off" | undefined,
        subset: parts.get("subset") as "pid" | undefined,
      };
    }
    case "sysfs": {
      const { readonly } = flagsOf(partsOf(second, name, [], ["rw", "ro"]), name);
      return { type: "sysfs", target, readonly };
    }
    case "overlay":
      if (second === undefined) throw new UsageError(`${name} must be PATH:lower=DIR,…: got ${shown(value)}`);
      return { type: "overlay", target, ...layers(second, name) };
    case "symlink":
      if (second === undefined) throw new UsageError(`${name} must be TO:PATH: got ${shown(value)}`);
      return { type: "symlink", target: plain(second), to: target };
    case "dir":
      return { type: "dir", target, mode: partsOf(second, name, ["mode"], []).get("mode") };
    case "file":
      if (second === undefined) throw new UsageError(`${name} must be PATH:TEXT: got ${shown(value)}`);
      return { type: "file", target, content: words.slice(1).join(":") };
    case "remount": {
      const parts = partsOf(second, name, [], [...FLAGS, "no-recursive"]);
      const flags = flagsOf(parts, name);
      if (Object.keys(flags).length === 0) {
        throw new UsageError(`${name} must be PATH:PARTS, with one of ${FLAGS.join(", ")}: got ${shown(value)}`);
      }
      return {
        type: "remount",
        target,
        ...flags,
        recursive: parts.has("no-recursive") ? false : undefined,
      };
    }
    default:
      partsOf(second, name, [], []);
      return { type: option, target };
  }
}

/** `host`, `empty`, a folder, or `overlay:lower=A,upper=B`. */
export function rootValue(value: string): string | OverlayRoot {
  if (value.startsWith("overlay:")) return { overlay: layers(value.slice("overlay:".length), "--root") };
  return value === "host" || value === "empty" ? value : outside(value);
}

/** `dir=DIR,readonly=PATH,writable=DIR`, the last two any number of times, or nothing. */
export function ephemeralValue(text: string): true | EphemeralOptions {
  if (text === "") return true;
  const options: EphemeralOptions = {};
  for (const part of split(text, ",")) {
    const [, key, path] = /^(dir|readonly|writable)=(.*)$/s.exec(part) ?? [];
    if (path === undefined) {
      throw new UsageError(`--ephemeral must have dir=DIR, readonly=PATH or writable=DIR: got ${shown(part)}`);
    }
    const place = outside(plain(path));
    if (key !== "dir") {
      options[key as "readonly" | "writable"] = [...options[key as "readonly" | "writable"] ?? [], place];
    } else if (options.dir === undefined) options.dir = place;
    else throw new UsageError("--ephemeral=dir is given twice");
  }
  return options;
}

/** Words for flags that are set, and those for flags that are cleared. */
const SET = { ro: "readonly", nosuid: "nosuid", nodev: "nodev", noexec: "noexec" } as const;
const CLEAR = { rw: "readonly", suid: "nosuid", dev: "nodev", exec: "noexec" } as const;
type Flag = typeof SET[keyof typeof SET];
const FLAGS = [...Object.keys(SET), ...Object.keys(CLEAR)];

function flagsOf(parts: ReadonlyMap<string, string>, option: string): Partial<Record<Flag, boolean>> {
  const flags: Partial<Record<Flag, boolean>> = {};
  for (const [words, isSet] of [[SET, true], [CLEAR, false]] as const) {
    for (const [word, flag] of Object.entries(words)) {
      if (!parts.has(word)) continue;
      if (flags[flag] !== undefined) {
        throw new UsageError(`Parts of ${option} contradict each other: ${word} and its opposite`);
      }
      flags[flag] = isSet;
    }
  }
  return flags;
}

function layers(text: string, name: string): OverlayLayers {
  const lower: string[] = [];
  const others: { upper?: string; work?: string } = {};
  for (const part of split(text, ",")) {
    const [, key, path] = /^(lower|upper|work)=(.*)$/s.exec(part) ?? [];
    if (path === undefined) {
      throw new UsageError(`${name} must have lower=DIR, upper=DIR or work=DIR: got ${shown(part)}`);
    }
    const place = path === "tmpfs" ? path : outside(plain(path));
    if (key === "lower") lower.push(place);
    else if (others[key as "upper" | "work"] === undefined) others[key as "upper" | "work"] = place;
    else throw new UsageError(`${name} has ${key}= twice`);
  }
  return { lower, ...others };
}

/** `name=value` and words, with commas between. */
function partsOf(
  text: string | undefined,
  option: string,
  valued: readonly string[],
  words: readonly string[],
): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const part of text === undefined ? [] : split(text, ",")) {
    const at = part.indexOf("=");
    const name = at < 0 ? part : part.slice(0, at);
    if (!(at < 0 ? words : valued).includes(name)) {
      const known = [...valued.map((name) => `${name}=…`), ...words];
      const guess = nearest(name, [...valued, ...words]);
      const hint = guess === undefined ? `known are ${known.join(", ") || "none"}` : `did you mean "${guess}"?`;
      throw new UsageError(`Unknown part "${part}" of ${option}: ${hint}`);
    }
    if (found.has(name)) throw new UsageError(`${option} has the part ${name} twice`);
    found.set(name, at < 0 ? "" : plain(part.slice(at + 1)));
  }
  return found;
}

/** Cuts at a sign that has no backslash before it. */
function split(text: string, sign: ":" | ","): string[] {
  const parts = [""];
  for (const [token] of text.matchAll(/\\[^]|[^]/g)) {
    if (token === sign) parts.push("");
    else parts[parts.length - 1] += token;
  }
  return parts;
}

/** Without the backslashes before colons, commas and backslashes. */
function plain(text: string): string {
  return text.replaceAll(/\\([\\:,])/g, "$1");
}

function shown(text: string): string {
  return JSON.stringify(text);
}
