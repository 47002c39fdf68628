import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../../mod.ts";
import type { ExplainedStep, ExplainOptions } from "../../mod.ts";
import { picture } from "../../src/plan/picture.ts";
import { runProgram } from "../support/program.ts";

const SOMEBODY = { uid: 1000, gid: 100 };

function explain(options: NamespaceOptions, more: ExplainOptions = {}, command: string | undefined = "/bin/true") {
  return new Namespace(options).explain(command, { as: SOMEBODY, ...more });
}

function texts(steps: readonly ExplainedStep[], by: "parent" | "child"): string[] {
  return steps.filter((step) => step.by === by).map(({ text }) => text);
}

Deno.test("explain() lists every step in order, the clone first", () => {
  const { clone, steps, caller } = explain({ hostname: "box" });
  assertEquals(caller, { uid: 1000, gid: 100, capabilities: [] });
  assertEquals([clone.text, clone.option], ["clone(CLONE_NEWUSER|CLONE_NEWUTS)", "hostname"]);
  assertEquals(texts(steps, "parent").filter((text) => text.startsWith("write")), [
    `write(<openat>, "deny", 4)`,
    `write(<openat>, "1000 1000 1\\n", 12)`,
    `write(<openat>, "100 100 1\\n", 10)`,
  ]);
  assertEquals(texts(steps, "child"), [
    "prctl(PR_SET_PDEATHSIG, SIGKILL)",
    "futex(&parent, FUTEX_WAIT, FUTEX_OWNER_DIED, {tv_sec=0, tv_nsec=0})",
    "futex(&go, FUTEX_WAIT, 0, NULL)",
    `sethostname("box", 3)`,
    "prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)",
    "close_range(3, ~0U, CLOSE_RANGE_CLOEXEC)",
    "close_range(3, ~0U, 0)",
    "rt_sigprocmask(SIG_SETMASK, [], NULL, 8)",
    `execve("/bin/true", ["/bin/true"], [0 strings])`,
    `openat(AT_FDCWD, "/bin/true", O_RDONLY|O_CLOEXEC)`,
    "read(<openat>, <head>, 4)",
    `futex(<head>, FUTEX_WAIT, "\\x7fELF", {tv_sec=0, tv_nsec=0})`,
    `execve("/bin/sh", ["/bin/sh", "/bin/true"], [0 strings])`,
  ]);
});

Deno.test("explain() tells which steps are not always made, and after what", () => {
  const conditional = explain({ privateTmp: true }, { env: { PATH: "/a:/b" } }, "x").steps
    .filter(({ onlyAfter }) => onlyAfter.length > 0).map(({ text, onlyAfter }) => [text, onlyAfter.join(" ")]);
  assertEquals(conditional, [
    [`chdir("/")`, "ENOENT ENOTDIR EACCES"],
    ["close_range(3, ~0U, 0)", "EINVAL"],
    [`openat(AT_FDCWD, "/a/x", O_RDONLY|O_CLOEXEC)`, "ENOEXEC"],
    ["read(<openat>, <head>, 4)", "ENOEXEC"],
    [`futex(<head>, FUTEX_WAIT, "\\x7fELF", {tv_sec=0, tv_nsec=0})`, "ENOEXEC"],
    [`execve("/bin/sh", ["/bin/sh", "/a/x"], [1 strings])`, "EACCES EAGAIN ENOEXEC"],
    [`execve("/b/x", ["x"], [1 strings])`, "ENOENT ENOTDIR EACCES ENODEV ESTALE"],
    [`openat(AT_FDCWD, "/b/x", O_RDONLY|O_CLOEXEC)`, "ENOEXEC"],
    ["read(<openat>, <head>, 4)", "ENOEXEC"],
    [`futex(<head>, FUTEX_WAIT, "\\x7fELF", {tv_sec=0, tv_nsec=0})`, "ENOEXEC"],
    [`execve("/bin/sh", ["/bin/sh", "/b/x"], [1 strings])`, "EACCES EAGAIN ENOEXEC"],
  ]);
});

