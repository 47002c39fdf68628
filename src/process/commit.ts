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
  openFolder,
  openStep,
  pathArgument,
  shownPath,
  statuses,
} from "../machine/files.ts";
import { library } from "../machine/library.ts";
import { facts } from "../machine/facts.ts";
import { pathIn } from "../options_mounts.ts";
import { isIn, visibleMounts } from "../plan/ephemeral.ts";
import { AT_FDCWD, O_CLOEXEC_PATH, O_NONBLOCK_RDONLY, SEEK_SET } from "../plan/files.ts";
import type { Named, Step } from "../plan/step.ts";
import { quoted } from "../quoted.ts";
import { Access } from "./access.ts";
import { attributesOf, setAttributes } from "./attributes.ts";
import { type FoundChange, type FoundStatus, isUntouched } from "./changes.ts";
import { OTHER_NAME, type Written } from "./ephemeral.ts";

const OPTION = "ephemeral";
const EMPTY_PATH: Named = { value: 0x1000, name: "AT_EMPTY_PATH" };
/** Not from one mount to another. */
const NO_CROSSING: Named = { value: 1, name: "RESOLVE_NO_XDEV" };
/** Of what it is the flag differs. */
const NO_FOLLOW_PATH: Named = {
  value: 0o12000000 | (Deno.build.arch === "aarch64" ? 0o100000 : 0o400000),
  name: "O_RDONLY|O_NOFOLLOW|O_CLOEXEC|O_PATH",
};
const NO_REPLACE: Named = { value: 1, name: "RENAME_NOREPLACE" };
const EXCHANGE: Named = { value: 2, name: "RENAME_EXCHANGE" };
const REMOVE_FOLDER: Named = { value: 0x200, name: "AT_REMOVEDIR" };
const NEW_FILE: Named = { value: 0o2000301, name: "O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC" };
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
  /** What was made of each change: an inode. */
  readonly made: Map<FoundChange, bigint>;
  /** What was there, by its inode under its other name: an overlay copies it to rename it, which may give it another. */
  readonly moved: Map<FoundChange, bigint>;
}

/**
 * Commits changes, which are in the order of their paths.
 *
 * @param written Lifts permissions of what was written.
 * @param view Where it is written down what is made outside, for who removes it when this process is killed; and what is
 * committed.
 * @throws {NamespaceError} When a step is refused; then everything outside is as it was.
 * @throws {AggregateError} When not all could be taken back, or what was replaced could not all be removed.
 */
export function commitChanges(
  changes: readonly FoundChange[],
  written: Access,
  { journal, committed }: Pick<Written, "journal" | "committed">,
): void {
  const units = unitsOf(changes);
  if (units.length === 0) return;
  const commit: Commit = { written, outside: new Access(), links: new Map(), made: new Map(), moved: new Map() };
  try {
    refuseMounts(units);
    writeJournal(journal, units);
    const late = commitUnits(units, commit);
    const left = tried([
      ...late.map((unit) => () => placeLate(unit, commit)),
      ...units.map((unit) => () => removeOther(unit, commit)),
    ]);
    if (left.length > 0) {
      throw new AggregateError(
        left,
        `The changes are done outside, and not all that they replaced is gone: ${left[0]}`,
      );
    }
    for (const { path, now } of changes) if (now !== undefined) committed.set(path, now);
  } finally {
    commit.outside.restore();
    tried([() => removeJournal(journal)]);
  }
}

/** A folder is not removed with what somebody has mounted in it. */
function refuseMounts(units: readonly Unit[]): void {
  const gone = units.filter(({ change: { before, now } }) => before?.type === "directory" && now?.type !== "directory");
  if (gone.length === 0) return;
  const mounts = visibleMounts(facts.text("/proc/self/mountinfo") ?? "").map(({ path }) => bytePath(path));
  for (const { change: { path } } of gone) {
    const mount = mounts.find((mount) => isIn(mount, path));
    if (mount !== undefined) {
      throw new Deno.errors.Busy(`Cannot commit ${shown(path)}: something is mounted at ${shown(mount)}`);
    }
  }
}

