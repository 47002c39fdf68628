/**
 * `--config FILE`: options from a file of JSON, below those of the command line; and `--print-config`, the way back.
 *
 * @module
 */

import type { CommandOptions } from "../command_options.ts";
import { checkNames, optionalBoolean, shown, text, variables, wrongType } from "../checks.ts";
import type { AskedOptions, Invocation } from "./arguments.ts";
import { jsonFile } from "./values.ts";
import { UsageError } from "./words.ts";
import schema from "./config.schema.json" with { type: "json" };

/** What is of the command, and not of its namespaces. */
const COMMAND_NAMES = [
  "env",
  "clearEnv",
  "unsetEnv",
  "cwd",
  "uid",
  "gid",
  "argv0",
  "fds",
  "tty",
] as const satisfies readonly (
  keyof CommandOptions
)[];

/** A file, as it was written; what is in the options is checked where options are. */
interface Config extends Omit<AskedOptions, "env">, Pick<CommandOptions, typeof COMMAND_NAMES[number]> {
  readonly $schema?: string;
  readonly command?: string;
  readonly args?: readonly string[];
  readonly timeoutMs?: number;
}

/**
 * Puts the options of a file below those of a command line.
 *
 * @throws {UsageError} When the file cannot be read, is no JSON, or has an option that is not known or cannot be.
 */
export function withConfig(invocation: Invocation, path: string): Invocation {
  const { $schema: _, command, args = [], timeoutMs, ...config } = read(path);
  const { asked, commandOptions } = invocation;
  const names = COMMAND_NAMES.filter((name) => config[name] !== undefined);
  const below = Object.fromEntries(names.map((name) => [name, config[name]])) as CommandOptions;
  const unsetEnv = [...below.unsetEnv ?? [], ...commandOptions.unsetEnv ?? []];
  const env = { ...below.env, ...commandOptions.env };
  for (const name of commandOptions.unsetEnv ?? []) delete env[name];
  const fds = together(below.fds, commandOptions.fds) as CommandOptions["fds"];
  const isOwnCommand = invocation.command === undefined;
  const given = Object.entries(asked).filter(([name, value]) => isGiven(name, value));
  return {
    ...invocation,
    asked: {
      ...Object.fromEntries(Object.entries(config).filter(([name]) => !COMMAND_NAMES.some((one) => one === name))),
      ...Object.fromEntries(given.map(([name, value]) => [
        name,
        TOGETHER.includes(name) ? together(config[name as keyof typeof config], value, name !== "rlimits") : value,
      ])),
    },
    command: isOwnCommand ? command : invocation.command,
    commandOptions: {
      ...below,
      ...commandOptions,
      clearEnv: commandOptions.clearEnv === true || below.clearEnv === true,
      args: isOwnCommand ? [...args] : commandOptions.args ?? [],
      env,
      ...(fds === undefined ? {} : { fds }),
      ...(unsetEnv.length === 0 ? {} : { unsetEnv: unsetEnv.filter((name) => !(name in (commandOptions.env ?? {}))) }),
    },
    timeoutMs: invocation.timeoutMs ?? timeoutMs,
  };
}

/** Options of a namespace that a file has a part of, and the command line another. Any other is replaced. */
const TOGETHER: readonly string[] = ["mounts", "rlimits", "capabilities", "landlock", "cgroup"];

/** Lists one after the other, where they are to be joined; objects by name; and else what is above, if it is there. */
function together(below: unknown, above: unknown, isJoined = true): unknown {
  if (above === undefined) return below;
  if (isJoined && Array.isArray(below) && Array.isArray(above)) return [...below, ...above];
  if (!isObject(below)) return above;
  if (above === true) return below; // As --cgroup, which has nothing to say of it.
  if (!isObject(above)) return above;
  const names = Object.keys({ ...below, ...above });
  return Object.fromEntries(names.map((name) => [name, together(below[name], above[name], isJoined)]));
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Signals end the command unless that is negated: there is no telling whether it was said. */
function isGiven(name: string, value: unknown): boolean {
  return value !== undefined && !(name === "termChild" && value === true);
}

/** What is not checked where options are is checked here. A file has names of its own, not those of a command line. */
function read(path: string): Config {
  const config = jsonFile(path, "--config") as Config;
  try {
    checkNames(config, Object.keys(schema.properties), "");
    const { command, args, env, timeoutMs, sandbox, clearEnv } = config;
    if (command !== undefined) text(command, "command");
    if (args !== undefined) strings(args, "args");
    variables(env, "env");
    optionalBoolean(sandbox, "sandbox");
    optionalBoolean(clearEnv, "clearEnv");
    if (timeoutMs !== undefined && !(typeof timeoutMs === "number" && timeoutMs > 0 && timeoutMs < Infinity)) {
      throw wrongType("timeoutMs", "a number of milliseconds above 0", timeoutMs);
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new UsageError(`${error.message} (in ${shown(path)})`);
  }
  return config;
}

function strings(list: unknown, name: string): void {
  if (!Array.isArray(list)) throw wrongType(name, `an array such as ["-c", "true"]`, list);
  list.forEach((one, index) => text(one, `${name}[${index}]`));
}

/** The options that an invocation comes to, as `--config` takes them. */
export function configText({ asked, command, commandOptions, timeoutMs }: Invocation): string {
  const { args, ...rest } = commandOptions;
  const unset = rest.unsetEnv ?? [];
  const env = Object.entries({ ...asked.env, ...rest.env }).filter(([name]) => !unset.includes(name));
  const config = {
    ...asked,
    ...Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== false)),
    env: env.length === 0 ? undefined : Object.fromEntries(env),
    timeoutMs,
    command,
    ...(command === undefined ? {} : { args }),
  };
  return JSON.stringify(config, (key, value) => {
    if (value instanceof Uint8Array) throw new UsageError("--print-config has no way to write a program of BPF");
    return key === "termChild" && value === true ? undefined : value;
  }, 2);
}
