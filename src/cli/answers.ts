/**
 * What a command line can ask for in place of what its verb does.
 *
 * @module
 */

import type { Invocation } from "./arguments.ts";

/** Prints the help, the version or the options, where one of these is asked for, and says whether it was. */
export async function isAnswered(invocation: Invocation): Promise<boolean> {
  const { help, version, printConfig } = invocation;
  if (help || version) {
    const { helpText, VERSION_TEXT } = await import("./help.ts");
    console.log(help ? helpText(Deno.stdout.isTerminal() && !Deno.noColor) : VERSION_TEXT);
  } else if (printConfig) {
    console.log((await import("./config.ts")).configText(invocation));
  }
  return help || version || printConfig;
}
