/**
 * Starts the Deno inside.
 *
 * @module
 */

import { integer } from "../checks.ts";
import type { Settings } from "../options.ts";
import type { ChildProcess } from "../process/child.ts";
import { type CommandOptions, SHARED_OPTION_NAMES } from "../command_options.ts";
import { Command, type Trace } from "../process/command.ts";
import { library } from "../machine/library.ts";
import type { Guard } from "../process/termination.ts";
import { firstMessage, mainModule, type Way } from "./bootstrap.ts";
import { Channel } from "./channel.ts";
import { type Executable, ownExecutable } from "./executable.ts";
import type { CodeRequest } from "./inside.ts";
import { type CodePermissions, type PermissionFlags, permissionFlags } from "./permissions.ts";

/** Options of `Namespace.spawn()`. What they share with Deno.Command has the same meaning and defaults. */
export interface CodeOptions<Args extends readonly unknown[] = readonly unknown[]>
  extends Pick<CommandOptions, "cwd" | "clearEnv" | "env" | "uid" | "gid" | "signal" | "stdin" | "stdout" | "stderr"> {
  /** The arguments of the code: anything that can be cloned. @default {[]} */
  args?: Args;
  /**
   * What the code may do inside. `"inherit"`: each permission that this process has as a whole; what it has a part of,
   * such as `--allow-read=/etc`, cannot be read and is not passed on. `"none"`: nothing. An object: what it says, and
   * nothing else.
   *
   * @default {"inherit"}
   */
  permissions?: CodePermissions;
  /**
   * How many bytes the encoded result may have, or what is thrown in its place. A larger one ends the process, and what
   * was waited for rejects with a RangeError. For code that is not trusted with the memory of this process, which
   * grows with what comes, not with what is announced.
   *
   * @default {Number.MAX_SAFE_INTEGER}
   */
  maxReplySize?: number;
}

/** All options but `args`. */
export const LAUNCH_OPTION_NAMES = [
  ...SHARED_OPTION_NAMES,
  "permissions",
  "maxReplySize",
] as const satisfies readonly (keyof CodeOptions)[];

/** The lock file is the program's own, and not to be written from inside. */
const RUN_FLAGS = ["--quiet", "--no-prompt", "--no-lock"] as const;
/** What the Deno inside is to do. */
export interface Program {
  readonly way: Way;
  /** The URLs of the modules that it may import whatever its permissions are. */
  readonly modules: readonly string[];
  /** The code, where it is run once. */
  readonly code?: CodeRequest;
  /** Its encoded arguments. */
  readonly args?: readonly Uint8Array<ArrayBuffer>[];
}

/** Deno as it was started. */
export interface Launched {
  readonly child: ChildProcess;
  readonly channel: Channel;
}

/**
 * Checks what is not checked by {@linkcode Command}.
 *
 * @throws {TypeError} When permissions are none, or a size is no number.
 * @throws {RangeError} When a size cannot be.
 */
export function checkLaunch(
  { permissions = "inherit", maxReplySize = Number.MAX_SAFE_INTEGER }: Omit<CodeOptions, "args">,
  modules: readonly string[],
): PermissionFlags & { readonly maxReplySize: number } {
  if (Deno.build.standalone) {
    throw new Deno.errors.NotSupported("Cannot run code: a compiled program has no Deno in it that could be started");
  }
  return {
    ...permissionFlags(permissions, modules.some((url) => /^(https?|jsr):/.test(url))),
    maxReplySize: integer(maxReplySize, "maxReplySize", 1, Number.MAX_SAFE_INTEGER, "bytes"),
  };
}

/** Starts it in namespaces, and sends it what it is to do. `guard`: listens for signals when somebody else says so. */
export function launch(
  settings: Settings,
  options: Omit<CodeOptions, "args">,
  { way, modules, code, args = [] }: Program,
  trace: () => Trace | undefined,
  guard?: Guard,
): Launched {
  const { flags, revoke, maxReplySize } = checkLaunch(options, modules);
  // It is of use to modules only, and to look there for others takes 0.5 ms.
  const cache = modules.length === 0 ? ["--no-code-cache"] : [];
  const channel = new Channel(maxReplySize);
  const child = startDeno(
    settings,
    { ...commandOptions(options), args: ["run", ...RUN_FLAGS, ...cache, ...flags, mainModule(modules)] },
    channel,
    trace,
    guard,
  );
  channel.send(
    ...firstMessage(way, { revoke, privateNet: settings.namespaces.get("net"), ...(code && { code }) }, args),
  );
  return { child, channel };
}

/** Starts a Deno inside that has the other end of a channel, which is closed where it does not start. */
export function startDeno(
  settings: Settings,
  options: CommandOptions,
  channel: Channel,
  trace: () => Trace | undefined,
  guard?: Guard,
): ChildProcess {
  let executable: Executable | undefined;
  try {
    executable = ownExecutable(settings, library().context().caller);
    const more = { extra: channel.theirs, fromOutside: executable };
    return new Command(settings, "deno", options, trace, more, guard).spawn();
  } catch (error) {
    channel.close();
    throw error;
  } finally {
    channel.closeTheirs();
    if (typeof executable === "number") library().close(executable);
  }
}

/** Ends a process that is not to be trusted any more. */
export function killNow(child: ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
}

function commandOptions(options: Omit<CodeOptions, "args">): CommandOptions {
  return Object.fromEntries(
    SHARED_OPTION_NAMES.filter((name) => options[name] !== undefined).map((name) => [name, options[name]]),
  );
}
