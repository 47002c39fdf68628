/**
 * File systems of their own against bwrap with the same view.
 *
 * @module
 */

import { type MountOptions, Namespace } from "../../mod.ts";
import { obstacle, program } from "./contenders.ts";
import { atMost, compared, type Contender, type Measure, type Row, takeTurns, unmeasured } from "./harness.ts";

const BINDS = 2_000;
const BINDS_GOAL = atMost(0.05);
const SANDBOX_GOAL = atMost(0.4);

/** Many read-only binds, the whole run: from the options to the end of the program. */
async function manyBinds(): Promise<Row> {
  const folder = Deno.makeTempDirSync({ prefix: "namespace-bench-" });
  try {
    const names = Array.from({ length: BINDS }, (_, index) => `${folder}/${index}`);
    for (const name of names) Deno.mkdirSync(name);
    const places = names.map((name, index) => [name, `/mnt/${index}`] as const);
    const mounts: MountOptions[] = [
      { type: "tmpfs", target: "/mnt" },
      ...places.map(([source, target]): MountOptions => ({ type: "bind", source, target, readonly: true })),
    ];
    const measure = `${BINDS} read-only binds`;
    const binds = places.flatMap(([source, target]) => ["--ro-bind", source, target]);
    const bwrap = program("bwrap", "bwrap", ["--dev-bind", "/", "/", "--tmpfs", "/mnt", ...binds, "/bin/true"]);
    const note = await obstacle(bwrap);
    if (note !== undefined) return unmeasured(measure, bwrap.name, BINDS_GOAL, note);
    const times = await takeTurns(sandboxed("mounts", () => new Namespace({ mounts })), bwrap, {
      rounds: 2,
      warmUp: 0,
    });
    return compared({ measure, peer: bwrap.name, times, goal: BINDS_GOAL });
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** What the preset shows of the system, and of /proc, in bwrap's words. */
function systemBinds(): { readonly system: readonly string[]; readonly proc: readonly string[] } {
  const { steps } = Namespace.sandbox().explain("/bin/true", { as: { uid: 1000 } });
  const targets = (pattern: RegExp): string[] =>
    [...new Set(steps.map(({ what }) => pattern.exec(what)?.[1]))].filter((target) => target !== undefined);
  const shown = targets(/^bind "(.*)" read-only$/);
  const binds = (paths: readonly string[]) => paths.flatMap((path) => ["--ro-bind-try", path, path]);
  const hidden = targets(/^hide "(.*)"$/).filter((path) => existsSync(path));
  return {
    system: binds(shown.filter((path) => !path.startsWith("/proc/"))),
    proc: [
      ...binds(shown.filter((path) => path.startsWith("/proc/"))),
      ...hidden.flatMap((path) =>
        Deno.statSync(path).isDirectory ? ["--tmpfs", path] : ["--ro-bind", "/dev/null", path]
      ),
    ],
  };
}

function existsSync(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

async function sandbox(): Promise<Row> {
  const measure = "Namespace.sandbox(), spawn().status";
  const { system, proc } = systemBinds();
  const bwrap = program("bwrap", "bwrap", [
    ...["--unshare-all", "--uid", "1000", "--gid", "1000", ...system],
    ...["--ro-bind", "/etc/passwd", "/etc/passwd", "--ro-bind", "/etc/group", "/etc/group"],
    ...[
      "--tmpfs",
      "/home/sandbox",
      "--tmpfs",
      "/tmp",
      "--proc",
      "/proc",
      ...proc,
      "--dev",
      "/dev",
      "--remount-ro",
      "/",
    ],
    "/bin/true",
  ]);
  const note = await obstacle(bwrap);
  if (note !== undefined) return unmeasured(measure, bwrap.name, SANDBOX_GOAL, note);
  const ns = Namespace.sandbox();
  const times = await takeTurns(sandboxed("sandbox()", () => ns), bwrap, { rounds: 200, warmUp: 30 });
  return compared({ measure, peer: bwrap.name, times, goal: SANDBOX_GOAL });
}

function sandboxed(name: string, make: () => Namespace): Contender {
  return {
    name,
    async run(): Promise<void> {
      const { success } = await make().command("/bin/true").spawn().status;
      if (!success) throw new Error(`Failed: ${name}`);
    },
  };
}

/** What is seen. */
export const mounts: Measure = {
  name: "mounts",
  async measure(): Promise<readonly Row[]> {
    return [await sandbox(), await manyBinds()];
  },
};
