/**
 * The one gate: `deno task ok`. Runs every check, each to its end, and prints the tests' own count as its last line.
 */

import { canLimit, LIMIT_TESTS } from "./support/cgroup.ts";

const CHECKS: readonly (readonly [name: string, ...args: string[]])[] = [
  ["format", "fmt", "--check"],
  ["lint", "lint"],
  ["types", "check", "mod.ts", "src", "shim", "test"],
  ["documentation", "doc", "--lint", "mod.ts", "src/cli/main.ts", "src/diagnose.ts", "src/mount.ts", "src/unshare.ts"],
  ["shim", "task", "check:artifacts"],
  ["publishing", "publish", "--dry-run", "--allow-dirty"],
];

/** Examples in the documentation are tests like the others. */
const TESTS: readonly (readonly [name: string, ...args: string[]])[] = [
  ["tests", "test", "-A"],
  ["examples", "test", "-A", "--doc", "--preload", "./test/support/load.ts", "mod.ts", "src", "README.md"],
];

/** As root nothing needs to be left out, but limits where the kernel's cgroups have none. */
const IGNORED_AS_ROOT = canLimit() ? 0 : LIMIT_TESTS;

/** What some tests run, and the package of Debian's that it is in. Where it cannot be had they fail. */
const PROGRAMS = [["strace", "strace"], ["newuidmap", "uidmap"], ["chattr", "e2fsprogs"], [
  "script",
  "bsdutils",
]] as const;

const utf8 = new TextDecoder();
const failures: string[] = [];
let passed = 0;
let failed = 0;
let ignored = 0;

installPrograms();
for (const [name, ...args] of CHECKS) {
  console.log(`── ${name}: deno ${args.join(" ")}`);
  if ((await run(args)).code !== 0) failures.push(name);
}
for (const [name, ...args] of TESTS) {
  console.log(`── ${name}: deno ${args.join(" ")}`);
  const { code, output } = await run(args);
  // deno-lint-ignore no-control-regex -- colours of a terminal.
  const summary = output.replaceAll(/\x1b\[[0-9;]*m/g, "").match(/^(?:ok|FAILED) \| .*$/m)?.[0];
  if (summary === undefined) {
    failures.push(`${name} (which ended without a count)`);
    continue;
  }
  const count = (word: string): number => Number(summary.match(new RegExp(`(\\d+) ${word}`))?.[1] ?? 0);
  passed += count("passed");
  failed += count("failed");
  ignored += count("ignored");
  if (code !== 0 && count("failed") === 0) failures.push(name);
}
if (Deno.uid() === 0 && ignored !== IGNORED_AS_ROOT) failures.push(`${ignored} tests were ignored`);
if (passed === 0) failures.push("no test ran");

for (const failure of failures) console.log(`FAILED: ${failure}`);
console.log(`${passed} passed, ${failed + failures.length} failed${ignored === 0 ? "" : `, ${ignored} skipped`}`);
Deno.exit(failed + failures.length === 0 ? 0 : 1);

function installPrograms(): void {
  const missing = PROGRAMS.filter(([program]) => !succeeds("sh", ["-c", `command -v ${program}`]));
  if (missing.length === 0) return;
  const packages = missing.map(([, name]) => name);
  console.log(`── programs: apt-get install ${packages.join(" ")}`);
  const install = ["install", "-y", "--no-install-recommends", ...packages];
  if (succeeds("apt-get", install)) return;
  succeeds("apt-get", ["update"]);
  if (!succeeds("apt-get", install)) failures.push(`${packages.join(", ")} (which cannot be installed)`);
}

function succeeds(command: string, args: readonly string[]): boolean {
  try {
    return new Deno.Command(command, { args: [...args], stdin: "null", stdout: "null", stderr: "null" }).outputSync()
      .success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Runs Deno with these arguments, and shows what it prints while it prints it. */
async function run(args: readonly string[]): Promise<{ code: number; output: string }> {
  const command = new Deno.Command(Deno.execPath(), {
    args: [...args],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  });
  const child = command.spawn();
  let output = "";
  for await (const chunk of child.stdout) {
    await Deno.stdout.write(chunk);
    output += utf8.decode(chunk, { stream: true });
  }
  return { code: (await child.status).code, output };
}
