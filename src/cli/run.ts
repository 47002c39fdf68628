/**
 * Runs a command in namespaces: what nsrun does where no verb says otherwise.
 *
 * @module
 */

import { checkProgram, launchedDescriptors, launchedTerminal } from "../command_options.ts";
import { compile } from "../launch/compile.ts";
import { become } from "../machine/become.ts";
import { withSubordinateIds } from "../machine/facts.ts";
import { library } from "../machine/library.ts";
import { validate } from "../options.ts";
import { isAnswered } from "./answers.ts";
import { understand } from "./arguments.ts";
import { filesRead, withoutShim } from "./values.ts";
import { FAILED, UsageError, WORDING } from "./words.ts";

/** What the launcher puts before the words of the command line when the kernel has refused something. */
export const REFUSED = "--refused";

/** After that, in place of a descriptor. */
export const NOTHING_READ = "-";

/** This program once more, for the launcher to let it say why: it knows the machine better. */
const DIAGNOSER = [
  Deno.execPath(),
  "run",
  "--quiet",
  "--no-prompt",
  "--allow-ffi",
  import.meta.resolve("./main.ts"),
];

/**
 * Runs the command that a command line asks for, with the stdin, stdout and stderr of this process, which becomes the
 * launcher: no Deno stays behind. Whatever the kernel refuses from there on, the launcher says.
 *
 * @param argv The words of the command line.
 * @returns The exit status, where there is no command to be run.
 * @throws {UsageError} When the command line makes no sense.
 * @throws {TypeError} When an option is wrong.
 * @throws {RangeError} When an option has a value that cannot be.
 * @throws {Deno.errors.NotSupported} When the launcher cannot be executed.
 */
export async function run(argv: readonly string[]): Promise<number> {
  const invocation = await understand(argv);
  if (await isAnswered(invocation)) return 0;
  const { debug, namespace, command, commandOptions, timeoutMs, statusFd } = invocation;
  if (command === undefined) {
    const { USAGE_TEXT } = await import("./help.ts");
    if (argv.length > 0) throw new UsageError(`No command is given\n${USAGE_TEXT}`);
    console.error(USAGE_TEXT);
    return FAILED;
  }
  const { clearEnv = false } = commandOptions;
  const read = filesRead();
  const handed = read === undefined ? undefined : (await import("./handover.ts")).handOver(read);
  const diagnoser = [...DIAGNOSER, REFUSED, "", handed ?? NOTHING_READ, ...argv];
  const descriptors = launchedDescriptors(commandOptions.fds);
  const settings = validate(namespace);
  const { caller, environment } = library().context();
  const own = withoutShim(commandOptions, namespace.env, environment);
  const program = checkProgram(command, own, settings.environment);
  // No Deno stays behind that could make it later.
  const cgroup = settings.cgroup === undefined
    ? undefined
    : (await import("../process/cgroup.ts")).makeOwnCgroup(settings.cgroup, debug ? trace : undefined);
  const options = {
    clearEnv,
    descriptors,
    ...launchedTerminal(commandOptions.tty),
    debug,
    timeoutMs,
    statusFd,
    name: "nsrun",
    origin: "",
    wording: WORDING,
    diagnoser,
    cgroup: cgroup?.handOver(),
  };
  try {
    const planned = withSubordinateIds(settings, caller);
    return become(compile(planned, program, { ...options, caller }, Deno.build.arch), ["nsrun"]);
  } finally {
    cgroup?.end();
    cgroup?.close();
  }
}

function trace(line: string): void {
  console.error(`nsrun: ${line}`);
}
