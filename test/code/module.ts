/** A module that is run by its URL. */

/** Its default export is called. */
export default function describe(count: number, word: string): { pid: number; text: string } {
  if (count < 0) throw new RangeError("negative");
  return { pid: Deno.pid, text: word.repeat(count) };
}
