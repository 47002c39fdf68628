/**
 * The maps of a user namespace: see user_namespaces(7).
 *
 * @module
 */

import type { AutoMap, IdRange, Settings, UserSettings } from "../options.ts";
import { ID_MAX } from "../checks.ts";
import { ANYBODY, type Caller } from "./caller.ts";
import { AT_FDCWD, O_CLOEXEC_PATH, O_CLOEXEC_WRONLY, O_RDWR } from "./files.ts";
import { CLOSE_THE_REST } from "./stdio.ts";
import { type Bytes, type Named, type Slot, SLOT_SIZE, type Step, type Strings } from "./step.ts";

const utf8 = new TextEncoder();

type Id = Caller["uid"];
/** A line of a map; its ids may be those of whoever runs the plan. */
type Line = Readonly<Record<"inside" | "outside", Id>> & Pick<IdRange, "count">;

/**
 * The maps that settings come to for a caller.
 *
 * @throws {TypeError} When they have subordinate ids in them that were not looked up: see {@linkcode withRanges}.
 */
function userMaps(user: UserSettings, caller: Caller): Readonly<Record<"uidMap" | "gidMap", readonly Line[]>> {
  if ("uidMap" in user) return { uidMap: known(user.uidMap, "uidMap"), gidMap: known(user.gidMap, "gidMap") };
  const own = (inside: number | "self", outside: Id) => [{
    inside: inside === "self" ? outside : inside,
    outside,
    count: 1,
  }];
  return { uidMap: own(user.ids.uid, caller.uid), gidMap: own(user.ids.gid, caller.gid) };
}

function known(map: readonly IdRange[] | AutoMap, name: string): readonly IdRange[] {
  if (!("inside" in map)) return map;
  throw new TypeError(
    `Option "privateUser.${name}" cannot be "auto" in what is built: whose ids they are is known where it is run. Give it the ids`,
  );
}

/** Who the caller is inside, which {@linkcode stayMapped} sees to; `ANYBODY` where that is known only when the plan runs. */
export function uidInside(user: UserSettings, { uid }: Caller): Id {
  if ("ids" in user) return user.ids.uid === "self" ? uid : user.ids.uid;
  if (uid === ANYBODY) return ANYBODY;
  return known(user.uidMap, "uidMap").map((line) => insideOf(line, uid)).find((id) => id !== undefined)!;
}

/** Its ids, and the calls for them. */
const KINDS = [["uid", "user", "geteuid", "setresuid"], ["gid", "group", "getegid", "setresgid"]] as const;

/**
 * Refuses maps that leave the caller out, where the command is to stay who it is: it would be the caller to all that is
 * outside, with its files, and look like nobody.
 *
 * @returns Steps that refuse it, where the caller is known only when the plan runs.
 * @throws {TypeError} When the caller is known.
 */
export function stayMapped(
  user: UserSettings,
  caller: Caller,
  given: Readonly<Record<"uid" | "gid", number | undefined>>,
): readonly Step[] {
  if (!("uidMap" in user)) return [];
  return KINDS.flatMap(([kind, word, get, set]): readonly Step[] => {
    const own = caller[kind];
    if (given[kind] !== undefined) return [];
    if (own === ANYBODY) {
      const what = `stay the ${word} that runs it`;
      const asked: Step = { call: get, args: [], what, option: "privateUser" };
      const same = { resultOf: asked }; // kernel.overflowuid: where that is mapped, it is another than the caller.
      return [asked, { call: set, args: [same, same, same], what, option: "privateUser" }];
    }
    const name = `privateUser.${kind}Map`;
    if (known(user[`${kind}Map`], `${kind}Map`).some((line) => insideOf(line, own) !== undefined)) return [];
    throw new TypeError(
      `Option "${name}" must have the caller's own id, ${own}: the command would be that ${word} outside still. ` +
        `Add { inside, outside: ${own} }, or give the command a "${kind}" of those that are mapped`,
    );
  });
}

function insideOf({ inside, outside, count }: IdRange, id: number): number | undefined {
  return id >= outside && id < outside + count ? inside + id - outside : undefined;
}

