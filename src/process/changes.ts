/**
 * What was written to a copy-on-write view: the difference between it and what is under it.
 *
 * @module
 */

import {
  attributes,
  type BytePath,
  bytePath,
  execute,
  type FileStatus,
  type FileType,
  links,
  names,
  namesOfAll,
  openFolder,
  openStep,
  shownPath,
  statuses,
} from "../machine/files.ts";
import { facts } from "../machine/facts.ts";
import { library } from "../machine/library.ts";
import { parentOf } from "../options_mounts.ts";
import { isIn, type Layer, type Made } from "../plan/ephemeral.ts";
import { O_NONBLOCK_RDONLY } from "../plan/files.ts";
import { Access, isClosed } from "./access.ts";
import { quoted } from "../quoted.ts";
import { type Attributes, attributesOf, isSameAttributes } from "./attributes.ts";
import { MARKS, type Written } from "./ephemeral.ts";

/** Something that commands have added, changed or removed in an ephemeral view. */
export interface Change {
  /** Where, as an absolute path. */
  path: string;
  /** What was done. A folder is changed where its owner, permissions or extended attributes are, and
   * removed with all that is in it. */
  kind: "added" | "changed" | "removed";
  /** What it is now, or was where it is removed. */
  type: FileType;
  /** How large it is now, or was, in bytes; 0 for what is no file. */
  size: number;
  /** How large it was, where it was a file and was changed. */
  previousSize?: number;
  /** Its permissions, such as `0o4755`, now, or before where it is removed. */
  mode: number;
  /** Those that it had, where it was changed and they are others. */
  previousMode?: number;
  /** The ids of its user and group, as `"1000:100"`. */
  owner: string;
  /** Those that it had, where it was changed and they are others. */
  previousOwner?: string;
}

/** A change, with where what was written is. */
export interface FoundChange {
  readonly kind: Change["kind"];
  /** Where it is to be, outside. */
  readonly path: BytePath;
  /** Where it is in the layer. */
  readonly place: BytePath;
  readonly layer: Layer;
  /** What there is; undefined where it was removed. */
  readonly now: FoundStatus | undefined;
  /** What there was; undefined where it was added. */
  readonly before: FoundStatus | undefined;
}

/** What is known of a file. */
export interface FoundStatus extends FileStatus {
  /** Extended attributes, of a folder that there was and is. */
  readonly attributes?: Attributes;
}

const OPTION = "ephemeral";
const OPAQUE_SIZE = 1;
/** What is read at once, to be compared. */
const CHUNK_SIZE = 1 << 17;

/**
 * Does something with all changes, while all of what was written can be read by its owner.
 *
 * @param work Is told the changes in the order of their paths, what is in a folder after the folder.
 */
export function withChanges<T>(
  written: Written,
  work: (changes: readonly FoundChange[], access: Access) => T,
): T {
  const access = new Access();
  try {
    return work(findChanges(written, access), access);
  } finally {
    access.restore();
  }
}

function findChanges(written: Written, access: Access): readonly FoundChange[] {
  const { layers, open, made, mark, withheld } = written;
  const found = [
    ...layers.flatMap((layer) => new Comparison(layer, mark, access, withheld.get(layer.upper)).changes()),
    ...open.flatMap((layer) => new Comparison(layer, mark, access, withheld.get(layer.upper)).changesAround(made)),
  ];
  const left = found.filter((change) => !isCommitted(change, written.committed));
  const inOrder = left.map((change) => ({ change, key: change.path.replaceAll("/", "\0") }));
  return inOrder.sort((a, b) => a.key < b.key ? -1 : 1).map(({ change }) => change);
}

/** Whether it was committed to where its owner cannot look, which is then no change, unless it was written to since. */
function isCommitted({ path, now, before }: FoundChange, committed: Written["committed"]): boolean {
  const was = committed.get(path);
  if (was === undefined || now === undefined || !isUntouched(now, was)) return false;
  return before === undefined
    ? !facts.allows(shownPath(parentOf(path)), "execute")
    : !facts.allows(shownPath(path), "read") && isSame(now, before);
}

