/**
 * The maps of a user namespace: see user_namespaces(7).
 *
 * @module
 */

import type { IdRange, UserSettings } from "../options.ts";
import { ANYBODY, type Caller } from "./caller.ts";
import { AT_FDCWD, O_CLOEXEC_PATH, O_CLOEXEC_WRONLY } from "./files.ts";
import { type Bytes, type Slot, SLOT_SIZE, type Step } from "./step.ts";

const utf8 = new TextEncoder();

type Id = Caller["uid"];
/** Who is not mapped: kernel.overflowuid, where nobody has changed it. */
const OVERFLOW = 65534;
/** A line of a map; its ids may be those of whoever runs the plan. */
type Line = Readonly<Record<"inside" | "outside", Id>> & Pick<IdRange, "count">;

/** The maps that settings come to for a caller. */
function userMaps(user: UserSettings, caller: Caller): Readonly<Record<"uidMap" | "gidMap", readonly Line[]>> {
  if ("uidMap" in user) return user;
  const own = (inside: number | "self", outside: Id) => [{
    inside: inside === "self" ? outside : inside,
    outside,
    count: 1,
  }];
  return { uidMap: own(user.ids.uid, caller.uid), gidMap: own(user.ids.gid, caller.gid) };
}

/** Who the caller is inside; `ANYBODY` where that is known only when the plan runs. */
export function uidInside(user: UserSettings, { uid }: Caller): Id {
  if ("ids" in user) return user.ids.uid === "self" ? uid : user.ids.uid;
  if (uid === ANYBODY) return ANYBODY;
  const line = user.uidMap.find(({ outside, count }) => uid >= outside && uid < outside + count);
  return line === undefined ? OVERFLOW : line.inside + uid - line.outside;
}

/**
 * Whether setgroups(2) must be given up inside, for good: the kernel lets nobody without CAP_SETGID write a gid map
 * otherwise, because dropping a group can be a way around "this group may not" permissions (CVE-2014-8989).
 *
 * @param user The user namespace, where there is one of our making.
 */
export function deniesSetgroups(caller: Caller, user?: UserSettings): boolean {
  return user?.setgroups === undefined ? !caller.capabilities.has("CAP_SETGID") : user.setgroups === "deny";
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
  return [
    folder,
    ...(deniesSetgroups(caller, user) ? write("setgroups", DENY, "give up setgroups(2) in the user namespace") : []),
    ...write("uid_map", mapText(uidMap, "uid"), `map user ids (${mapWords(uidMap)})`),
    ...write("gid_map", mapText(gidMap, "gid"), `map group ids (${mapWords(gidMap)})`),
  ];
}

const DENY: Bytes = { bytes: utf8.encode("deny"), name: '"deny"' };

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
  return map.map(({ inside, outside, count }) =>
    `${idWords(inside)} to ${idWords(outside)}${count === 1 ? "" : `, ${count} of them`}`
  ).join("; ");
}

function idWords(id: Id): string {
  return id === ANYBODY ? "<own>" : String(id);
}
