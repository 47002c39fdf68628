/**
 * Which files and ports the command can use: see landlock(7).
 *
 * @module
 */

import { FILE_RIGHTS, type LandlockSettings, RIGHTS_OF_FILES } from "../options_landlock.ts";
import { AT_FDCWD, F_DUPFD_CLOEXEC, O_CLOEXEC_PATH } from "./files.ts";
import { giveUpNewPrivileges } from "./privileges.ts";
import { type Bytes, flags, type Step } from "./step.ts";

const option = "landlock";

const FILE_NAMES: ReadonlyMap<number, string> = new Map(
  ("EXECUTE WRITE_FILE READ_FILE READ_DIR REMOVE_DIR REMOVE_FILE MAKE_CHAR MAKE_DIR MAKE_REG MAKE_SOCK MAKE_FIFO " +
    "MAKE_BLOCK MAKE_SYM REFER TRUNCATE").split(" ").map((name, bit) => [1 << bit, `LANDLOCK_ACCESS_FS_${name}`]),
);
const TCP_NAMES: ReadonlyMap<number, string> = new Map([
  [1, "LANDLOCK_ACCESS_NET_BIND_TCP"],
  [2, "LANDLOCK_ACCESS_NET_CONNECT_TCP"],
]);
const PATH_BENEATH = { value: 1, name: "LANDLOCK_RULE_PATH_BENEATH" };
const NET_PORT = { value: 2, name: "LANDLOCK_RULE_NET_PORT" };
/** How a kernel says that it has no Landlock, that it is switched off, or that it is too old for what is to be ruled. */
const MISSING = ["ENOSYS", "EOPNOTSUPP", "EINVAL", "E2BIG"] as const;
/** Where `struct landlock_path_beneath_attr`, which is packed, has the descriptor. */
const FD_AT = 8;

/** Leaves the command what is named. */
export function restrict({ paths, tcp, ports, isOptional }: LandlockSettings): readonly Step[] {
  const handled = paths === undefined ? 0 : FILE_RIGHTS;
  // An older kernel refuses a larger struct, unless the rest of it is 0.
  const words = BigUint64Array.from(tcp === 0 ? [handled] : [handled, tcp], BigInt);
  const parts = [`handled_access_fs=${flags(handled, FILE_NAMES).name}`];
  if (tcp !== 0) parts.push(`handled_access_net=${flags(tcp, TCP_NAMES).name}`);
  const attributes: Bytes = { bytes: new Uint8Array(words.buffer), name: `{${parts.join(", ")}}` };
  const create = { call: "landlock_create_ruleset", args: [attributes, attributes.bytes.length, 0] } as const;
  const what = "begin rules for files and ports";
  const ruleset: Step = { ...create, what, option };
  const rules = (ruleset: Step): readonly Step[] => [
    ...(paths ?? []).flatMap(([path, rights]) => allowPath(ruleset, path, rights)),
    ...ports.map(([port, rights]) => allowPort(ruleset, port, rights)),
    {
      call: "landlock_restrict_self",
      args: [{ resultOf: ruleset }, 0],
      what: "leave the command what the rules name",
      option,
    },
  ];
  if (!isOptional) return [giveUpNewPrivileges(option), ruleset, ...rules(ruleset)];
  const count = rules(ruleset).length;
  const tried: Step = { ...ruleset, tolerate: MISSING.map((errno) => [errno, count] as const) };
  return [giveUpNewPrivileges(option), tried, ...rules(tried)];
}

function pathRule(rights: number): Bytes {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setUint32(0, rights, true);
  return { bytes, name: `{allowed_access=${flags(rights, FILE_NAMES).name}, parent_fd=<fd>}` };
}

/** Whether a path is a folder is known only when the plan runs: to a file, the kernel refuses what only folders can have. */
function allowPath(ruleset: Step, path: string, rights: number): readonly Step[] {
  const what = `rule what can be done with "${path}"`;
  const [ofFolder, ofFile] = [pathRule(rights), pathRule(rights & RIGHTS_OF_FILES)];
  const open: Step = {
    call: "openat",
    args: [AT_FDCWD, path, O_CLOEXEC_PATH],
    what,
    option,
    stores: { in: ofFolder, at: FD_AT },
  };
  const add = { call: "landlock_add_rule", what, option } as const;
  return [
    open,
    {
      ...add,
      args: [{ resultOf: ruleset }, PATH_BENEATH, ofFolder, 0],
      tolerate: [["EINVAL", 0]],
      skip: 2,
    },
    {
      call: "fcntl",
      args: [{ resultOf: open }, F_DUPFD_CLOEXEC, 3],
      what,
      option,
      stores: { in: ofFile, at: FD_AT },
    },
    { ...add, args: [{ resultOf: ruleset }, PATH_BENEATH, ofFile, 0] },
    { call: "close", args: [{ resultOf: open }], what, option },
  ];
}

function allowPort(ruleset: Step, port: number, rights: number): Step {
  const words = BigUint64Array.of(BigInt(rights), BigInt(port));
  const name = `{allowed_access=${flags(rights, TCP_NAMES).name}, port=${port}}`;
  return {
    call: "landlock_add_rule",
    args: [{ resultOf: ruleset }, NET_PORT, { bytes: new Uint8Array(words.buffer), name }, 0],
    what: `rule what can be done with port ${port}`,
    option,
  };
}
