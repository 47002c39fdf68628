/**
 * Executables of the launcher, as the command line makes them to become one.
 *
 * @module
 */

import { parseCommandLine } from "../../src/cli/arguments.ts";
import { WORDING } from "../../src/cli/words.ts";
import { checkProgram, launchedDescriptors, launchedTerminal } from "../../src/command_options.ts";
import { compile } from "../../src/launch/compile.ts";
import { validate } from "../../src/options.ts";

/** An executable, in a folder of its own until it is disposed of. */
export class ImageFile implements Disposable {
  readonly path: string;
  readonly size: number;
  readonly #folder = Deno.makeTempDirSync({ prefix: "namespace-image-" });

  /** Takes the words of a command line of nsrun. */
  constructor(args: readonly string[]) {
    const { namespace, command, commandOptions, timeoutMs, statusFd } = parseCommandLine(args);
    const given = { ...launchedTerminal(commandOptions.tty), descriptors: launchedDescriptors(commandOptions.fds) };
    const options = { timeoutMs, statusFd, ...given, origin: "", wording: WORDING };
    const settings = validate(namespace);
    const program = checkProgram(command!, commandOptions, settings.environment);
    const image = compile(settings, program, options, Deno.build.arch);
    this.path = `${this.#folder}/image`;
    this.size = image.length;
    Deno.chmodSync(this.#folder, 0o755);
    Deno.writeFileSync(this.path, image);
    Deno.chmodSync(this.path, 0o755);
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.#folder, { recursive: true });
  }
}
