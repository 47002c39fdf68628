/**
 * The command line as a whole process against the least that a Deno program can be.
 *
 * @module
 */

import { obstacle } from "./contenders.ts";
import { denoRun } from "./deno_run.ts";
import { atMost, compared, type Measure, type Row, takeTurns, unmeasured } from "./harness.ts";

const ROUNDS = { rounds: 80, warmUp: 5 };
const PATH = "../../src/cli/main.ts";

/** `deno run` of the CLI with /bin/true in pid and mount namespaces and a fresh /tmp. */
export const cli: Measure = {
  name: "cli",
  async measure(): Promise<readonly Row[]> {
    const measure = "command line -p -t /bin/true";
    const goal = atMost(1.25);
    const empty = denoRun("empty module", "fixtures/empty.ts");
    const nsrun = denoRun("the command line", PATH, ["-p", "-t", "/bin/true"]);
    const note = await exists(PATH) ? await obstacle(nsrun) : "there is no src/cli/main.ts yet";
    if (note !== undefined) return [unmeasured(measure, empty.name, goal, note)];
    return [compared({ measure, peer: empty.name, times: await takeTurns(nsrun, empty, ROUNDS), goal })];
  },
};

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(new URL(path, import.meta.url));
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
