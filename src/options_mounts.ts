/**
 * What is seen of the file system: the options `root` and `mounts`, and how they are checked.
 *
 * @module
 */

import {
  amount,
  checkNames,
  integer,
  object,
  octal,
  oneOf,
  optionalBoolean,
  shown,
  text,
  wrongType,
} from "./checks.ts";

/** Layers of folders over each other, seen as one: see overlayfs in the kernel's documentation. */
export interface OverlayLayers {
  /** Folders outside, the uppermost first. */
  lower: string[];
  /**
   * Where changes go: a folder outside, or `"tmpfs"`, in memory and gone with the last process. Without one it is
   * read-only, and needs two layers below.
   */
  upper?: string | undefined;
  /** An empty folder on the file system of {@linkcode upper}, where that is a folder: the kernel works there. */
  work?: string | undefined;
}

/** A root that is an overlay. */
export interface OverlayRoot {
  /** Its layers. */
  overlay: OverlayLayers;
}

/** What a mount allows. */
export interface MountFlags {
  /** Nothing can be written, in no mount below either. @default {false} */
  readonly?: boolean | undefined;
  /** Set-user-ID and set-group-ID bits and file capabilities are ignored. @default {false} */
  nosuid?: boolean | undefined;
  /** Devices cannot be used. @default {false} */
  nodev?: boolean | undefined;
  /** Programs cannot be executed. @default {false} */
  noexec?: boolean | undefined;
}

/** A file or folder of the outside, or of the inside, at a place inside. */
export interface BindMount extends MountFlags {
  /** What it is. */
  type: "bind";
  /** An absolute path outside; symbolic links in it are followed as they are there. */
  source: string;
  /** Where it is inside. @default {the same path} */
  target?: string | undefined;
  /**
   * The source is a path inside, of what is there by then: such as `"/proc/sys"`, on itself and read-only. Symbolic links
   * in it lead to what is inside. With `ephemeral` all are.
   *
   * @default {false}
   */
  inside?: boolean | undefined;
  /** With all that is mounted below it. The kernel lets a user namespace not leave that out. @default {true} */
  recursive?: boolean | undefined;
  /**
   * Where the source, or a target that is not made, is not there: `"error"`, `"skip"` leaves it out, and `"create"` makes
   * an empty folder *outside*, where the source is missing: there, symbolic links on the way to it are followed. It stays,
   * even where the command then cannot be started.
   *
   * @default {"error"}
   */
  ifMissing?: "error" | "skip" | "create" | undefined;
}

/** A file system in memory: see tmpfs(5). */
export interface TmpfsMount {
  /** What it is. */
  type: "tmpfs";
  /** Where it is inside. */
  target: string;
  /** The most it may hold: bytes, or a string such as `"16m"` or `"10%"` of the memory. @default {"50%"} */
  size?: number | string | undefined;
  /** The permissions of its top folder, such as `0o1777`. @default {0o755} */
  mode?: number | string | undefined;
  /** The most inodes (files and folders) that it may hold, such as `"10k"`. */
  nrInodes?: number | string | undefined;
}

/** The processes of the pid namespace: see proc(5). */
export interface ProcMount {
  /** What it is. */
  type: "proc";
  /** Where it is inside. @default {"/proc"} */
  target?: string | undefined;
  /** Nothing can be written, such as sysctls. @default {false} */
  readonly?: boolean | undefined;
  /** What is hidden of the processes of other users. @default {"off"} */
  hidepid?: "off" | "noaccess" | "invisible" | "ptraceable" | undefined;
  /** `"pid"`: only processes, nothing of the system. Since Linux 5.8. @default {all} */
  subset?: "pid" | undefined;
}

/**
 * A small /dev: null, zero, full, random, urandom, tty, pseudo-terminals of its own (pts, ptmx), shm, and the links fd,
 * stdin, stdout and stderr; console, where the command has a terminal of its own: that terminal, and never the caller's.
 */
export interface DevMount {
  /** What it is. */
  type: "dev";
  /** Where it is inside. @default {"/dev"} */
  target?: string | undefined;
}

