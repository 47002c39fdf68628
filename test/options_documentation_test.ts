// src/OPTIONS.md has each option that there is, and none that there is not; its TypeScript is run with the other examples.

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { type Invocation, parseCommandLine } from "../src/cli/arguments.ts";
import { TRY_OPTIONS } from "../src/cli/try.ts";
import { OPTION_NAMES, validate } from "../src/options.ts";
import { MOUNT_TYPES } from "../src/options_mounts.ts";
import { OPTION_NAMES as COMMAND_OPTION_NAMES } from "../src/process/command.ts";

/** Of a command's options those that are the same as in Deno.Command. */
const DENO_OPTION_NAMES: readonly string[] = ["args", "stdin", "stdout", "stderr", "windowsRawArguments"];

/** What a part is about, by its heading: the options in it, and what a command line asks of one of them. */
const PARTS: Readonly<
  Record<string, readonly [names: readonly string[], asked: (line: Invocation, name: string) => unknown]>
> = {
  "Of a namespace": [
    OPTION_NAMES,
    // On a command line, which has one command, there is one environment.
    ({ namespace, commandOptions }, name) =>
      ({ ...namespace, env: commandOptions.env })[name as keyof typeof namespace],
  ],
  "Types of mounts": [MOUNT_TYPES, ({ namespace }, name) => namespace.mounts?.find(({ type }) => type === name)],
  "Of a command": [
    COMMAND_OPTION_NAMES.filter((name) => !DENO_OPTION_NAMES.includes(name)),
    // What ends a command there is no AbortSignal.
    ({ commandOptions, timeoutMs }, name) =>
      name === "signal" ? timeoutMs : commandOptions[name as keyof typeof commandOptions],
  ],
};

/** What is below a heading, without what is below headings of other levels. */
interface Section {
  readonly heading: string;
  readonly text: string;
}

const [, ...PARTS_FOUND] = sections(Deno.readTextFileSync(new URL("../src/OPTIONS.md", import.meta.url)), "## ");

Deno.test("src/OPTIONS.md has a heading for each option, and for nothing else", () => {
  assertEquals(PARTS_FOUND.map(({ heading }) => heading), Object.keys(PARTS));
  for (const { heading, text } of PARTS_FOUND) {
    const [, ...options] = sections(text, "### ");
    assertEquals(options.map(({ heading }) => heading).sort(), [...PARTS[heading]![0]].sort(), heading);
    for (const { heading: name, text } of options) {
      assertEquals(sections(text, "#").length, 1, `${name} has headings below it`);
      assertNotEquals(blocks(text, "ts").length, 0, `${name} has no example that runs`);
      for (const example of blocks(text, "ts")) assert(/^assert/m.test(example), `${name} checks nothing`);
      const words = new RegExp(`\\b${name}\\b`);
      assert(words.test(blocks(text, "ts").join("\n")), `${name} has an example without it`);
    }
  }
});

Deno.test("src/OPTIONS.md has command lines that nsrun understands, and that have the option", async () => {
  for (const { heading, text } of PARTS_FOUND) {
    const asked = PARTS[heading]![1];
    for (const { heading: name, text: section } of sections(text, "### ").slice(1)) {
      const lines = blocks(section, "sh").flatMap((block) => block.trim().split("\n"));
      assertNotEquals(lines.length, 0, `${name} has no command line`);
      for (const line of lines) {
        const [verb, ...words] = await wordsOf(line);
        // It has the option anyway.
        const invocation = verb === "try"
          ? parseCommandLine(["--ephemeral", ...words], TRY_OPTIONS)
          : parseCommandLine([verb!, ...words]);
        validate(invocation.namespace);
        assertNotEquals(invocation.command, undefined, line);
        assertNotEquals(asked(invocation, name), asked(parseCommandLine(["true"]), name), line);
      }
    }
  }
});

/** A text cut before each heading of a level; the first has none. */
function sections(text: string, level: string): readonly Section[] {
  const found: string[][] = [[""]];
  let isCode = false;
  for (const line of text.split("\n")) {
    if (line.startsWith("```")) isCode = !isCode;
    if (!isCode && line.startsWith(level)) found.push([line.slice(level.length)]);
    else found.at(-1)!.push(line);
  }
  return found.map(([heading, ...lines]) => ({ heading: heading!, text: lines.join("\n") }));
}

/** The blocks of code in a language, without those that have an attribute such as `ignore`. */
function blocks(text: string, language: string): readonly string[] {
  return [...text.matchAll(/^```(.*)\n([^]*?)^```$/gm)].filter(([, info]) => info === language).map(([, , code]) =>
    code!
  );
}

/** The words of a command line of nsrun, as a shell understands it. */
async function wordsOf(line: string): Promise<readonly string[]> {
  const args = ["-euc", `nsrun() { printf '%s\\0' "$@"; }\n${line}`];
  const { success, stdout } = await new Deno.Command("sh", { args, stdin: "null" }).output();
  assert(success, line);
  return new TextDecoder().decode(stdout).split("\0").slice(0, -1);
}
