/**
 * How this process was started. Deno tells nobody, and to read it here takes no permission but `--allow-ffi`.
 *
 * @module
 */

import { AT_FDCWD, O_CLOEXEC_RDONLY } from "../plan/files.ts";
import { library } from "./library.ts";

/** This process's own command line: see proc_pid_cmdline(5). Undefined where there is no /proc, or it is another's. */
export function commandLine(): readonly string[] | undefined {
  const path = "/proc/self/cmdline";
  const opened = library().execute([{
    call: "openat",
    args: [AT_FDCWD, path, O_CLOEXEC_RDONLY],
    what: `open ${path}`,
  }]);
  if ("step" in opened) return undefined;
  const fd = opened.results[0]!;
  const text = new TextDecoder().decode(readAll(fd));
  library().close(fd);
  return text.split("\0").slice(0, -1);
}

/** All that can be read from a descriptor that does not block. */
export function readAll(fd: number): Uint8Array {
  let bytes = new Uint8Array(16 * 1024);
  let size = 0;
  while (true) {
    const count = library().read(fd, bytes.subarray(size));
    if (count <= 0) return bytes.subarray(0, size);
    size += count;
    if (size < bytes.length) continue;
    const larger = new Uint8Array(size * 2);
    larger.set(bytes);
    bytes = larger;
  }
}
