/**
 * Two tests that run at the same time, in a file each: one goes on when the other has the port and the file as well.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { isolated } from "../../../mod.ts";

/** Registers one of the two. */
export function registerTest(own: string, other: string): void {
  Deno.test(
    `the ${own} has the port and the file`,
    isolated({ privateTmp: true, privateNet: true, privatePid: true }, async (t) => {
      await using server = Deno.serve(
        { hostname: "127.0.0.1", port: 8123, onListen: () => {} },
        () => new Response(own),
      );
      Deno.writeTextFileSync("/tmp/isolated", own, { createNew: true });
      await t.step("while the other has them", () => meet(own, other));
      assertEquals(await (await fetch(`http://127.0.0.1:${server.addr.port}`)).text(), own);
      assertEquals([Deno.readTextFileSync("/tmp/isolated"), Deno.pid], [own, 1]);
    }),
  );
}

/** They meet in a folder that is not in /tmp. */
async function meet(own: string, other: string): Promise<void> {
  const folder = Deno.env.get("ISOLATED_TEST_MEETING")!;
  Deno.writeTextFileSync(`${folder}/${own}`, "");
  for (const end = performance.now() + 20_000; !isThere(`${folder}/${other}`);) {
    if (performance.now() > end) throw new Error(`The ${other} never had the port`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function isThere(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
