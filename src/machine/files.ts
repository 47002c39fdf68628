/**
 * Looks at files through the shim: with `--allow-ffi` alone Deno reads none, and it does not tell all that there is to
 * know of one.
 *
 * @module
 */

import { errnoNumber } from "../abi/errno.ts";
import { stepError } from "../errors.ts";
import { AT_FDCWD, O_CLOEXEC_PATH } from "../plan/files.ts";
import type { Argument, Bytes, Named, ResultOf, Step } from "../plan/step.ts";
import { quoted } from "../quoted.ts";
import { library } from "./library.ts";

/**
 * A path as bytes, one character for each: names in Linux need not be UTF-8. It has no symbolic link in it but as its
 * last part, and where it must not lead out of a folder it is relative to a descriptor of that.
 */
export type BytePath = string;

/** What a file is. */
export type FileType = "file" | "directory" | "symlink" | "fifo" | "socket" | "character device" | "block device";

/** What statx(2) says of a file. */
export interface FileStatus {
  readonly type: FileType;
  /** Type and permissions, as in `st_mode`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes. */
  readonly size: number;
  /** When it was last written to: a struct timespec. */
  readonly modified: Uint8Array;
  readonly inode: bigint;
  /** The device that its inode is a number on. */
  readonly fileSystem: number;
  /** How many names it has. */
  readonly links: number;
  /** When anything about it was last changed, as nobody can set it: a struct timespec. */
  readonly changed: Uint8Array;
  /** Of a device: its number as mknod(2) takes it. */
  readonly device: number;
}

const TYPES: ReadonlyMap<number, FileType> = new Map([
  [0o010000, "fifo"],
  [0o020000, "character device"],
  [0o040000, "directory"],
  [0o060000, "block device"],
  [0o100000, "file"],
  [0o120000, "symlink"],
  [0o140000, "socket"],
]);

const NO_FOLLOW: Named = { value: 0x1900, name: "AT_SYMLINK_NOFOLLOW|AT_NO_AUTOMOUNT|AT_EMPTY_PATH" };
const BASIC_STATS: Named = { value: 0x7ff, name: "STATX_BASIC_STATS" };
const STATX_SIZE = 256;
const HOW_SIZE = 24;
const LISTING_SIZE = 1 << 15;
const LINK_SIZE = 4096;
/** At once. */
const STEPS_MAX = 1000;
/** What there is nothing to be seen at. */
const NOT_THERE: NonNullable<Step["tolerate"]> = [
  ["ENOENT", 0],
  ["ENOTDIR", 0],
  ["EACCES", 0],
  ["ELOOP", 0],
  ["ENOTCONN", 0],
  ["ESTALE", 0],
];

const latin1 = new TextDecoder("latin1");

/** A path as bytes. */
export function bytePath(path: string): BytePath {
  return asPath(new TextEncoder().encode(path));
}

/** Bytes as a path: "latin1" is windows-1252 to a TextDecoder, which has other characters for some of them. */
function asPath(bytes: Uint8Array): BytePath {
  if (bytes.every((byte) => byte < 0x80)) return latin1.decode(bytes);
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}

/** A path to be shown: what is no UTF-8 is U+FFFD. */
export function shownPath(path: BytePath): string {
  return new TextDecoder().decode(Uint8Array.from(path, (character) => character.charCodeAt(0)));
}

/** A path as an argument. */
export function pathArgument(path: BytePath): Bytes {
  const bytes = new Uint8Array(path.length + 1);
  for (let index = 0; index < path.length; index++) bytes[index] = path.charCodeAt(index);
  return { bytes, name: quoted(shownPath(path)) };
}

/** A place to look from: a folder's descriptor, or the current one. */
export type From = number | Named | ResultOf;

/** A step that opens what a path leads to, which must not be through a symbolic link, nor in one more way. */
export function openStep(
  from: From,
  path: BytePath,
  flags: Named,
  more: Pick<Step, "what" | "option" | "tolerate">,
  besides?: Named,
): Step {
  const bytes = new Uint8Array(HOW_SIZE);
  const noLinks = 6;
  new DataView(bytes.buffer).setUint32(0, flags.value, true);
  new DataView(bytes.buffer).setUint32(16, noLinks | (besides?.value ?? 0), true);
  const resolve = ["RESOLVE_NO_MAGICLINKS", "RESOLVE_NO_SYMLINKS", besides?.name].filter(Boolean).join("|");
  const how: Bytes = { bytes, name: `{flags=${flags.name}, resolve=${resolve}}` };
  return { call: "openat2", args: [from, pathArgument(path), how, HOW_SIZE], ...more };
}

/** Opens a folder that a path leads to, through no symbolic link, to look from there. Below 0 where it is tolerated. */
export function openFolder(path: BytePath, option: string, tolerate: NonNullable<Step["tolerate"]> = []): number {
  const what = `open ${quoted(shownPath(path))}`;
  return execute([openStep(AT_FDCWD, path, O_CLOEXEC_PATH, { what, option, tolerate })])[0]!;
}

/** To read a folder. */
const O_FOLDER: Named = { value: 0o2000000 | folderFlag(), name: "O_RDONLY|O_CLOEXEC|O_DIRECTORY" };

