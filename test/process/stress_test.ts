import { assertEquals, assertLessOrEqual } from "@std/assert";
import { Namespace } from "../../mod.ts";
import { statusField } from "../support/inside.ts";
import { children, fileDescriptors, isolatedTest } from "../support/leaks.ts";

const utf8 = new TextDecoder();

function kilobytes(name: "VmRSS" | "VmSize"): number {
  return Number.parseInt(statusField("self", name) ?? "", 10);
}

function threads(): number {
  return Number(statusField("self", "Threads"));
}

function mappings(): number {
  return Deno.readTextFileSync("/proc/self/maps").split("\n").length;
}

const WORLD = { privatePid: true, privateUts: true, privateIpc: true } as const;

isolatedTest("spawn() 200 times in a row leaves nothing", async () => {
  const before = threads();
  for (let round = 0; round < 200; round++) {
    const child = new Namespace(WORLD).command("sh", { args: ["-c", `exit ${round % 100}`], stdout: "piped" }).spawn();
    assertEquals((await child.output()).code, round % 100);
  }
  assertEquals(children(), []);
  assertLessOrEqual(threads(), before + 2);
});

isolatedTest("spawn() of 200 at once tells each its own, with no more threads, and leaves nothing", async () => {
  const before = threads();
  const spawned = Array.from(
    { length: 200 },
    (_, index) =>
      new Namespace(WORLD).command("sh", {
        args: ["-c", `read -r line; echo "$$ ${index} $line"; exit ${index % 50}`],
        stdin: "piped",
        stdout: "piped",
        stderr: "null",
      }).spawn(),
  );
  assertEquals(children().length, 200);
  assertEquals(new Set(spawned.map(({ pid }) => pid)).size, 200);
  assertLessOrEqual(threads(), before + 2);
  // All of them wait for their line, so all are there at the same time.
  const outputs = await Promise.all(spawned.map(async (child, index) => {
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(`line ${index}\n`));
    await writer.close();
    const { code, stdout } = await child.output();
    return [code, utf8.decode(stdout)];
  }));
  assertEquals(outputs, Array.from({ length: 200 }, (_, index) => [index % 50, `1 ${index} line ${index}\n`]));
  assertEquals(children(), []);
});

isolatedTest("output() of 200 at once collects each its own", async () => {
  const command = (index: number) =>
    new Namespace(WORLD).command("sh", { args: ["-c", `yes ${index} | head -c 200000`] }).output();
  const outputs = await Promise.all(Array.from({ length: 200 }, (_, index) => command(index)));
  for (const [index, { stdout }] of outputs.entries()) {
    const text = utf8.decode(stdout);
    assertEquals(text, `${index}\n`.repeat(200_000).slice(0, 200_000), `${index}`);
  }
});

/**
 * By how much something grows for each of so many rounds, at the least. V8 takes memory when it likes, but what leaks
 * does so every time.
 */
function leastGrowth(rounds: number, run: () => void): { rss: number; size: number; mappings: number } {
  const measure = () => ({ rss: kilobytes("VmRSS"), size: kilobytes("VmSize"), mappings: mappings() });
  const least = { rss: Infinity, size: Infinity, mappings: Infinity };
  for (let block = 0, before = measure(); block < 8; block++) {
    for (let round = 0; round < rounds; round++) run();
    const after = measure();
    for (const key of ["rss", "size", "mappings"] as const) least[key] = Math.min(least[key], after[key] - before[key]);
    before = after;
  }
  return least;
}

isolatedTest("outputSync() 2400 times costs no memory (P7)", () => {
  const command = new Namespace(WORLD).command("/bin/true");
  const { rss, size, mappings } = leastGrowth(300, () => command.outputSync());
  // A page for each run would be 1200 kB.
  assertLessOrEqual(rss, 600, "VmRSS in kB");
  assertLessOrEqual(size, 600, "VmSize in kB");
  assertLessOrEqual(mappings, 10);
});

isolatedTest("output() 1500 times costs no memory (P7)", async () => {
  const command = new Namespace(WORLD).command("/bin/true");
  let least = Infinity;
  for (let block = 0, before = kilobytes("VmSize"); block < 5; block++) {
    for (let round = 0; round < 300; round++) await command.output();
    const after = kilobytes("VmSize");
    least = Math.min(least, after - before);
    before = after;
  }
  assertLessOrEqual(least, 600, "VmSize in kB");
});

isolatedTest("outputSync() that fails 800 times costs no memory and leaves nothing", () => {
  const fails = () => {
    try {
      new Namespace({ ...WORLD, privateTmp: true }).command("/no/such/command").outputSync();
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
      throw error;
    }
    throw new Error("It did not fail");
  };
  const before = fileDescriptors();
  const { size, mappings } = leastGrowth(100, fails);
  assertEquals(children(), []);
  assertEquals(fileDescriptors(), before);
  assertLessOrEqual(size, 350, "VmSize in kB"); // A page for each would be 400.
  assertLessOrEqual(mappings, 10);
});

isolatedTest("spawn() that is killed at once, 200 times, leaves nothing", async () => {
  for (let round = 0; round < 200; round++) {
    const child = new Namespace(round % 2 ? WORLD : {}).command("sleep", { args: ["60"], stdout: "piped" }).spawn();
    child.kill("SIGKILL");
    const { signal } = await child.output();
    assertEquals(signal, "SIGKILL");
  }
  assertEquals(children(), []);
});
