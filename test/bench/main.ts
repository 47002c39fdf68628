/**
 * Measures what must be reached, against peers in the same run, and prints a table: `deno task bench`.
 *
 *     deno run -A test/bench/main.ts [--json] [--strict] [--only NAME]...
 *
 * A missed goal is shown and is no failure, unless `--strict` makes it one; what could not be measured is then a failure too.
 * To add a measure: a file that exports a `Measure`, and its name in `MEASURES`.
 *
 * @module
 */

import { cli } from "./cli.ts";
import { code } from "./code.ts";
import { endurance } from "./endurance.ts";
import { ephemeral } from "./ephemeral.ts";
import { explain } from "./explain.ts";
import { type Measure, outcome, reached, type Row, table } from "./harness.ts";
import { heap } from "./heap.ts";
import { launcher } from "./launcher.ts";
import { mounts } from "./mounts.ts";
import { peers } from "./peers.ts";
import { spawn } from "./spawn.ts";
import { setup } from "./setup.ts";
import { startup } from "./startup.ts";

const MEASURES: readonly Measure[] = [
  spawn,
  peers,
  heap,
  startup,
  cli,
  launcher,
  explain,
  endurance,
  setup,
  code,
  mounts,
  ephemeral,
];

interface Options {
  readonly json: boolean;
  readonly strict: boolean;
  readonly only: readonly string[];
}

function parse(args: readonly string[]): Options {
  const names = MEASURES.map(({ name }) => name);
  const only: string[] = [];
  const flags = new Set<string>();
  for (let index = 0; index < args.length; index++) {
    const argument = args[index]!;
    if (argument === "--only") {
      const name = args[++index];
      if (name === undefined || !names.includes(name)) throw new RangeError(`--only takes one of ${names.join(", ")}`);
      only.push(name);
    } else if (argument === "--json" || argument === "--strict") {
      flags.add(argument);
    } else {
      throw new TypeError(`Unknown argument "${argument}": there are --json, --strict, --only NAME`);
    }
  }
  return { json: flags.has("--json"), strict: flags.has("--strict"), only };
}

function machine(): string {
  const { deno, v8 } = Deno.version;
  return `Deno ${deno} (V8 ${v8}), Linux ${Deno.osRelease()} ${Deno.build.arch}, ${navigator.hardwareConcurrency} CPUs`;
}

async function main(args: readonly string[]): Promise<number> {
  const { json, strict, only } = parse(args);
  const rows: Row[] = [];
  for (const { name, measure } of MEASURES) {
    if (only.length > 0 && !only.includes(name)) continue;
    rows.push(...await measure());
  }
  if (json) {
    const measures = rows.map((row) => ({ ...row, outcome: outcome(row), reached: reached(row) ?? null }));
    console.log(JSON.stringify({ machine: machine(), measures }, null, 2));
  } else {
    console.log(`${machine()}\n\n${table(rows)}`);
  }
  const missed = rows.some((row) => row.goal !== undefined && reached(row) !== true);
  return strict && missed ? 1 : 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
