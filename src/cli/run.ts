/**
 * Runs a command in namespaces: what nsrun does where no verb says otherwise.
 *
 * @module
 */

import { reactor } from "../machine/reactor.ts";
import { validate } from "../options.ts";
import { Command } from "../process/command.ts";
import { parseCommandLine } from "./arguments.ts";
import { FAILED } from "./errors.ts";

/**
 * Runs the command that a command line asks for, with the stdin, stdout and stderr of this process.
 *
 * @param argv The words of the command line.
 * @returns The exit status: the command's own, or 128 + n when signal n killed it.
 * @throws {UsageError} When the command line makes no sense.
 * @throws {TypeError} When an option is wrong.
 * @throws {RangeError} When an option has a value that cannot be.
 * @throws {Deno.errors.NotFound} When inside there is no such command, or no such folder.
 * @throws {Deno.errors.PermissionDenied} When the command may not be executed.
 * @throws {NamespaceError} When the kernel refuses any other step.
 */
export async function run(argv: readonly string[]): Promise<number> {
  const { help, version, debug, namespace, command, commandOptions } = parseCommandLine(argv);
  if (help || version || command === undefined) {
    const texts = await import("./help.ts");
    if (help) console.log(texts.helpText(Deno.stdout.isTerminal() && !Deno.noColor));
    else if (version) console.log(texts.VERSION_TEXT);
    else console.error(texts.USAGE_TEXT);
    return help || version ? 0 : FAILED;
  }
  reactor.keepAliveBy = "watch"; // This program has no timers otherwise, and Deno takes 3 ms to have the first.
  // Not by class Namespace, which brings along what runs code, and is not needed here.
  const trace = debug ? (line: string) => console.error(`nsrun: ${line}`) : undefined;
  const { code } = await new Command(validate(namespace), command, commandOptions, () => trace).spawn().status;
  return code;
}
