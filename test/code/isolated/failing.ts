/** Tests that fail in every way, and steps of all kinds. */

import { assertEquals } from "@std/assert";
import { isolated } from "../../../mod.ts";

const around = "a variable around the test";

Deno.test(
  "values differ",
  isolated({ privateTmp: true }, () => {
    assertEquals({ a: 1, list: [1, 2] }, { a: 1, list: [1, 3] });
  }),
);

Deno.test(
  "steps",
  isolated({ privatePid: true }, async (t) => {
    const results = [
      await t.step("passes", async (t) => {
        await t.step(function nested(t) {
          console.log([t.name, t.parent?.name, t.parent?.parent?.name, t.parent?.parent?.parent].join(" < "));
          assertEquals(t.origin, import.meta.url);
        });
      }),
      await t.step({ name: "is left out", ignore: true, fn: () => Deno.exit(9) }),
      await t.step("fails", () => assertEquals(around, "another")),
      await t.step("fails by its step", async (t) => {
        await t.step("deep", () => {
          throw new TypeError("deep down", { cause: new Error("the cause") });
        });
      }),
      ...await Promise.all([t.step("one at a time", () => {}), t.step("with another", () => {})]),
    ];
    console.log(results.join(" "));
  }),
);

Deno.test(
  "exits",
  isolated({}, async (t) => {
    await t.step("in a step", () => Deno.exit(3));
  }),
);

Deno.test(
  "rejects for nobody",
  isolated({}, async () => {
    Promise.reject(new Error("that nobody looks at"));
    await new Promise((resolve) => setTimeout(resolve, 60_000));
  }),
);

Deno.test("is made too late", async (t) => {
  await isolated({}, () => {})(t);
});

Deno.test("throws what is no error", isolated({}, () => Promise.reject("a word")));

Deno.test(
  "throws what is its own cause",
  isolated({}, () => {
    const error = new Error("round and round");
    error.cause = error;
    throw error;
  }),
);
