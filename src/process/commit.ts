/**
 * Does outside what was done in a copy-on-write view.
 *
 * First all that is to be there is made beside its place, under another name; nothing shows of that. Then each takes its
 * place, by one renameat2(2) that cannot leave it half done, and what was there gets the other name. When one is refused,
 * those before it are taken back. In the end what was there is removed.
 *
 * @module
 */

import { NamespaceError } from "../errors.ts";
import {
  type BytePath,
  bytePath,
  execute,
  type FileStatus,
  links,
  names,
  openStep,
  pathArgument,
  shownPath,
  statuses,
} from "../machine/files.ts";
import { library } from "../machine/library.ts";
import { AT_FDCWD, O_CLOEXEC_PATH, O_NONBLOCK_RDONLY } from "../plan/files.ts";
import type { Named, Step } from "../plan/step.ts";
import { Access } from "./access.ts";
import { attributesOf, setAttributes } from "./attributes.ts";
import type { FoundChange, FoundStatus } from "./changes.ts";
import { OTHER_NAME } from "./ephemeral.ts";

const OPTION = "ephemeral";
const NO_FOLLOW: Named = { value: 0x100, name: "AT_SYMLINK_NOFOLLOW" };
const NO_REPLACE: Named = { value: 1, name: "RENAME_NOREPLACE" };
const EXCHANGE: Named = { value: 2, name: "RENAME_EXCHANGE" };
const REMOVE_FOLDER: Named = { value: 0x200, name: "AT_REMOVEDIR" };
const NEW_FILE: Named = { value: 0o2000301, name: "O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC" };
const SEEK_SET: Named = { value: 0, name: "SEEK_SET" };
const SEEK_DATA: Named = { value: 3, name: "SEEK_DATA" };
const SEEK_HOLE: Named = { value: 4, name: "SEEK_HOLE" };
/** The most that sendfile(2) takes at once. */
const CHUNK = 0x7fff_f000;

/** Something that takes its place in one step, with all of it that is below. */
interface Unit {
  readonly change: FoundChange;
  readonly below: readonly FoundChange[];
  /** The folder that it is in, outside. */
  readonly folder: BytePath;
  readonly name: BytePath;
  /** What it is called until it takes its place, and what was there is called afterwards. */
  readonly other: BytePath;
}

/** Where a file was made that has other names, too. */
interface Made {
  readonly folder: BytePath;
  readonly to: BytePath;
}

/** What all units of a commit share. */
interface Commit {
  /** What is lifted of the permissions of what was written. */
  readonly written: Access;
  /** And of those of folders outside. */
  readonly outside: Access;
  /** Files that have several names, by their layers and inodes. */
  readonly links: Map<string, Made>;
}

/**
 * Commits changes, which are in the order of their paths.
 *
 * @param written Lifts permissions of what was written.
 * @param journal Where it is written down what is made outside, for who removes it when this process is killed.
 * @throws {NamespaceError} When a step is refused; then everything outside is as it was.
 * @throws {AggregateError} When not all could be taken back, or what was replaced could not all be removed.
 */
export function commitChanges(changes: readonly FoundChange[], written: Access, journal: string): void {
  const units = unitsOf(changes);
  if (units.length === 0) return;
  const commit: Commit = { written, outside: new Access(), links: new Map() };
  try {
    writeJournal(journal, units);
    commitUnits(units, commit);
    const left = tried(units.map((unit) => () => removeOther(unit, commit)));
    if (left.length > 0) {
      throw new AggregateError(
        left,
        `The changes are done outside, and not all that they replaced is gone: ${left[0]}`,
      );
    }
  } finally {
    commit.outside.restore();
    tried([() => removeJournal(journal)]);
  }
}

function commitUnits(units: readonly Unit[], commit: Commit): void {
  const done: Unit[] = [];
  try {
    for (const unit of units) if (isMade(unit.change)) makeUnit(unit, commit);
    for (const unit of inOrder(units)) {
      place(unit, commit);
      done.push(unit);
    }
  } catch (error) {
    const left = tried([
      ...done.reverse().map((unit) => () => takeBack(unit, commit)),
      ...units.map((unit) => () => removeOther(unit, commit)),
    ]);
    if (left.length === 0) throw error;
    const reason = error instanceof Error ? error.message : error;
    throw new AggregateError([error, ...left], `${reason}\nNot all could be taken back: ${left[0]}`);
  }
}

