/**
 * Explanations as pictures, in the language of Mermaid: who is in which namespace, and what is mounted where.
 *
 * @see {@link https://mermaid.js.org/syntax/flowchart.html | Mermaid, flowcharts}
 * @module
 */

import type { ExplainedStep, Explanation } from "./explain.ts";

/** Flag of clone(2) or unshare(2), and what the namespace is called. */
const KINDS: ReadonlyMap<string, string> = new Map([
  ["CLONE_NEWUSER", "user"],
  ["CLONE_NEWNS", "mount"],
  ["CLONE_NEWPID", "pid"],
  ["CLONE_NEWNET", "net"],
  ["CLONE_NEWIPC", "ipc"],
  ["CLONE_NEWUTS", "uts"],
  ["CLONE_NEWCGROUP", "cgroup"],
  ["CLONE_NEWTIME", "time"],
]);

/** Draws an explanation as a flowchart. */
export function picture({ caller, clone, steps }: Explanation): string {
  const child = steps.filter(({ by }) => by === "child");
  const made = namespacesOf([clone, ...child]);
  const shared = [...KINDS.values()].filter((kind) => !made.includes(kind));
  const inside = made.length === 0 ? "No namespace of its own" : `Namespaces of its own: ${made.join(", ")}`;
  const outside = shared.length === 0
    ? "The caller's namespaces"
    : `The caller's namespaces; shared: ${shared.join(", ")}`;
  const lines = [
    "flowchart LR",
    `  subgraph outside[${quoted(outside)}]`,
    `    parent[${quoted("This process", `user ${caller.uid}, group ${caller.gid}`)}]`,
    "  end",
    `  subgraph inside[${quoted(inside)}]`,
    `    child[${quoted(...childLines(made, child))}]`,
  ];
  const mounts = child.filter(({ call, args, what }) =>
    call === "mount" && args[2] !== "NULL" || call === "open_tree" && what.startsWith("bind ")
  );
  mounts.forEach(({ call, what, args: [, target, type, flags, data] }, index) => {
    const details = call !== "mount" ? [] : [flags!, ...(data === "NULL" ? [] : [text(data!)])];
    // What is mounted in a root of its own is mounted on the current folder.
    const inRoot = call !== "mount" || !text(target!).startsWith("/");
    const title = inRoot
      ? what.replace(/^mount (?:an )?/, "").replaceAll('"', "")
      : `${text(type!)} at ${text(target!)}`;
    lines.push(`    mount${index}[(${quoted(title, ...details)})]`);
  });
  lines.push("  end", `  parent -->|${quoted(clone.text)}| child`);
  for (const label of maps(steps)) lines.push(`  parent -.->|${quoted(label)}| child`);
  mounts.forEach((_, index) => lines.push(`  child --- mount${index}`));
  return lines.join("\n");
}

function namespacesOf(steps: readonly ExplainedStep[]): string[] {
  const flags = steps.filter(({ call }) => call === "clone" || call === "unshare").flatMap(({ args }) =>
    args[0]!.split("|")
  );
  return [...KINDS].filter(([flag]) => flags.includes(flag)).map(([, kind]) => kind);
}

function childLines(made: readonly string[], child: readonly ExplainedStep[]): string[] {
  const program = child.find(({ call }) => call.startsWith("execve"));
  const lines = [program === undefined ? "The child" : program.what.replace(/^execute "(.*)"$/, "$1")];
  if (made.includes("pid")) lines.push("PID 1");
  for (const { call, what, args } of child) {
    if (/^setres[ug]id$/.test(call)) lines.push(what.replace("become ", ""));
    if (/^set(host|domain)name$/.test(call)) lines.push(`${call.slice(3)} ${text(args[0]!)}`);
    if (call === "ioctl") lines.push("loopback up");
    if (call === "write") lines.push(what.replace(/^set the /, ""));
  }
  return lines;
}

/** What the parent, or a helper, writes into the maps of the user namespace. */
function maps(steps: readonly ExplainedStep[]): string[] {
  return steps.filter(({ by, call }) => by === "parent" && (call === "write" || call === "clone"))
    .map(({ what }) => what);
}

/** The text of an argument that is a string. */
function text(argument: string): string {
  return argument.startsWith('"') ? argument.slice(1, argument.lastIndexOf('"')) : argument;
}

/** Lines as a label. Mermaid has no escapes but entities, which begin with "#". */
function quoted(...lines: readonly string[]): string {
  const escaped = lines.map((line) => line.replaceAll(/[#"<>&|`]/g, (character) => `#${character.codePointAt(0)};`));
  return `"${escaped.join("<br>")}"`;
}
