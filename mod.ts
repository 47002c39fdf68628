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

export { CodeProcess } from "./src/code/code_process.ts";
export type { DenoProcess } from "./src/code/deno_process.ts";
export { isolated, type IsolatedOptions, type TestBody } from "./src/code/isolated.ts";
export type { CodeOptions } from "./src/code/launch.ts";
export type { CodePool, CodePoolOptions } from "./src/code/pool.ts";
export type { CodePermissions } from "./src/code/permissions.ts";
export type { Architecture } from "./src/abi/syscalls.ts";
export type { BuildOptions } from "./src/launch/build.ts";
export { RunError } from "./src/code/run_error.ts";
export type { AnyFunction } from "./src/code/source.ts";
export type { CodeWorker, CodeWorkerOptions } from "./src/code/worker.ts";
export { NamespaceError, type NamespaceErrorDetails } from "./src/errors.ts";
export { Namespace } from "./src/namespace.ts";
export { CAPABILITIES, type CapabilityName } from "./src/abi/capabilities.ts";
export { type ResourceName, RESOURCES } from "./src/abi/resources.ts";
export type { CapabilityOptions, LimitOptions, LimitValue, PrivilegeOptions } from "./src/options_privileges.ts";
export type { IdMapping, NamespaceOptions, TimeOffsets, TmpOptions, UserIds, UserMaps } from "./src/options.ts";
export type {
  BindMount,
  DevMount,
  DirMount,
  EphemeralOptions,
  FileMount,
  HideMount,
  MountFlags,
  MountOptions,
  MqueueMount,
  OverlayLayers,
  OverlayMount,
  OverlayRoot,
  ProcMount,
  RemountMount,
  SymlinkMount,
  SysfsMount,
  TmpfsMount,
} from "./src/options_mounts.ts";
export type { CgroupOptions, CpuQuota } from "./src/options_cgroup.ts";
export type { LandlockOptions } from "./src/options_landlock.ts";
export type { SeccompAction, SeccompArgument, SeccompProfile, SeccompRule } from "./src/options_seccomp.ts";
export type { FileType } from "./src/machine/files.ts";
export { type ExplainedCaller, type ExplainedStep, Explanation, type Somebody } from "./src/plan/explain.ts";
export type { Change } from "./src/process/changes.ts";
export type { CgroupUsage } from "./src/process/cgroup.ts";
export { ChildProcess, type CommandOutput, type CommandStatus } from "./src/process/child.ts";
export type { CommandOptions } from "./src/command_options.ts";
export { Command } from "./src/process/command.ts";
export type { DescriptorOption, TerminalSize } from "./src/command_options.ts";
export type { ExplainOptions } from "./src/process/explain.ts";
