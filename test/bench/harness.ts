/**
 * What all measures share: contenders timed in turns, medians, and rows of a table.
 *
 * The machine is never quiet, and its speed drifts within a run. So only what ran side by side is compared: the two
 * take turns, each round in the other order, because what one leaves behind (a namespace that the kernel takes apart
 * on another CPU) falls on whoever comes next.
 *
 * @module
 */

/** Something to be timed, once a call. It throws when it did not do its work. */
export interface Contender {
  /** What the table calls it. */
  readonly name: string;
  /** Does the work once. */
  run(): unknown;
}

/** What a measure must reach: at most so many times the peer's figure, or at most so much more than it. */
export interface Goal {
  readonly kind: "ratio" | "difference";
  readonly most: number;
}

/** One line of the table. Figures that could not be had are undefined, and then `note` says why. */
export interface Row {
  readonly measure: string;
  readonly unit: "ms" | "MB" | "kB" | "fds";
  readonly ours: number | undefined;
  readonly peer: string;
  readonly theirs: number | undefined;
  /** A row without a goal is there to be read. */
  readonly goal: Goal | undefined;
  /** The least and the greatest ratio (or difference) of the parts of the run: how much to believe the figure. */
  readonly spread?: readonly [least: number, greatest: number] | undefined;
  readonly note?: string | undefined;
}

/** A measure: its name for `--only`, and how to take it. */
export interface Measure {
  readonly name: string;
  measure(): Promise<readonly Row[]>;
}

/** The times of two contenders in milliseconds, in the order they were taken. */
export interface Times {
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
}

/** How long to take turns. */
export interface Rounds {
  readonly rounds: number;
  /** Rounds before them whose times are thrown away: caches fill, and V8 compiles. */
  readonly warmUp: number;
}

/** Into how many parts a run is cut to see how far its figure varies. */
const PARTS = 6;

/** Times two contenders in turns. */
export async function takeTurns(ours: Contender, theirs: Contender, { rounds, warmUp }: Rounds): Promise<Times> {
  const times: { ours: number[]; theirs: number[] } = { ours: [], theirs: [] };
  for (let round = -warmUp; round < rounds; round++) {
    let one: number;
    let other: number;
    if (round % 2 === 0) {
      one = await time(ours);
      other = await time(theirs);
    } else {
      other = await time(theirs);
      one = await time(ours);
    }
    if (round < 0) continue;
    times.ours.push(one);
    times.theirs.push(other);
  }
  return times;
}

/** Runs a contender once; in milliseconds. */
export async function time(contender: Contender): Promise<number> {
  const start = performance.now();
  const result = contender.run();
  if (result instanceof Promise) await result; // What is synchronous must not be charged for a turn of the event loop.
  return performance.now() - start;
}

/** The middle of some figures. */
export function median(figures: readonly number[]): number {
  if (figures.length === 0) throw new RangeError("Cannot take the median of nothing");
  const sorted = figures.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** A row from times that were taken side by side. */
export function compared(
  { measure, peer, times, goal, note }: {
    measure: string;
    peer: string;
    times: Times;
    goal: Goal | undefined;
    note?: string;
  },
): Row {
  const kind = goal?.kind ?? "ratio";
  const size = Math.ceil(times.ours.length / PARTS);
  const parts = Array.from({ length: PARTS }, (_, part) => [part * size, (part + 1) * size] as const)
    .filter(([from]) => from < times.ours.length && from < times.theirs.length)
    .map(([from, to]) => relation(kind, median(times.ours.slice(from, to)), median(times.theirs.slice(from, to))));
  const spread = [Math.min(...parts), Math.max(...parts)] as const;
  return { measure, unit: "ms", ours: median(times.ours), peer, theirs: median(times.theirs), goal, spread, note };
}

/** A row for what cannot be measured here. */
export function unmeasured(measure: string, peer: string, goal: Goal | undefined, note: string): Row {
  return { measure, unit: "ms", ours: undefined, peer, theirs: undefined, goal, note };
}

/** What a row comes to, where it was measured: a ratio or, where the goal is one, a difference. */
export function outcome({ ours, theirs, goal }: Row): number | undefined {
  if (ours === undefined || theirs === undefined) return undefined;
  return relation(goal?.kind ?? "ratio", ours, theirs);
}

/** Whether a row reaches its goal; undefined where it has none, or was not measured. */
export function reached(row: Row): boolean | undefined {
  const figure = outcome(row);
  return row.goal === undefined || figure === undefined ? undefined : figure <= row.goal.most;
}

function relation(kind: Goal["kind"], ours: number, theirs: number): number {
  return kind === "ratio" ? ours / theirs : ours - theirs;
}

/** A goal that is a ratio. */
export function atMost(ratio: number): Goal {
  return { kind: "ratio", most: ratio };
}

/** A goal that is a difference. */
export function atMostMore(difference: number): Goal {
  return { kind: "difference", most: difference };
}

const HEADINGS = ["measure", "ours", "peer", "peer's name", "ratio", "varies", "goal", "reached"] as const;
/** Which columns hold figures, and are flush right. */
const FIGURES: readonly number[] = [1, 2, 4, 6];

/** The rows as lines of text; notes come last. */
export function table(rows: readonly Row[]): string {
  const cells = [HEADINGS, ...rows.map(cellsOf)];
  const widths = HEADINGS.map((_, column) => Math.max(...cells.map((line) => line[column]!.length)));
  const lines = cells.map((line) =>
    line.map((cell, column) => FIGURES.includes(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!))
      .join("  ").trimEnd()
  );
  lines.splice(1, 0, widths.map((width) => "─".repeat(width)).join("  "));
  const notes = rows.filter((row) => row.note !== undefined).map((row) => `${row.measure}: ${row.note}`);
  return [...lines, ...(notes.length > 0 ? ["", ...notes] : [])].join("\n");
}

function cellsOf(row: Row): readonly string[] {
  const { measure, unit, ours, peer, theirs, goal, spread } = row;
  const sign = goal?.kind === "difference" ? "+" : "";
  const figure = outcome(row);
  const verdict = reached(row);
  return [
    measure,
    ours === undefined ? "–" : amount(ours, unit),
    theirs === undefined ? "–" : amount(theirs, unit),
    peer,
    figure === undefined ? "–" : sign + figure.toFixed(2),
    spread === undefined ? "" : spread.map((end) => end.toFixed(2)).join("–"),
    goal === undefined ? "" : `≤ ${sign}${goal.most}`,
    verdict === undefined ? (goal === undefined ? "" : "not measured") : verdict ? "yes" : "NO",
  ];
}

function amount(value: number, unit: Row["unit"]): string {
  return `${value.toFixed(unit === "ms" ? 3 : unit === "MB" ? 1 : 0)} ${unit}`;
}
