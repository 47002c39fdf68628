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

// In each round the other thread waits for a pipe that something else holds open.
Deno.test({
  name: "the disposal of a child whose output is being read leaves nothing to Deno's own test sanitizers",
  sanitizeOps: true,
  sanitizeResources: true,
  ignore: Deno.uid() !== 0,
  fn: async () => {
    for (let round = 0; round < 10; round++) {
      let rest: Promise<unknown>;
      let sleep: number;
      {
        await using child = new Namespace({ termGraceMs: 0 }).command("sh", {
          args: ["-c", "sleep 60 & echo $!; wait"],
          stdout: "piped",
        }).spawn();
        const reader = child.stdout.getReader();
        sleep = Number(new TextDecoder().decode((await reader.read()).value));
        rest = reader.read();
      }
      Deno.kill(sleep, "SIGKILL");
      assertEquals(await rest, { value: undefined, done: true });
    }
  },
});
