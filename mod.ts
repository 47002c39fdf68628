/**
 * Runs commands in Linux namespaces of their own.
 *
 * ```ts
 * import { Namespace } from "@sys-linux/namespace";
 *
 * const ns = new Namespace({ privatePid: true, privateTmp: true, privateNet: true });
 * const { stdout } = await ns.command("ps", { args: ["ax"] }).output();
 * ```
 *
 * @module
 */

export { NamespaceError, type NamespaceErrorDetails } from "./src/errors.ts";
export { Namespace } from "./src/namespace.ts";
export type { IdMapping, NamespaceOptions, TimeOffsets, TmpOptions, UserIds, UserMaps } from "./src/options.ts";
export { ChildProcess } from "./src/process/child.ts";
export { Command, type CommandOptions } from "./src/process/command.ts";
