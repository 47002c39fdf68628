/**
 * Code that runs in namespaces.
 *
 * @module
 */

import { reactor } from "../machine/reactor.ts";
import { checkNames } from "../checks.ts";
import type { Settings } from "../options.ts";
import type { ChildProcess } from "../process/child.ts";
import type { Trace } from "../process/command.ts";
import { type Caller, decodeReply, endedError, prepareCall } from "./call.ts";
import type { Channel } from "./channel.ts";
import { DenoProcess } from "./deno_process.ts";
import { type CodeOptions, killNow, launch, LAUNCH_OPTION_NAMES, type Launched } from "./launch.ts";

/** Code that runs in its namespaces, in a Deno of its own. `Namespace.spawn()` makes it. */
export class CodeProcess<Result> extends DenoProcess {
  /**
   * Resolves to what the code returned, rejects with what it threw, or with a {@linkcode RunError} when its process ends
   * before; then the process has ended. Nobody has to look at it. The exit code of the process is 0 when the code
   * returned, 1 when it threw.
   */
  readonly result: Promise<Result>;
  readonly #channel: Channel;

  /** Not for users: `Namespace.spawn()` makes it. */
  constructor(child: ChildProcess, channel: Channel, result: Promise<Result>) {
    super(child);
    this.#channel = channel;
    this.result = result;
  }

  /** Keeps this program alive until the code has ended, which is so from the start. */
  override ref(): void {
    super.ref();
    this.#channel.reference(true);
  }

  /** Lets this program end before the code; the code then ends with it. */
  override unref(): void {
    super.unref();
    this.#channel.reference(false);
  }
}

const OPTION_NAMES = [...LAUNCH_OPTION_NAMES, "args"] as const satisfies readonly (keyof CodeOptions)[];

/** Starts code in namespaces. `below` is whose frames are left out of stacks. */
export function spawnCode<Result>(
  settings: Settings,
  code: unknown,
  options: CodeOptions,
  trace: () => Trace | undefined,
  // deno-lint-ignore ban-types -- as Error.captureStackTrace takes it
  below: Function,
): CodeProcess<Result> {
  checkNames(options, OPTION_NAMES, "");
  const { args = [] } = options;
  if (!Array.isArray(args)) throw new TypeError(`Option "args" must be an array: got ${Deno.inspect(args)}`);
  const call = prepareCall(code, args, below);
  const { module } = call.source;
  const program = {
    way: "run",
    modules: module === undefined ? [] : [module],
    code: call.source,
    args: call.args,
  } as const;
  const launched = launch(settings, options, program, trace);
  launched.channel.endRequests();
  const result = receive(launched, options.signal, call.caller) as Promise<Result>;
  result.catch(() => {}); // Nobody has to look at it: there is the status, too.
  return new CodeProcess(launched.child, launched.channel, result);
}

async function receive(
  { channel, child }: Launched,
  signal: AbortSignal | undefined,
  caller: Caller,
): Promise<unknown> {
  const ended = child.status.finally(() => channel.end());
  try {
    const reply = await channel.receive();
    if (reply === undefined) throw endedError(await ended, signal, caller);
    channel.close(); // There is no more to come, and who writes more does not wait for somebody to read it.
    const outcome = decodeReply(reply, caller);
    await ended;
    return outcome();
  } finally {
    channel.close();
    killNow(child); // Where it wrote what is no reply.
    await ended;
    await reactor.returned();
  }
}
