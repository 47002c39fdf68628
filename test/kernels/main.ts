/**
 * The tests on other kernels: `deno task test:kernels [-- release...] [-- test paths and options of "deno test"]`.
 *
 * Boots Debian's kernels in qemu, one after the other, over this system's own files, of which nothing is changed, and
 * runs `deno test -A` there as root. It takes root, apt-get and qemu-system-x86; kernels are kept in $XDG_CACHE_HOME.
 *
 * @module
 */

import { acceleration, runInside } from "./machine.ts";
import { exists, kernelFolder, KERNELS, Missing, run, takeKernel } from "./packages.ts";

const given = Deno.args.filter((argument) => argument !== "--");
const releases = given.filter((argument) => KERNELS.has(argument));
const options = given.filter((argument) => argument.startsWith("-"));
const paths = given.filter((argument) => !KERNELS.has(argument) && !argument.startsWith("-"));
let passed = 0;
let failed = 0;
let ignored = 0;
const lines: string[] = [];
try {
  const strange = paths.find((path) => !exists(path));
  if (strange !== undefined) {
    throw new Missing(`"${strange}" is neither a file nor one of the releases ${[...KERNELS.keys()].join(", ")}`);
  }
  await run(Deno.execPath(), ["test", "--no-run", ...paths]); // The machine has no network.
  const folder = kernelFolder();
  for (const release of releases.length === 0 ? KERNELS.keys() : releases) {
    const kernel = await takeKernel(release, folder);
    console.log(`── ${release}: Linux ${kernel.version}, ${acceleration()}`);
    const { code, summary, bootSeconds, seconds } = await runInside(kernel, [
      "test",
      "-A",
      "--no-check",
      "--cached-only",
      ...options,
      ...paths,
    ]);
    const count = (word: string): number => Number(summary?.match(new RegExp(`(\\d+) ${word}`))?.[1] ?? 0);
    passed += count("passed");
    ignored += count("ignored");
    // What ended without a count, or was refused before a test ran, has failed as well.
    failed += count("failed") + (code !== 0 && count("failed") === 0 ? 1 : 0);
    lines.push(
      `${release} (Linux ${kernel.version}, ${acceleration()}): ${summary ?? "no test ran"}; ` +
        `booted in ${bootSeconds.toFixed(1)} s, ${seconds.toFixed(0)} s in all`,
    );
  }
} catch (error) {
  if (!(error instanceof Missing)) throw error;
  console.error(`test:kernels: ${error.message}`);
  Deno.exit(1);
}
for (const line of lines) console.log(line);
console.log(`${passed} passed, ${failed} failed${ignored === 0 ? "" : `, ${ignored} skipped`}`);
Deno.exit(failed === 0 && passed > 0 ? 0 : 1);
