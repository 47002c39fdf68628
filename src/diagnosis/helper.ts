/**
 * Why newuidmap(1) or newgidmap(1) has not written a map.
 *
 * @module
 */

import type { Step } from "../plan/step.ts";
import { type Facts, mountOf, statusOf, subordinateRanges } from "./facts.ts";
import { type Refusal, tooManyProcesses } from "./limits.ts";

/** The likely cause, where a helper was refused something, or refuses. */
export function helperCause({ step, code, section }: Refusal, facts: Facts): string | undefined {
  const name = /new([ug])idmap/.exec(step.what)!;
  const [program, kind] = [name[0], name[1] as "u" | "g"];
  const instead = `Leave uidMap and gidMap out (privateUser alone maps the caller), or run it as root`;
  if (step.call === "clone") {
    if (code === "EAGAIN") return tooManyProcesses(facts);
    return code === "EPERM" ? refusedBy(program, kind, argumentsOf(section, program), facts, instead) : undefined;
  }
  if (step.call !== "execve") return undefined;
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return `${program} is not installed, which writes maps that this user may not write. Install it: the package uidmap, \
or shadow-utils. ${instead}.`;
    case "EACCES":
      return `This user may not execute ${program}. ${instead}, or let the user execute it.`;
    default:
      return undefined;
  }
}

/** The map as it was given to the program: inside, outside, count. */
function argumentsOf(section: readonly Step[], program: string): readonly number[] {
  const argv = section.find(({ call, what }) => call === "execve" && what.includes(` ${program} `))?.args[1];
  if (typeof argv !== "object" || argv === null || !("strings" in argv)) return [];
  return [...argv.strings].slice(2).map(Number);
}

function refusedBy(program: string, kind: "u" | "g", ids: readonly number[], facts: Facts, instead: string): string {
  const path = ["/run/wrappers/bin", "/usr/local/bin", "/usr/bin"].map((folder) => `${folder}/${program}`)
    .find((path) => facts.allows(path, "execute")) ?? program;
  const isNosuid = mountOf(facts, path)?.options.includes("nosuid") === true;
  if (statusOf(facts, "NoNewPrivs") === "1" || isNosuid) {
    return `"${path}" is root's by its set-user-ID bit, and that does nothing here: ${
      isNosuid ? "it is on a mount with nosuid" : "NoNewPrivs is set for this process"
    }. ${instead}.`;
  }
  const file = `/etc/sub${kind}id` as const;
  const id = Number(statusOf(facts, kind === "u" ? "Uid" : "Gid")?.split("\t")[1]);
  const ranges = subordinateRanges(facts, file);
  for (let at = 0; at < ids.length; at += 3) {
    const [outside, count] = [ids[at + 1]!, ids[at + 2]!];
    const isOwn = outside === id && count === 1;
    if (isOwn || isCovered(ranges, outside, count)) continue;
    // Not those ids: whoever may map user 0 is root.
    return `${program} maps the caller's own id, alone, and those of its ranges in ${file}, which has not ${outside}${
      count === 1 ? "" : ` and the ${count - 1} after it`
    }. Map ids that are there, or let root add a range that is nobody else's: usermod --add-sub${kind}ids 100000-165535 USER.`;
  }
  return `${program} has refused it: it maps the caller's own id, alone (newgidmap: that of its group in /etc/passwd), and \
those of its ranges in ${file}, where it is root by its set-user-ID bit or has CAP_SET${kind.toUpperCase()}ID. ${instead}.`;
}

/** Ranges may follow each other. */
function isCovered(ranges: ReturnType<typeof subordinateRanges>, first: number, count: number): boolean {
  let next = first;
  while (next < first + count) {
    const range = ranges.find((range) => next >= range.first && next < range.first + range.count);
    if (range === undefined) return false;
    next = range.first + range.count;
  }
  return true;
}
