/**
 * `nsrun explain` as a whole process against the least that a Deno program can be.
 *
 * @module
 */

import { denoRun } from "./deno_run.ts";
import { atMost, compared, type Measure, type Row, takeTurns } from "./harness.ts";

const ROUNDS = { rounds: 80, warmUp: 5 };
const WORDS = ["-p", "-t", "/bin/true"];

/** For the caller, which takes the shim, and for somebody described, which does not. */
export const explain: Measure = {
  name: "explain",
  async measure(): Promise<readonly Row[]> {
    const empty = denoRun("empty module", "fixtures/empty.ts");
    const rows: Row[] = [];
    for (const words of [["explain"], ["explain", "--as", "uid:1000"]]) {
      const nsrun = denoRun(words.join(" "), "../../src/cli/main.ts", [...words, ...WORDS]);
      const times = await takeTurns(nsrun, empty, ROUNDS);
      rows.push(compared({ measure: `command line ${nsrun.name}`, peer: empty.name, times, goal: atMost(1.5) }));
    }
    return rows;
  },
};