Deno.test("explain() depends on the capabilities of whom it is for, not on whom asks", () => {
  const clone = (as: ExplainOptions["as"]) => explain({ privateMount: true }, { as }).clone.text;
  assertEquals(clone({ uid: 0 }), "clone(CLONE_NEWNS)");
  assertEquals(clone({ uid: 5 }), "clone(CLONE_NEWUSER|CLONE_NEWNS)");
  assertEquals(clone({ uid: 0, capabilities: "none" }), "clone(CLONE_NEWUSER|CLONE_NEWNS)");
  assertEquals(clone({ uid: 5, capabilities: "all" }), "clone(CLONE_NEWNS)");
  assertEquals(clone({ uid: 5, capabilities: ["CAP_SYS_ADMIN", "CAP_KILL"] }), "clone(CLONE_NEWNS)");
  const steps = (capabilities: string[]) => explain({ privateUser: true }, { as: { uid: 5, capabilities } }).steps;
  assert(texts(steps([]), "parent").join().includes("setgroups"));
  assert(!texts(steps(["CAP_SETGID"]), "parent").join().includes("setgroups"));
});

Deno.test("explain() has pipes and no program where there are none yet", () => {
  const { steps } = new Namespace().explain(undefined, { as: { uid: 0 }, stdout: "piped", stdin: "null" });
  const calls = texts(steps, "child");
  assert(calls.includes("dup3(<pipe>, 1, 0)") && calls.includes("dup3(<openat>, 0, 0)"));
  assertEquals(calls.at(-1), "rt_sigprocmask(SIG_SETMASK, [], NULL, 8)");
});

Deno.test("explain() as text groups steps by the option that asked for them", () => {
  const lines = explain({ privateTmp: true, hostname: "box" }, { as: { uid: 0 } }).toString().split("\n");
  assertEquals(lines.slice(0, 6), [
    "For user 0, group 0, with CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN:",
    "",
    "This process:",
    "  for privateTmp, hostname",
    "    clone(CLONE_NEWNS|CLONE_NEWUTS)",
    "      Make namespaces.",
  ]);
  const at = lines.indexOf("  for hostname");
  assertEquals(lines.slice(at, at + 4), [
    "  for hostname",
    `    sethostname("box", 3)`,
    `      Set the hostname to "box".`,
    "  for privateTmp",
  ]);
  assertStringIncludes(lines.join("\n"), "Close all descriptors above 2. Only after EINVAL.");
  assertStringIncludes(explain({ privateMount: true }).toString(), "  for a caller without CAP_SYS_ADMIN\n    openat(");
});

