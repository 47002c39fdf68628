/**
 * The library's words in those of the command line.
 *
 * @module
 */

import type { Wording } from "../launch/compile.ts";

/** Exit status of a failure that is not the command's own, as of env(1), chroot(1) and timeout(1). */
export const FAILED = 125;
/** How messages of the launcher call options. */
export const WORDING: Wording = { option: spelled, hint: inOptions };

/** A command line that cannot be understood. */
export class UsageError extends Error {
  /** `"UsageError"`. */
  override readonly name = "UsageError";
}

/** A hint, with the library's names of options as they are typed. */
export function inOptions(hint: string): string {
  return hint.replaceAll(
    HINTED,
    (found) => found.startsWith('"') ? found : /: (?:"skip"|false)$/.test(found) ? part(found) : spelled(found),
  );
}

/** A property of a mount, as it is typed. */
function part(text: string): string {
  return text === "recursive: false" ? "no-recursive" : "if-missing=skip";
}

/** Texts that are not the hint's own, such as paths; and names of options. */
const HINTED =
  /\bifMissing: "skip"|\brecursive: false|"[^"]*"|\b(?:(?:private|term|no)[A-Z]\w*|oomScoreAdj|[ug]idMap|cgroup\.(?:parent|pidsMax|memorySwapMax))\b/g;

/** The library's name of an option, such as `privateTmp.nrInodes`, as it is typed: `--private-tmp=nr-inodes`. */
export function spelled(name: string): string {
  if (name.startsWith("as.")) return name === "as.capabilities" ? "--caps" : `--as ${name.slice(3)}`;
  if (name === "privateUser: false") return "--private-user=no";
  if (name === "noNewPrivs: false") return "--new-privs";
  if (name.endsWith(": false")) return `--no-${spelled(name.slice(0, -": false".length)).slice(2)}`;
  if (name === "timeoutMs") return "--timeout";
  if (name === "privateUser.setgroups") return "--setgroups";
  const descriptor = /^fds(\.\d+)?$/.exec(name);
  if (descriptor !== null) return `--inherit-fd${(descriptor[1] ?? "").replace(".", " ")}`;
  const layer = /^root\.overlay(?:\.(\w+))?/.exec(name);
  if (layer !== null) return `--root overlay${layer[1] === undefined ? "" : ` (${layer[1]})`}`;
  const map = /([ug])idMap(?:\[\d+\]\.(\w+))?$/.exec(name);
  if (map !== null) return `--${map[1]}id-map${map[2] === undefined ? "" : ` (${map[2]})`}`;
  const mount = /^mounts\[(\d+)\](?:\.(.*))?$/.exec(name);
  if (mount !== null) return `mount ${Number(mount[1]) + 1}${mount[2] === undefined ? "" : ` (${kebab(mount[2])})`}`;
  if (name === "mounts") return name;
  const limited = /^rlimits(?:\.(\w+))?$/.exec(name);
  if (limited !== null) return `--rlimit${limited[1] === undefined ? "" : ` ${limited[1]}`}`;
  const set = /^capabilities\.(keep|drop|add)(?:\[\d+\])?$/.exec(name);
  if (set !== null) return `--cap-${set[1]}`;
  const filter = /^seccomp\.(.*)$/.exec(name);
  if (filter !== null) return `--seccomp (${filter[1]})`;
  const item = /^(groups|cpuAffinity)\[\d+\]$/.exec(name);
  if (item !== null) return spelled(item[1]!);
  const limit = /^cgroup\.(?:(parent)|(\w+))/.exec(name);
  if (limit !== null) return limit[1] === undefined ? spelled(limit[2]!) : "--cgroup-parent";
  const rule = /^landlock\.(\w+)(?:\[\d+\])?$/.exec(name);
  if (rule !== null) return `--landlock ${spelled(rule[1]!).slice(2)}`;
  return `--${kebab(name.replace(".", "="))}`;
}

function kebab(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
