/**
 * Does outside what was done in a copy-on-write view.
 *
 * First all that is to be there is made beside its place, under another name; nothing shows of that. Then each takes its
 * place, by one renameat2(2) that cannot leave it half done, and what was there gets the other name. When one is refused,
 * those before it are taken back. In the end what was there is removed.
 *
 * @module
 */

import {
  type BytePath,
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
import { attributesOf, setAttributes } from "./attributes.ts";
import type { FoundChange, FoundStatus } from "./changes.ts";

const OPTION = "ephemeral";
const NO_FOLLOW: Named = { value: 0x100, name: "AT_SYMLINK_NOFOLLOW" };
const NO_REPLACE: Named = { value: 1, name: "RENAME_NOREPLACE" };
const EXCHANGE: Named = { value: 2, name: "RENAME_EXCHANGE" };
const REMOVE_FOLDER: Named = { value: 0x200, name: "AT_REMOVEDIR" };
const NEW_FILE: Named = { value: 0o2000301, name: "O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC" };
/** The most that sendfile(2) takes at once. */
const CHUNK = 0x7fff_f000;
const SEEK_SET: Named = { value: 0, name: "SEEK_SET" };
const SEEK_DATA: Named = { value: 3, name: "SEEK_DATA" };
const SEEK_HOLE: Named = { value: 4, name: "SEEK_HOLE" };

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

/**
 * Commits changes, which are in the order of their paths.
 *
 * @throws {NamespaceError} When a step is refused; then everything outside is as it was.
 */
export function commitChanges(changes: readonly FoundChange[]): void {
  const units = unitsOf(changes);
  const done: Unit[] = [];
  try {
    for (const unit of units) if (isMade(unit.change)) makeUnit(unit);
    for (const unit of inOrder(units)) {
      place(unit);
      done.push(unit);
    }
  } catch (error) {
    for (const unit of done.reverse()) takeBack(unit);
    removeOthers(units);
    throw error;
  }
  removeOthers(units);
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
    const [folder, name] = [change.path.slice(0, slash) || "/", change.path.slice(slash + 1)];
    units.push({ change, below, folder, name, other: `.sys-linux-namespace-${tag}-${at}` });
  }
  return units;
}

function makeUnit({ change, below, folder, other }: Unit): void {
  const entries = [change, ...below].filter(({ now }) => now !== undefined).map((entry): Entry => {
    return { place: entry.place, now: entry.now!, to: other + entry.path.slice(change.path.length) };
  });
  const opened = [open(AT_FDCWD, change.layer.upper, O_CLOEXEC_PATH), open(AT_FDCWD, folder, O_CLOEXEC_PATH)];
  const [from, parent] = execute(opened) as [number, number];
  try {
    const linked = entries.filter(({ now }) => now.type === "symlink");
    const targets = links(from, linked.map(({ place }) => place), OPTION);
    const targetOf = new Map(linked.map((entry, index) => [entry, targets[index]!]));
    for (const entry of entries) make(from, parent, entry, targetOf.get(entry));
    // What is below first: it changes the time of what it is in.
    for (const { place, now, to } of entries.reverse()) {
      setOwner(parent, to, now);
      // Access control lists, capabilities of programs, and those of users.
      setAttributes(parent, to, attributesOf(from, [place])[0]!);
      setMode(parent, to, now);
    }
  } finally {
    library().close(from);
    library().close(parent);
  }
}

/** One of a unit: where it is in the layer, and what it is called while it is made. */
interface Entry {
  readonly place: BytePath;
  readonly now: FileStatus;
  readonly to: BytePath;
}

function open(from: number | Named, path: BytePath, flags: Named): Step {
  return openStep(from, path, flags, because("open", path));
}

function make(from: number, parent: number, { place, now, to }: Entry, target: BytePath | undefined): void {
  const path = pathArgument(to);
  const why = because("copy", place);
  if (now.type === "directory") {
    execute([{ call: "mkdirat", args: [parent, path, octal(0o700)], ...why }]);
  } else if (now.type === "symlink") {
    execute([{ call: "symlinkat", args: [pathArgument(target!), parent, path], ...why }]);
  } else if (now.type !== "file") {
    execute([{ call: "mknodat", args: [parent, path, octal(now.mode & ~0o7777 | 0o600), now.device], ...why }]);
  } else {
    const create: Step = { call: "openat", args: [parent, path, NEW_FILE, octal(0o600)], ...why };
    const [copy] = execute([create]) as [number];
    try {
      copyContent(from, place, copy, now.size);
    } finally {
      library().close(copy);
    }
  }
}

