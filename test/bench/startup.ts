/**
 * What a program pays for using this package at all: importing it, and loading the shim.
 *
 * @module
 */

import { denoRun } from "./deno_run.ts";
import { atMostMore, compared, type Measure, type Row, takeTurns } from "./harness.ts";

const ROUNDS = { rounds: 80, warmUp: 5 };

/** Whole processes, `deno run`, from start to exit. */
export const startup: Measure = {
  name: "startup",
  async measure(): Promise<readonly Row[]> {
    const empty = denoRun("empty module", "fixtures/empty.ts");
    const times = await takeTurns(denoRun("import", "fixtures/load.ts"), empty, ROUNDS);
    return [compared({ measure: "import and load the shim", peer: empty.name, times, goal: atMostMore(4) })];
  },
};
