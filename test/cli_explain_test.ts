import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Namespace } from "../mod.ts";
import { nsrun, nsrunArgv, stdoutOf } from "./support/cli.ts";
import { isolatedTest } from "./support/leaks.ts";

const NO_PERMISSION = { permissions: [] };

isolatedTest("nsrun explain says what the same words do, without permissions where --as says who", async () => {
  const words = ["--as", "uid:1000,gid:100", "-p", "--private-tmp=size=1m", "--hostname", "box", "-w", "/", "ps", "ax"];
  const namespace = new Namespace({ privatePid: true, privateTmp: { size: "1m" }, hostname: "box" });
  const expected = namespace.explain("ps", { as: { uid: 1000, gid: 100 }, args: ["ax"], cwd: "/" });
  assertEquals(await stdoutOf(["explain", ...words], NO_PERMISSION), `${expected}\n`);
  assertEquals(JSON.parse(await stdoutOf(["explain", "--json", ...words], NO_PERMISSION)), plain(expected));
  const picture = await stdoutOf(["explain", "--mermaid", ...words], NO_PERMISSION);
  assertEquals(picture.split("\n")[0], "flowchart LR");
  assertStringIncludes(picture, "tmpfs at /tmp");
});

function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

isolatedTest("nsrun explain says it for the caller, and does nothing", async () => {
  const printed = await stdoutOf(["explain", "-n", "--", "sh", "-c", "echo run"]);
  assertStringIncludes(printed, "    clone(CLONE_NEWNET)\n");
  assertStringIncludes(printed, `["sh", "-c", "echo run"]`);
  assert(!printed.split("\n").includes("run"));
  const nobody = await stdoutOf(["explain", "-n"], { user: "nobody" });
  assertStringIncludes(nobody, "For user 65534, group 65534, without capabilities:");
  assertStringIncludes(nobody, "    clone(CLONE_NEWUSER|CLONE_NEWNET)\n");
  assert(!nobody.includes(`execve("`));
});

isolatedTest("nsrun explain knows capabilities", async () => {
  const explain = (...words: string[]) => stdoutOf(["explain", "-m", "--as", ...words], NO_PERMISSION);
  assertStringIncludes(await explain("uid:0"), "clone(CLONE_NEWNS)");
  assertStringIncludes(await explain("uid:0", "--caps", "none"), "clone(CLONE_NEWUSER|CLONE_NEWNS)");
  assertStringIncludes(await explain("uid:7", "--caps=CAP_SYS_ADMIN,CAP_SETUID"), "with CAP_SETUID, CAP_SYS_ADMIN:");
  assertStringIncludes(await explain("uid:7", "--caps", "all"), "clone(CLONE_NEWNS)");
});

isolatedTest("nsrun explain has colours on a terminal, and none with NO_COLOR", async () => {
  // script(1) runs a command line on a terminal of its own.
  const line = nsrunArgv(["explain", "--as", "uid:0"], NO_PERMISSION).join(" ");
  for (const [NO_COLOR, colored] of [["", true], ["1", false]] as const) {
    const options: Deno.CommandOptions = { args: ["-qec", line, "/dev/null"], env: { NO_COLOR, TERM: "xterm" } };
    const { code, stdout } = await new Deno.Command("script", { ...options, stdin: "null" }).output();
    const printed = new TextDecoder().decode(stdout);
    assertEquals(code, 0, printed);
    assertStringIncludes(printed, "PR_SET_PDEATHSIG");
    assertEquals(printed.includes("\x1b[1mThe child:"), colored, printed);
  }
});

isolatedTest("nsrun explain refuses what makes no sense", async () => {
  const cases: [string[], string][] = [
    [["--as", "1000"], `Unknown part "1000" of --as: known are uid, gid`],
    [["--as", "gid:5"], `--as must be uid:ID or uid:ID,gid:ID`],
    [["--as", "uid:me"], `--as uid must be a number: got "me"`],
    [["--caps", "none"], `--caps needs --as beside it`],
    [["--as=uid:0", "--caps", "CAP_ROOT"], `--caps must have names such as "CAP_SYS_ADMIN": got "CAP_ROOT"`],
    [["--as=uid:0,gid:4294967295"], `--as gid must be an integer from 0 to`],
    [["--json", "--mermaid"], `--json and --mermaid contradict each other`],
    [["--private-pdi"], `did you mean "--private-pid"?`],
  ];
  for (const [words, message] of cases) {
    const { code, stdout, stderr } = await nsrun(["explain", ...words], NO_PERMISSION);
    assertEquals([code, stdout], [125, ""], words.join(" "));
    assertStringIncludes(stderr, `nsrun: `);
    assertStringIncludes(stderr, message);
  }
  const { code, stderr } = await nsrun(["--json", "true"]);
  assertEquals([code, stderr], [125, `nsrun: Unknown option "--json": see nsrun --help\n`]);
});

isolatedTest("a command called explain is run after --", async () => {
  const { code, stderr } = await nsrun(["--", "explain"]);
  assertEquals(code, 127, stderr);
});

isolatedTest("--verbose says on stderr the lines of nsrun explain, with results", async () => {
  const words = ["-pni", "-t", "-S0", "-T=boottime=5", "--hostname", "box", "-w", "/", "/bin/true"];
  const { steps, clone } = JSON.parse(await stdoutOf(["explain", "--json", ...words]));
  type Line = { text: string; onlyAfter: string[] };
  const made = [clone, ...steps].filter(({ onlyAfter }: Line) => onlyAfter.length === 0).map(({ text }: Line) => text);
  const others = steps.filter(({ onlyAfter }: Line) => onlyAfter.length > 0).map(({ text }: Line) => text);
  // From here on it is not the plan that acts, but the launcher.
  const expected = made.slice(0, made.findIndex((text) => text.startsWith("rt_sigprocmask")));
  for (const option of ["--verbose", "-v", "--debug"]) {
    const { code, stderr } = await nsrun([option, ...words]);
    assertEquals(code, 0, stderr);
    const lines = stderr.trimEnd().split("\n").map((line) =>
      /^nsrun: (.*) = (?:\d+|-1 (?:EAGAIN|EINVAL))$/.exec(line)?.[1]
    );
    // An older kernel refuses a step, and then there is one more.
    assertEquals(lines.filter((text, index) => text === expected[index] || !others.includes(text)), expected, stderr);
  }
});
