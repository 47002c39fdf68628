/**
 * Tests after which nothing may be left: no child, no zombie, no mount, no file descriptor.
 *
 * @module
 */

import { Namespace } from "../../mod.ts";

// What is there for good is there before the first test: the shim, Deno's signal handling, its child watcher.
new Namespace().command("/bin/true").outputSync();
await new Namespace().command("/bin/true").output();
await new Deno.Command("/bin/true").output();

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

/** Says how what is held now differs from what was, or undefined. */
function difference(before: Holdings): string | undefined {
  const now = holdings();
  if (now.children.join() !== before.children.join()) {
    return `children: before ${before.children.join(", ") || "none"}; now ${now.children.join(", ") || "none"}`;
  }
  if (now.mounts !== before.mounts) return `mounts: before\n${before.mounts}now\n${now.mounts}`;
  const extra = now.fds.filter((target) => !before.fds.includes(target));
  const lost = before.fds.filter((target) => !now.fds.includes(target));
  if (now.fds.length > before.fds.length) return `descriptors: more by ${extra.join(", ") || "another of the same"}`;
  if (now.fds.length < before.fds.length) return `descriptors: less by ${lost.join(", ")}`;
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
 * A test after which nothing may be left behind. All of them want to be started by root: they drop to nobody themselves.
 *
 * @param name The symbol and its behaviour.
 * @param fn The test.
 */
export function isolatedTest(name: string, fn: () => void | Promise<void>): void {
  Deno.test({
    name,
    ignore: Deno.uid() !== 0,
    fn: async () => {
      const before = holdings();
      try {
        await fn();
      } finally {
        // The library takes its signal listeners away once JavaScript has had its turn, and Deno's sanitizers count
        // them: after a failure too, or the next test fails as well.
        await new Promise((resolve) => setTimeout(resolve, 0));
      }
      await assertNothingLeft(before);
    },
  });
}
