/**
 * `nsrun doctor`: what this machine allows, and what is in the way of the rest.
 *
 * @module
 */

import { type Check, diagnose, type Diagnosis, type System } from "../diagnose.ts";
import { inOptions, UsageError } from "./words.ts";

const HELP = `nsrun doctor: tells what this machine allows this user, and what to do about the rest

Usage:
  nsrun doctor [--json]

  Each namespace is tried in a child that is gone again; what cannot be tried without a trace is read, and so marked.
  nsrun -- doctor runs a command of that name.

Exit status:
  0    processes, /tmp, network, IPC, names and users can all be private at once
  1    they cannot`;

/**
 * Prints the diagnosis.
 *
 * @param argv The words after `doctor`.
 * @returns The exit status: 0 when what is needed works, and otherwise 1.
 * @throws {UsageError} When there are other words than `--json` and `--help`.
 */
export async function doctor(argv: readonly string[]): Promise<number> {
  const unknown = argv.find((word) => !["--json", "--help", "-h"].includes(word));
  if (unknown !== undefined) throw new UsageError(`nsrun doctor takes --json and nothing else: got "${unknown}"`);
  if (argv.includes("--help") || argv.includes("-h")) {
    console.log(HELP);
    return 0;
  }
  const diagnosis = await diagnose();
  const coloured = Deno.stdout.isTerminal() && !Deno.noColor;
  console.log(argv.includes("--json") ? JSON.stringify(diagnosis, null, 2) : describeDiagnosis(diagnosis, coloured));
  return diagnosis.works ? 0 : 1;
}

/** The diagnosis as it is read on a screen. */
export function describeDiagnosis({ works, system, checks, features }: Diagnosis, coloured: boolean): string {
  const paint = (code: string, text: string): string => coloured ? `\x1b[${code}m${text}\x1b[0m` : text;
  const describe = (check: Check): string => {
    const { name, how, detail, remedy } = check;
    const mark = check.works ? paint("32", "yes") : paint("1;31", "no ");
    const more = check.works && detail !== undefined ? ` (${detail})` : "";
    const lines = [`  ${mark}  ${name}${more}${how === "read" ? ", as read" : ""}`];
    if (!check.works && detail !== undefined) lines.push(`       ${inOptions(detail)}`);
    if (remedy !== undefined) lines.push(`       ${inOptions(remedy)}`);
    return lines.join("\n");
  };
  const bold = (text: string): string => paint("1", text);
  return [
    ...describeSystem(system, bold),
    "",
    bold("What is private with nsrun's options, tried as this user"),
    ...checks.map(describe),
    "",
    bold("What there is beyond that"),
    ...features.map(describe),
    "",
    works ? paint("32", "What is needed works.") : paint("1;31", "What is needed does not work: see above."),
  ].join("\n");
}

function describeSystem(system: System, bold: (text: string) => string): readonly string[] {
  const { kernel, architecture, uid, privileged, securityModules, securityLabel, filtered, noNewPrivileges } = system;
  const modules = securityModules.length === 0 ? "security modules cannot be seen" : securityModules.join(", ");
  const limits = Object.entries(system.limits).map(([name, value]) => `${name} ${value}`);
  return [
    bold(`Linux ${kernel} on ${architecture}`),
    `  user ${uid}, ${privileged ? "with" : "without"} CAP_SYS_ADMIN`,
    `  ${modules}${securityLabel === undefined ? "" : `; this process is "${securityLabel}"`}`,
    `  ${filtered ? "a seccomp filter looks at system calls" : "no seccomp filter"}${
      noNewPrivileges ? "; no new privileges" : ""
    }`,
    ...rows(limits),
  ];
}

/** Texts in lines of no more than 100 characters. */
function rows(texts: readonly string[]): readonly string[] {
  const lines: string[] = [];
  for (const text of texts) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + text.length < 98) lines[lines.length - 1] = `${last}, ${text}`;
    else lines.push(`  ${text}`);
  }
  return lines;
}
