/**
 * A command of a Deno with a large heap against one of a Deno with a small heap: nothing may be copied for the child.
 *
 * @module
 */

import { atMost, compared, type Measure, type Row, type Times } from "./harness.ts";
import { Remote, type Who } from "./remote.ts";

const LARGE_MB = 500;
const ROUNDS = 150;
const SPAWNS_PER_ROUND = 6;
const WARM_UP_SPAWNS = 200;
const PEER = "small heap";

/** Spawn to exit of /bin/true, with 500 MB in use and with next to nothing. */
export const heap: Measure = {
  name: "heap",
  async measure(): Promise<readonly Row[]> {
    await using large = new Remote(LARGE_MB);
    await using small = new Remote(0);
    const ours = await sideBySide(large, small, "ours");
    const theirs = await sideBySide(large, small, "theirs");
    const [largeMb, smallMb] = [
      (await large.ask("ours", 1)).holdings.rssMb,
      (await small.ask("ours", 1)).holdings.rssMb,
    ];
    const note = `RSS ${largeMb.toFixed(0)} MB against ${smallMb.toFixed(0)} MB`;
    return [
      compared({ measure: `${LARGE_MB} MB heap`, peer: PEER, times: ours, goal: atMost(1.05), note }),
      compared({ measure: `${LARGE_MB} MB heap, Deno.Command`, peer: PEER, times: theirs, goal: undefined }),
    ];
  },
};

async function sideBySide(large: Remote, small: Remote, who: Who): Promise<Times> {
  for (const remote of [large, small]) await remote.ask(who, WARM_UP_SPAWNS);
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const turns = [[large, ours], [small, theirs]] as const;
    for (const [remote, times] of round % 2 === 0 ? turns : turns.toReversed()) {
      times.push(...(await remote.ask(who, SPAWNS_PER_ROUND)).times);
    }
  }
  return { ours, theirs };
}