/** Does all of it, whatever is refused, and says what was. */
function tried(works: readonly (() => void)[]): readonly NamespaceError[] {
  return works.flatMap((work) => {
    try {
      work();
      return [];
    } catch (error) {
      if (error instanceof NamespaceError) return [error];
      throw error;
    }
  });
}

/** All of it or nothing: who reads it removes what it names. */
function writeJournal(journal: string, units: readonly Unit[]): void {
  const paths = units.map(({ folder, other }) => `${folder === "/" ? "" : folder}/${other}\0`).join("");
  const bytes = Uint8Array.from(paths, (character) => character.charCodeAt(0));
  const why = { what: `write ${JSON.stringify(journal)}`, option: OPTION };
  const begun = `${journal}.new`;
  const [file] = execute([{ call: "openat", args: [AT_FDCWD, begun, NEW_FILE, octal(0o600)], ...why }]) as [number];
  try {
    for (let at = 0; at < bytes.length;) {
      const rest = { bytes: bytes.subarray(at), name: `<${bytes.length - at} bytes>` };
      at += execute([{ call: "write", args: [file, rest, bytes.length - at], ...why }])[0]!;
    }
  } finally {
    library().close(file);
  }
  execute([{ call: "renameat2", args: [AT_FDCWD, begun, AT_FDCWD, journal, 0], ...why }]);
}

function removeJournal(journal: string): void {
  const what = `remove ${JSON.stringify(journal)}`;
  execute([journal, `${journal}.new`].map((path): Step => {
    return { call: "unlinkat", args: [AT_FDCWD, path, 0], what, option: OPTION, tolerate: [["ENOENT", 0]] };
  }));
}

/** Permissions of folders are last, those of what is in them before their own: they may forbid the rest. */
function inOrder(units: readonly Unit[]): readonly Unit[] {
  const isFolder = ({ change }: Unit) => change.now !== undefined && !isMade(change);
  return [...units.filter((unit) => !isFolder(unit)), ...units.filter(isFolder).reverse()];
}

/** Whether it is more than other permissions of a folder, and not removed. */
function isMade({ now, before }: FoundChange): boolean {
  return now !== undefined && !(now.type === "directory" && before?.type === "directory");
}

function unitsOf(changes: readonly FoundChange[]): readonly Unit[] {
  const units: Unit[] = [];
  const tag = crypto.getRandomValues(new Uint32Array(1))[0]!.toString(36);
  for (let at = 0; at < changes.length;) {
    const change = changes[at++]!;
    const below: FoundChange[] = [];
    while (isMade(change) && changes[at]?.path.startsWith(`${change.path}/`)) below.push(changes[at++]!);
    const slash = change.path.lastIndexOf("/");
    const [folder, name] = [change.path.slice(0, slash) || "/", change.path.slice(slash + 1) || "."];
    units.push({ change, below, folder, name, other: `${OTHER_NAME}${tag}-${at}` });
  }
  return units;
}

/** One of a unit: where it is to be, where it is in the layer, and what it is called while it is made. */
interface Entry {
  readonly path: BytePath;
  readonly place: BytePath;
  readonly now: FileStatus;
  readonly to: BytePath;
}

function makeUnit({ change, below, folder, other }: Unit, commit: Commit): void {
  const entries = [change, ...below].filter(({ now }) => now !== undefined).map(({ path, place, now }): Entry => {
    return { path, place, now: now!, to: other + path.slice(change.path.length) };
  });
  const { upper } = change.layer;
  inFolder(folder, commit, (parent) => {
    const from = openFolder(bytePath(upper));
    try {
      const symlinks = entries.filter(({ now }) => now.type === "symlink");
      const targets = links(from, symlinks.map(({ place }) => place), OPTION);
      const targetOf = new Map(symlinks.map((entry, index) => [entry, targets[index]!]));
      const made = entries.filter((entry) => {
        const { now, to } = entry;
        const key = `${upper}:${now.inode}`;
        const known = now.links > 1 ? commit.links.get(key) : undefined;
        if (known !== undefined && linkTo(known, folder, parent, entry)) return false;
        if (now.type === "file") commit.written.toRead(upper, from, entry.place, now);
        make(from, parent, entry, targetOf.get(entry));
        if (now.type !== "directory") commit.links.set(key, { folder, to });
        return true;
      });
      // What is below first: it changes the time of what it is in.
      for (const { path, place, now, to } of made.reverse()) {
        setOwner(parent, path, to, now);
        // Access control lists, capabilities of programs, and those of users.
        setAttributes(parent, to, attributesOf(from, [place])[0]!);
        setMode(parent, path, to, now);
      }
    } finally {
      library().close(from);
    }
  });
}

