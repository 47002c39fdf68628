/**
 * The launcher without any Deno: a stand-alone executable as a whole process, what of it stays in memory, and its size.
 *
 * @module
 */

import { LAUNCHERS } from "../../src/machine/launchers.ts";
import { ImageFile } from "../support/image.ts";
import { until } from "../support/inside.ts";
import { obstacle, program } from "./contenders.ts";
import {
  atMost,
  compared,
  type Contender,
  type Goal,
  type Measure,
  type Row,
  takeTurns,
  unmeasured,
} from "./harness.ts";

const ROUNDS = { rounds: 300, warmUp: 30 };
const OPTIONS = ["--private-pid", "--private-ipc", "--private-uts", "--private-tmp"];
const BWRAP = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--dev-bind", "/", "/", "--proc", "/proc"];

const PEERS: readonly (readonly [Contender, Goal])[] = [
  [program("/bin/true", "/bin/true", []), atMost(1.6)],
  [program("unshare", "unshare", ["-pfmiu", "--mount-proc", "/bin/true"]), atMost(0.6)],
  [program("bwrap", "bwrap", [...BWRAP, "--tmpfs", "/tmp", "/bin/true"]), atMost(0.33)],
];

/** pid, mount, IPC and uts namespaces with /proc and /tmp around /bin/true; the launcher's memory and size. */
export const launcher: Measure = {
  name: "launcher",
  async measure(): Promise<readonly Row[]> {
    using image = new ImageFile([...OPTIONS, "/bin/true"]);
    const ours = program("stand-alone", image.path, []);
    const rows: Row[] = [];
    for (const [peer, goal] of PEERS) rows.push(await against(ours, peer, goal));
    rows.push(await againstC(ours));
    return [...rows, ...await memory(), size()];
  },
};

async function against(ours: Contender, peer: Contender, goal: Goal): Promise<Row> {
  const measure = `stand-alone against ${peer.name}`;
  const note = await obstacle(peer);
  if (note !== undefined) return unmeasured(measure, peer.name, goal, note);
  return compared({ measure, peer: peer.name, times: await takeTurns(ours, peer, ROUNDS), goal });
}

/** The same calls, in C, static as well. */
async function againstC(ours: Contender): Promise<Row> {
  const name = "the same calls in C";
  const goal = atMost(1.05);
  const folder = Deno.makeTempDirSync();
  try {
    const source = new URL("fixtures/launch.c", import.meta.url).pathname;
    for (const compiler of [["cc"], ["zig", "cc", "-target", `${Deno.build.arch}-linux-musl`]]) {
      const args = [...compiler.slice(1), "-O2", "-static", "-s", "-o", `${folder}/launch`, source];
      const { success } = await new Deno.Command(compiler[0]!, { args, stderr: "null" }).output().catch(() => ({
        success: false,
      }));
      if (success) return await against(ours, program(name, `${folder}/launch`, []), goal);
    }
    return unmeasured(`stand-alone against ${name}`, name, goal, "there is no C compiler here");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

const MOST_KB = 200;

/** Resident memory of supervisor and init while a command runs. */
async function memory(): Promise<readonly Row[]> {
  using image = new ImageFile([...OPTIONS, "--init", "sleep", "600"]);
  const child = new Deno.Command(image.path, { stdout: "null" }).spawn();
  const children = (pid: number) => Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).trim();
  await until(
    "init runs the command",
    () => children(child.pid) !== "" && children(Number(children(child.pid))) !== "",
  );
  const rows = ([["supervisor", child.pid], ["init", Number(children(child.pid))]] as const).map(([who, pid]): Row => {
    const rollup = Deno.readTextFileSync(`/proc/${pid}/smaps_rollup`);
    const kb = (field: string): number => Number(new RegExp(`^${field}: +(\\d+) kB$`, "m").exec(rollup)![1]);
    const own = kb("Private_Clean") + kb("Private_Dirty");
    const note = `all that is resident; ${own} kB of it are private, the share of it is ${kb("Pss")} kB`;
    const goal = atMost(1);
    return { measure: `memory of ${who}`, unit: "kB", ours: kb("Rss"), peer: "most", theirs: MOST_KB, goal, note };
  });
  child.kill("SIGTERM");
  await child.status;
  return rows;
}

function size(): Row {
  const ours = Uint8Array.fromBase64(LAUNCHERS[Deno.build.arch]).length / 1024;
  return { measure: "size of the launcher", unit: "kB", ours, peer: "most", theirs: 48, goal: atMost(1) };
}
