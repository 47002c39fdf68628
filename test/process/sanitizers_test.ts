import "../support/leaks.ts"; // Loads the shim.
import { assertEquals } from "@std/assert";
import { Namespace } from "../../mod.ts";

// Not an isolatedTest, which waits: a user's test that ends with this line must pass as one with Deno.Command does.
Deno.test({
  name: "output() leaves nothing to Deno's own test sanitizers",
  sanitizeOps: true,
  sanitizeResources: true,
  ignore: Deno.uid() !== 0,
  fn: async () => {
    const { code } = await new Namespace({ privatePid: true }).command("true").output();
    assertEquals(code, 0);
  },
});
