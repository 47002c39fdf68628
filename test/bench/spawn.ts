/**
 * A command in namespaces of its own against Deno.Command without any, in each of the three ways to run one.
 *
 * @module
 */

import { denoCommand, ours, type Way } from "./contenders.ts";
import { atMost, compared, type Measure, type Row, takeTurns } from "./harness.ts";

const ROUNDS = { rounds: 600, warmUp: 200 };

const WAYS: readonly (readonly [Way, string])[] = [
  ["spawn", "spawn().status"],
  ["output", "output()"],
  ["outputSync", "outputSync()"],
];

/** Spawn to exit of /bin/true. */
export const spawn: Measure = {
  name: "spawn",
  async measure(): Promise<readonly Row[]> {
    const rows: Row[] = [];
    for (const [way, text] of WAYS) {
      const peer = denoCommand(way);
      const times = await takeTurns(ours(way), peer, ROUNDS);
      rows.push(compared({ measure: text, peer: peer.name, times, goal: atMost(1.1) }));
    }
    return rows;
  },
};
