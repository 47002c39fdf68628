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
      const parts = partsOf(words[2], name, ["if-missing"], [...FLAGS, "no-recursive"]);
      return {
        type: "bind",
        source: target,
        target: second === undefined ? undefined : plain(second),
        ...flagsOf(parts),
        ...(option === "ro-bind" ? { readonly: true } : {}),
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
    case "sysfs":
      return { type: "sysfs", target, readonly: partsOf(second, name, [], ["rw", "ro"]).has("rw") ? false : undefined };
    case "overlay":
      return { type: "overlay", target, ...layers(second ?? "", name) };
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
      return { type: "remount", target, ...flagsOf(parts), recursive: parts.has("no-recursive") ? false : undefined };
    }
    default:
      partsOf(second, name, [], []);
      return { type: option, target };
  }
}

/** `host`, `empty`, a folder, or `overlay:lower=A,upper=B`. */
export function rootValue(value: string): string | OverlayRoot {
  return value.startsWith("overlay:") ? { overlay: layers(value.slice("overlay:".length), "--root") } : value;
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
    if (key === "dir") options.dir = plain(path);
    else options[key as "readonly" | "writable"] = [...options[key as "readonly" | "writable"] ?? [], plain(path)];
  }
  return options;
}

/** Words for flags that are set, and those for flags that are cleared. */
const SET = { ro: "readonly", nosuid: "nosuid", nodev: "nodev", noexec: "noexec" } as const;
const CLEAR = { rw: "readonly", suid: "nosuid", dev: "nodev", exec: "noexec" } as const;
const FLAGS = [...Object.keys(SET), ...Object.keys(CLEAR)];

function flagsOf(parts: ReadonlyMap<string, string>): Record<string, boolean> {
  const flags: Record<string, boolean> = {};
  for (const [word, flag] of Object.entries(SET)) if (parts.has(word)) flags[flag] = true;
  for (const [word, flag] of Object.entries(CLEAR)) if (parts.has(word)) flags[flag] = false;
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
    if (key === "lower") lower.push(plain(path));
    else others[key as "upper" | "work"] = plain(path);
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
