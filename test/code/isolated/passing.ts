/** Tests that pass, with all sanitizers. */

import { assert, assertEquals } from "@std/assert";
import { isolated } from "../../../mod.ts";

const outer = Deno.pid;

for (const round of [1, 2]) {
  Deno.test(
    `passes ${round}`,
    { sanitizeExit: true, sanitizeOps: true, sanitizeResources: true },
    isolated({ privateTmp: true, privateNet: true }, async (t) => {
      await t.step("outer step", async (t) => {
        await t.step("inner step", () => assertEquals([...Deno.readDirSync("/tmp")], []));
      });
      await t.step({ name: "ignored step", ignore: true, fn() {} });
    }),
  );
}

Deno.test(
  "has the permissions and the environment that are given",
  isolated({ privatePid: true }, { permissions: { env: true }, env: { WORD: "given" } }, () => {
    assertEquals([Deno.env.get("WORD"), Deno.pid], ["given", 1]);
    for (const [name, path] of [["read", "/proc/self/fd/3"], ["write", "/proc/self/fd/4"], ["ffi"]] as const) {
      assertEquals(Deno.permissions.querySync({ name, path } as Deno.PermissionDescriptor).state, "prompt");
    }
  }),
);

Deno.test(
  "what it leaves behind does not keep the test from its end",
  isolated({}, () => {
    assert(outer === Deno.pid); // This file was loaded in this process.
    console.log(`left ${new Deno.Command("sleep", { args: ["60"] }).spawn().pid}`);
  }),
);
