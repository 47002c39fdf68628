/**
 * Moving a running process, all of its threads, into namespaces.
 *
 * @module
 */

import { atMostMore, type Measure, median, type Row } from "./harness.ts";

const PROCESSES = 15;

/** `setup()` with mounts, /tmp and names, in processes of sixteen threads: it can be done once in each. */
export const setup: Measure = {
  name: "setup",
  async measure(): Promise<readonly Row[]> {
    const runs: { readonly count: number; readonly ms: number }[] = [];
    const file = new URL("fixtures/setup.ts", import.meta.url).pathname;
    for (let index = 0; index < PROCESSES; index++) {
      const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", file] }).output();
      runs.push(JSON.parse(new TextDecoder().decode(stdout)));
    }
    const times = runs.map(({ ms }) => ms);
    return [{
      measure: `setup() of ${median(runs.map(({ count }) => count))} threads`,
      unit: "ms",
      ours: median(times),
      peer: "nothing",
      theirs: 0,
      goal: atMostMore(2),
      spread: [Math.min(...times), Math.max(...times)],
    }];
  },
};
