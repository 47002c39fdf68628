/**
 * Copy-on-write views: what is to be there for them, and what becomes of it.
 *
 * What is written is in a new folder, the store. Whatever happens, kill -9 included, it is removed: by a shell that waits
 * for the end of its stdin, which this process alone can write to.
 *
 * @module
 */

import { stepError } from "../errors.ts";
import { makePipe } from "../machine/descriptors.ts";
import { facts } from "../machine/facts.ts";
import {
  type BytePath,
  bytePath,
  canonical,
  execute as executeSteps,
  type FileStatus,
  links,
  names,
  openFolder,
  shownPath,
  statuses,
} from "../machine/files.ts";
import { library } from "../machine/library.ts";
import { Interest, reactor } from "../machine/reactor.ts";
import type { Settings } from "../options.ts";
import { type LayerSettings, type MountOptions, parentOf, viewSettings } from "../options_mounts.ts";
import type { Caller } from "../plan/caller.ts";
import { hasUserNamespace } from "../plan/child.ts";
import { enterFolder, execute, UNBLOCK_SIGNALS } from "../plan/exec.ts";
import {
  deepest,
  type Entry,
  isNameable,
  type Layout,
  type Look,
  type Made,
  ViewPlanner,
  visibleMounts,
  workOf,
} from "../plan/ephemeral.ts";
import { AT_FDCWD } from "../plan/files.ts";
import { CLOSE_THE_REST, connectStdio } from "../plan/stdio.ts";
import type { Named, Plan, Step } from "../plan/step.ts";
import { type Attributes, attributesOf, setAttributes, setOnPurpose } from "./attributes.ts";

const OPTION = "ephemeral";
/** Overlays put a mark on folders that hide what is under them: `trusted` ones are root's, outside of user namespaces. */
export const MARKS = { trusted: "trusted.overlay.opaque", user: "user.overlay.opaque" } as const;

/** How the names of what a commit makes outside, until it takes its place, begin. */
export const OTHER_NAME = ".sys-linux-namespace-";

/** What was written, and where it is. */
export interface Written {
  /** Overlays: what is under them, and the folder that they are written to. */
  readonly layers: Layout["layers"];
  /** Folders in which something may have been made. */
  readonly open: Layout["open"];
  /** What was there from the start. */
  readonly made: Layout["made"];
  /** What folders of the store could not be given of the attributes of those outside: they are as there. */
  readonly withheld: ReadonlyMap<string, ReadonlySet<string>>;
  /** What was committed, by its path, as it was then. */
  readonly committed: Map<BytePath, FileStatus>;
  /** The extended attribute of folders that hide what is under them. */
  readonly mark: string;
  /** The path of a file of paths that a commit uses and is to leave nothing at: see {@linkcode REMOVE}. */
  readonly journal: string;
}

/** A view that is made when it is first needed. */
export class EphemeralView {
  readonly #settings: Settings;
  #prepared: Prepared | undefined;
  #isBusy = false;

  private constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** The view of a namespace, where it has one. */
  static of(settings: Settings): EphemeralView | undefined {
    if (settings.ephemeral === undefined) return undefined;
    let view = views.get(settings);
    if (view === undefined) views.set(settings, view = new EphemeralView(settings));
    return view;
  }

  /**
   * The settings for a command, until {@linkcode leave}.
   *
   * @param folder Where it begins.
   * @param isDeno Whether it is a Deno of ours, whose caches are of no interest.
   * @throws {Deno.errors.Busy} While another command runs on it.
   * @throws {NamespaceError} When the kernel refuses what it needs.
   */
  enter(caller: Caller, folder: string, isDeno: boolean): Settings {
    if (this.#isBusy) {
      throw new Deno.errors.Busy("Cannot run two commands on one ephemeral view at a time: wait for the first to end");
    }
    this.#prepared ??= new Prepared(this.#settings, caller);
    const settings = this.#prepared.settingsIn(folder, isDeno);
    this.#isBusy = true;
    return settings;
  }

  /** The command has ended. */
  leave(): void {
    this.#isBusy = false;
  }

  /** What was written, where anything can have been. */
  get written(): Written | undefined {
    return this.#prepared;
  }

