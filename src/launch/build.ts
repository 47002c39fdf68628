/**
 * Stand-alone executables: a command in its namespaces, without Deno.
 *
 * @module
 */

import type { Architecture } from "../abi/syscalls.ts";
import { checkProgram, type CommandOptions, launchedDescriptors, launchedTerminal } from "../command_options.ts";
import { checkNames } from "../checks.ts";
import { type NamespaceOptions, type Settings, validate } from "../options.ts";
import { bundleIn } from "./image.ts";
import { originOf } from "./bundle.ts";
import { findCause } from "../diagnosis/diagnosis.ts";
import { nothingKnown } from "../diagnosis/facts.ts";
import { compile, type Wording } from "./compile.ts";

/** Options of `Namespace.build()`. What they share with Deno.Command has the same meaning. */
export interface BuildOptions
  extends Pick<CommandOptions, "args" | "argv0" | "clearEnv" | "cwd" | "env" | "gid" | "uid" | "unsetEnv" | "fds"> {
  /**
   * A pseudo-terminal of its own for the command. The executable carries bytes between it and its own stdin and stdout,
   * and makes the terminal that it is run on raw meanwhile. It is of the same size; one that is given is for where there
   * is no terminal. Where stdin is none, its end is typed as ^D. @default {false}
   */
  tty?: CommandOptions["tty"];
  /** Where the executable is written, as its owner's, with mode 0755. @default {nowhere: its bytes are returned only} */
  output?: string | URL | undefined;
  /** The architecture that it is for. @default {this one} */
  arch?: Architecture | undefined;
  /**
   * Whether arguments at run time replace the command with its arguments. Otherwise they are appended to them.
   *
   * @default {false}
   */
  anyCommand?: boolean | undefined;
  /** Milliseconds that the command may take; then it gets SIGTERM, and SIGKILL. @default {without end} */
  timeoutMs?: number | undefined;
}

const OPTION_NAMES = [
  "args",
  "argv0",
  "clearEnv",
  "cwd",
  "env",
  "gid",
  "uid",
  "unsetEnv",
  "fds",
  "tty",
  "output",
  "arch",
  "anyCommand",
  "timeoutMs",
] as const satisfies readonly (keyof BuildOptions)[];

const ARCHITECTURES: readonly Architecture[] = ["x86_64", "aarch64"];
const TIMEOUT_MAX = Number.MAX_SAFE_INTEGER;

/** What an executable was built from. */
export interface Origin {
  readonly namespace: NamespaceOptions;
  readonly command: string;
  readonly options: Omit<BuildOptions, "output">;
}

/**
 * Builds an executable. `namespace`: the options that the settings are of.
 *
 * @throws {TypeError} When an option is wrong.
 */
export async function build(
  settings: Settings,
  namespace: NamespaceOptions,
  command: string | URL,
  options: BuildOptions,
  wording?: Wording,
): Promise<Uint8Array<ArrayBuffer>> {
  const image = make(settings, namespace, command, options, wording);
  if (options.output !== undefined) await write(options.output, image);
  return image;
}

function make(
  settings: Settings,
  namespace: NamespaceOptions,
  command: string | URL,
  options: BuildOptions,
  wording: Wording | undefined,
): Uint8Array<ArrayBuffer> {
  checkNames(options, OPTION_NAMES, "");
  const { arch = Deno.build.arch as Architecture, anyCommand = false, clearEnv = false, timeoutMs } = options;
  if (!ARCHITECTURES.includes(arch)) {
    throw new TypeError(`Option "arch" must be one of "x86_64", "aarch64": got ${Deno.inspect(arch)}`);
  }
  if (timeoutMs !== undefined && !(timeoutMs > 0 && timeoutMs <= TIMEOUT_MAX)) {
    throw new RangeError(`Option "timeoutMs" must be a number of milliseconds above 0: got ${Deno.inspect(timeoutMs)}`);
  }
  if (settings.cgroup !== undefined) {
    throw new TypeError(
      `Option "cgroup" cannot be built into an executable: where its cgroup could be is known only where it runs. Leave it ` +
        `out, and start the executable by nsrun or by systemd-run with limits`,
    );
  }
  const program = checkProgram(command, options, settings.environment);
  const { command: path, cwd, environment: _, ...rest } = program;
  const origin: Origin = {
    namespace,
    command: path,
    options: {
      ...rest,
      args: [...rest.args],
      ...(cwd === undefined ? {} : { cwd }),
      env: { ...options.env },
      unsetEnv: [...options.unsetEnv ?? []],
      ...(options.fds === undefined ? {} : { fds: options.fds }),
      ...(options.tty === undefined ? {} : { tty: options.tty }),
      clearEnv,
      anyCommand,
      arch,
      timeoutMs,
    } as Origin["options"],
  };
  return compile(settings, program, {
    anyCommand,
    clearEnv,
    timeoutMs,
    descriptors: launchedDescriptors(options.fds),
    ...launchedTerminal(options.tty),
    origin: JSON.stringify(origin, withoutBytes),
    cause: (step, code, section) => findCause({ step, code, section }, nothingKnown(arch)),
    ...(wording === undefined ? {} : { wording }),
  }, arch);
}

/** How JSON has what it has no word for: large numbers as strings, and files and filters as `{ base64 }`. */
export function withoutBytes(_: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  return value instanceof Uint8Array ? { base64: value.toBase64() } : value;
}

function withBytes(_: string, value: unknown): unknown {
  const isBytes = typeof value === "object" && value !== null && "base64" in value && Object.keys(value).length === 1;
  return isBytes ? Uint8Array.fromBase64(value.base64 as string) : value;
}

/** What is there already is replaced as a whole, even while it is being executed. */
async function write(output: string | URL, image: Uint8Array): Promise<void> {
  const path = output instanceof URL ? decodeURIComponent(output.pathname) : output;
  const temporary = `${path}.${crypto.randomUUID()}`;
  try {
    await Deno.writeFile(temporary, image, { mode: 0o755, createNew: true });
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}

/**
 * What an executable was built from.
 *
 * @throws {TypeError} When it was not built here, or is not whole.
 */
export function inspect(image: Uint8Array<ArrayBuffer>): Origin {
  const origin: Origin = JSON.parse(originOf(bundleIn(image)), withBytes);
  if (typeof origin?.options !== "object" || typeof origin.command !== "string") {
    throw new TypeError("There is a plan in it, and not what it was made from");
  }
  return origin;
}

/**
 * Whether an executable does what it was built from, and nothing else: whether building it again gives the same bytes. It
 * does not for what another version has built, either.
 *
 * @param origin What it says that it was built from.
 * @param wordings How messages in it may be worded.
 */
export function isReproduced(
  image: Uint8Array<ArrayBuffer>,
  { namespace, command, options }: Origin,
  wordings: readonly (Wording | undefined)[],
): boolean {
  const settings = validate(namespace);
  return wordings.some((wording) => {
    const again = make(settings, namespace, command, options, wording);
    return again.length === image.length && again.every((byte, index) => byte === image[index]);
  });
}
