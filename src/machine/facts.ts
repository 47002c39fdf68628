/**
 * Looks at the machine, for a diagnosis and for maps of subordinate ids: through the shim, because with `--allow-ffi` alone
 * Deno reads no file.
 *
 * @module
 */

import { type Facts, type Place, subordinateRanges } from "../diagnosis/facts.ts";
import type { Settings } from "../options.ts";
import type { KnownCaller } from "../plan/caller.ts";
import { AT_FDCWD, O_CLOEXEC_PATH } from "../plan/files.ts";
import type { Named, Step } from "../plan/step.ts";
import { isAuto, withRanges } from "../plan/user.ts";
import { library } from "./library.ts";

/** So that neither a FIFO nor a terminal can do anything to who only looks. */
const O_LOOK: Named = { value: 0o2004400, name: "O_RDONLY|O_NOCTTY|O_NONBLOCK|O_CLOEXEC" };
const ACCESS = { exist: 0, execute: 1, write: 2, read: 4 } as const;

const HEAD_SIZE = 4096;
/** More than any file that is asked for, but mountinfo where there are thousands of mounts. */
const TEXT_SIZE_MAX = 1 << 20;

/** This machine and this process at this moment. */
export const facts: Facts = {
  architecture: Deno.build.arch,
  get executable(): string | undefined {
    try {
      return Deno.execPath();
    } catch {
      return undefined;
    }
  },
  pid: Deno.pid,
  text(path: string): string | undefined {
    const bytes = read(path, TEXT_SIZE_MAX);
    return bytes === undefined ? undefined : new TextDecoder().decode(bytes);
  },
  head: (path: string): Uint8Array | undefined => read(path, HEAD_SIZE),
  place(path: string): Place | undefined {
    const fd = perform({ call: "openat", args: [AT_FDCWD, path, O_CLOEXEC_PATH], what: `look at "${path}"` });
    if (fd < 0) return undefined;
    try {
      const info = this.text(`/proc/thread-self/fdinfo/${fd}`) ?? "";
      const number = (name: string): number => Number(new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(info)?.[1]);
      const [mount, inode] = [number("mnt_id"), number("ino")]; // The second since Linux 5.14.
      return Number.isNaN(inode) ? undefined : { mount, inode };
    } finally {
      library().close(fd);
    }
  },
  allows(path: string, access: keyof typeof ACCESS): boolean {
    return perform({ call: "faccessat", args: [AT_FDCWD, path, ACCESS[access]], what: `look at "${path}"` }) === 0;
  },
};

/** The last settings whose subordinate ids were looked up: the same for the same caller, so that plans are, too. */
const settled = new WeakMap<Settings, { readonly uid: number; readonly gid: number; readonly settings: Settings }>();

/**
 * Settings with the subordinate ids of a caller in its maps, where they are to have them.
 *
 * @throws {Deno.errors.NotSupported} When the caller has none.
 */
export function withSubordinateIds(settings: Settings, { uid, gid }: Pick<KnownCaller, "uid" | "gid">): Settings {
  if (!isAuto(settings)) return settings;
  const known = settled.get(settings);
  if (known?.uid === uid && known.gid === gid) return known.settings;
  const found = withRanges(settings, (kind) => {
    const file = `/etc/sub${kind}` as const;
    const subordinate = subordinateRanges(facts, file, uid);
    if (subordinate.length > 0) return { own: kind === "uid" ? uid : gid, subordinate };
    throw new Deno.errors.NotSupported(
      `Cannot have "auto" for "privateUser.${kind}Map": ${file} has no range of ids for user ${uid}. Give it one that nobody ` +
        `else has, as root: usermod --add-sub${kind}s 100000-165535 USER. Or give "privateUser.${kind}Map" the ids`,
    );
  });
  settled.set(settings, { uid, gid, settings: found });
  return found;
}

/** A call's result, or minus its errno. */
export function perform(step: Step): number {
  const outcome = library().execute([step]);
  return "step" in outcome ? -outcome.errno : outcome.results[0]!;
}

function read(path: string, sizeMax: number): Uint8Array | undefined {
  const fd = perform({ call: "openat", args: [AT_FDCWD, path, O_LOOK], what: `look at "${path}"` });
  if (fd < 0) return undefined;
  try {
    let buffer = new Uint8Array(HEAD_SIZE);
    let size = 0;
    while (size < sizeMax) {
      if (size === buffer.length) {
        const larger = new Uint8Array(size * 4);
        larger.set(buffer);
        buffer = larger;
      }
      const count = library().read(fd, buffer.subarray(size));
      if (count < 0) return undefined;
      if (count === 0) break;
      size += count;
    }
    return buffer.subarray(0, size);
  } finally {
    library().close(fd);
  }
}
