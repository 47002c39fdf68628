import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { describeDiagnosis } from "../src/cli/doctor.ts";
import type { Diagnosis } from "../src/diagnose.ts";
import { nsrun, nsrunArgv } from "./support/cli.ts";
import { isolatedTest } from "./support/leaks.ts";
import { USERS } from "./support/nobody.ts";

const FOUND: Diagnosis = {
  works: false,
  system: {
    kernel: "6.8.0-31-generic",
    architecture: "x86_64",
    uid: 1000,
    privileged: false,
    securityModules: ["lockdown", "apparmor"],
    securityLabel: "unconfined",
    filtered: false,
    noNewPrivileges: true,
    limits: { "user.max_user_namespaces": 5 },
  },
  checks: [
    { name: "user namespace", works: true, how: "tried", detail: undefined, remedy: undefined },
    { name: "pid namespace", works: false, how: "tried", detail: "Cannot do it for privatePid", remedy: "Set noProc." },
  ],
  features: [{ name: "Landlock", works: true, how: "read", detail: "ABI 4", remedy: undefined }],
};

Deno.test("describeDiagnosis() tells what is found, in nsrun's words", () => {
  const text = describeDiagnosis(FOUND, false);
  assertEquals(text.split("\n"), [
    "Linux 6.8.0-31-generic on x86_64",
    "  user 1000, without CAP_SYS_ADMIN",
    `  lockdown, apparmor; this process is "unconfined"`,
    "  no seccomp filter; no new privileges",
    "  user.max_user_namespaces 5",
    "",
    "What is private with nsrun's options, tried as this user",
    "  yes  user namespace",
    "  no   pid namespace",
    "       Cannot do it for --private-pid",
    "       Set --no-proc.",
    "",
    "What there is beyond that",
    "  yes  Landlock (ABI 4), as read",
    "",
    "What is needed does not work: see above.",
  ]);
  // deno-lint-ignore no-control-regex -- colours of a terminal.
  assertEquals(describeDiagnosis(FOUND, true).replaceAll(/\x1b\[[0-9;]*m/g, ""), text);
  assertStringIncludes(describeDiagnosis(FOUND, true), "\x1b[1;31mno \x1b[0m  pid namespace");
});

for (const user of USERS) {
  isolatedTest(`nsrun doctor ends with 0 where what is needed works, as ${user}`, async () => {
    const { code, stdout, stderr } = await nsrun(["doctor"], { user });
    assertEquals([code, stderr], [0, ""]);
    assertMatch(stdout, /^Linux \S+ on \w+\n/);
    assertMatch(stdout, /\n {2}yes {2}pid namespace with its own \/proc\n/);
    assertMatch(stdout, /\nWhat is needed works.\n$/);
    assert(!stdout.includes("\x1b"));
  });

  isolatedTest(`nsrun doctor --json is the same for programs, as ${user}`, async () => {
    const { code, stdout } = await nsrun(["doctor", "--json"], { user });
    const { works, system, checks } = JSON.parse(stdout) as Diagnosis;
    assertEquals([code, works, system.uid, checks.length], [0, true, user === "root" ? 0 : 65534, 11]);
  });
}

isolatedTest("nsrun doctor ends with 1 where what is needed does not work, and says what to do", async () => {
  const script = `echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"`;
  const { code, stdout } = await new Deno.Command("unshare", {
    args: ["--user", "--map-root-user", "sh", "-ec", script, "sh", ...nsrunArgv(["doctor"])],
  }).output();
  const text = new TextDecoder().decode(stdout);
  assertEquals(code, 1);
  assertMatch(
    text,
    /\n {2}no {3}user namespace\n {7}Cannot make namespaces for --private-user: .*\(ENOSPC\)\n {7}No disk/,
  );
  assertMatch(text, /sysctl -w user.max_user_namespaces=/);
  assertMatch(text, /\n {2}yes {2}UTS namespace\n/);
});

isolatedTest("nsrun doctor says how it is used, and refuses what it does not know", async () => {
  const help = await nsrun(["doctor", "--help"], { permissions: [] });
  assertEquals(help.code, 0);
  assertMatch(help.stdout, /^nsrun doctor: .*\n\nUsage:\n {2}nsrun doctor \[--json\]\n/);
  const { code, stderr } = await nsrun(["doctor", "who"]);
  assertEquals([code, stderr], [125, `nsrun: nsrun doctor takes --json and nothing else: got "who"\n`]);
  assertEquals((await nsrun(["--", "doctor"])).code, 127);
});

isolatedTest("nsrun doctor colours what a terminal shows, and nothing else", () => {
  const shown = (env: string): string => {
    const line = `env -u NO_COLOR ${env} ${nsrunArgv(["doctor"]).join(" ")}`;
    const { stdout } = new Deno.Command("script", {
      args: ["-qec", line, "/dev/null"],
      env: { TERM: "xterm", SHELL: "/bin/sh" },
      stdin: "null",
    }).outputSync();
    return new TextDecoder().decode(stdout);
  };
  assertStringIncludes(shown(""), "\x1b[32mWhat is needed works.\x1b[0m");
  assertStringIncludes(shown("NO_COLOR=1"), "\nWhat is needed works.\r\n");
});
