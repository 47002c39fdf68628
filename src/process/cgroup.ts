/**
 * A command's own cgroup, from before its clone until it is gone.
 *
 * @module
 */

import { errnoNumber } from "../abi/errno.ts";
import { cgroupFolders, type Facts } from "../diagnosis/facts.ts";
import { noCgroup } from "../diagnosis/cgroup.ts";
import { NamespaceError, stepError } from "../errors.ts";
import { facts } from "../machine/facts.ts";
import { type Ending, type Library, library, type Spawned } from "../machine/library.ts";
import type { CgroupLimit, CgroupSettings } from "../options_cgroup.ts";
import { END_SIGNAL, makeCgroup, openParent, planKeeper } from "../plan/cgroup.ts";
import type { Step } from "../plan/step.ts";
import { launcherFd } from "./init.ts";

/** What executes the steps: the shim, or a simulated one. */
export type CgroupExecutor = Pick<Library, "execute" | "spawn" | "signal" | "wait" | "close">;

/** What a command with a cgroup of its own has used, with all that it started, as far as this kernel tells. */
export interface CgroupUsage {
  /** The most bytes of memory at a time. Takes the memory controller. */
  readonly memoryPeak: number | undefined;
  /** Microseconds of CPU time. */
  readonly cpuTime: number | undefined;
  /** The most processes and threads at a time. Takes the pids controller. */
  readonly pidsPeak: number | undefined;
  /** How many processes the kernel has killed because the cgroup had no more memory. Takes the memory controller. */
  readonly oomKills: number | undefined;
}

/** Where a cgroup is to be. */
export interface Location {
  /** The folder of the one around it. */
  readonly folder: string;
  /** Controllers to be enabled there first. */
  readonly enable: readonly string[];
}

/** A cgroup that is there, and what ends it. */
export class Cgroup {
  /** Its descriptor. */
  readonly fd: number;
  /** The process that ends and removes it. */
  readonly keeper: Spawned;
  readonly #folder: string;
  readonly #name: string;
  readonly #launcher: () => number;
  readonly #shim: CgroupExecutor;
  #isGone = false;

  /** Not for users: {@linkcode makeOwnCgroup} makes them. */
  constructor(
    shim: CgroupExecutor,
    fd: number,
    keeper: Spawned,
    { folder, name, launcher }: { folder: string; name: string; launcher: () => number },
  ) {
    this.fd = fd;
    this.keeper = keeper;
    this.#folder = folder;
    this.#name = name;
    this.#launcher = launcher;
    this.#shim = shim;
  }

  /** What has been used in it so far. */
  usage(): CgroupUsage {
    const read = (file: string, key = ""): number | undefined => {
      const value = new RegExp(`^${key}(\\d+)$`, "m").exec(facts.text(`${this.#folder}/${this.#name}/${file}`) ?? "")
        ?.[1];
      return value === undefined ? undefined : Number(value);
    };
    return {
      memoryPeak: read("memory.peak"),
      cpuTime: read("cpu.stat", "usage_usec "),
      pidsPeak: read("pids.peak"),
      oomKills: read("memory.events", "oom_kill "),
    };
  }

  /** For the program that this process becomes. */
  handOver(): { readonly fd: number; readonly keeper: number } {
    return { fd: this.fd, keeper: this.keeper.pid };
  }

  /** No more children are born in it. */
  close(): void {
    this.#shim.close(this.fd);
  }

