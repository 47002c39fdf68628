/**
 * Who the child is: user, group, supplementary groups.
 *
 * @module
 */

import type { Step } from "./step.ts";

/** To be another user or group, as Deno.Command has it: without supplementary groups, where they can be given up. */
export function changeIds(
  uid: number | undefined,
  gid: number | undefined,
  groups: readonly number[] | undefined,
  canSetGroups: boolean,
): readonly Step[] {
  const steps: Step[] = [];
  if (groups !== undefined) steps.push(setGroups(groups));
  if (uid === undefined && gid === undefined) return steps;
  const option = uid === undefined ? "gid" : "uid";
  if (groups === undefined && canSetGroups) {
    steps.push({ call: "setgroups", args: [0, null], what: "give up the supplementary groups", option });
  }
  if (gid !== undefined) {
    steps.push({ call: "setresgid", args: [gid, gid, gid], what: `become group ${gid}`, option: "gid" });
  }
  if (uid !== undefined) {
    steps.push({ call: "setresuid", args: [uid, uid, uid], what: `become user ${uid}`, option: "uid" });
  }
  return steps;
}

function setGroups(groups: readonly number[]): Step {
  const bytes = new Uint8Array(Uint32Array.from(groups).buffer);
  const list = groups.length === 0 ? null : { bytes, name: `[${groups.join(", ")}]` };
  const what = groups.length === 0
    ? "give up the supplementary groups"
    : `have the supplementary groups ${groups.join(", ")}`;
  return { call: "setgroups", args: [groups.length, list], what, option: "groups" };
}