/** The POSIX message queues of the IPC namespace: see mq_overview(7). */
export interface MqueueMount {
  /** What it is. */
  type: "mqueue";
  /** Where it is inside. @default {"/dev/mqueue"} */
  target?: string | undefined;
}

/** The devices and parts of the kernel: see sysfs(5). A user namespace needs a network namespace of its own for it. */
export interface SysfsMount {
  /** What it is. */
  type: "sysfs";
  /** Where it is inside. @default {"/sys"} */
  target?: string | undefined;
  /** Nothing can be written. @default {true} */
  readonly?: boolean | undefined;
}

/** Layers of folders over each other. */
export interface OverlayMount extends OverlayLayers {
  /** What it is. */
  type: "overlay";
  /** Where it is inside. */
  target: string;
}

/** A symbolic link. It is made in what is new inside, never in a folder of the outside. */
export interface SymlinkMount {
  /** What it is. */
  type: "symlink";
  /** Where the link is. */
  target: string;
  /** Where it leads to. */
  to: string;
}

/** A folder. It is made in what is new inside; below a folder of the outside it has to be there. */
export interface DirMount {
  /** What it is. */
  type: "dir";
  /** Where it is inside. */
  target: string;
  /** Its permissions; what the outside has keeps its own. @default {0o755} */
  mode?: number | string | undefined;
}

/** A file in memory with a content. Where the outside has a file at its place, that one is covered, and stays as it is. */
export interface FileMount {
  /** What it is. */
  type: "file";
  /** Where it is inside. */
  target: string;
  /** What is in it. */
  content: string | Uint8Array;
  /** Its permissions. @default {0o644} */
  mode?: number | string | undefined;
}

/** Other flags for what is mounted at a place already. What is left out stays as it is. */
export interface RemountMount extends MountFlags {
  /** What it is. */
  type: "remount";
  /** Where the mount is inside; it may be `"/"`. */
  target: string;
  /** All mounts below it as well. @default {true} */
  recursive?: boolean | undefined;
}

/**
 * Nothing to be seen: a folder is empty, a file has no content, and neither can be written to.
 *
 * It covers what is there when the command starts. When another file takes the place of a covered one outside, as editors
 * and package managers do with rename(2), the kernel takes the cover away, and the new file is seen: where that may
 * happen, hide the folder, or build `root: "empty"` of what may be seen.
 */
export interface HideMount {
  /** What it is. */
  type: "hide";
  /** What is hidden; where it is not there, that is all the better. */
  target: string;
}

/** How the copy-on-write view of the option `ephemeral` is made. */
export interface EphemeralOptions {
  /**
   * The folder, outside, that a new folder is made in for what is written: on a file system that can be the upper layer of
   * an overlay, so on no overlay, nor over a network. /dev/shm keeps it in memory. @default {TMPDIR, or else "/var/tmp"}
   */
  dir?: string | undefined;
  /** Folders and files that are seen as they are, and cannot be written to. @default {[]} */
  readonly?: string[] | undefined;
  /**
   * Folders of the caller's that are in folders of others, beside the current one, HOME, TMPDIR, /tmp and /var/tmp: in a
   * user namespace the kernel cannot copy the others' (EOVERFLOW). @default {[]}
   */
  writable?: string[] | undefined;
}

/** One entry of the option `mounts`. */
export type MountOptions =
  | BindMount
  | TmpfsMount
  | ProcMount
  | DevMount
  | MqueueMount
  | SysfsMount
  | OverlayMount
  | SymlinkMount
  | DirMount
  | FileMount
  | RemountMount
  | HideMount;

/** An overlay, checked. */
export interface LayerSettings {
  readonly lower: readonly string[];
  readonly upper: "tmpfs" | { readonly path: string; readonly work: string } | undefined;
  /** Whether nothing of it has to be on a disk: then the work folder serves for one mount only. @default {false} */
  readonly volatile?: boolean;
}

/** The root, checked. */
export type RootSettings = "empty" | { readonly folder: string } | { readonly overlay: LayerSettings };

/** Flags that are set and that are cleared, by name. */
export type FlagSettings = Readonly<Partial<Record<"readonly" | "nosuid" | "nodev" | "noexec", boolean>>>;

