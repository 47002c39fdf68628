/**
 * Cgroups for tests: where this process's is, what can be limited here, and some that belong to nobody.
 *
 * @module
 */

import { cgroupFolders } from "../../src/diagnosis/facts.ts";
import { facts } from "../../src/machine/facts.ts";
import { until } from "./inside.ts";

/** The folder of this process's cgroup of version 2. */
export const OWN_CGROUP: string = cgroupFolders(facts)[0] ?? "/sys/fs/cgroup";

/** Tests that are left out where the kernel can limit nothing: see {@linkcode canLimit}. */
export const LIMIT_TESTS = 4;

/** Whether processes, memory and CPU time can be limited here: where these controllers are in version 2. */
export function canLimit(): boolean {
  const controllers = words(`${OWN_CGROUP}/cgroup.controllers`);
  return ["pids", "memory", "cpu"].every((controller) => controllers.includes(controller));
}

function words(path: string): readonly string[] {
  return Deno.readTextFileSync(path).split(/\s+/).filter((word) => word !== "");
}

/** Cgroups of ours in a cgroup. */
export function cgroupsIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].filter(({ name, isDirectory }) => isDirectory && name.startsWith("namespace-"))
    .map(({ name }) => name);
}

/** Writes to a file of a cgroup. */
export function writeTo(folder: string, file: string, text: string): void {
  Deno.writeTextFileSync(`${folder}/${file}`, text, { create: false });
}

/** A cgroup that is nobody's, with all controllers that there are enabled below; and one in it, to start programs in. */
export interface Delegated {
  readonly folder: string;
  readonly start: string;
  /** A command line that runs another one in `start`. */
  argv(command: readonly string[]): string[];
}

/** Does something with a cgroup that was given to nobody. Nothing of it is left. */
export async function withDelegated(work: (cgroup: Delegated) => Promise<void>): Promise<void> {
  const [controllers, enabled] = ["cgroup.controllers", "cgroup.subtree_control"].map((file) =>
    words(`${OWN_CGROUP}/${file}`)
  ) as [string[], string[]];
  const added = controllers.filter((controller) => !enabled.includes(controller));
  for (const controller of added) writeTo(OWN_CGROUP, "cgroup.subtree_control", `+${controller}`);
  const folder = `${OWN_CGROUP}/delegated-${crypto.randomUUID()}`;
  const start = `${folder}/start`;
  Deno.mkdirSync(folder);
  try {
    giveToNobody(folder);
    for (const controller of controllers) writeTo(folder, "cgroup.subtree_control", `+${controller}`);
    Deno.mkdirSync(start);
    giveToNobody(start);
    await work({
      folder,
      start,
      argv: (command) => ["sh", "-c", `echo $$ > "$0/cgroup.procs"; exec "$@"`, start, ...command],
    });
    // What was killed may take its time, and what ends a cgroup is in this one.
    await until("the cgroup is empty", () => !/populated 1/.test(Deno.readTextFileSync(`${folder}/cgroup.events`)));
  } finally {
    writeTo(folder, "cgroup.kill", "1");
    await until("the cgroup is removed", () => [start, folder].every(isRemoved));
    for (const controller of added) writeTo(OWN_CGROUP, "cgroup.subtree_control", `-${controller}`);
  }
}

function giveToNobody(folder: string): void {
  for (const file of ["", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"]) {
    Deno.chownSync(folder + file, 65534, 65534);
  }
}

/** Removes a cgroup; says whether it is gone. */
export function isRemoved(folder: string): boolean {
  try {
    Deno.removeSync(folder);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) return false;
  }
  return true;
}