/** One of the few flags that differ. */
function folderFlag(): number {
  return Deno.build.arch === "aarch64" ? 0o40000 : 0o200000;
}

/**
 * Executes steps, and gives what each returned.
 *
 * @throws {NamespaceError} When one is refused.
 */
export function execute(steps: readonly Step[]): readonly (number | undefined)[] {
  const outcome = library().execute(steps);
  if ("step" in outcome) throw stepError(outcome.step, outcome.errno, outcome.section);
  return outcome.results;
}

/** The status of each path, itself a link or not, or of `from` where it is empty; undefined where nothing can be seen. */
export function statuses(from: From, paths: readonly BytePath[], option?: string): readonly (FileStatus | undefined)[] {
  if (paths.length > STEPS_MAX) return inChunks(paths, (some) => statuses(from, some, option), STEPS_MAX);
  const places = paths.map((path) => ({ path: pathArgument(path), status: filled(STATX_SIZE) }));
  const results = execute(places.map(({ path, status }): Step => ({
    call: "statx",
    args: [from, path, NO_FOLLOW, BASIC_STATS, status],
    what: `look at ${path.name}`,
    option,
    tolerate: NOT_THERE,
  })));
  return places.map(({ status }, index) => results[index] === 0 ? readStatus(status.bytes) : undefined);
}

function filled(size: number): Bytes {
  return { bytes: new Uint8Array(size), name: `<${size} bytes>`, filled: true };
}

/** A struct statx. */
function readStatus(bytes: Uint8Array): FileStatus {
  const view = new DataView(bytes.buffer);
  const mode = view.getUint16(28, true);
  const [major, minor] = [view.getUint32(128, true), view.getUint32(132, true)];
  return {
    type: TYPES.get(mode & 0o170000)!,
    mode,
    uid: view.getUint32(20, true),
    gid: view.getUint32(24, true),
    size: Number(view.getBigUint64(40, true)),
    modified: bytes.slice(112, 128),
    changed: bytes.slice(96, 112),
    inode: view.getBigUint64(32, true),
    fileSystem: view.getUint32(136, true) * 2 ** 20 + view.getUint32(140, true),
    links: view.getUint32(16, true),
    device: (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12),
  };
}

/**
 * The names in a folder, in no order; undefined where it cannot be seen.
 *
 * @throws {NamespaceError} When it cannot be read for another reason.
 */
export function names(from: From, path: BytePath, option: string): readonly BytePath[] | undefined {
  return namesOfAll(from, [path], option)[0];
}

/** {@linkcode names} of each folder. */
export function namesOfAll(
  from: From,
  paths: readonly BytePath[],
  option: string,
): readonly (readonly BytePath[] | undefined)[] {
  if (paths.length > FOLDERS_MAX) return inChunks(paths, (some) => namesOfAll(from, some, option));
  const folders = paths.map((path) => new Listing(from, path, option));
  const results = execute(folders.flatMap(({ steps }) => steps));
  return folders.map((folder, index) => {
    const [fd, size, left] = results.slice(index * 3, index * 3 + 3) as [number, number, number];
    if (fd < 0) return undefined;
    return left === 0 ? readListing(folder.listing.bytes, size) : namesOfLarge(from, folder);
  });
}

/** At once, with a descriptor for each. */
const FOLDERS_MAX = 64;
/** What most folders are no longer than. */
const SHORT_SIZE = 4096;

/** A folder to be read, which most often is done by reading twice: the second time there is nothing. */
class Listing {
  readonly path: BytePath;
  readonly open: Step;
  readonly listing: Bytes = filled(SHORT_SIZE);
  readonly why: Pick<Step, "what" | "option">;

  constructor(from: From, path: BytePath, option: string) {
    this.path = path;
    this.why = { what: `read the folder ${pathArgument(path).name}`, option };
    const tolerate = NOT_THERE.map(([errno]) => [errno, 2] as const);
    this.open = { ...openStep(from, path, O_FOLDER, { ...this.why, tolerate }), opens: true };
  }

  get steps(): readonly Step[] {
    const fd = { resultOf: this.open };
    const more = { bytes: new Uint8Array(SHORT_SIZE), name: `<${SHORT_SIZE} bytes>` };
    return [
      this.open,
      ...[this.listing, more].map((place): Step => {
        return { call: "getdents64", args: [fd, place, SHORT_SIZE], ...this.why };
      }),
    ];
  }
}

function namesOfLarge(from: From, { path, why }: Listing): readonly BytePath[] {
  const [fd] = execute([openStep(from, path, O_FOLDER, why)]) as [number];
  const found: BytePath[] = [];
  try {
    while (true) {
      const listing = filled(LISTING_SIZE);
      const size = execute([{ call: "getdents64", args: [fd, listing, LISTING_SIZE], ...why }])[0]!;
      if (size === 0) return found;
      found.push(...readListing(listing.bytes, size));
    }
  } finally {
    library().close(fd);
  }
}