  /**
   * Refuses what is not to be done while a command runs.
   *
   * @throws {Deno.errors.Busy} When one does.
   */
  refuseIfBusy(what: string): void {
    if (this.#isBusy) throw new Deno.errors.Busy(`Cannot ${what} while a command runs on the ephemeral view`);
  }

  /** Removes what was written. */
  async discard(): Promise<void> {
    this.refuseIfBusy("discard changes");
    const prepared = this.#prepared;
    this.#prepared = undefined;
    await prepared?.remove();
  }
}

const views = new WeakMap<Settings, EphemeralView>();

/** The settings that a command would have, for who only tells of it. */
export function ephemeralView(settings: Settings, caller: Caller, folder: string): Settings {
  const { planner, layout } = plan(settings, caller, storeName("XXXXXXXXXXXX", settings));
  for (const place of placesOf(settings, folder)) planner.open(place);
  return withView(settings, layout, 1);
}

/** A view that there is. */
class Prepared implements Written {
  readonly layers: Layout["layers"];
  readonly open: Layout["open"];
  readonly made: Layout["made"];
  readonly withheld = new Map<string, Set<string>>();
  readonly committed = new Map<BytePath, FileStatus>();
  readonly mark: string;
  readonly journal: string;
  readonly #hasUser: boolean;
  readonly #planner: ViewPlanner;
  readonly #remover: Remover;
  readonly #opened = new Set<string>();
  readonly #layout: Layout;
  readonly #asked: Settings;
  #mounts = 0;

