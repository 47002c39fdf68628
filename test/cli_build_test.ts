import { assertEquals, assertStringIncludes } from "@std/assert";
import { nsrun, stdoutOf } from "./support/cli.ts";
import { isolatedTest } from "./support/leaks.ts";
import { runArgv } from "./support/program.ts";

const ALL = { permissions: ["--allow-all"] };

isolatedTest("nsrun build writes an executable, and nsrun inspect tells what it does", async () => {
  const folder = Deno.makeTempDirSync({ dir: "/var/tmp" });
  try {
    const jail = `${folder}/jail`;
    const words = [
      "-p",
      "--private-tmp=size=1m",
      "--hostname=box",
      "-e",
      "A=1",
      "--",
      "sh",
      "-c",
      'echo $$ $A "$@"',
      "-",
    ];
    assertEquals(await stdoutOf(["build", "-o", jail, ...words], ALL), "");
    assertEquals((await runArgv([jail, "more"])).stdout, "1 1 more\n");
    assertEquals(await stdoutOf(["build", `--output=${jail}`, "--any-command", ...words], ALL), "");
    assertEquals((await runArgv([jail, "echo", "other"])).stdout, "other\n");

    const told = await stdoutOf(["inspect", jail], ALL);
    assertStringIncludes(told, `"sh" "-c" "echo $$ $A \\"$@\\"" "-" for ${Deno.build.arch}, or any other command\n`);
    assertStringIncludes(told, `\nof the command: {"env":{"A":"1"}}\n`);
    assertStringIncludes(told, `mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID|MS_NODEV, "mode=1777,size=1m")`);
    const { namespace, options, steps } = JSON.parse(await stdoutOf(["inspect", "--json", jail], ALL));
    assertEquals([namespace.hostname, options.anyCommand, options.env], ["box", true, { A: "1" }]);
    assertStringIncludes(told, "\nBuilding it again gives the same bytes: it does this and nothing else.\n");

    // The launcher in it, which no checksum is of.
    const altered = Deno.readFileSync(jail);
    altered[3000]! ^= 1;
    Deno.writeFileSync(jail, altered);
    assertStringIncludes(await stdoutOf(["inspect", jail], ALL), "\nBuilding it again gives other bytes: ");
    assertEquals(JSON.parse(await stdoutOf(["inspect", "--json", jail], ALL)).reproduced, false);
    Deno.writeFileSync(`${folder}/filter`, Uint8Array.of(6, 0, 0, 0, 0, 0, 0xff, 0x7f)); // It allows everything.
    await stdoutOf(
      ["build", "-o", jail, "--seccomp", `${folder}/filter`, "--hostname=box", "echo", "\x1b[2J\x9b"],
      ALL,
    );
    const clean = await stdoutOf(["inspect", jail], ALL);
    assertStringIncludes(clean, `"echo" "\\u001b[2J\\u009b" for `);
    assertStringIncludes(clean, `"seccomp":{"base64":"BgAAAAAA/38="}`);
    assertStringIncludes(clean, "\nBuilding it again gives the same bytes: ");
    // deno-lint-ignore no-control-regex -- what a terminal would obey.
    assertEquals(/[\x00-\x09\x0b-\x1f\x7f-\x9f]/.test(clean), false);
    assertEquals(steps.some(({ text }: { text: string }) => text === 'sethostname("box", 3)'), true);

    await stdoutOf(["build", "-o", jail, "--private-user=uid=7", "-S", "7", "-G", "0", "true"], ALL);
    const who = await stdoutOf(["inspect", jail], ALL);
    assertStringIncludes(who, `"true" as user 7, group 0 for ${Deno.build.arch}\n`);
    assertStringIncludes(who, "For whoever runs it, without capabilities:");
    assertStringIncludes(who, `write(<openat>, "7 <own> 1\\n", 15)\n      Map user ids (7 to the own one).`);
    assertStringIncludes(who, `write(<openat>, "<own> <own> 1\\n", 24)\n      Map group ids (the own one as it is).`);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

isolatedTest("nsrun build and inspect say what is missing or wrong", async () => {
  for (
    const [args, message] of [
      [["build", "-o", "x"], "build needs a command"],
      [["build", "true"], "build needs -o FILE"],
      [["build", "-o", "/var/tmp/x", "--arch=mips", "true"], "--arch"],
      [["build", "-o", "/nowhere/x", "true"], 'Cannot write -o "/nowhere/x": the folder for it is missing\n'],
      [["build", "-o", "/etc/passwd/x", "true"], 'Cannot write -o "/etc/passwd/x": what it is in is no folder\n'],
      [["build", "-o", "/var/tmp", "true"], 'Cannot write -o "/var/tmp": it is a folder\n'],
      [["inspect", "/bin/true", "-p"], 'inspect takes one executable: got "-p" as well'],
      [["inspect"], "inspect needs the path of an executable"],
      [["inspect", "/bin/true"], 'Cannot inspect "/bin/true": there is no plan in it'],
      [["inspect", "/etc/passwd"], 'Cannot inspect "/etc/passwd": it is no executable'],
    ] as const
  ) {
    const { code, stderr } = await nsrun(args, ALL);
    assertEquals(code, 125);
    assertStringIncludes(stderr, message);
  }
  const { code, stderr } = await nsrun(["build", "-o", "/var/tmp/never", "true"]);
  assertEquals(code, 125);
  assertEquals(
    stderr,
    'nsrun: -o needs to write "/var/tmp/never": run Deno with --allow-write of its folder beside --allow-ffi\n',
  );
});

Deno.test("nsrun build refuses what is nsrun's own", async () => {
  for (const word of ["--status-fd=1", "--debug"]) {
    const { code, stderr } = await nsrun(["build", word, "-o", "/nowhere/x", "true"]);
    assertEquals(code, 125);
    assertStringIncludes(stderr, `${word.split("=")[0]} cannot be built in`);
  }
});
