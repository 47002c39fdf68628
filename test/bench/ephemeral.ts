/**
 * A copy-on-write view of a large tree, against the same command without one.
 *
 * @module
 */

import { Namespace } from "../../mod.ts";
import { atMost, atMostMore, compared, type Measure, median, type Row, takeTurns } from "./harness.ts";

const FOLDERS = 1_000;
const FILES = 100;
const FILE_SIZE = 4_096;
const CHANGES = 1_000;
const ROUNDS = 3;

/** Archives the tree, as `make dist` does, and changes a file of each folder. */
const ARCHIVE = `tar -cf - . | gzip -1 > ../archive; for folder in *; do echo more >> $folder/7; done`;
/** Does nothing but look: what is worst for an overlay, whose every file is new to the kernel. */
const LOOK = `find . -newermt 2100-01-01`;

/** Runs a shell in a folder, outside or on a view. */
async function shell(folder: string, script: string, ns?: Namespace): Promise<void> {
  const options = { args: ["-c", script], cwd: folder };
  const { success } = await (ns?.command("sh", options) ?? new Deno.Command("sh", options)).output();
  if (!success) throw new Error(`Failed: ${script}`);
}

async function against(folder: string, script: string, measure: string, goal: Row["goal"]): Promise<Row> {
  const views: Namespace[] = [];
  const times = await takeTurns(
    {
      name: "ephemeral",
      async run(): Promise<void> {
        const view = new Namespace({ ephemeral: true });
        views.push(view);
        await shell(folder, script, view);
      },
    },
    { name: "plain", run: () => shell(folder, script) },
    { rounds: ROUNDS, warmUp: 1 },
  );
  for (const view of views) await view.discard();
  return compared({ measure, peer: "the same outside", times, goal });
}

async function changes(folder: string): Promise<Row> {
  await using ns = new Namespace({ ephemeral: true });
  await shell(folder, ARCHIVE.replace(/.*;(?= for)/, ""), ns);
  const times: number[] = [];
  for (let round = 0; round < 10; round++) {
    const start = performance.now();
    const { length } = await ns.changes();
    times.push(performance.now() - start);
    if (length !== CHANGES) throw new Error(`There are ${length} changes`);
  }
  return {
    measure: `changes(), ${CHANGES} of them`,
    unit: "ms",
    ours: median(times),
    peer: "nothing",
    theirs: 0,
    goal: atMostMore(200),
    spread: [Math.min(...times), Math.max(...times)],
  };
}

/** A file that can be compressed about as well as text. */
function content(seed: number): Uint8Array {
  const bytes = new Uint8Array(FILE_SIZE);
  let state = seed + 1;
  for (let at = 0; at < FILE_SIZE; at++) {
    state = Math.imul(state, 1_103_515_245) + 12_345;
    bytes[at] = 97 + (state >>> 28);
  }
  return bytes;
}

/** What commands write to a view. */
export const ephemeral: Measure = {
  name: "ephemeral",
  async measure(): Promise<readonly Row[]> {
    const folder = Deno.makeTempDirSync({ prefix: "namespace-bench-", dir: "/var/tmp" });
    const tree = `${folder}/tree`;
    try {
      for (let index = 0; index < FOLDERS; index++) {
        Deno.mkdirSync(`${tree}/${index}`, { recursive: true });
        const bytes = content(index);
        for (let file = 0; file < FILES; file++) Deno.writeFileSync(`${tree}/${index}/${file}`, bytes);
      }
      const count = `${FOLDERS * FILES / 1000},000`;
      return [
        await against(tree, ARCHIVE, `ephemeral: archive ${count} files, change 1,000`, atMost(1.3)),
        await against(tree, LOOK, `ephemeral: look at ${count} files`, undefined),
        await changes(tree),
      ];
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  },
};