/** Copies a content, and not what is between its parts: a file may be far larger than what is in it. */
function copyContent(from: number, place: BytePath, copy: number, size: number): void {
  const [source] = execute([open(from, place, O_NONBLOCK_RDONLY)]) as [number];
  const why = because("copy", place);
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

function because(verb: string, place: BytePath): Pick<Step, "what" | "option"> {
  return { what: `${verb} ${JSON.stringify(shownPath(place))}`, option: OPTION };
}

function setOwner(parent: number, to: BytePath, { uid, gid }: FileStatus): void {
  execute([{ call: "fchownat", args: [parent, pathArgument(to), uid, gid, NO_FOLLOW], ...because("give away", to) }]);
}

/** Permissions, of which a change of the owner takes some away, and the time. */
function setMode(parent: number, to: BytePath, { type, mode, modified }: FileStatus): void {
  const [name, why] = [pathArgument(to), because("set permissions and time of", to)];
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

function place(unit: Unit): void {
  const { change, name, other } = unit;
  if (!isMade(change) && change.now !== undefined) setFolder(unit, change.now, change.before!);
  else if (change.now === undefined) rename(unit, name, other, NO_REPLACE, "remove");
  else if (change.before === undefined) rename(unit, other, name, NO_REPLACE, "make");
  else rename(unit, other, name, EXCHANGE, "replace");
}

function takeBack(unit: Unit): void {
  const { change, name, other } = unit;
  if (!isMade(change) && change.now !== undefined) setFolder(unit, change.before!, change.now);
  else if (change.now === undefined) rename(unit, other, name, NO_REPLACE, "put back");
  else if (change.before === undefined) rename(unit, name, other, NO_REPLACE, "take back");
  else rename(unit, other, name, EXCHANGE, "put back");
}

function setFolder({ change: { path }, folder, name }: Unit, wanted: FoundStatus, present: FoundStatus): void {
  inFolder(folder, (parent) => {
    const why = because("set owner and permissions of", path);
    const args = [parent, pathArgument(name), wanted.uid, wanted.gid, NO_FOLLOW];
    execute([{ call: "fchownat", args, ...why }]);
    // An access control list is another view of the permissions.
    if (wanted.attributes !== undefined) setAttributes(parent, name, wanted.attributes, present.attributes);
    execute([{ call: "fchmodat", args: [parent, pathArgument(name), octal(wanted.mode & 0o7777)], ...why }]);
  });
}

function rename({ change: { path }, folder }: Unit, from: BytePath, to: BytePath, how: Named, verb: string): void {
  inFolder(folder, (parent) => {
    const args = [parent, pathArgument(from), parent, pathArgument(to), how];
    execute([{ call: "renameat2", args, ...because(verb, path) }]);
  });
}

function inFolder(folder: BytePath, work: (parent: number) => void): void {
  const [parent] = execute([open(AT_FDCWD, folder, O_CLOEXEC_PATH)]) as [number];
  try {
    work(parent);
  } finally {
    library().close(parent);
  }
}

/** Removes what has the other name, as far as it can be removed. */
function removeOthers(units: readonly Unit[]): void {
  const errors: unknown[] = [];
  for (const { folder, other } of units) {
    try {
      inFolder(folder, (parent) => remove(parent, other));
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}

/** Removes something with all that is in it, following no link; nothing where it is not there. */
function remove(parent: number, name: BytePath): void {
  const [status] = statuses(parent, [name], OPTION);
  if (status === undefined) return;
  const isFolder = status.type === "directory";
  if (isFolder) {
    const [folder] = execute([open(parent, name, O_CLOEXEC_PATH)]) as [number];
    try {
      for (const inside of names(folder, ".", OPTION) ?? []) remove(folder, inside);
    } finally {
      library().close(folder);
    }
  }
  const flags = isFolder ? REMOVE_FOLDER : 0;
  execute([{ call: "unlinkat", args: [parent, pathArgument(name), flags], ...because("remove", name) }]);
}

function octal(value: number): Named {
  return { value, name: `0${value.toString(8)}` };
}