/** A file system that the kernel makes from nothing. */
export interface FileSystemSettings {
  readonly type: "tmpfs" | "proc" | "mqueue" | "sysfs";
  readonly target: string;
  readonly readonly: boolean;
  readonly noexec: boolean;
  readonly data: string | null;
}

/** One mount, checked, with nothing left out. */
export type MountSettings =
  | FileSystemSettings
  | {
    readonly type: "bind";
    readonly source: string;
    readonly target: string;
    readonly recursive: boolean;
    readonly flags: FlagSettings;
    readonly inside: boolean;
    readonly ifMissing: "error" | "skip" | "create";
  }
  | { readonly type: "dev"; readonly target: string }
  | { readonly type: "overlay"; readonly target: string; readonly layers: LayerSettings }
  | { readonly type: "symlink"; readonly target: string; readonly to: string }
  | { readonly type: "dir"; readonly target: string; readonly mode: number | undefined }
  | { readonly type: "file"; readonly target: string; readonly content: Uint8Array; readonly mode: number }
  | { readonly type: "remount"; readonly target: string; readonly recursive: boolean; readonly flags: FlagSettings }
  | { readonly type: "hide"; readonly target: string };

/** What is seen, where anything is changed about it. */
export interface ViewSettings {
  readonly root: RootSettings;
  readonly mounts: readonly MountSettings[];
  /** How many of the mounts, which are the first, and the root, are there for the option `ephemeral`. */
  readonly ephemeral?: number;
}

/** A copy-on-write view, checked. */
export interface EphemeralSettings {
  readonly dir: string | undefined;
  readonly readonly: readonly string[];
  readonly writable: readonly string[];
}

const FLAG_NAMES = ["readonly", "nosuid", "nodev", "noexec"] as const;
/** The types of mounts. */
export const MOUNT_TYPES = [
  "bind",
  "tmpfs",
  "proc",
  "dev",
  "mqueue",
  "sysfs",
  "overlay",
  "symlink",
  "dir",
  "file",
  "remount",
  "hide",
] as const satisfies readonly MountOptions["type"][];

/** What the options come to; undefined where the file system is seen as it is. */
export function viewSettings(root: unknown, mounts: unknown): ViewSettings | undefined {
  const checked = rootSettings(root);
  if (mounts !== undefined && !Array.isArray(mounts)) {
    throw wrongType("mounts", `an array such as [{ type: "tmpfs", target: "/tmp" }]`, mounts);
  }
  const list = Array.from(
    mounts as readonly unknown[] | undefined ?? [],
    (entry, index) => mountSettings(entry, `mounts[${index}]`),
  );
  if (checked === undefined && list.length === 0) return undefined;
  const view: ViewSettings = { root: checked ?? { folder: "/" }, mounts: list };
  refuseLinksOutside(view);
  return view;
}

/** The option `ephemeral`, checked; undefined where it is not asked for. */
export function ephemeralSettings(value: unknown): EphemeralSettings | undefined {
  if (value === undefined || value === false) return undefined;
  const given: EphemeralOptions = value === true
    ? {}
    : object(value, "ephemeral", `true, false or an object such as { dir: "/dev/shm" }`);
  checkNames(given, ["dir", "readonly", "writable"], "ephemeral.");
  const paths = (name: "readonly" | "writable"): readonly string[] => {
    const list: unknown = given[name] ?? [];
    if (!Array.isArray(list)) throw wrongType(`ephemeral.${name}`, `an array such as ["/srv"]`, list);
    return Array.from(list, (one, index) => path(one, `ephemeral.${name}[${index}]`));
  };
  const dir = given.dir === undefined ? undefined : path(given.dir, "ephemeral.dir");
  return { dir, readonly: paths("readonly"), writable: paths("writable") };
}

function rootSettings(value: unknown): RootSettings | undefined {
  if (value === undefined || value === "host") return undefined;
  if (value === "empty") return "empty";
  if (typeof value === "string") return { folder: path(value, "root") };
  const given = object(value, "root", `"host", "empty", a folder or { overlay: { lower: [...] } }`);
  checkNames(given, ["overlay"], "root.");
  return { overlay: layerSettings(object(given.overlay, "root.overlay", "{ lower: [...] }"), "root.overlay", []) };
}

