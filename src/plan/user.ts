/**
 * The maps of a user namespace: see user_namespaces(7).
 *
 * @module
 */

import type { IdRange, UserSettings } from "../options.ts";
import type { Caller } from "./caller.ts";
import { AT_FDCWD, O_CLOEXEC_PATH, O_CLOEXEC_WRONLY } from "./files.ts";
import type { Step } from "./step.ts";

const utf8 = new TextEncoder();

/** The maps that settings come to for a caller. */
function userMaps(
  user: UserSettings,
  caller: Caller,
): { readonly uidMap: readonly IdRange[]; readonly gidMap: readonly IdRange[] } {
  if ("uidMap" in user) return user;
  const own = (
    inside: number | "self",
    outside: number,
  ) => [{ inside: inside === "self" ? outside : inside, outside, count: 1 }];
  return { uidMap: own(user.ids.uid, caller.uid), gidMap: own(user.ids.gid, caller.gid) };
}

/**
 * Whether setgroups(2) must be given up inside, for good: the kernel lets nobody without CAP_SETGID write a gid map
 * otherwise, because dropping a group can be a way around "this group may not" permissions (CVE-2014-8989).
 */
export function deniesSetgroups(caller: Caller): boolean {
  return !caller.capabilities.has("CAP_SETGID");
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
  const write = (file: string, content: string, what: string): readonly Step[] => {
    const open: Step = {
      call: "openat",
      args: [{ resultOf: folder }, file, O_CLOEXEC_WRONLY],
      what: `open ${file} of the user namespace`,
      option,
      opens: true,
    };
    const bytes = utf8.encode(content);
    const args = [{ resultOf: open }, { bytes, name: JSON.stringify(content) }, bytes.length];
    return [open, { call: "write", args, what, option }];
  };
  return [
    folder,
    ...(deniesSetgroups(caller) ? write("setgroups", "deny", "give up setgroups(2) in the user namespace") : []),
    ...write("uid_map", mapText(uidMap), `map user ids (${mapWords(uidMap)})`),
    ...write("gid_map", mapText(gidMap), `map group ids (${mapWords(gidMap)})`),
  ];
}

function mapText(map: readonly IdRange[]): string {
  return map.map(({ inside, outside, count }) => `${inside} ${outside} ${count}\n`).join("");
}

function mapWords(map: readonly IdRange[]): string {
  return map.map(({ inside, outside, count }) => `${inside} to ${outside}${count === 1 ? "" : `, ${count} of them`}`)
    .join("; ");
}