/**
 * Whether setgroups(2) must be given up inside, for good: the kernel lets nobody without CAP_SETGID write a gid map
 * otherwise, because dropping a group can be a way around "this group may not" permissions (CVE-2014-8989).
 *
 * @param user The user namespace, where there is one of our making.
 */
export function deniesSetgroups(caller: Caller, user?: UserSettings): boolean {
  if (user?.setgroups !== undefined) return user.setgroups === "deny";
  return !caller.capabilities.has("CAP_SETGID") && !(user !== undefined && needsHelper("gid", user, caller));
}

/** Whether the kernel lets only newuidmap(1) or newgidmap(1) write a map. */
function needsHelper(kind: "uid" | "gid", user: UserSettings, caller: Caller): boolean {
  if (caller.capabilities.has(kind === "uid" ? "CAP_SETUID" : "CAP_SETGID")) return false;
  const [first, ...more] = userMaps(user, caller)[`${kind}Map`];
  const own = caller[kind];
  return more.length > 0 || first!.count > 1 || (own !== ANYBODY && first!.outside !== own);
}

/** Writes the child's maps; the child waits meanwhile. `option` is what asked for the user namespace. */
export function writeUserMaps(user: UserSettings, caller: Caller, option: string | undefined): readonly Step[] {
  const { uidMap, gidMap } = userMaps(user, caller);
  const folder: Step = {
    call: "openat",
    args: [AT_FDCWD, { childFolder: true }, O_CLOEXEC_PATH],
    what: "open the child's folder in /proc",
    option,
    opens: true,
  };
  const write = (file: string, content: Bytes, what: string): readonly Step[] => {
    const open: Step = {
      call: "openat",
      args: [{ resultOf: folder }, file, O_CLOEXEC_WRONLY],
      what: `open ${file} of the user namespace`,
      option,
      opens: true,
    };
    return [open, { call: "write", args: [{ resultOf: open }, content, content.bytes.length], what, option }];
  };
  const map = (kind: "uid" | "gid", word: "user" | "group"): readonly Step[] => {
    const lines = kind === "uid" ? uidMap : gidMap;
    const what = `map ${word} ids (${mapWords(lines)})`;
    return needsHelper(kind, user, caller)
      ? mapByHelper(kind, lines as readonly IdRange[], what, option)
      : write(`${kind}_map`, mapText(lines, kind), what);
  };
  return [
    folder,
    ...(deniesSetgroups(caller, user) ? write("setgroups", DENY, "give up setgroups(2) in the user namespace") : []),
    ...map("uid", "user"),
    ...map("gid", "group"),
  ];
}

const DENY: Bytes = { bytes: utf8.encode("deny"), name: '"deny"' };

/** Where newuidmap(1) and newgidmap(1) are; the first is NixOS's, which has set-user-ID programs nowhere else. */
const FOLDERS = ["/run/wrappers/bin", "/usr/local/bin", "/usr/bin"];
const VFORK: Named = { value: 0x100 + 0x4000 + 17, name: "CLONE_VM|CLONE_VFORK|SIGCHLD" };

/**
 * Has a map written by newuidmap(1) or newgidmap(1), which are root's and do what /etc/subuid and /etc/subgid allow. It gets nothing of this process: /dev/null three times, no other
 * descriptor, no environment, and signals stay blocked.
 *
 * @param what What the map is, in words that can follow "Cannot".
 */
