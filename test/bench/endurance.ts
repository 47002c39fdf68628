/**
 * Thousands of commands in a row from one process: the last must cost what the first did, and nothing may pile up.
 *
 * The first and the last cannot be measured side by side. In their place a second process runs as many commands with
 * Deno.Command, in turns with the first: its own ratio of last to first is how much the machine has drifted.
 *
 * @module
 */

import { atMost, type Measure, median, type Row } from "./harness.ts";
import { Remote } from "./remote.ts";

const SPAWNS = 5000;
const SPAWNS_PER_ROUND = 50;
const COMPARED = 500;
/** V8 compiles meanwhile: that is no wear. */
const WARM_UP_SPAWNS = 300;

/** The last 500 of 5,000 against the first. */
export const endurance: Measure = {
  name: "endurance",
  async measure(): Promise<readonly Row[]> {
    await using tested = new Remote(0);
    await using control = new Remote(0);
    const { holdings: begin } = await tested.ask("ours", WARM_UP_SPAWNS);
    const { holdings: controlBegin } = await control.ask("theirs", WARM_UP_SPAWNS);
    const ours: number[] = [];
    const theirs: number[] = [];
    let half = begin;
    let end = begin;
    let controlEnd = controlBegin;
    while (ours.length < SPAWNS) {
      const answer = await tested.ask("ours", SPAWNS_PER_ROUND);
      ours.push(...answer.times);
      end = answer.holdings;
      if (ours.length <= SPAWNS / 2) half = end;
      const controlAnswer = await control.ask("theirs", SPAWNS_PER_ROUND);
      theirs.push(...controlAnswer.times);
      controlEnd = controlAnswer.holdings;
    }
    const drift = last(theirs) / first(theirs);
    return [
      {
        measure: `last ${COMPARED} of ${SPAWNS} spawns`,
        unit: "ms",
        ours: last(ours),
        peer: `the first ${COMPARED}`,
        theirs: first(ours),
        goal: atMost(1.05),
        note: `Deno.Command's, meanwhile, in another process: ${drift.toFixed(2)}`,
      },
      {
        measure: "open descriptors at the end",
        unit: "fds",
        ours: end.fds,
        peer: "at the beginning",
        theirs: begin.fds,
        goal: atMost(1),
      },
      {
        measure: "RSS at the end",
        unit: "MB",
        ours: end.rssMb,
        peer: "at half time",
        theirs: half.rssMb,
        goal: undefined,
        note: `${begin.rssMb.toFixed(1)} MB at the beginning; Deno.Command's, meanwhile, went from ` +
          `${controlBegin.rssMb.toFixed(1)} to ${controlEnd.rssMb.toFixed(1)} MB`,
      },
    ];
  },
};

function first(times: readonly number[]): number {
  return median(times.slice(0, COMPARED));
}

function last(times: readonly number[]): number {
  return median(times.slice(-COMPARED));
}