Deno.test("explain() as text has every step, and colours only where asked", () => {
  const explanation = explain({ privatePid: true, privateNet: true });
  const plain = `${explanation}`;
  for (const { text } of [explanation.clone, ...explanation.steps]) assertStringIncludes(plain, `    ${text}\n      `);
  assert(!plain.includes("\x1b"));
  const colored = explanation.toString(true);
  assertStringIncludes(colored, "\x1b[1mThe child:\x1b[0m");
  // deno-lint-ignore no-control-regex -- colours of a terminal.
  assertEquals(colored.replaceAll(/\x1b\[\d*m/g, ""), plain);
});

Deno.test("explain() in JSON is its caller, clone and steps", () => {
  const explanation = explain({ hostname: "box" });
  const { caller, clone, steps } = JSON.parse(JSON.stringify(explanation));
  assertEquals(caller, explanation.caller);
  assertEquals(clone.text, explanation.clone.text);
  assertEquals(steps.map(({ text }: ExplainedStep) => text), explanation.steps.map(({ text }) => text));
});

Deno.test("explain() refuses what is no user, and capabilities that there are not", () => {
  const as = (as: unknown) => () => new Namespace().explain("true", { as: as as { uid: number } });
  assertThrows(as({ uid: -1 }), RangeError, `Option "as.uid" must be an integer from 0`);
  assertThrows(as({}), TypeError, `Option "as.uid" must be a number`);
  assertThrows(as({ uid: 0, gid: "0" }), TypeError, `Option "as.gid" must be a number`);
  assertThrows(as({ uid: 0, caps: "none" }), TypeError, `Unknown option "as.caps"`);
  assertThrows(
    as({ uid: 0, capabilities: "some" }),
    TypeError,
    `Option "as.capabilities" must be "all", "none" or an array`,
  );
  assertThrows(as({ uid: 0, capabilities: ["CAP_ROOT"] }), TypeError, `got "CAP_ROOT"`);
  const misspelt = { as: SOMEBODY, stdOut: "null" } as ExplainOptions;
  assertThrows(() => new Namespace().explain("true", misspelt), TypeError, `did you mean "stdout"?`);
});

Deno.test("picture() shows processes, namespaces and mounts", () => {
  const lines = picture(
    explain({ privatePid: true, privateTmp: { size: "1m" }, privateTime: { boottime: 5 } }, { uid: 0 }, "p<s"),
  ).split("\n");
  assertEquals(lines, [
    "flowchart LR",
    `  subgraph outside["The caller's namespaces; shared: net, ipc, uts, cgroup"]`,
    `    parent["This process<br>user 1000, group 100"]`,
    "  end",
    `  subgraph inside["Namespaces of its own: user, mount, pid, time"]`,
    `    child["p#60;s<br>PID 1<br>clock offsets (boottime 5 0)<br>user 0"]`,
    `    mount0[("tmpfs at /tmp<br>MS_NOSUID#124;MS_NODEV<br>mode=1777,size=1m")]`,
    `    mount1[("proc at /proc<br>MS_NOSUID#124;MS_NODEV#124;MS_NOEXEC")]`,
    "  end",
    `  parent -->|"clone(CLONE_NEWUSER#124;CLONE_NEWNS#124;CLONE_NEWPID)"| child`,
    `  parent -.->|"give up setgroups(2) in the user namespace"| child`,
    `  parent -.->|"map user ids (1000 to 1000)"| child`,
    `  parent -.->|"map group ids (100 to 100)"| child`,
    "  child --- mount0",
    "  child --- mount1",
  ]);
});

Deno.test("explain() says what a helper does between the parent's steps", () => {
  const map = [{ inside: 0, outside: 1000 }, { inside: 1, outside: 100_000, count: 9 }];
  const explanation = explain({ privateUser: { uidMap: map, gidMap: [{ inside: 0, outside: 100 }] } });
  const helpers = explanation.steps.filter(({ by }) => by === "helper");
  assertEquals(new Set(helpers.map(({ call }) => call)), new Set(["openat", "dup3", "close_range", "execve"]));
  assertEquals(
    helpers.at(-1)!.text,
    `execve("/usr/bin/newuidmap", ["newuidmap", <child>, "0", "1000", "1", "1", "100000", "9"], [])`,
  );
  const conditional = helpers.filter(({ onlyAfter }) => onlyAfter.length > 0).map(({ args: [path] }) => path);
  assertEquals(conditional, ["3", `"/usr/local/bin/newuidmap"`, `"/usr/bin/newuidmap"`]);
  // What comes behind is made in any case, the child's first step, too.
  assertEquals(explanation.steps.filter(({ by, onlyAfter }) => by === "parent" && onlyAfter.length > 0), []);
  const text = String(explanation);
  assertStringIncludes(text, 'A helper:\n  for privateUser\n    openat(AT_FDCWD, "/dev/null", O_RDWR)');
  assertStringIncludes(text, "Map user ids (0 to 1000; 1 to 100000, 9 of them) by newuidmap.");
  assertStringIncludes(picture(explanation), "by newuidmap");
});

Deno.test("explain() for somebody needs no permission, and says what does", async () => {
  const worlds: NamespaceOptions[] = [
    { privateUser: true },
    { ephemeral: true },
    { privateUser: { uidMap: "auto", gidMap: "auto" } },
  ];
  const { stdout } = await runProgram(
    `for (const options of ${JSON.stringify(worlds)} as object[]) {
       try {
         console.log(new Namespace(options).explain("true", { as: { uid: 1000 } }).clone.text);
       } catch (error) {
         console.log(\`\${error}\`);
       }
     }`,
    { permissions: [] },
  );
  assertEquals(stdout.trim().split("\n"), [
    "clone(CLONE_NEWUSER)",
    `NotCapable: Cannot explain "ephemeral" without --allow-ffi: it depends on the machine`,
    `NotCapable: Cannot explain "auto" of privateUser without --allow-ffi: it depends on the machine`,
  ]);
});
