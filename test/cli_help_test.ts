import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { parseCommandLine } from "../src/cli/arguments.ts";
import { EXPLAIN_OPTIONS } from "../src/cli/explain.ts";
import { helpText, USAGE_TEXT, VERSION_TEXT } from "../src/cli/help.ts";
import { MOUNT_OPTIONS } from "../src/cli/mounts.ts";
import { validate } from "../src/options.ts";

/** Every option at the beginning of a line of the help: its letter, its name, and the name of its value. */
const SHOWN = [...helpText(false).matchAll(/^ {2}(?:-(\w), | {4})--([a-z0-9-]+)(\[=|[ ])?([A-Z:[\]]+)?/gm)];

Deno.test("helpText() names options that there are, with their letters and values", () => {
  assertEquals(SHOWN.length, 82);
  for (const [line, letter, name, separator, value] of SHOWN) {
    const needsValue = separator === " " && value !== undefined;
    const argument = needsValue ? [EXAMPLES.get(name!) ?? "x"] : [];
    const long = parseCommandLine([`--${name}`, ...argument, ...BESIDE.get(name!) ?? []]);
    assertEquals(long.command, undefined, line);
    if (letter !== undefined) assertEquals(parseCommandLine([`-${letter}`, ...argument]), long, line);
  }
});

const EXAMPLES: ReadonlyMap<string, string> = new Map([
  ["uid", "5"],
  ["pids-max", "5"],
  ["cpu-max", "0.5"],
  ["cpu-weight", "5"],
  ["io-weight", "5"],
  ["hugetlb-max", "2MB=64m"],
  ["gid", "5"],
  ["env", "A=1"],
  ["uid-map", "0:0"],
  ["gid-map", "0:0"],
  ["term-grace-ms", "5"],
  ["timeout", "5"],
  ["capabilities", "none"],
  ["cap-keep", "CAP_KILL"],
  ["cap-drop", "CAP_KILL"],
  ["cap-add", "CAP_KILL"],
  ["groups", "5,6"],
  ["rlimit", "nofile=5"],
  ["umask", "077"],
  ["nice", "5"],
  ["cpu-affinity", "0,1"],
  ["oom-score-adj", "5"],
  ["status-fd", "5"],
  ["overlay", "/a:lower=/b"],
  ["symlink", "a:/b"],
  ["remount", "/a:ro"],
  ["file", "/a:b"],
  ["inherit-fd", "5"],
  ["setgroups", "deny"],
  ["seccomp", "default"],
  ["landlock", "read=/usr"],
]);
const BESIDE: ReadonlyMap<string, string[]> = new Map([
  ["uid-map", ["--gid-map=0:0"]],
  ["gid-map", ["--uid-map=0:0"]],
]);

Deno.test("helpText() names every option of the library", () => {
  const names = new Set(SHOWN.map(([, , name]) => name));
  for (const option of Object.keys(parseCommandLine([]).namespace)) {
    if (option === "mounts") continue; // Each of its types is an option: see the test above and MOUNT_OPTIONS.
    if (option === "rlimits") continue; // Each is given by --rlimit.
    const name = option.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    assert(names.has(name) || names.has(`no-${name}`), name);
  }
});

Deno.test("helpText() names every option of mounts", () => {
  const names = new Set(SHOWN.map(([, , name]) => name));
  for (const name of MOUNT_OPTIONS) assert(names.has(name), name);
});

Deno.test("helpText() names every option of nsrun explain", () => {
  for (const name of [...EXPLAIN_OPTIONS.flags, ...EXPLAIN_OPTIONS.valued]) {
    assertStringIncludes(helpText(false), `\n    --${name} `);
  }
});

Deno.test("helpText() shows examples that work", () => {
  const examples = helpText(false).split("Examples:")[1]!.split("\n").filter((line) => line.startsWith("    nsrun "));
  assert(examples.length >= 4);
  for (const example of examples) {
    const words = example.trim().split(" ").slice(1);
    const { namespace, command } = words[0] === "explain"
      ? parseCommandLine(words.slice(1), EXPLAIN_OPTIONS)
      : parseCommandLine(words);
    validate(namespace);
    assert(command !== undefined && Object.values(namespace).some((value) => value), example);
  }
});

Deno.test("helpText() fits a screen of 120 columns, and is bold only where asked", () => {
  for (const line of helpText(false).split("\n")) assert(line.length <= 120, line);
  assert(!helpText(false).includes("\x1b"));
  assertStringIncludes(helpText(true), "\x1b[1mExamples\x1b[0m");
  assertEquals(helpText(true).replaceAll("\x1b[1m", "").replaceAll("\x1b[0m", ":"), helpText(false));
});

Deno.test("VERSION_TEXT and USAGE_TEXT are a line and two", () => {
  assertMatch(VERSION_TEXT, /^nsrun \d+\.\d+\.\d+$/);
  assertEquals(USAGE_TEXT.split("\n").length, 2);
});
