import { assertEquals } from "@std/assert";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import { runProgram } from "../support/program.ts";

const PROGRAM = `
  const ns = new Namespace({ privatePid: true, privateTmp: true, privateNet: true, privateUser: true, hostname: "box" });
  const options = { uid: 0, stdin: "null" } as const;
  const { clone, steps } = ns.explain("/bin/true", options);
  for (const { text, onlyAfter } of [clone, ...steps]) if (onlyAfter.length === 0) console.log(text);
  Namespace.debug = true;
  await ns.command("/bin/true", options).spawn().status;
`;

for (const user of USERS) {
  isolatedTest(`Namespace.debug prints the steps of explain(), with results, as ${user}`, async () => {
    const { code, stdout, stderr } = await runProgram(PROGRAM, { user });
    assertEquals(code, 0, stderr);
    const lines = stderr.trimEnd().split("\n").map((line) => /^namespace: (.*) = (?:\d+|-1 EAGAIN)$/.exec(line)?.[1]);
    assertEquals(lines, stdout.trimEnd().split("\n"), stderr);
  });
}