/** Says which are left to be done when all others are. */
function commitUnits(units: readonly Unit[], commit: Commit): readonly Unit[] {
  const done: Unit[] = [];
  const late: Unit[] = [];
  try {
    for (const unit of units) if (isMade(unit.change)) makeUnit(unit, commit);
    for (const unit of inOrder(units)) {
      (place(unit, commit) ? done : late).push(unit);
    }
    return late;
  } catch (error) {
    const kept = new Set(done); // What cannot be put back is not removed.
    const left = tried([
      ...done.reverse().map((unit) => () => {
        takeBack(unit, commit);
        kept.delete(unit);
      }),
      ...units.map((unit) => () => {
        if (!kept.has(unit)) removeOther(unit, commit);
      }),
    ]);
    if (left.length === 0) throw error;
    const reason = error instanceof Error ? error.message : error;
    const places = [...kept].filter(({ change }) =>
      change.before !== undefined && (change.now === undefined || isMade(change))
    )
      .map((unit) => `\nWhat was at ${shown(unit.change.path)} is ${shown(pathIn(unit.folder, unit.other))}.`);
    throw new AggregateError(
      [error, ...left],
      `${reason}\nNot all could be taken back: ${left[0]}${places.join("")}`,
    );
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
  const paths = units.map(({ folder, other }) => `${pathIn(folder, other)}\0`).join("");
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

/** A folder of a unit that is being made, with all that is in it: here, and in the layer. */
interface MadeFolder {
  /** Where it is to be. */
  readonly path: BytePath;
  /** Where it is meanwhile. */
  readonly at: BytePath;
  /** Descriptors: names are looked up in these alone, so that no link can be put in between. */
  readonly to: number;
  readonly from: number;
  /** What it is to be like, when all is in it: that changes its time. Undefined for what was there before. */
  readonly now?: FoundStatus;
}

function makeUnit({ change, below, folder, other }: Unit, commit: Commit): void {
  const entries = [change, ...below].filter(({ now }) => now !== undefined);
  const { upper } = change.layer;
  const slash = change.place.lastIndexOf("/");
  inFolder(folder, commit, (parent) => {
    const open: MadeFolder[] = [];
    try {
      const layer = bytePath(slash < 0 ? upper : `${upper}/`) + change.place.slice(0, Math.max(slash, 0));
      open.push({ path: folder, at: folder, to: parent, from: openFolder(layer, OPTION) });
      for (const { path, place, now } of entries) {
        while (open.length > 1 && !isIn(path, open.at(-1)!.path)) finishFolder(open);
        const name = place.slice(place.lastIndexOf("/") + 1);
        const to = path === change.path ? other : name;
        make(open, { path, name, to, now: now!, upper, place, change }, commit);
      }
      while (open.length > 1) finishFolder(open);
    } finally {
      for (const { from, to } of open) for (const fd of [from, to]) if (fd !== parent) library().close(fd);
    }
  });
}

/** Something that is to be made: in which name it is found in the layer, and which it gets here. */
interface Entry {
  readonly path: BytePath;
  readonly name: BytePath;
  readonly to: BytePath;
  readonly now: FoundStatus;
  readonly upper: string;
  readonly place: BytePath;
  readonly change: FoundChange;
}

/** Makes one entry of the folder that was opened last. */
function make(open: MadeFolder[], entry: Entry, commit: Commit): void {
  const { path, name, now, upper, place } = entry;
  const { from, to, at } = open.at(-1)!;
  const isTop = open.length === 1;
  const source = openEntry(from, name, path);
  let made: number | undefined;
  try {
    refuseOther(source, now, path);
    const key = `${upper}:${now.inode}`;
    const known = now.links > 1 ? commit.links.get(key) : undefined;
    const begun = (inode: bigint): void => {
      if (isTop) commit.made.set(entry.change, inode);
    };
    if (known !== undefined && linkTo(known, to, entry)) return begun(statuses(to, [entry.to], OPTION)[0]!.inode);
    if (now.type === "file") commit.written.toRead(upper, from, name, now, place);
    made = makeLike(source, to, entry, begun);
    if (now.type === "directory") {
      open.push({ path, at: pathIn(at, entry.to), to: made, from: source, now });
      made = undefined;
      return;
    }
    commit.links.set(key, { folder: at, to: entry.to });
    refuseOther(source, now, path); // Somebody may have written to it meanwhile.
    dress(made, source, now, path);
  } finally {
    if (made !== undefined) library().close(made);
    if (open.at(-1)!.from !== source) library().close(source);
  }
}

/** A descriptor of something in a folder, itself a link or not: it is good for no more than to look at it. */
function openEntry(folder: number, name: BytePath, path: BytePath): number {
  const args = [folder, pathArgument(name), NO_FOLLOW_PATH];
  return execute([{ call: "openat", args, ...because("open", path) }])[0]!;
}

/** Refuses what is not what was looked at: a process that a command has left may have put it there. */
function refuseOther(file: number, wanted: FileStatus, path: BytePath): void {
  const [found] = statuses(file, [""], OPTION);
  if (found !== undefined && isUntouched(found, wanted)) return;
  throw new Deno.errors.Busy(`Cannot commit ${shown(path)}: something has written to it meanwhile`);
}

/** Makes something of the same kind and content, for nobody else yet; `begun` is told its inode as soon as it is there. */
function makeLike(source: number, folder: number, entry: Entry, begun: (inode: bigint) => void): number {
  const { path, now } = entry;
  const to = pathArgument(entry.to);
  const why = because("copy", path);
  if (now.type === "file") {
    const [copy] = execute([{ call: "openat", args: [folder, to, NEW_FILE, octal(0o600)], ...why }]) as [number];
    try {
      begun(statuses(copy, [""], OPTION)[0]!.inode);
      copyContent(source, path, now.size, copy);
    } catch (error) {
      library().close(copy);
      throw error;
    }
    return copy;
  }
  const make: Step = now.type === "directory"
    ? { call: "mkdirat", args: [folder, to, octal(0o700)], ...why }
    : now.type === "symlink"
    ? { call: "symlinkat", args: [pathArgument(links(source, [""], OPTION)[0]!), folder, to], ...why }
    : { call: "mknodat", args: [folder, to, octal(now.mode & ~0o7777 | 0o600), now.device], ...why };
  execute([make]);
  const made = openEntry(folder, entry.to, path);
  const [found] = statuses(made, [""], OPTION);
  const isOurs = found?.type === now.type && found.uid === library().context().caller.uid &&
    found.device === now.device &&
    (now.type !== "directory" || names(made, ".", OPTION)?.length === 0);
  if (isOurs) {
    begun(found.inode);
    return made;
  }
  library().close(made); // Whose folder it is can put something else there.
  throw busyFolder(path);
}

function busyFolder(path: BytePath): Error {
  return new Deno.errors.Busy(`Cannot commit ${shown(path)}: somebody changes the folder that it is in`);
}

/** All that is in the folder that was opened last is made. */
function finishFolder(open: MadeFolder[]): void {
  const { path, to, from, now } = open.at(-1)!;
  dress(to, from, now!, path);
  open.pop();
  library().close(to);
  library().close(from);
}

/** Gives what was made its owner, attributes, permissions and time, in an order in which none takes away another. */
function dress(made: number, source: number, { type, uid, gid, mode, modified }: FileStatus, path: BytePath): void {
  const why = because("set owner, attributes, permissions and time of", path);
  const times = new Uint8Array(32);
  times.set(modified, 16);
  new DataView(times.buffer).setBigInt64(8, OMIT, true); // When it was last read.
  const owner = [made, "", uid, gid, EMPTY_PATH];
  const steps: Step[] = [{ call: "fchownat", args: owner, ...why }];
  // Access control lists, capabilities of programs, and those of users.
  steps.push(...setAttributes(made, attributesOf(source, [""])[0]!, why, attributesOf(made, [""])[0]!));
  if (type !== "symlink") steps.push(setPermissions(made, mode, why));
  steps.push({ call: "utimensat", args: [made, "", { bytes: times, name: "<times>" }, EMPTY_PATH], ...why });
  execute(steps);
}

/** chmod(2) of an open file, by a link that leads to that and to nothing else. */
function setPermissions(file: number, mode: number, why: Pick<Step, "what" | "option">): Step {
  return { call: "fchmodat", args: [AT_FDCWD, `/proc/self/fd/${file}`, octal(mode & 0o7777)], ...why };
}

/** UTIME_OMIT of utimensat(2). */
const OMIT = 0x3fff_fffen;

/** Another name of a file that was made; says whether it could be had, which is not on another file system. */
function linkTo({ folder, to: from }: Made, to: number, entry: Entry): boolean {
  const at = openFolder(folder, OPTION, [["EACCES", 0]]);
  if (at < 0) return false; // It is made, and closed already.
  try {
    const args = [at, pathArgument(from), to, pathArgument(entry.to), 0];
    const tolerate = [["EXDEV", 0], ["EMLINK", 0], ["ENOENT", 0], ["EACCES", 0]] as const;
    return execute([{ call: "linkat", args, ...because("link", entry.path), tolerate }])[0] === 0;
  } finally {
    library().close(at);
  }
}

/** Copies a content, and not what is between its parts: a file may be far larger than what is in it. */
function copyContent(file: number, path: BytePath, size: number, copy: number): void {
  const why = because("copy", path);
  const reopen = [AT_FDCWD, `/proc/self/fd/${file}`, O_NONBLOCK_RDONLY];
  const [source] = execute([{ call: "openat", args: reopen, ...why }]) as [number];
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
  return { what: `${verb} ${shown(path)}`, option: OPTION };
}

function shown(path: BytePath): string {
  return quoted(shownPath(path));
}

/** Says whether it is done: a folder that is under an overlay cannot be renamed, so what is in its place comes late. */
function place(unit: Unit, commit: Commit): boolean {
  const { change, name, other } = unit;
  if (!isMade(change) && change.now !== undefined) {
    try {
      setFolder(unit, commit, change.now, change.before!);
    } catch (error) {
      tried([() => takeBack(unit, commit)]); // Some of it may be done.
      throw error;
    }
    return true;
  }
  if (change.before === undefined) rename(unit, commit, other, name, NO_REPLACE, "make");
  else {
    const [from, to, how, verb] = change.now === undefined
      ? [name, other, NO_REPLACE, "remove"] as const
      : [other, name, EXCHANGE, "replace"] as const;
    const tolerate = change.before.type === "directory" ? [["EXDEV", 0]] as const : [];
    if (!rename(unit, commit, from, to, how, verb, tolerate)) return false;
  }
  try {
    inFolder(unit.folder, commit, (parent) => {
      const [was, is] = statuses(parent, [other, name], OPTION);
      if (change.before !== undefined && was !== undefined) commit.moved.set(change, was.inode);
      if (commit.made.has(change) && is?.inode !== commit.made.get(change)) throw busyFolder(change.path);
    });
  } catch (error) {
    takeBack(unit, commit);
    throw error;
  }
  return true;
}

/** Removes a folder where it is, which can be cut off, and puts there what takes its place. */
function placeLate(unit: Unit, commit: Commit): void {
  const { change, folder, name, other } = unit;
  inFolder(folder, commit, (parent) => {
    if (statuses(parent, [name], OPTION)[0]?.inode === change.before!.inode) remove(parent, folder, name);
  });
  if (change.now !== undefined) rename(unit, commit, other, name, NO_REPLACE, "replace");
}

function takeBack(unit: Unit, commit: Commit): void {
  const { change, name, other } = unit;
  if (!isMade(change) && change.now !== undefined) setFolder(unit, commit, change.before!, change.now);
  else if (change.now === undefined) rename(unit, commit, other, name, NO_REPLACE, "put back");
  else if (change.before === undefined) rename(unit, commit, name, other, NO_REPLACE, "take back");
  else rename(unit, commit, other, name, EXCHANGE, "put back");
}

function setFolder(unit: Unit, commit: Commit, wanted: FoundStatus, present: FoundStatus): void {
  const { change: { path }, folder, name } = unit;
  commit.outside.forget(path);
  inFolder(folder, commit, (parent) => {
    const why = because("set owner and permissions of", path);
    const file = openEntry(parent, name, path);
    try {
      const [found] = statuses(file, [""], OPTION);
      if (found?.type !== "directory") {
        throw new Deno.errors.Busy(`Cannot commit ${shown(path)}: it is no folder any more`);
      }
      execute([
        { call: "fchownat", args: [file, "", wanted.uid, wanted.gid, EMPTY_PATH], ...why },
        // An access control list is another view of the permissions.
        ...wanted.attributes === undefined ? [] : setAttributes(file, wanted.attributes, why, present.attributes),
        setPermissions(file, wanted.mode, why),
      ]);
    } finally {
      library().close(file);
    }
  });
}

/** Says whether it was not refused in one of the ways that are tolerated. */
function rename(
  unit: Unit,
  commit: Commit,
  from: BytePath,
  to: BytePath,
  how: Named,
  verb: string,
  tolerate: NonNullable<Step["tolerate"]> = [],
): boolean {
  return inFolder(unit.folder, commit, (parent) => {
    const args = [parent, pathArgument(from), parent, pathArgument(to), how];
    return execute([{ call: "renameat2", args, ...because(verb, unit.change.path), tolerate }])[0] === 0;
  });
}

/** Works in a folder outside. Its permissions, where they keep its owner out, are lifted until the end of the commit. */
function inFolder<T>(folder: BytePath, { outside }: Commit, work: (parent: number) => T): T {
  try {
    return inOpened(openFolder(folder, OPTION), work);
  } catch (error) {
    if (!(error instanceof NamespaceError) || error.code !== "EACCES" || !outside.toChange(folder)) throw error;
    return inOpened(openFolder(folder, OPTION), work);
  }
}

function inOpened<T>(folder: number, work: (folder: number) => T): T {
  try {
    return work(folder);
  } finally {
    library().close(folder);
  }
}

/** Removes what has the other name, if that is what was there, or was made. */
function removeOther({ change, folder, other }: Unit, commit: Commit): void {
  inFolder(folder, commit, (parent) => {
    const [found] = statuses(parent, [other], OPTION);
    if (found === undefined) return;
    const ours = [change.before?.inode, commit.moved.get(change), commit.made.get(change)];
    if (ours.includes(found.inode)) remove(parent, folder, other);
  });
}

/** Removes something with all that is in it, into no link and no other mount; nothing where it is not there. */
function remove(parent: number, folder: BytePath, name: BytePath): void {
  const [status] = statuses(parent, [name], OPTION);
  if (status === undefined) return;
  const path = pathIn(folder, name);
  if (status.type === "directory") {
    const open = openStep(parent, name, O_CLOEXEC_PATH, because("remove", path), NO_CROSSING);
    inOpened(execute([open])[0]!, (opened) => {
      Access.toRemove(opened, status);
      for (const inside of names(opened, ".", OPTION) ?? []) remove(opened, path, inside);
    });
  }
  const flags = status.type === "directory" ? REMOVE_FOLDER : 0;
  execute([{ call: "unlinkat", args: [parent, pathArgument(name), flags], ...because("remove", path) }]);
}

function octal(value: number): Named {
  return { value, name: `0${value.toString(8)}` };
}