  /** Begins its end: all that is in it is killed, and it is removed. The keeper ends when that is done. */
  beginEnd(): void {
    if (!this.#isGone) this.#shim.signal(this.keeper.pidfd, END_SIGNAL.value);
  }

  /** Ends it, and waits for that in this thread. */
  end(): void {
    this.beginEnd();
    this.ended(this.#shim.wait(this.keeper.pidfd));
  }

  /** The keeper has ended and was reaped. */
  ended(ending: Ending): void {
    this.#isGone = true;
    this.#shim.close(this.keeper.pidfd);
    if ("signal" in ending) this.#endAgain();
  }

  /**
   * Somebody has killed the keeper, such as the command: another one does its work, at once, because nothing would end the
   * command with this process any more.
   */
  #endAgain(): void {
    const shim = this.#shim;
    try {
      const parent = openFolder(shim, openParent(this.#folder));
      try {
        const keeper = beginKeeper(shim, parent, this.#name, this.#launcher());
        shim.signal(keeper.pidfd, END_SIGNAL.value);
        shim.wait(keeper.pidfd);
        shim.close(keeper.pidfd);
      } finally {
        shim.close(parent);
      }
    } catch (error) {
      if (!(error instanceof NamespaceError)) throw error; // There is no process to be had: it stays.
    }
  }
}

/**
 * Makes a cgroup, with its keeper.
 *
 * @throws {NamespaceError} When the kernel refuses a step; then there is neither.
 */
export function makeOwnCgroup(
  settings: CgroupSettings,
  trace?: (line: string) => void,
  shim: CgroupExecutor = library(),
  location: Location | undefined = locate(settings, facts),
  launcher: () => number = launcherFd,
): Cgroup {
  const first = openParent(location?.folder ?? "/sys/fs/cgroup");
  if (location === undefined) throw missing(first[0]!);
  const { folder, enable } = location;
  const name = `namespace-${crypto.randomUUID()}`;
  const parent = openFolder(shim, first, trace);
  let keeper: Spawned | undefined;
  try {
    keeper = beginKeeper(shim, parent, name, launcher(), trace);
    const { steps, opened } = makeCgroup(settings, { parent, folder, name, enable });
    const outcome = shim.execute(steps, trace);
    const fd = outcome.results[steps.indexOf(opened)];
    if (!("step" in outcome)) return new Cgroup(shim, fd!, keeper, { folder, name, launcher });
    if (fd !== undefined && fd >= 0) shim.close(fd);
    throw stepError(outcome.step, outcome.errno, [...first, ...steps]);
  } catch (error) {
    if (keeper !== undefined) new Cgroup(shim, -1, keeper, { folder, name, launcher }).end();
    throw error;
  } finally {
    shim.close(parent);
  }
}

function beginKeeper(
  shim: CgroupExecutor,
  parent: number,
  name: string,
  launcher: number,
  trace?: (line: string) => void,
): Spawned {
  const started = shim.spawn(planKeeper(parent, name, launcher), trace);
  if ("step" in started) throw stepError(started.step, started.errno, started.section);
  return started;
}

/** The first step's descriptor. */
function openFolder(shim: CgroupExecutor, steps: readonly Step[], trace?: (line: string) => void): number {
  const outcome = shim.execute(steps, trace);
  const fd = outcome.results[0];
  if (!("step" in outcome)) return fd!;
  if (fd !== undefined && fd >= 0) shim.close(fd);
  throw stepError(outcome.step, outcome.errno, steps);
}

function missing({ call, what, option }: Step): NamespaceError {
  return new NamespaceError({
    errno: errnoNumber("ENOENT"),
    syscall: call,
    step: `${call}(AT_FDCWD, "/proc/self/cgroup", …)`,
    what,
    option,
    hint: noCgroup(facts),
  });
}

/**
 * Where a cgroup can be that has the controllers it needs: in this process's own, or beside that, where they are enabled
 * already. A cgroup that has processes cannot have any below it that share out what those use, and nobody else's are moved.
 * Where there is no such place it is this process's own cgroup, and the kernel says what is missing.
 */
export function locate(
  { parent, limits }: { parent: string | undefined; limits: readonly Pick<CgroupLimit, "controller">[] },
  machine: Facts,
): Location | undefined {
  const words = (folder: string, file: string): readonly string[] => {
    return (machine.text(`${folder}/${file}`) ?? "").split(/\s+/).filter((word) => word !== "");
  };
  const needed = [...new Set(limits.map(({ controller }) => controller))];
  const lacking = (folder: string, file: "cgroup.controllers" | "cgroup.subtree_control"): readonly string[] => {
    const there = words(folder, file);
    return needed.filter((controller) => !there.includes(controller));
  };
  const canEnable = (folder: string): boolean => lacking(folder, "cgroup.controllers").length === 0;
  if (parent !== undefined) {
    return { folder: parent, enable: canEnable(parent) ? lacking(parent, "cgroup.subtree_control") : [] };
  }
  const [own, around] = cgroupFolders(machine);
  if (own === undefined) return undefined;
  const enable = lacking(own, "cgroup.subtree_control");
  if (enable.length === 0) return { folder: own, enable };
  // Only the root of all has no type.
  const isRoot = !machine.allows(`${own}/cgroup.type`, "exist");
  if (canEnable(own) && (isRoot || words(own, "cgroup.procs").length === 0)) return { folder: own, enable };
  if (
    around !== undefined && lacking(around, "cgroup.subtree_control").length === 0 &&
    machine.allows(`${around}/cgroup.procs`, "write")
  ) return { folder: around, enable: [] };
  return { folder: own, enable: [] };
}