  constructor(settings: Settings, caller: Caller) {
    const random = crypto.getRandomValues(new Uint8Array(6));
    const store = storeName(Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join(""), settings);
    const { planner, layout } = plan(settings, caller, store);
    this.#planner = planner;
    this.#layout = layout;
    this.#asked = settings;
    this.layers = layout.layers;
    this.open = layout.open;
    this.made = layout.made;
    this.#hasUser = hasUserNamespace(settings, caller);
    this.mark = this.#hasUser ? MARKS.user : MARKS.trusted;
    this.journal = `${store}/journal`;
    this.#remover = new Remover(store); // Not sooner than there is somebody to remove it.
    try {
      // What is made in it gets nothing of what it got itself.
      make([{ type: "directory", path: store }], this.#hasUser, this.withheld);
      make(layout.made, this.#hasUser, this.withheld);
    } catch (error) {
      this.#remover.removeSync();
      throw error;
    }
  }

  /** The settings for one command, in a folder. */
  settingsIn(folder: string, isDeno: boolean): Settings {
    for (const place of placesOf(this.#asked, folder)) {
      if (this.#opened.has(place)) continue;
      make(this.#planner.open(place), this.#hasUser, this.withheld);
      this.#opened.add(place);
    }
    this.#mounts++;
    make(
      this.layers.map(({ work }): Made => ({ type: "directory", path: workOf(work!, this.#mounts) })),
      this.#hasUser,
      this.withheld,
    );
    const caches = isDeno ? denoCache() : [];
    return withView(this.#asked, { ...this.#layout, last: [...caches, ...this.#layout.last] }, this.#mounts);
  }

  async remove(): Promise<void> {
    await this.#remover.remove();
  }
}

/** Where a command is to be able to write, if the caller is. */
function placesOf({ ephemeral }: Settings, folder: string): readonly string[] {
  const folders = [folder, environmentVariable("HOME"), environmentVariable("TMPDIR"), "/tmp", "/var/tmp"];
  const places = [...folders, ...ephemeral!.writable].map((path) => path && canonical(path, OPTION));
  const found = places.filter((place): place is string => place !== undefined && place !== "" && isNameable(place));
  return [...new Set(found)].sort((a, b) => a.length - b.length); // One that is in another needs nothing of its own.
}

/** Where Deno keeps databases that it always writes to: that goes to memory, and is no change. */
function denoCache(): readonly MountOptions[] {
  const [home, caches] = [environmentVariable("HOME"), environmentVariable("XDG_CACHE_HOME")];
  const folder = environmentVariable("DENO_DIR") ?? (caches ?? (home && `${home}/.cache`) ?? "") + "/deno";
  const target = canonical(folder, OPTION);
  return target === undefined ? [] : [{ type: "overlay", target, lower: [target], upper: "tmpfs" }];
}

function storeName(random: string, { ephemeral }: Settings): string {
  const dir = ephemeral?.dir ?? environmentVariable("TMPDIR") ?? "/var/tmp";
  return `${canonical(dir, OPTION) ?? dir}/sys-linux-namespace-${random}`;
}

/** The value of a variable that is an absolute path. */
function environmentVariable(name: string): string | undefined {
  const text = `\0${new TextDecoder().decode(library().context().environment)}`;
  const at = text.indexOf(`\0${name}=/`);
  return at < 0 ? undefined : text.slice(at + name.length + 2, text.indexOf("\0", at + 1));
}

function plan(
  settings: Settings,
  caller: Caller,
  store: string,
): { readonly planner: ViewPlanner; readonly layout: Layout } {
  const { ephemeral, tmp, proc } = settings;
  const mounts = visibleMounts(facts.text("/proc/self/mountinfo") ?? "");
  const dir = parentOf(store);
  if (deepest(mounts, store)?.type === "overlay" && canonical(dir, OPTION) !== undefined) {
    const got = JSON.stringify(dir);
    throw new RangeError(
      `Option "ephemeral.dir" must be on another file system than an overlay, such as "/dev/shm": got ${got}`,
    );
  }
  const planner = new ViewPlanner(lookOf(mounts, caller), {
    store,
    hasUser: hasUserNamespace(settings, caller),
    readonly: ephemeral!.readonly,
    furnished: [...tmp === undefined ? [] : ["/tmp"], ...proc ? ["/proc"] : []],
  });
  return { planner, layout: planner.plan() };
}

function lookOf(mounts: Look["mounts"], { uid, gid }: Caller): Look {
  const status = (path: string): FileStatus | undefined => statuses(AT_FDCWD, [bytePath(path)], OPTION)[0];
  return {
    mounts,
    entries(path: string): readonly Entry[] | undefined {
      const found = names(AT_FDCWD, bytePath(path), OPTION);
      if (found === undefined) return undefined;
      const found_statuses = statuses(AT_FDCWD, found.map((name) => `${bytePath(path)}/${name}`), OPTION);
      return found.flatMap((name, index) => {
        const type = found_statuses[index]?.type;
        if (type === undefined) return [];
        const known = type === "file" || type === "directory" || type === "symlink";
        return [{ name: shownPath(name), type: known ? type : "other" }];
      });
    },
    isFolder(path: string): boolean | undefined {
      const found = status(path);
      return found && found.type === "directory";
    },
    link: (path: string): string => shownPath(links(AT_FDCWD, [bytePath(path)], OPTION)[0]!),
    isWritable: (path: string): boolean => facts.allows(path, "write"),
    isOwn(path: string): boolean {
      const found = status(path);
      return found?.uid === uid && found.gid === gid;
    },
  };
}

/** The settings of the `mount`th command on a view. */
function withView(settings: Settings, { root, mounts, places, last }: Layout, mount: number): Settings {
  const view = viewSettings(root, [...mounts, ...places, ...last])!;
  const forMount = (layers: LayerSettings): LayerSettings => {
    if (typeof layers.upper !== "object") return layers;
    const { path, work } = layers.upper;
    return { ...layers, upper: { path, work: workOf(work, mount) }, volatile: true };
  };
  const ours = view.mounts.map((one) => one.type === "overlay" ? { ...one, layers: forMount(one.layers) } : one);
  const shown = typeof view.root === "object" && "overlay" in view.root
    ? { overlay: forMount(view.root.overlay) }
    : view.root;
  const asked = settings.view?.mounts ?? [];
  return { ...settings, view: { root: shown, mounts: [...ours, ...asked], ephemeral: ours.length } };
}

/** Makes what is to be in the store. */
function make(made: readonly Made[], hasUser: boolean, withheld: Map<string, Set<string>>): void {
  const likes = statuses(AT_FDCWD, made.map(({ like }) => bytePath(like ?? "/")), OPTION);
  const steps: Step[] = [];
  const permissions: Step[] = [];
  for (const [index, { type, path, like, to }] of made.entries()) {
    const why = { what: `make ${JSON.stringify(path)}`, option: OPTION };
    if (type === "symlink") steps.push({ call: "symlinkat", args: [to!, AT_FDCWD, path], ...why });
    else if (type === "file") steps.push({ call: "mknodat", args: [AT_FDCWD, path, mode(0o100444)], ...why });
    else steps.push({ call: "mkdirat", args: [AT_FDCWD, path, mode(0o700)], ...why });
    if (like === undefined || likes[index] === undefined) continue;
    const { uid, gid, mode: all } = likes[index];
    if (!hasUser) steps.push({ call: "fchownat", args: [AT_FDCWD, path, uid, gid, 0], ...why });
    // In a user namespace it belongs to the caller, which would make it writable.
    const kept = hasUser && !facts.allows(like, "write") ? 0o5555 : 0o7777;
    permissions.push({ call: "fchmodat", args: [AT_FDCWD, path, mode(all & kept)], ...why });
  }
  executeAll(steps);
  giveAttributes(made, withheld);
  executeAll(permissions.reverse()); // They may forbid to make what is in a folder.
}

/**
 * Access control lists, and what else somebody has set: those of what a folder is like, and none that it got from the one it
 * is in. What the file system of the store knows nothing of, or has no room for, is withheld.
 */
function giveAttributes(made: readonly Made[], withheld: Map<string, Set<string>>): void {
  const folders = made.filter(({ type }) => type === "directory");
  const alike = folders.flatMap(({ path, like }) => like === undefined ? [] : [{ path, like }]);
  const root = openFolder("/", OPTION);
  try {
    const from = (paths: readonly string[]) => attributesOf(root, paths.map((path) => bytePath(path.slice(1))));
    const given = from(alike.map(({ like }) => like));
    const wanted = new Map(alike.map(({ path }, index) => [path, setOnPurpose(given[index]!)]));
    for (const [index, present] of from(folders.map(({ path }) => path)).entries()) {
      const { path } = folders[index]!;
      const attributes: Attributes = wanted.get(path) ?? new Map();
      if (attributes.size + setOnPurpose(present).size === 0) continue;
      const folder = openFolder(bytePath(path), OPTION);
      try {
        const why = { what: `set attributes of ${JSON.stringify(path)}`, option: OPTION };
        executeSteps(setAttributes(folder, new Map(), why, present));
        for (const [name, value] of attributes) {
          const [step] = setAttributes(folder, new Map([[name, value]]), why) as [Step];
          const [result] = executeSteps([{ ...step, tolerate: [["EOPNOTSUPP", 0], ["ENOSPC", 0], ["E2BIG", 0]] }]);
          if (result! < 0) withheld.set(path, (withheld.get(path) ?? new Set()).add(name));
        }
      } finally {
        library().close(folder);
      }
    }
  } finally {
    library().close(root);
  }
}

function executeAll(steps: readonly Step[]): void {
  for (let at = 0; at < steps.length; at += STEPS_MAX) executeSteps(steps.slice(at, at + STEPS_MAX));
}

const STEPS_MAX = 1000;

function mode(value: number): Named {
  return { value, name: `0${value.toString(8)}` };
}

/** Removes the store when it is told to, and when this process has ended. */
class Remover {
  readonly #pidfd: number;
  readonly #stdin: number;

  constructor(store: string) {
    const shim = library();
    const [read, write] = makePipe(1);
    try {
      const outcome = shim.spawn(removerPlan(store, read));
      if ("step" in outcome) throw stepError(outcome.step, outcome.errno, outcome.section);
      this.#pidfd = outcome.pidfd;
      this.#stdin = write;
    } catch (error) {
      shim.close(write);
      throw error;
    } finally {
      shim.close(read);
    }
  }

  async remove(): Promise<void> {
    const shim = library();
    reactor.open(false);
    shim.close(this.#stdin);
    await reactor.ended(this.#pidfd, new Interest());
    shim.close(this.#pidfd);
  }

  removeSync(): void {
    const shim = library();
    shim.close(this.#stdin);
    shim.wait(this.#pidfd);
    shim.close(this.#pidfd);
  }
}

/**
 * Removes the store, and what a commit that was cut off has left outside: the journal has its paths, each with a NUL after
 * it. What an overlay leaves in its work folder, and commands anywhere, may be folders that their owner cannot read. What
 * somebody has mounted there meanwhile is not removed.
 */
const REMOVE = `
here=; rm -f --one-file-system 2>/dev/null && here=--one-file-system
remove() {
  [ $# = 0 ] || { [ "$here" ] && rm -rf $here -- "$@" 2>/dev/null; } ||
    { find "$@" -xdev -type d ! -perm -700 -exec chmod u+rwx {} \\;;
      find "$@" -xdev -depth ! -type d -exec rm -f {} +; find "$@" -xdev -depth -type d -exec rmdir {} +; }
}
if [ "$0" = remove ]; then
  for path; do
    shift
    case \${path##*/} in ${OTHER_NAME}*) set -- "$@" "$path";; esac
  done
  remove "$@"
else
  read -r _
  if [ -e "$1/journal" ]; then xargs -0 -n 100 sh -c "$2" remove <"$1/journal"; fi
  remove "$1"
fi`;

function removerPlan(store: string, stdin: number): Plan {
  const program = {
    command: "/bin/sh",
    args: ["-c", REMOVE, "sh", store, REMOVE],
    argv0: undefined,
    environment: new TextEncoder().encode("PATH=/usr/bin:/bin\0"),
  };
  const session: Step = { call: "setsid", args: [], what: "begin a session, apart from the terminal", option: OPTION };
  return {
    cloneFlags: { value: 0, name: "0" },
    cloneOption: OPTION,
    parent: [],
    child: [
      ...connectStdio([stdin, "null", "null"]),
      session,
      enterFolder("/"),
      ...CLOSE_THE_REST,
      UNBLOCK_SIGNALS,
      ...execute(program),
    ],
  };
}
