import { assert, assertEquals } from "@std/assert";
import { mergeEnvironment } from "../../src/plan/environment.ts";

const bytes = (text: string) => new TextEncoder().encode(text.replaceAll(" ", "\0") + "\0");
const changes = (...entries: [string, string | undefined][]) => new Map(entries);

Deno.test("mergeEnvironment() sets and leaves out variables", () => {
  const inherited = bytes("A=1 B=2 C=3");
  assertEquals(mergeEnvironment(inherited, changes(["B", "4"], ["C", undefined], ["D", "5"])), bytes("A=1 B=4 D=5"));
  assert(mergeEnvironment(inherited, changes()) === inherited);
});

Deno.test("mergeEnvironment() gives the same block for the same changes, which the plan is then the same for", () => {
  const inherited = bytes("A=1");
  const first = mergeEnvironment(inherited, changes(["B", "2"], ["C", undefined]));
  assert(mergeEnvironment(inherited, changes(["B", "2"], ["C", undefined])) === first);
  const others = [
    changes(["B", "3"], ["C", undefined]),
    changes(["B", "2"]),
    changes(["C", undefined], ["B", "2"]),
    changes(["B", "2"], ["D", undefined]),
    changes(["B", "2"], ["C", ""]),
  ];
  assertEquals(others.map((other) => mergeEnvironment(inherited, other) === first), others.map(() => false));
  const given = changes(["B", "2"]);
  const before = mergeEnvironment(inherited, given);
  given.set("B", "3"); // What is remembered is not the caller's.
  assertEquals(mergeEnvironment(inherited, given), bytes("A=1 B=3"));
  assertEquals(before, bytes("A=1 B=2"));
  assertEquals(mergeEnvironment(bytes("A=2"), given), bytes("A=2 B=3"));
});