function layerSettings(given: Partial<OverlayLayers>, name: string, more: readonly string[]): LayerSettings {
  checkNames(given, ["lower", "upper", "work", ...more], `${name}.`);
  if (!Array.isArray(given.lower)) throw wrongType(`${name}.lower`, `an array such as ["/usr"]`, given.lower);
  const lower = Array.from(given.lower, (folder, index) => path(folder, `${name}.lower[${index}]`));
  const least = given.upper === undefined ? 2 : 1;
  if (lower.length < least) {
    throw new RangeError(
      `Option "${name}.lower" must have ${
        least === 1 ? "a folder" : `two folders or "upper" beside it`
      }: got ${lower.length}`,
    );
  }
  const isFolder = given.upper !== undefined && given.upper !== "tmpfs";
  if (isFolder !== (given.work !== undefined)) {
    throw new TypeError(
      isFolder
        ? `Option "${name}.upper" needs "${name}.work" beside it: an empty folder on the same file system`
        : `Option "${name}.work" means something only together with a folder as "${name}.upper"`,
    );
  }
  if (!isFolder) return { lower, upper: given.upper as "tmpfs" | undefined };
  return { lower, upper: { path: path(given.upper, `${name}.upper`), work: path(given.work, `${name}.work`) } };
}

function mountSettings(value: unknown, name: string): MountSettings {
  const given = object(value, name, `an object such as { type: "tmpfs", target: "/tmp" }`);
  const type = oneOf(given.type, `${name}.type`, MOUNT_TYPES);
  const check = (...names: readonly string[]) => checkNames(given, ["type", "target", ...names], `${name}.`);
  const flag = (flag: string): boolean | undefined => optionalBoolean(given[flag], `${name}.${flag}`);
  const target = (fallback?: string): string => {
    const checked = path(given.target ?? fallback, `${name}.target`);
    if (checked === "/") throw new RangeError(`Option "${name}.target" must not be "/": that is what "root" is for`);
    return checked;
  };
  const mode = (fallback: number) => Number.parseInt(octal(given.mode ?? fallback, `${name}.mode`), 8);
  switch (type) {
    case "bind": {
      check("source", "inside", "recursive", "ifMissing", ...FLAG_NAMES);
      const source = path(given.source, `${name}.source`);
      return {
        type,
        source,
        target: target(source),
        recursive: flag("recursive") ?? true,
        flags: flagSettings(flag, false),
        inside: flag("inside") ?? false,
        ifMissing: oneOf(given.ifMissing ?? "error", `${name}.ifMissing`, ["error", "skip", "create"]),
      };
    }
    case "tmpfs": {
      check("size", "mode", "nrInodes");
      const parts = [`mode=${octal(given.mode ?? 0o755, `${name}.mode`)}`];
      if (given.size !== undefined) {
        parts.push(`size=${amount(given.size, `${name}.size`, /^[1-9]\d*[kmg%]?$/i, `"16m" or "10%"`)}`);
      }
      if (given.nrInodes !== undefined) {
        parts.push(`nr_inodes=${amount(given.nrInodes, `${name}.nrInodes`, /^[1-9]\d*[kmg]?$/i, `"10k"`)}`);
      }
      return { type, target: target(), readonly: false, noexec: false, data: parts.join(",") };
    }
    case "proc": {
      check("readonly", "hidepid", "subset");
      const parts: string[] = [];
      if (given.hidepid !== undefined) {
        parts.push(
          `hidepid=${oneOf(given.hidepid, `${name}.hidepid`, ["off", "noaccess", "invisible", "ptraceable"])}`,
        );
      }
      if (given.subset !== undefined) parts.push(`subset=${oneOf(given.subset, `${name}.subset`, ["pid"])}`);
      const data = parts.length === 0 ? null : parts.join(",");
      return { type, target: target("/proc"), readonly: flag("readonly") ?? false, noexec: true, data };
    }
    case "sysfs":
      check("readonly");
      return { type, target: target("/sys"), readonly: flag("readonly") ?? true, noexec: true, data: null };
    case "mqueue":
      check();
      return { type, target: target("/dev/mqueue"), readonly: false, noexec: true, data: null };
    case "dev":
      check();
      return { type, target: target("/dev") };
    case "overlay":
      return { type, layers: layerSettings(given, name, ["type", "target"]), target: target() };
    case "symlink": {
      check("to");
      const to = text(given.to, `${name}.to`);
      if (to === "") throw new RangeError(`Option "${name}.to" must not be empty`);
      return { type, target: target(), to };
    }
    case "dir":
      check("mode");
      return { type, target: target(), mode: given.mode === undefined ? undefined : mode(0o755) };
    case "file": {
      check("content", "mode");
      const { content } = given;
      if (typeof content !== "string" && !(content instanceof Uint8Array)) {
        throw wrongType(`${name}.content`, "a string or a Uint8Array", content);
      }
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content.slice();
      return { type, target: target(), content: bytes, mode: mode(0o644) };
    }
    case "remount": {
      check("recursive", ...FLAG_NAMES);
      const flags = flagSettings(flag, true);
      if (Object.keys(flags).length === 0) {
        throw new TypeError(`Option "${name}" must say which of ${FLAG_NAMES.join(", ")} is to be true or false`);
      }
      return { type, target: path(given.target, `${name}.target`), recursive: flag("recursive") ?? true, flags };
    }
    case "hide":
      check();
      return { type, target: target() };
  }
}