/** Records of struct linux_dirent64. */
function readListing(bytes: Uint8Array, size: number): BytePath[] {
  const found: BytePath[] = [];
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < size; at += view.getUint16(at + 16, true)) {
    const name = bytes.subarray(at + 19, bytes.indexOf(0, at + 19));
    if (!(name[0] === 0x2e && (name.length === 1 || name.length === 2 && name[1] === 0x2e))) found.push(asPath(name));
  }
  return found;
}

/** Where symbolic links lead. */
export function links(from: From, paths: readonly BytePath[], option?: string): readonly BytePath[] {
  if (paths.length > FOLDERS_MAX) return inChunks(paths, (some) => links(from, some, option));
  const places = paths.map((path) => ({ path: pathArgument(path), target: filled(LINK_SIZE) }));
  const results = execute(places.map(({ path, target }) => {
    return { call: "readlinkat", args: [from, path, target, LINK_SIZE], what: `read the link ${path.name}`, option };
  }));
  return places.map(({ target }, index) => asPath(target.bytes.subarray(0, results[index])));
}

/** What the names of most files' extended attributes have room in, and those of all. */
const ATTRIBUTE_NAMES_SIZES = [256, 1 << 16] as const;

/** The names of the extended attributes of files: see {@linkcode attributeCall}. */
export function attributeNames(
  from: number,
  paths: readonly BytePath[],
  option: string,
  size: number = ATTRIBUTE_NAMES_SIZES[0],
): readonly (readonly BytePath[])[] {
  if (paths.length > STEPS_MAX) {
    return inChunks(paths, (some) => attributeNames(from, some, option, size), STEPS_MAX);
  }
  const places = paths.map((path) => ({ ...attributeCall("listxattr", from, path), list: filled(size) }));
  const results = execute(places.map(({ call, path, list }): Step => ({
    call,
    args: [path, list, size],
    what: `read the names of the attributes of ${path.name}`,
    option,
    tolerate: size < ATTRIBUTE_NAMES_SIZES[1] ? [...NO_ATTRIBUTES, ["ERANGE", 0]] : NO_ATTRIBUTES,
  })));
  return places.map(({ list }, index) => {
    const length = results[index]!;
    if (length === -ERANGE) return attributeNames(from, [paths[index]!], option, ATTRIBUTE_NAMES_SIZES[1])[0]!;
    return length <= 0 ? [] : asPath(list.bytes.subarray(0, length - 1)).split("\0");
  });
}

const ERANGE = errnoNumber("ERANGE");
/** A file that has none: its file system knows of none, or it is gone. */
const NO_ATTRIBUTES: NonNullable<Step["tolerate"]> = [["EOPNOTSUPP", 0], ["ENOENT", 0], ["ENOTDIR", 0], ["EACCES", 0]];

/** The values of an extended attribute that may not be there, of files that are no links. */
export function attributes(
  from: number,
  paths: readonly BytePath[],
  name: BytePath,
  sizeMax: number,
  option: string,
): readonly (Uint8Array | undefined)[] {
  if (paths.length > STEPS_MAX) {
    return inChunks(paths, (some) => attributes(from, some, name, sizeMax, option), STEPS_MAX);
  }
  const places = paths.map((path) => ({ ...attributeCall("getxattr", from, path), value: filled(sizeMax) }));
  const results = execute(places.map(({ call, path, value }): Step => {
    const what = `read an attribute of ${path.name}`;
    const args: Argument[] = [path, pathArgument(name), value, sizeMax];
    return { call, args, what, option, tolerate: [...NO_ATTRIBUTES, ["ENODATA", 0]] };
  }));
  return places.map(({ value }, index) => results[index]! >= 0 ? value.bytes.subarray(0, results[index]) : undefined);
}

function inChunks<T>(
  paths: readonly BytePath[],
  work: (some: readonly BytePath[]) => readonly T[],
  size: number = FOLDERS_MAX,
): readonly T[] {
  const found: T[] = [];
  for (let at = 0; at < paths.length; at += size) found.push(...work(paths.slice(at, at + size)));
  return found;
}

/**
 * How a call is told of a file's attributes: relative to a descriptor there is none. Where the path is empty it is the
 * descriptor's own file, which is followed to; else it may be a link itself.
 */
export function attributeCall<Call extends "getxattr" | "listxattr" | "setxattr" | "removexattr">(
  call: Call,
  from: number,
  path: BytePath,
): { readonly call: Call | `l${Call}`; readonly path: Bytes } {
  if (path === "") return { call, path: pathArgument(`/proc/self/fd/${from}`) };
  return { call: `l${call}`, path: pathArgument(`/proc/self/fd/${from}/${path}`) };
}

/** The folder that a path leads to, without symbolic links and without what says nothing; undefined where there is none. */
export function canonical(path: string, option: string): string | undefined {
  const what = `look for the folder "${path}"`;
  const open: Step = { call: "openat", args: [AT_FDCWD, path, O_FOLDER], what, option, tolerate: NOT_THERE };
  const fd = execute([open])[0]!;
  if (fd < 0) return undefined;
  try {
    return shownPath(links(AT_FDCWD, [bytePath(`/proc/self/fd/${fd}`)], option)[0]!);
  } finally {
    library().close(fd);
  }
}