/** Another name of a file that was made; says whether it could be had, which is not on another file system. */
function linkTo({ folder: other, to: from }: Made, folder: BytePath, parent: number, { path, to }: Entry): boolean {
  const at = other === folder ? parent : openFolder(other);
  try {
    const args = [at, pathArgument(from), parent, pathArgument(to), 0];
    const tolerate = [["EXDEV", 0], ["EMLINK", 0]] as const;
    return execute([{ call: "linkat", args, ...because("link", path), tolerate }])[0] === 0;
  } finally {
    if (at !== parent) library().close(at);
  }
}

function make(from: number, parent: number, entry: Entry, target: BytePath | undefined): void {
  const { path, now } = entry;
  const to = pathArgument(entry.to);
  const why = because("copy", path);
  if (now.type === "directory") {
    execute([{ call: "mkdirat", args: [parent, to, octal(0o700)], ...why }]);
  } else if (now.type === "symlink") {
    execute([{ call: "symlinkat", args: [pathArgument(target!), parent, to], ...why }]);
  } else if (now.type !== "file") {
    execute([{ call: "mknodat", args: [parent, to, octal(now.mode & ~0o7777 | 0o600), now.device], ...why }]);
  } else {
    const create: Step = { call: "openat", args: [parent, to, NEW_FILE, octal(0o600)], ...why };
    const [copy] = execute([create]) as [number];
    try {
      copyContent(from, entry, copy);
    } finally {
      library().close(copy);
    }
  }
}

/** Copies a content, and not what is between its parts: a file may be far larger than what is in it. */
function copyContent(from: number, { path, place, now: { size } }: Entry, copy: number): void {
  const why = because("copy", path);
  const [source] = execute([openStep(from, place, O_NONBLOCK_RDONLY, why)]) as [number];
  const seek = (file: number, to: number, whence: Named): number => {
    // ENXIO: there is nothing from there on.
    return execute([{ call: "lseek", args: [file, to, whence], ...why, tolerate: [["ENXIO", 0]] }])[0]!;
  };
  try {
    for (let at = 0; at < size;) {
      const begin = seek(source, at, SEEK_DATA);
      if (begin < 0) break;
      const end = seek(source, begin, SEEK_HOLE);
      if (end < 0) break;
      at = Math.min(end, size);
      seek(source, begin, SEEK_SET);
      seek(copy, begin, SEEK_SET);
      for (let left = at - begin; left > 0;) {
        const args = [copy, source, null, Math.min(left, CHUNK)];
        const copied = execute([{ call: "sendfile", args, ...why }])[0]!;
        if (copied === 0) return; // It is shorter than it was.
        left -= copied;
      }
    }
    execute([{ call: "ftruncate", args: [copy, size], ...why }]);
  } finally {
    library().close(source);
  }
}

function because(verb: string, path: BytePath): Pick<Step, "what" | "option"> {
  return { what: `${verb} ${JSON.stringify(shownPath(path))}`, option: OPTION };
}

function setOwner(parent: number, path: BytePath, to: BytePath, { uid, gid }: FileStatus): void {
  execute([{ call: "fchownat", args: [parent, pathArgument(to), uid, gid, NO_FOLLOW], ...because("give away", path) }]);
}

