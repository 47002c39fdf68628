/**
 * Who is timed: a command in namespaces of its own, and what people use in its place.
 *
 * @module
 */

import { Namespace } from "../../mod.ts";
import type { Contender } from "./harness.ts";

const PROGRAM = "/bin/true";
const QUIET = { stdin: "null", stdout: "null", stderr: "null" } as const;

/** What every measure of ours runs in: pid and mount namespaces, a fresh /tmp, and the /proc that goes with them. */
export const NAMESPACES = new Namespace({ privatePid: true, privateTmp: true });

/** How a command is run to its end. */
export type Way = "spawn" | "output" | "outputSync";

/** Our command, run in one of the three ways. */
export function ours(way: Way): Contender {
  return contender("namespace", way, (options) => NAMESPACES.command(PROGRAM, options));
}

/** Deno's own, without any namespace. */
export function denoCommand(way: Way): Contender {
  return contender("Deno.Command", way, (options) => new Deno.Command(PROGRAM, options));
}

/** A program that is started to its end, quietly, through Deno.Command. */
export function program(
  name: string,
  command: string,
  args: readonly string[],
  env?: Record<string, string>,
): Contender {
  const options = { ...QUIET, args: [...args], ...(env === undefined ? {} : { env }) };
  return {
    name,
    async run(): Promise<void> {
      succeeded(name, await new Deno.Command(command, options).spawn().status);
    },
  };
}

/** Runs a contender once, and says in words why it cannot be one here; undefined when it can. */
export async function obstacle({ name, run }: Contender): Promise<string | undefined> {
  try {
    await run();
    return undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return `${name} is not installed here`;
    return error instanceof Error ? error.message : String(error);
  }
}

function contender(name: string, way: Way, make: (options: Deno.CommandOptions) => Deno.Command): Contender {
  switch (way) {
    case "spawn":
      return {
        name,
        async run(): Promise<void> {
          succeeded(name, await make(QUIET).spawn().status);
        },
      };
    case "output":
      return {
        name,
        async run(): Promise<void> {
          succeeded(name, await make({}).output());
        },
      };
    case "outputSync":
      return { name, run: (): void => succeeded(name, make({}).outputSync()) };
  }
}

function succeeded(name: string, { success, code }: Deno.CommandStatus): void {
  if (!success) throw new Error(`Cannot time ${name}: it ended with status ${code}`);
}
