/**
 * A command in namespaces of its own against the programs that do the same, each started with Deno.Command.
 *
 * @module
 */

import { obstacle, ours, program } from "./contenders.ts";
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

const ROUNDS = { rounds: 300, warmUp: 50 };

const PEERS: readonly (readonly [Contender, Goal])[] = [
  [program("unshare", "unshare", ["-pf", "--mount-proc", "/bin/true"]), atMost(0.45)],
  [
    program(
      "bwrap",
      "bwrap",
      ["--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "--tmpfs", "/tmp", "/bin/true"],
    ),
    atMost(0.3),
  ],
];

/** Spawn to exit of /bin/true. */
export const peers: Measure = {
  name: "peers",
  async measure(): Promise<readonly Row[]> {
    const rows: Row[] = [];
    for (const [peer, goal] of PEERS) {
      const measure = `spawn().status against ${peer.name}`;
      const note = await obstacle(peer);
      if (note !== undefined) {
        rows.push(unmeasured(measure, peer.name, goal, note));
        continue;
      }
      const times = await takeTurns(ours("spawn"), peer, ROUNDS);
      rows.push(compared({ measure, peer: peer.name, times, goal }));
    }
    return rows;
  },
};
