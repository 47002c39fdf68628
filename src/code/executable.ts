/**
 * This very Deno, to be executed inside.
 *
 * What is executed knows its file by /proc/self/exe, with the mount that it was opened through. By that of the outside, the
 * code of a sandbox could change the file that everybody's Deno is executed from, where it belongs to the caller:
 * CVE-2019-5736, and chmod(2). So where the file system inside is another, the child opens it through mounts of its own,
 * which are read-only before any of it runs: see `ViewPlan.finish`.
 *
 * @module
 */

import { stepError } from "../errors.ts";
import { bytePath, execute, type FileStatus, links, shownPath, statuses } from "../machine/files.ts";
import { library } from "../machine/library.ts";
import { facts } from "../machine/facts.ts";
import type { Settings } from "../options.ts";
import type { Caller } from "../plan/caller.ts";
import { hasUserNamespace } from "../plan/child.ts";
import { AT_FDCWD, O_CLOEXEC_PATH } from "../plan/files.ts";
import type { Named, Step } from "../plan/step.ts";

/** Also where no permission leads to its file, or another file is there by now. */
const THIS = "/proc/self/exe";
const WHY = { what: "look for this Deno" };
const CLONE_THIS: Named = { value: 0o2000001 | 0x1000, name: "OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH" };
const EMPTY_PATH: Named = { value: 0x1000, name: "AT_EMPTY_PATH" };
/** struct mount_attr. */
const READ_ONLY = {
  bytes: new Uint8Array(Uint32Array.of(1, 0, 0, 0, 0, 0, 0, 0).buffer),
  name: "{attr_set=MOUNT_ATTR_RDONLY, attr_clr=0, propagation=0, userns_fd=0}",
};

/** A path, or a descriptor that is to be closed when the child has it. */
export type Executable = string | number;

/**
 * What a child executes to be this Deno.
 *
 * @throws {Deno.errors.NotSupported} When it could be changed by what it runs.
 */
export function ownExecutable(settings: Settings, caller: Caller): Executable {
  if (settings.view === undefined && settings.ephemeral === undefined) return THIS;
  const [open] = execute([{ call: "openat", args: [AT_FDCWD, THIS, O_CLOEXEC_PATH], ...WHY }]) as [number];
  try {
    const [own] = statuses(open, [""]) as [FileStatus];
    const isChangeable = caller.uid === 0 || own.uid === caller.uid || facts.allows(THIS, "write");
    if (!isChangeable) return THIS;
    const path = links(AT_FDCWD, [bytePath(THIS)])[0]!;
    const [found] = statuses(AT_FDCWD, [path]);
    if (found?.inode !== own.inode || found.fileSystem !== own.fileSystem) {
      throw new Deno.errors.NotSupported(
        `Cannot run code with a file system of its own: "${
          shownPath(path)
        }" is not the file that this Deno was executed ` +
          `from, which was replaced or removed since. Start this program again`,
      );
    }
    // Of root's capabilities the child has none outside of its user namespace.
    const isOutOfReach = hasUserNamespace(settings, caller) && !isWithinReach(path, caller);
    const canClone = caller.capabilities.has("CAP_SYS_ADMIN");
    return isOutOfReach && canClone ? readOnlyTree(open) : shownPath(path);
  } finally {
    library().close(open);
  }
}

/** Whether somebody without capabilities can enter all folders on the way. */
function isWithinReach(path: string, { uid }: Caller): boolean {
  const parts = path.split("/").slice(1, -1);
  const folders = parts.map((_, index) => `/${parts.slice(0, index + 1).join("/")}`);
  return statuses(AT_FDCWD, folders).every((folder) => {
    return folder !== undefined && (folder.mode & (folder.uid === uid ? 0o100 : 0o001)) !== 0;
  });
}

/** The file on a mount that is attached nowhere: who is inside finds no path of it. */
function readOnlyTree(open: number): number {
  const clone: Step = { call: "open_tree", args: [open, "", CLONE_THIS], ...WHY };
  const outcome = library().execute([
    clone,
    { call: "mount_setattr", args: [{ resultOf: clone }, "", EMPTY_PATH, READ_ONLY, READ_ONLY.bytes.length], ...WHY },
  ]);
  const tree = outcome.results[0];
  if (!("step" in outcome)) return tree!;
  if (tree !== undefined && tree >= 0) library().close(tree);
  throw stepError(outcome.step, outcome.errno, outcome.section);
}