/**
 * The changes that are selected, and those that make the folders that they are in.
 *
 * @param which Paths, for what is at them and below, and changes as they were told, for each alone.
 * @throws {RangeError} When there is none at a path.
 * @throws {TypeError} When a change was not told.
 * @throws {Deno.errors.Busy} When something is not as it was told any more, here or outside.
 */
export function selectChanges(
  changes: readonly FoundChange[],
  which: readonly (string | Change)[],
): readonly FoundChange[] {
  const selected = new Set<FoundChange>();
  const places = new Map(changes.map((change) => [change.path, change]));
  const select = (change: FoundChange): void => {
    selected.add(change);
    for (let at = parentOf(change.path); at !== "/"; at = parentOf(at)) {
      const folder = places.get(at);
      if (folder?.now?.type === "directory" && folder.before?.type !== "directory") selected.add(folder);
    }
  };
  for (const wanted of which) {
    if (typeof wanted === "string") {
      const path = bytePath(wanted.replace(/(?<=.)\/+$/, ""));
      const found = path === "" ? [] : changes.filter((change) => isIn(change.path, path));
      if (found.length === 0) throw new RangeError(`There is no change at ${quoted(wanted)}: see changes()`);
      found.forEach(select);
    } else {
      const known = told.get(wanted);
      if (known === undefined) throw new TypeError("A change to be committed must be one that changes() has told");
      const now = places.get(known.path);
      if (now === undefined || !isAsTold(now, known)) {
        throw new Deno.errors.Busy(`Cannot commit ${quoted(wanted.path)}: it is not as changes() has told`);
      }
      select(now);
    }
  }
  return changes.filter((change) => selected.has(change));
}

function isAsTold(found: FoundChange, known: FoundChange): boolean {
  return ([[found.now, known.now], [found.before, known.before]] as const).every(([is, was]) =>
    is === undefined || was === undefined ? is === was : isUntouched(is, was)
  );
}

/** What changes were told from. */
const told = new WeakMap<Change, FoundChange>();

/** A change as it is told. */
export function toldChange(found: FoundChange): Change {
  const { kind, path, now, before } = found;
  const is = (now ?? before)!;
  const size = (status: FileStatus) => status.type === "file" ? status.size : 0;
  const { mode, owner } = aboutOf(is);
  const change: Change = { path: shownPath(path), kind, type: is.type, size: size(is), mode, owner };
  if (kind === "changed") {
    if (before!.type === "file") change.previousSize = before!.size;
    const previous = aboutOf(before!);
    if (previous.mode !== mode) change.previousMode = previous.mode;
    if (previous.owner !== owner) change.previousOwner = previous.owner;
  }
  told.set(change, found);
  return change;
}

function aboutOf({ mode, uid, gid }: FileStatus): { readonly mode: number; readonly owner: string } {
  return { mode: mode & 0o7777, owner: `${uid}:${gid}` };
}

/** A folder to be compared, or something in one: where it is in the layer. */
interface Folder {
  readonly place: BytePath;
  /** Whether there is such a folder under it. */
  readonly isMerged: boolean;
  /** Whether nothing shows that is under it. */
  readonly isOpaque: boolean;
}

/** Something that there is in the layer and under it. */
interface Pair {
  readonly place: BytePath;
  readonly is: FileStatus;
  readonly was: FileStatus;
}

class Comparison {
  readonly #layer: Layer;
  readonly #mark: string;
  readonly #access: Access;
  readonly #path: BytePath;
  readonly #withheld: ReadonlySet<string>;
  readonly #found: FoundChange[] = [];

  constructor(layer: Layer, mark: string, access: Access, withheld: ReadonlySet<string> = new Set()) {
    this.#layer = layer;
    this.#mark = mark;
    this.#access = access;
    this.#withheld = withheld;
    this.#path = layer.path === "/" ? "" : bytePath(layer.path);
  }