function mapByHelper(
  kind: Slot["kind"],
  map: readonly IdRange[],
  what: string,
  option: string | undefined,
): readonly Step[] {
  const name = `new${kind}map`;
  const why = `for ${name}`;
  const ids = map.flatMap(({ inside, outside, count }) => [inside, outside, count].map(String));
  const argv: Strings = { strings: [name, { childPid: true }, ...ids] };
  const devNull: Step = {
    call: "openat",
    args: [AT_FDCWD, "/dev/null", O_RDWR],
    what: `open /dev/null ${why}`,
    option,
  };
  const steps: Step[] = [
    devNull,
    ...[0, 1, 2].map((fd): Step => ({
      call: "dup3",
      args: [{ resultOf: devNull }, fd, 0],
      what: `make /dev/null descriptor ${fd} ${why}`,
      option,
      tolerate: [["EINVAL", 0]], // It is that one.
    })),
    ...CLOSE_THE_REST.map((step): Step => ({ ...step, what: `${step.what} ${why}`, option })),
    ...FOLDERS.map((folder, index): Step => ({
      call: "execve",
      args: [`${folder}/${name}`, argv, { strings: [] }],
      what: `execute ${name} to ${what}`,
      option,
      tolerate: index === FOLDERS.length - 1 ? [] : [["ENOENT", 0], ["ENOTDIR", 0], ["EACCES", 0]],
    })),
  ];
  return [
    { call: "clone", args: [VFORK], what: `${what} by ${name}`, option, helper: true, skip: steps.length },
    ...steps,
  ];
}

/** Ids in a row. */
export interface IdSpan {
  readonly first: number;
  readonly count: number;
}

/** The ids of a caller that are for maps that are `"auto"`. */
export interface OwnIds {
  readonly own: number;
  readonly subordinate: readonly IdSpan[];
}

/** Settings whose maps have the subordinate ids in them, where they are to have. */
export function withRanges(settings: Settings, idsOf: (kind: "uid" | "gid") => OwnIds): Settings {
  const { user } = settings;
  if (!isAuto(settings) || !("uidMap" in user)) return settings;
  const lines = (map: readonly IdRange[] | AutoMap, kind: "uid" | "gid"): readonly IdRange[] =>
    "inside" in map ? autoMap(map, idsOf(kind)) : map;
  return { ...settings, user: { ...user, uidMap: lines(user.uidMap, "uid"), gidMap: lines(user.gidMap, "gid") } };
}

/** Whether subordinate ids have to be looked up. */
export function isAuto({ user }: Settings): boolean {
  return "uidMap" in user && ("inside" in user.uidMap || "inside" in user.gidMap);
}

/** Each id outside is there once, whatever the file says. */
function autoMap({ inside }: AutoMap, { own, subordinate }: OwnIds): readonly IdRange[] {
  const map: IdRange[] = [{ inside, outside: own, count: 1 }];
  let next = inside === 0 ? 1 : 0;
  const append = (first: number, count: number): void => {
    if (count === 0 || next > ID_MAX) return;
    const taken = Math.min(count, (next < inside ? inside : ID_MAX + 1) - next);
    map.push({ inside: next, outside: first, count: taken });
    next += taken;
    if (next === inside) next++;
    append(first + taken, count - taken);
  };
  const appendNew = (first: number, count: number): void => {
    if (count < 1) return;
    const known = map.find(({ outside, count: size }) => outside < first + count && first < outside + size);
    if (known === undefined) return append(first, count);
    const end = known.outside + known.count;
    appendNew(first, known.outside - first);
    if (end < first + count) appendNew(end, first + count - end);
  };
  for (const { first, count } of subordinate) appendNew(first, count);
  return map;
}

function mapText(map: readonly Line[], kind: Slot["kind"]): Bytes {
  const slots: Slot[] = [];
  let text = "";
  for (const { inside, outside, count } of map) {
    for (const id of [inside, outside]) {
      if (id === ANYBODY) slots.push({ kind, at: text.length });
      text += `${id === ANYBODY ? " ".repeat(SLOT_SIZE) : id} `;
    }
    text += `${count}\n`;
  }
  const shown = map.map(({ inside, outside, count }) => `${idWords(inside)} ${idWords(outside)} ${count}\n`).join("");
  return { bytes: utf8.encode(text), name: JSON.stringify(shown), slots };
}

function mapWords(map: readonly Line[]): string {
  return map.map(({ inside, outside, count }) => {
    if (inside === ANYBODY) return "the own one as it is";
    const to = outside === ANYBODY ? "the own one" : outside;
    return `${inside} to ${to}${count === 1 ? "" : `, ${count} of them`}`;
  }).join("; ");
}

function idWords(id: Id): string {
  return id === ANYBODY ? "<own>" : String(id);
}
