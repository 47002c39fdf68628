/**
 * Permissions that keep even the owner of files out, lifted for a while: a command may have made a folder that nobody can
 * look into, or a file that nobody can read. For root nothing has to be lifted, and what is not ours cannot be.
 *
 * @module
 */

import { NamespaceError } from "../errors.ts";
import { type BytePath, bytePath, execute, type FileStatus, type From, openStep, statuses } from "../machine/files.ts";
import { library } from "../machine/library.ts";
import { AT_FDCWD, O_CLOEXEC_PATH } from "../plan/files.ts";

const OPTION = "ephemeral";
const PERMISSIONS = 0o7777;
/** What its owner needs to look into a folder, and to read a file. */
const TO_READ = { directory: 0o500, file: 0o400 } as const;
/** What its owner needs to put something into a folder, and to take it out. */
const TO_CHANGE = 0o700;

/** What was lifted, and is to be as before. */
interface Lifted {
  /** From this folder, which is a path. */
  readonly from: BytePath | undefined;
  readonly place: BytePath;
  readonly mode: number;
  readonly now: number;
}

/** Whether its owner cannot read something. */
export function isClosed({ type, mode }: Pick<FileStatus, "type" | "mode">): boolean {
  return (type === "directory" || type === "file") && (mode & TO_READ[type]) !== TO_READ[type];
}

/** What is lifted until {@linkcode restore}. */
export class Access {
  readonly #lifted: Lifted[] = [];

  /**
   * Lets its owner read something of a layer: `name` is what it is called in a folder that is open as `from`, `place` where
   * it is in the folder `upper`; "" is that folder itself.
   */
  toRead(upper: string, from: From, name: BytePath, { type, mode }: FileStatus, place: BytePath = name): void {
    if (type === "directory" || type === "file") this.#lift(bytePath(upper), from, name, mode, TO_READ[type], place);
  }

  /** Lets its owner change what is in a folder outside; says whether anything had to be lifted for that. */
  toChange(folder: BytePath): boolean {
    const [status] = statuses(AT_FDCWD, [folder], OPTION);
    return status !== undefined && this.#lift(undefined, AT_FDCWD, folder, status.mode, TO_CHANGE, folder);
  }

  /** The same of an open one, for good: it is to be removed. */
  static toRemove(folder: number, { mode }: FileStatus): void {
    if ((mode & TO_CHANGE) !== TO_CHANGE) canSet(folder, "", (mode & PERMISSIONS) | TO_CHANGE);
  }

  /** A folder outside is given other permissions for good. */
  forget(folder: BytePath): void {
    const at = this.#lifted.findIndex(({ from, place }) => from === undefined && place === folder);
    if (at >= 0) this.#lifted.splice(at, 1);
  }

  /** What was last lifted is in what was lifted before. */
  restore(): void {
    for (const { from, place, mode, now } of this.#lifted.splice(0).reverse()) {
      try {
        const [folder] = from === undefined ? [undefined] : execute([open(AT_FDCWD, from)]);
        try {
          const [status] = statuses(folder ?? AT_FDCWD, [place], OPTION);
          if (status !== undefined && (status.mode & PERMISSIONS) === now) {
            setPermissions(folder ?? AT_FDCWD, place, mode);
          }
        } finally {
          if (folder !== undefined) library().close(folder);
        }
      } catch (error) {
        if (!(error instanceof NamespaceError)) throw error; // It is gone, or something else by now.
      }
    }
  }

  #lift(
    from: BytePath | undefined,
    at: From,
    name: BytePath,
    mode: number,
    needed: number,
    place: BytePath,
  ): boolean {
    if ((mode & needed) === needed) return false;
    const now = (mode & PERMISSIONS) | needed;
    if (!canSet(at, name, now)) return false;
    this.#lifted.push({ from, place, mode: mode & PERMISSIONS, now });
    return true;
  }
}

function open(from: From, path: BytePath): ReturnType<typeof openStep> {
  return openStep(from, path, O_CLOEXEC_PATH, { what: "open what has other permissions for a while", option: OPTION });
}

/** Sets permissions, and says whether it could: of what is somebody else's, what needs them says so. */
function canSet(from: From, place: BytePath, mode: number): boolean {
  try {
    setPermissions(from, place, mode);
    return true;
  } catch (error) {
    if (error instanceof NamespaceError) return false;
    throw error;
  }
}

/** Through no symbolic link, which chmod(2) would follow. */
function setPermissions(from: From, place: BytePath, mode: number): void {
  const what = "lift permissions for a while";
  const fd = place === "" ? from : execute([open(from, place)])[0]!;
  try {
    const args = [AT_FDCWD, `/proc/self/fd/${fd}`, { value: mode, name: `0${mode.toString(8)}` }];
    execute([{ call: "fchmodat", args, what, option: OPTION }]);
  } finally {
    if (fd !== from) library().close(fd as number);
  }
}
