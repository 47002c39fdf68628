/**
 * Facts about processes and namespaces, read from /proc.
 *
 * @module
 */

/** The files of /proc/self/ns that have a namespace of the process itself. */
export const NAMESPACE_FILES = ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"] as const;

/** One of {@linkcode NAMESPACE_FILES}. */
export type NamespaceFile = typeof NAMESPACE_FILES[number];

/** The arguments of readlink(1) that print all namespaces of the process that it runs in, a line each. */
export const READ_NAMESPACES: readonly string[] = NAMESPACE_FILES.map((name) => `/proc/self/ns/${name}`);

/** Which lines that readlink(1) printed differ from the namespaces of this process. */
export function differentNamespaces(printed: string): NamespaceFile[] {
  const lines = printed.trim().split("\n");
  if (lines.length !== NAMESPACE_FILES.length) throw new Error(`Not a line for each namespace: ${printed}`);
  return NAMESPACE_FILES.filter((name, index) => Deno.readLinkSync(`/proc/self/ns/${name}`) !== lines[index]);
}

/** How many mounts there are on a folder, in the format of /proc/self/mounts. */
export function countMounts(mounts: string, folder: string): number {
  return mounts.split("\n").filter((line) => line.split(" ")[1] === folder).length;
}

/** The value of a line of /proc/<pid>/status; undefined when there is no such process. */
export function statusField(pid: number | "self", name: string): string | undefined {
  try {
    const line = Deno.readTextFileSync(`/proc/${pid}/status`).split("\n").find((line) => line.startsWith(`${name}:`));
    return line?.slice(name.length + 1).trim();
  } catch {
    return undefined; // ENOENT, or ESRCH where it ended between open and read.
  }
}

/** Whether there is such a process; a zombie is none that could still do anything. */
export function isRunning(pid: number): boolean {
  const state = statusField(pid, "State");
  return state !== undefined && !state.startsWith("Z") && !state.startsWith("X");
}

/**
 * Looks again and again until a condition holds.
 *
 * @param what Says in the error what did not come about.
 * @param condition Is asked every few milliseconds.
 * @param limitMs How long to look.
 * @throws {Error} When it does not hold in that time.
 */
export async function until(what: string, condition: () => boolean, limitMs = 20_000): Promise<void> {
  for (const end = performance.now() + limitMs; !condition();) {
    if (performance.now() > end) throw new Error(`Not within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Reads a stream up to the first newline, and gives the rest back to later readers by releasing the lock. */
export async function readLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    while (!text.includes("\n")) {
      const { value, done } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
  } finally {
    reader.releaseLock();
  }
  return text.trimEnd();
}