function flagSettings(flag: (name: string) => boolean | undefined, withFalse: boolean): FlagSettings {
  const entries = FLAG_NAMES.map((name) => [name, flag(name)] as const);
  return Object.fromEntries(entries.filter(([, value]) => value === true || withFalse && value === false));
}

/** An absolute path, without what says nothing. */
function path(value: unknown, name: string): string {
  const given = text(value, name);
  if (!given.startsWith("/")) throw new RangeError(`Option "${name}" must be an absolute path: got ${shown(given)}`);
  const parts = given.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) {
    throw new RangeError(`Option "${name}" must be a path without "..": got ${shown(given)}`);
  }
  integer(given.length, `${name}.length`, 1, 4095, "characters");
  return `/${parts.join("/")}`;
}

/** What a path is in. */
export interface Cover {
  /** Where that is mounted. */
  readonly path: string;
  /** Whether it is new, so that something can be made there. */
  readonly makes: boolean;
  /** Whether nothing is in it at first. */
  readonly isBare: boolean;
}

/** Which places are new inside, so that something can be made there, and which are the outside's own. */
export class Covers {
  readonly #covers = new Map<string, Cover>();

  /** With the root alone. */
  constructor(root: RootSettings) {
    this.#set("/", root === "empty" || ("overlay" in root && root.overlay.upper !== undefined), root === "empty");
  }

  /** The mount that a path is in. */
  of(path: string): Cover {
    for (let at = path;; at = parentOf(at)) {
      const cover = this.#covers.get(at);
      if (cover !== undefined) return cover;
    }
  }

  #set(path: string, makes: boolean, isBare = false): void {
    this.#covers.set(path, { path, makes, isBare });
  }

  /** Tells of a mount. */
  add(mount: MountSettings): void {
    switch (mount.type) {
      case "tmpfs":
        this.#set(mount.target, true, true);
        break;
      case "dev":
        this.#set(mount.target, true);
        break;
      case "overlay":
        this.#set(mount.target, mount.layers.upper !== undefined);
        break;
      case "symlink":
      case "dir":
      case "remount":
        break;
      default:
        this.#set(mount.target, false);
    }
  }
}

/** The folder that a path is in. */
export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

/** The path of what is in a folder. */
export function pathIn(folder: string, name: string): string {
  return `${folder === "/" ? "" : folder}/${name}`;
}

function refuseLinksOutside({ root, mounts }: ViewSettings): void {
  const covers = new Covers(root);
  for (const [index, mount] of mounts.entries()) {
    if (mount.type === "symlink" && !covers.of(mount.target).makes) {
      throw new TypeError(
        `Option "mounts[${index}]" would make a symbolic link outside, at ${
          shown(mount.target)
        }: put a tmpfs there before it`,
      );
    }
    covers.add(mount);
  }
}