/** Permissions, of which a change of the owner takes some away, and the time. */
function setMode(parent: number, path: BytePath, to: BytePath, { type, mode, modified }: FileStatus): void {
  const [name, why] = [pathArgument(to), because("set permissions and time of", path)];
  const times = new Uint8Array(32);
  times.set(modified, 16);
  new DataView(times.buffer).setBigInt64(8, OMIT, true); // When it was last read.
  const steps: Step[] = [];
  if (type !== "symlink") steps.push({ call: "fchmodat", args: [parent, name, octal(mode & 0o7777)], ...why });
  steps.push({ call: "utimensat", args: [parent, name, { bytes: times, name: "<times>" }, NO_FOLLOW], ...why });
  execute(steps);
}

/** UTIME_OMIT of utimensat(2). */
const OMIT = 0x3fff_fffen;

function place(unit: Unit, commit: Commit): void {
  const { change, name, other } = unit;
  if (!isMade(change) && change.now !== undefined) setFolder(unit, commit, change.now, change.before!);
  else if (change.now === undefined) rename(unit, commit, name, other, NO_REPLACE, "remove");
  else if (change.before === undefined) rename(unit, commit, other, name, NO_REPLACE, "make");
  else rename(unit, commit, other, name, EXCHANGE, "replace");
}

function takeBack(unit: Unit, commit: Commit): void {
  const { change, name, other } = unit;
  if (!isMade(change) && change.now !== undefined) setFolder(unit, commit, change.before!, change.now);
  else if (change.now === undefined) rename(unit, commit, other, name, NO_REPLACE, "put back");
  else if (change.before === undefined) rename(unit, commit, name, other, NO_REPLACE, "take back");
  else rename(unit, commit, other, name, EXCHANGE, "put back");
}

function setFolder(unit: Unit, commit: Commit, wanted: FoundStatus, present: FoundStatus): void {
  const { change: { path }, folder } = unit;
  const name = pathArgument(unit.name);
  commit.outside.forget(path);
  inFolder(folder, commit, (parent) => {
    const why = because("set owner and permissions of", path);
    execute([{ call: "fchownat", args: [parent, name, wanted.uid, wanted.gid, NO_FOLLOW], ...why }]);
    // An access control list is another view of the permissions.
    if (wanted.attributes !== undefined) setAttributes(parent, unit.name, wanted.attributes, present.attributes);
    execute([{ call: "fchmodat", args: [parent, name, octal(wanted.mode & 0o7777)], ...why }]);
  });
}

function rename(unit: Unit, commit: Commit, from: BytePath, to: BytePath, how: Named, verb: string): void {
  inFolder(unit.folder, commit, (parent) => {
    const args = [parent, pathArgument(from), parent, pathArgument(to), how];
    execute([{ call: "renameat2", args, ...because(verb, unit.change.path) }]);
  });
}

/** Works in a folder outside. Its permissions, where they keep its owner out, are lifted until the end of the commit. */
function inFolder(folder: BytePath, { outside }: Commit, work: (parent: number) => void): void {
  try {
    inOpened(folder, work);
  } catch (error) {
    if (!(error instanceof NamespaceError) || error.code !== "EACCES" || !outside.toChange(folder)) throw error;
    inOpened(folder, work);
  }
}

function inOpened(folder: BytePath, work: (parent: number) => void): void {
  const parent = openFolder(folder);
  try {
    work(parent);
  } finally {
    library().close(parent);
  }
}

function openFolder(folder: BytePath): number {
  return execute([openStep(AT_FDCWD, folder, O_CLOEXEC_PATH, because("open", folder))])[0]!;
}

/** Removes what has the other name. */
function removeOther({ folder, other }: Unit, commit: Commit): void {
  inFolder(folder, commit, (parent) => remove(parent, folder, other));
}

/** Removes something with all that is in it, following no link; nothing where it is not there. */
function remove(parent: number, folder: BytePath, name: BytePath): void {
  const [status] = statuses(parent, [name], OPTION);
  if (status === undefined) return;
  const path = `${folder === "/" ? "" : folder}/${name}`;
  if (status.type === "directory") {
    new Access().toChange(path);
    inOpened(path, (opened) => {
      for (const inside of names(opened, ".", OPTION) ?? []) remove(opened, path, inside);
    });
  }
  const flags = status.type === "directory" ? REMOVE_FOLDER : 0;
  execute([{ call: "unlinkat", args: [parent, pathArgument(name), flags], ...because("remove", path) }]);
}

function octal(value: number): Named {
  return { value, name: `0${value.toString(8)}` };
}
