/**
 * `nsrun explain`: says what would be done, and does not do it.
 *
 * @module
 */

import { validate } from "../options.ts";
import type { Somebody } from "../plan/explain.ts";
import { explain } from "../process/explain.ts";
import { isAnswered } from "./answers.ts";
import { type OwnOptions, understand } from "./arguments.ts";
import { UsageError } from "./words.ts";
import { number, parts } from "./values.ts";

/** What only this verb has. */
export const EXPLAIN_OPTIONS: OwnOptions = { flags: ["json", "mermaid"], valued: ["as", "caps"] };

/**
 * Prints every step that running a command takes.
 *
 * @param argv The words of the command line, without the verb.
 * @returns The exit status.
 * @throws {UsageError} When the command line makes no sense.
 * @throws {TypeError} When an option is wrong.
 * @throws {RangeError} When an option has a value that cannot be.
 */
export async function explainVerb(argv: readonly string[]): Promise<number> {
  const invocation = await understand(argv, EXPLAIN_OPTIONS);
  if (await isAnswered(invocation)) return 0;
  const { namespace, command, commandOptions, own } = invocation;
  const { json, mermaid } = own;
  if (json && mermaid) throw new UsageError("--json and --mermaid contradict each other");
  const as = somebody(own.as, own.caps);
  const explanation = explain(
    validate(namespace),
    command,
    as === undefined ? commandOptions : { ...commandOptions, as },
  );
  if (json) console.log(JSON.stringify(explanation, null, 2));
  else if (mermaid) console.log((await import("../plan/picture.ts")).picture(explanation));
  else console.log(explanation.toString(Deno.stdout.isTerminal() && !Deno.noColor));
  return 0;
}

/** `uid:1000,gid:1000` and `none`, `all` or `CAP_X,CAP_Y`. */
function somebody(as: string | undefined, caps: string | undefined): Somebody | undefined {
  if (as === undefined) {
    if (caps !== undefined) throw new UsageError("--caps needs --as beside it");
    return undefined;
  }
  const { uid, gid } = parts(as, "--as", ["uid", "gid"], ":");
  if (uid === undefined) throw new UsageError("--as must be uid:ID or uid:ID,gid:ID");
  return {
    uid: number(uid, "--as uid"),
    gid: gid === undefined ? undefined : number(gid, "--as gid"),
    capabilities: caps === undefined || caps === "all" || caps === "none" ? caps : caps.split(","),
  };
}
