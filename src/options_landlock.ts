/**
 * Which files and ports can be used at all: the option `landlock`, and how it is checked.
 *
 * @module
 */

import { checkNames, integer, object, oneOf, shown, text, wrongType } from "./checks.ts";

/**
 * What the command can use of the file system and of TCP, whoever it is: see landlock(7). What is not named is refused,
 * root or not, with EACCES. Where one of {@linkcode read}, {@linkcode write} and {@linkcode execute} is given, all files
 * are ruled; where {@linkcode bindTcp} or {@linkcode connectTcp} is, that of TCP.
 *
 * Not ruled, by any kernel that this is for: stat(2), chmod(2), chown(2), setxattr(2), utime(2), flock(2), ioctl(2) and the
 * like, other protocols than TCP, and what is open already. {@linkcode NamespaceOptions.seccomp} can take such calls away.
 *
 * @example A program that reads what is below /usr and /etc, and connects to one port
 * ```ts
 * import { Namespace } from "@sys-linux/namespace";
 * import { assertEquals } from "@std/assert";
 *
 * const ns = new Namespace({
 *   landlock: { execute: ["/usr", "/bin", "/lib"], read: ["/etc"], connectTcp: [443] },
 * });
 * assertEquals((await ns.command("cat", { args: ["/etc/passwd"], stdout: "null" }).output()).code, 0);
 * assertEquals((await ns.command("ls", { args: ["/var"], stderr: "null" }).output()).success, false);
 * ```
 */
export interface LandlockOptions {
  /** Files that can be read, and folders whose files can, with all below. Paths as seen inside, from / on. */
  read?: string[] | undefined;
  /**
   * Files that can be written and truncated, and folders in which files, folders, links, sockets and pipes can besides be
   * made, renamed and removed, with all below. To read them is another thing: name them in {@linkcode read} as well.
   */
  write?: string[] | undefined;
  /**
   * Files that can be executed and read, and folders whose files can, with all below. The command has to be among them, and
   * what it is loaded by: `/usr`, `/bin` and `/lib` on most systems.
   */
  execute?: string[] | undefined;
  /** TCP ports that sockets can be bound to; with `[]` none. 0 stands for those that the kernel chooses. */
  bindTcp?: number[] | undefined;
  /** TCP ports that can be connected to, anywhere; with `[]` none. UDP and other protocols are not ruled. */
  connectTcp?: number[] | undefined;
  /**
   * What to do where the kernel cannot rule this: refuse to run the command, or run it all the same, without. Files take
   * Linux 6.2, TCP takes 6.7.
   *
   * @default {"error"}
   */
  ifMissing?: "error" | "skip" | undefined;
}

/** The option, checked. */
export interface LandlockSettings {
  /** Which rights on files each path gives; undefined where files are not ruled. */
  readonly paths: readonly (readonly [path: string, rights: number])[] | undefined;
  /** Which rights of TCP are ruled. */
  readonly tcp: number;
  /** Which of them each port gives. */
  readonly ports: readonly (readonly [port: number, rights: number])[];
  readonly isOptional: boolean;
}

const EXECUTE = 1 << 0;
const WRITE_FILE = 1 << 1;
const READ_FILE = 1 << 2;
const READ_FOLDER = 1 << 3;
const MAKE_CHAR = 1 << 6;
const MAKE_BLOCK = 1 << 11;
const TRUNCATE = 1 << 14;
/** LANDLOCK_ACCESS_FS_*, all that there are since Linux 6.2. */
export const FILE_RIGHTS = 2 ** 15 - 1;
/** Those that a file can have that is no folder. */
export const RIGHTS_OF_FILES: number = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE;
/** LANDLOCK_ACCESS_NET_BIND_TCP */
const BIND = 1;
/** LANDLOCK_ACCESS_NET_CONNECT_TCP */
const CONNECT = 2;

const READ = READ_FILE | READ_FOLDER;
/** What each list gives. Device files are made by nobody. */
const LISTS = [
  ["read", READ],
  ["write", FILE_RIGHTS & ~(READ | EXECUTE | MAKE_CHAR | MAKE_BLOCK)],
  ["execute", READ | EXECUTE],
] as const;
const PORT_LISTS = [["bindTcp", BIND], ["connectTcp", CONNECT]] as const;
const PORT_MAX = 65535;

/**
 * Checks the option.
 *
 * @throws {TypeError} When it has the wrong type, rules nothing, or has a path that does not begin at /.
 * @throws {RangeError} When there can be no such port.
 */
export function landlockSettings(value: unknown): LandlockSettings | undefined {
  if (value === undefined) return undefined;
  const given: LandlockOptions = object(value, "landlock", `an object such as { read: ["/usr"] }`);
  checkNames(given, [...LISTS.map(([name]) => name), ...PORT_LISTS.map(([name]) => name), "ifMissing"], "landlock.");
  const paths = new Map<string, number>();
  for (const [name, rights] of LISTS) {
    for (const [index, path] of list(given[name], `landlock.${name}`, `["/usr"]`).entries()) {
      const checked = absolute(path, `landlock.${name}[${index}]`);
      paths.set(checked, (paths.get(checked) ?? 0) | rights);
    }
  }
  const ports = new Map<number, number>();
  for (const [name, right] of PORT_LISTS) {
    for (const [index, port] of list(given[name], `landlock.${name}`, "[443]").entries()) {
      const checked = integer(port, `landlock.${name}[${index}]`, 0, PORT_MAX, "a port");
      ports.set(checked, (ports.get(checked) ?? 0) | right);
    }
  }
  const rulesFiles = LISTS.some(([name]) => given[name] !== undefined);
  const tcp = PORT_LISTS.reduce((all, [name, right]) => given[name] === undefined ? all : all | right, 0);
  if (!rulesFiles && tcp === 0) {
    throw new TypeError(
      `Option "landlock" must have one of "read", "write", "execute", "bindTcp" and "connectTcp": it rules nothing`,
    );
  }
  return {
    paths: rulesFiles ? [...paths] : undefined,
    tcp,
    ports: [...ports],
    isOptional: oneOf(given.ifMissing ?? "error", "landlock.ifMissing", ["error", "skip"]) === "skip",
  };
}

function list(value: unknown, name: string, example: string): readonly unknown[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw wrongType(name, `an array such as ${example}`, value);
  return value;
}

function absolute(value: unknown, name: string): string {
  const path = text(value, name);
  if (path.startsWith("/")) return path;
  throw new TypeError(`Option "${name}" must be a path that begins at /: got ${shown(path)}`);
}