  changes(): readonly FoundChange[] {
    return this.#inBoth((top, upper, lower) => this.#compareBelow([top], upper, lower));
  }

  /** In a folder that was made anew: what was made there since, and what has become of the links in it. */
  changesAround(made: readonly Made[]): readonly FoundChange[] {
    const own = made.filter(({ path }) => parentOf(path) === this.#layer.upper);
    const given = new Map(own.map(({ path, type }) => [bytePath(path.slice(this.#layer.upper.length + 1)), type]));
    return this.#inBoth((top, upper, lower) => {
      const there = names(upper, ".", OPTION) ?? [];
      const links = [...given.keys()].filter((name) => given.get(name) === "symlink");
      const now = statuses(upper, links, OPTION);
      const still = new Map<BytePath, FileStatus>();
      for (const [index, name] of links.entries()) if (now[index]?.type === "symlink") still.set(name, now[index]);
      this.#compareTargets(still, upper, lower);
      this.#removed(links.filter((_, index) => now[index] === undefined), lower);
      const since = there.filter((name) => !given.has(name) || given.get(name) === "symlink" && !still.has(name));
      this.#compareBelow(this.#compareEntries(placesIn(top, since), upper, lower), upper, lower);
    });
  }

  /** Compares in the folder that a layer begins at, and in the one under it, which may be gone by now. */
  #inBoth(compare: (top: Folder, upper: number, lower: number) => void): readonly FoundChange[] {
    const upper = openFolder(bytePath(this.#layer.upper), OPTION);
    let lower: number | undefined;
    try {
      lower = openFolder(bytePath(this.#layer.path), OPTION, NOT_THERE);
      compare(this.#compareTop(upper, lower), upper, lower);
      return this.#found;
    } finally {
      for (const fd of [upper, lower]) if (fd !== undefined && fd >= 0) library().close(fd);
    }
  }

  /**
   * The folder that a layer begins at, which was made by us as it was outside. In a user namespace it belongs to whoever
   * has the view, whoever has the one outside.
   */
  #compareTop(upper: number, lower: number): Folder {
    const now = statusOf(upper);
    const isMerged = lower >= 0;
    const before = isMerged ? statusOf(lower, this.#withheld) : undefined;
    const isOwn = this.#mark !== MARKS.user || now.uid === before?.uid && now.gid === before.gid;
    if (
      before === undefined || isOwn && !(isSame(now, before) && isSameAttributes(now.attributes!, before.attributes!))
    ) {
      const kind = isMerged ? "changed" : "added";
      this.#found.push({ kind, path: this.#path || "/", place: ".", layer: this.#layer, now, before });
    }
    this.#access.toRead(this.#layer.upper, upper, "", now);
    return { place: ".", isMerged, isOpaque: false };
  }

  /** Compares what is in folders, and in those, and so on: all of one depth at once. */
  #compareBelow(folders: readonly Folder[], upper: number, lower: number): void {
    for (let level = folders; level.length > 0;) {
      const listed = namesOfAll(upper, level.map(({ place }) => place), OPTION);
      const entries = level.flatMap((folder, index) => placesIn(folder, listed[index]));
      const opaque = level.filter(({ isMerged, isOpaque }) => isMerged && isOpaque);
      if (opaque.length > 0) {
        const covered = namesOfAll(lower, opaque.map(({ place }) => place), OPTION);
        const shown = new Set(entries.map(({ place }) => place));
        const gone = opaque.flatMap((folder, index) => placesIn(folder, covered[index]));
        this.#removed(gone.map(({ place }) => place).filter((place) => !shown.has(place)), lower);
      }
      level = this.#compareEntries(entries, upper, lower);
    }
  }

  /** Compares entries of folders, of which they have the rest. */
  #compareEntries(entries: readonly Folder[], upper: number, lower: number): Folder[] {
    const now = statuses(upper, entries.map(({ place }) => place), OPTION);
    const merged = entries.filter(({ isMerged }) => isMerged).map(({ place }) => place);
    const before = new Map(statuses(lower, merged, OPTION).map((status, index) => [merged[index]!, status]));
    const folders: Folder[] = [];
    const linked: Pair[] = [];
    const alike: Pair[] = [];
    for (const [index, { place, isOpaque }] of entries.entries()) {
      const [is, was] = [now[index], before.get(place)];
      if (is === undefined) continue;
      if (is.type === "character device" && is.device === 0) {
        if (was !== undefined) this.#add("removed", place, undefined, was);
        continue;
      }
      if (is.type === "directory") {
        this.#access.toRead(this.#layer.upper, upper, place, is);
        folders.push({ place, isMerged: was?.type === "directory", isOpaque });
      }
      if (was === undefined) this.#add("added", place, is, undefined);
      else if (is.type === "symlink" && was.type === "symlink") linked.push({ place, is, was });
      else if (is.type === "directory" && was.type === "directory" || isSame(is, was)) alike.push({ place, is, was });
      else this.#add("changed", place, is, was);
    }
    for (const { place, is } of alike) this.#access.toRead(this.#layer.upper, upper, place, is);
    this.#compareAlike(alike, upper, lower);
    const places = linked.map(({ place }) => place);
    const [targets, previous] = [upper, lower].map((from) => links(from, places, OPTION)) as [BytePath[], BytePath[]];
    for (const [index, { place, is, was }] of linked.entries()) {
      const isOther = targets[index] !== previous[index] || is.uid !== was.uid || is.gid !== was.gid;
      if (isOther) this.#add("changed", place, is, was);
    }
    const unsure = folders.filter(({ isMerged, isOpaque }) => isMerged && !isOpaque);
    const marks = attributes(upper, unsure.map(({ place }) => place), this.#mark, OPAQUE_SIZE, OPTION);
    const opaque = new Set(unsure.filter((_, index) => marks[index]?.[0] === OPAQUE));
    return folders.map((folder) => opaque.has(folder) ? { ...folder, isOpaque: true } : folder);
  }

  /** What time and size tell nothing of: attributes, and a content whose time was set back. */
  #compareAlike(alike: readonly Pair[], upper: number, lower: number): void {
    const places = alike.map(({ place }) => place);
    const [now, before] = [upper, lower].map((from) => attributesOf(from, places)) as [Attributes[], Attributes[]];
    for (const [index, { place, is, was }] of alike.entries()) {
      const [attributes, previous] = [now[index]!, before[index]!];
      const isOther = !isSame(is, was) || !isSameAttributes(attributes, previous) ||
        is.type === "file" && !isSameContent(upper, lower, place);
      if (!isOther) continue;
      if (is.type !== "directory") this.#add("changed", place, is, was);
      else this.#add("changed", place, { ...is, attributes }, { ...was, attributes: previous });
    }
  }

  /** Links that were made by us belong to somebody else than those outside. */
  #compareTargets(now: ReadonlyMap<BytePath, FileStatus>, upper: number, lower: number): void {
    const places = [...now.keys()];
    const before = statuses(lower, places, OPTION);
    const linked = places.filter((_, index) => before[index]?.type === "symlink");
    const [target, previous] = [upper, lower].map((from) => links(from, linked, OPTION)) as [BytePath[], BytePath[]];
    for (const [index, [place, is]] of [...now].entries()) {
      const was = before[index];
      const at = linked.indexOf(place);
      if (at < 0 || target[at] !== previous[at]) this.#add(was === undefined ? "added" : "changed", place, is, was);
    }
  }

  #removed(gone: readonly BytePath[], lower: number): void {
    const before = statuses(lower, gone, OPTION);
    for (const [index, place] of gone.entries()) {
      if (before[index] !== undefined) this.#add("removed", place, undefined, before[index]);
    }
  }

  #add(kind: Change["kind"], place: BytePath, now: FoundStatus | undefined, before: FoundStatus | undefined): void {
    this.#found.push({ kind, path: `${this.#path}/${place}`, place, layer: this.#layer, now, before });
  }
}

const OPAQUE = "y".charCodeAt(0);

/** What is in a folder, each as what it is in. */
function placesIn(folder: Folder, names: readonly BytePath[] = []): readonly Folder[] {
  const { place } = folder;
  return names.map((name) => ({ ...folder, place: place === "." ? name : `${place}/${name}` }));
}

const NOT_THERE = [["ENOENT", 0], ["ENOTDIR", 0], ["ELOOP", 0]] as const;

function statusOf(folder: number, besides: ReadonlySet<string> = new Set()): FoundStatus {
  const attributes = new Map([...attributesOf(folder, [""])[0]!].filter(([name]) => !besides.has(name)));
  return { ...statuses(folder, [""], OPTION)[0]!, attributes };
}

/** Whether a file in the layer has the content of the one under it; not where one of them cannot be read. */
function isSameContent(upper: number, lower: number, place: BytePath): boolean {
  const why = { what: `compare ${quoted(shownPath(place))}`, option: OPTION };
  const tolerate = [["EACCES", 0], ["ENOENT", 0]] as const;
  const [now, before] = [upper, lower].map((from) =>
    execute([openStep(from, place, O_NONBLOCK_RDONLY, { ...why, tolerate })])[0]!
  ) as [number, number];
  const [chunk, previous] = [new Uint8Array(CHUNK_SIZE), new Uint8Array(CHUNK_SIZE)];
  try {
    if (now < 0 || before < 0) return false;
    while (true) {
      const [size, sizeBefore] = [library().read(now, chunk), library().read(before, previous)];
      if (size < 0 || size !== sizeBefore) return false;
      if (size === 0) return true;
      if (!isSameBytes(chunk, previous, size)) return false;
    }
  } finally {
    for (const fd of [now, before]) if (fd >= 0) library().close(fd);
  }
}

/** Eight bytes at a time, and then what is left. */
function isSameBytes(a: Uint8Array<ArrayBuffer>, b: Uint8Array<ArrayBuffer>, size: number): boolean {
  const words = Math.floor(size / 8);
  const [wordsA, wordsB] = [new BigUint64Array(a.buffer, 0, words), new BigUint64Array(b.buffer, 0, words)];
  for (let index = 0; index < words; index++) if (wordsA[index] !== wordsB[index]) return false;
  for (let index = words * 8; index < size; index++) if (a[index] !== b[index]) return false;
  return true;
}

/** Whether what is found is what was looked at, and nobody has touched it but {@linkcode Access}. */
export function isUntouched(found: FileStatus, wanted: FileStatus): boolean {
  const isLifted = isClosed(wanted);
  const [mode, wantedMode] = [found.mode, wanted.mode].map((mode) => isLifted ? mode | OWNERS : mode);
  return found.inode === wanted.inode && mode === wantedMode &&
    (isLifted || isSameTime(found.changed, wanted.changed)) && isSameTime(found.modified, wanted.modified) &&
    found.uid === wanted.uid && found.gid === wanted.gid && found.size === wanted.size &&
    found.device === wanted.device;
}

/** What is lifted where something is. */
const OWNERS = 0o700;

/** Of the second as much as the first has. */
function isSameTime(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, index) => byte === b[index]);
}

/**
 * Whether something may only have been copied, which its content then says. When a folder was written to says nothing: that
 * is when something in it was.
 */
function isSame(now: FileStatus, before: FileStatus): boolean {
  if (now.mode !== before.mode || now.uid !== before.uid || now.gid !== before.gid) return false;
  if (now.type === "directory") return true;
  if (now.device !== before.device || now.size !== before.size) return false;
  const size = nanoseconds(before.modified) === 0 ? 8 : 16; // Some file systems count seconds alone.
  return isSameTime(now.modified.subarray(0, size), before.modified);
}

function nanoseconds(time: Uint8Array): number {
  return new DataView(time.buffer, time.byteOffset).getUint32(8, true);
}
