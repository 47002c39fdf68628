/**
 * Tests after which nothing may be left: no child, no zombie, no mount, no file descriptor.
 *
 * @module
 */

import { Namespace } from "../../mod.ts";
import "./load.ts";

/** How long what was ended may take to go. Deno closes a Worker's descriptors some time after it has ended. */
const PATIENCE_MS = 2_000;

/** What a process can leave behind. */
interface Holdings {
  /** Pids, with what they are. */
  readonly children: readonly string[];
  readonly mounts: string;
  /** Descriptors by what they refer to, without their numbers. */
  readonly fds: readonly string[];
}

/** What this process holds now. Descriptors that only this look at them needs are not among it. */
export function holdings(): Holdings {
  return {
    children: children().map((pid) => `${pid} ${nameOf(pid)}`),
    mounts: Deno.readTextFileSync("/proc/self/mountinfo"),
    fds: fileDescriptors(),
  };
}

/** The pids of this process's children, zombies among them, whichever thread cloned them. */
export function children(): number[] {
  const pids: number[] = [];
  for (const { name } of Deno.readDirSync("/proc/self/task")) {
    try {
      const list = Deno.readTextFileSync(`/proc/self/task/${name}/children`);
      pids.push(...list.split(" ").filter((pid) => pid.trim() !== "").map(Number));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // The thread has ended, its children have moved on.
    }
  }
  return pids.sort((a, b) => a - b);
}

function nameOf(pid: number): string {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/stat`).split(" ").slice(1, 3).join(" ");
  } catch {
    return "(gone)";
  }
}

/** What this process's descriptors refer to, sorted. */
export function fileDescriptors(): string[] {
  const targets: string[] = [];
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      const target = Deno.readLinkSync(`/proc/self/fd/${name}`);
      if (target !== `/proc/${Deno.pid}/fd`) targets.push(target);
    } catch {
      // That was the descriptor of the listing itself.
    }
  }
  return targets.sort();
}

/** What is in one list more often than in the other. */
function without(list: readonly string[], other: readonly string[]): string[] {
  const left = [...other];
  return list.filter((entry) => {
    const index = left.indexOf(entry);
    if (index >= 0) left.splice(index, 1);
    return index < 0;
  });
}

/** Says how what is held now differs from what was, or undefined. */
function difference(before: Holdings): string | undefined {
  const now = holdings();
  if (now.children.join() !== before.children.join()) {
    return `children: before ${before.children.join(", ") || "none"}; now ${now.children.join(", ") || "none"}`;
  }
  if (now.mounts !== before.mounts) return `mounts: before\n${before.mounts}now\n${now.mounts}`;
  if (now.fds.length > before.fds.length) return `descriptors: more by ${without(now.fds, before.fds).join(", ")}`;
  // Deno closes the sockets behind its signal listeners, and a Worker's, some time after they have ended.
  const gone = without(before.fds, now.fds).filter((target) => !target.startsWith("socket:"));
  if (now.fds.length < before.fds.length && gone.length > 0) return `descriptors: less by ${gone.join(", ")}`;
  return undefined;
}

/**
 * Throws when this process holds anything else than it did.
 *
 * @param before What {@linkcode holdings} said then.
 * @throws {Error} When something is left behind, or something was closed that is not the library's.
 */
export async function assertNothingLeft(before: Holdings): Promise<void> {
  let found = difference(before);
  for (const end = performance.now() + PATIENCE_MS; found !== undefined && performance.now() < end;) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    found = difference(before);
  }
  if (found !== undefined) throw new Error(`Left behind: ${found}`);
}

/**
 * Lets JavaScript have its turn: only then the library takes its signal listeners away, and only in another one Deno
 * ends the operations behind them, which its sanitizers count.
 */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setTimeout(resolve, 0));
}

/**
 * A test after which nothing may be left behind. All of them want to be started by root: they drop to nobody themselves.
 *
 * @param name The symbol and its behaviour.
 * @param fn The test.
 * @param lack What it needs and this kernel is without: `lacking()` of kernel.ts says it.
 */
export function isolatedTest(name: string, fn: () => void | Promise<void>, lack?: string): void {
  Deno.test({
    name: lack === undefined ? name : `${name} (this kernel is without ${lack})`,
    ignore: Deno.uid() !== 0 || lack !== undefined,
    fn: async () => {
      const before = holdings();
      try {
        await fn();
      } finally {
        await settled(); // After a failure too, or the next test fails as well.
      }
      await assertNothingLeft(before);
      await settled();
    },
  });
}

// What is there for good is there before the first test: the shim, Deno's signal handling, its child watcher.
await new Deno.Command("/bin/true").output();
const ignored = (): void => {};
Deno.addSignalListener("SIGCHLD", ignored);
Deno.removeSignalListener("SIGCHLD", ignored);
new Namespace({ init: true }).command("/bin/true").outputSync();
{
  const before = holdings();
  await new Namespace().command("/bin/true").output();
  await assertNothingLeft(before);
  await settled();
}
