#!/usr/bin/env -S deno run --allow-ffi
/**
 * `nsrun`: runs a command in Linux namespaces of its own.
 *
 * ```sh
 * deno install --global --allow-ffi --name nsrun jsr:@sys-linux/namespace/cli
 * nsrun --private-pid --private-tmp=size=16m ps ax
 * ```
 *
 * `nsrun --help` says the rest.
 *
 * @module
 */

import { REFUSED, run } from "./run.ts";

/** Something that nsrun does: it gets the words after its name, and returns the exit status. */
type Verb = (argv: readonly string[]) => Promise<number>;

/** What can be the first word in place of a command. Each is to be imported when it is called, and not before. */
const VERBS: ReadonlyMap<string | undefined, Verb> = new Map([
  ["explain", async (argv) => await (await import("./explain.ts")).explainVerb(argv)],
  ["doctor", async (argv: readonly string[]) => (await import("./doctor.ts")).doctor(argv)],
  ["build", async (argv: readonly string[]) => await (await import("./build.ts")).buildVerb(argv)],
  ["inspect", async (argv: readonly string[]) => await (await import("./build.ts")).inspectVerb(argv)],
  ["try", async (argv: readonly string[]) => await (await import("./try.ts")).tryVerb(argv)],
  [REFUSED, async (argv: readonly string[]) => (await import("./refused.ts")).refused(argv)],
]);

/**
 * Does what a command line asks for, and says on stderr why when it cannot.
 *
 * @param argv The words of the command line, without the program's own name.
 * @returns The exit status.
 */
export async function main(argv: readonly string[]): Promise<number> {
  const verb = VERBS.get(argv[0]);
  try {
    return await (verb === undefined ? run(argv) : verb(argv.slice(1)));
  } catch (error) {
    const { message, status } = (await import("./errors.ts")).describeFailure(error);
    const [on, off] = Deno.stderr.isTerminal() && !Deno.noColor ? ["\x1b[1;31m", "\x1b[0m"] : ["", ""];
    console.error(`${on}nsrun:${off} ${message}`);
    return status;
  }
}

if (import.meta.main) main(Deno.args).then((status) => Deno.exit(status));
