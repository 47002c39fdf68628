import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../../mod.ts";
import { CAPABILITIES, type CapabilityName } from "../../src/abi/capabilities.ts";
import { isolatedTest } from "../support/leaks.ts";
import { type Request, runAs, USERS } from "../support/nobody.ts";
import { stdoutOf } from "../support/cli.ts";
import { programArgv, runArgv } from "../support/program.ts";

const STATUS = "grep '^Cap' /proc/self/status | cut -f 2 | tr '\\n' ' '";
const argv = ["sh", "-c", STATUS] as const;

function bits(...names: CapabilityName[]): bigint {
  return names.reduce((all, name) => all | 1n << BigInt(CAPABILITIES.indexOf(name)), 0n);
}

/** Inheritable, permitted, effective, bounding, ambient. */
function read(stdout: string): readonly bigint[] {
  return stdout.trim().split(" ").map((set) => BigInt(`0x${set}`));
}

new Namespace({ init: true }).command("true").outputSync(); // What is executed as init stays in memory.

for (const user of USERS) {
  isolatedTest(`capabilities: { add } is in all five sets of any program, as ${user}`, async () => {
    const names = ["CAP_NET_BIND_SERVICE", "CAP_BPF", "CAP_SYSLOG"] as const; // In both words.
    const add = [...names];
    const all = bits(...names);
    const requests: Request[] = [
      { options: { privateUser: { uid: 1000, gid: 1000 }, capabilities: { add } }, argv },
      {
        options: { privateUser: "self", privateMount: true, capabilities: { add }, noNewPrivs: true, init: true },
        argv,
      },
      { options: { privateUser: { uid: 5 }, capabilities: { add, drop: ["CAP_KILL"] }, seccomp: "default" }, argv },
    ];
    for (const [index, { stdout, error }] of (await runAs(user, requests)).entries()) {
      if (user === "root" && index === 1) continue; // It is root inside, see below.
      const [inheritable, permitted, effective, bounding, ambient] = read(stdout);
      assertEquals(
        [inheritable, permitted, effective, ambient],
        [all, all, all, all],
        JSON.stringify({ index, error }),
      );
      assertEquals(bounding! & all, all);
      assertEquals(bounding! & bits("CAP_KILL"), index === 2 ? 0n : bits("CAP_KILL"));
    }
  });

  isolatedTest(`root inside has what it had, and what is added, as ${user}`, async () => {
    const options: NamespaceOptions = { privateUser: true };
    const add: CapabilityName[] = ["CAP_CHOWN"];
    const [plain, added, filtered] = await runAs(user, [
      { options, argv },
      { options: { ...options, capabilities: { add } }, argv },
      { options: { ...options, capabilities: { add }, noNewPrivs: true }, argv },
    ]);
    const [, ...before] = read(plain!.stdout);
    for (const { stdout } of [added!, filtered!]) {
      const [inheritable, permitted, effective, bounding, ambient] = read(stdout);
      assertEquals([permitted, effective, bounding], before.slice(0, 3));
      assertEquals([inheritable, ambient], [bits("CAP_CHOWN"), bits("CAP_CHOWN")]);
    }
  });

  isolatedTest(`what is added can be used, by who is not root, as ${user}`, async () => {
    const options: NamespaceOptions = { privateUser: { uid: 9 }, privateMount: true };
    const [with_, without] = await runAs(user, [
      { options: { ...options, capabilities: { add: ["CAP_SYS_ADMIN"] } }, argv: ["perl", "-e", MOUNT] },
      { options, argv: ["perl", "-e", MOUNT] },
    ]);
    assertEquals([with_!.stdout, without!.stdout], ["0", "-1"]);
  });

  isolatedTest(`--cap-add, --cap-drop and --cap-keep say the same, as ${user}`, async () => {
    const status = async (...words: string[]) =>
      read(await stdoutOf(["--private-user=uid=3,gid=3", ...words, ...argv], { user }));
    const kill = bits("CAP_KILL");
    const [, permitted, , bounding, ambient] = await status("--cap-add=CAP_KILL", "--cap-drop", "CAP_CHOWN,CAP_BPF");
    assertEquals([permitted, ambient, bounding! & bits("CAP_CHOWN", "CAP_BPF")], [kill, kill, 0n]);
    assertEquals(await status("--cap-keep", "CAP_KILL"), [kill, kill, kill, kill, kill]);
    assertEquals(await status("--capabilities=none"), [0n, 0n, 0n, 0n, 0n]);
  });
}

/** mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) */
const MOUNT = `$a = "/"; print syscall(${Deno.build.arch === "x86_64" ? 165 : 40}, $a, $a, 0, 0x44000, 0)`;

isolatedTest("a capability that cannot be had is not given, and the reason is told", async () => {
  const [nobody] = await runAs("nobody", [{ options: { capabilities: { add: ["CAP_KILL"] } }, argv }]);
  assertEquals([nobody!.error?.code, nobody!.error?.option], ["EPERM", "capabilities"]);
  assertStringIncludes(nobody!.error!.message, "Cannot give CAP_KILL");
  assertStringIncludes(nobody!.error!.hint!, "privateUser");
  // Not even by root, where it is not in the bounding set.
  const program = `
    try {
      new Namespace({ capabilities: { add: ["CAP_NET_RAW"] } }).command("true", { uid: 7 }).outputSync();
      console.log("OUT");
    } catch (error) {
      console.log(error.code, error.message.split("\\n")[0]);
    }`;
  const { stdout } = await runArgv(["setpriv", "--bounding-set", "-net_raw", ...programArgv(program)]);
  assertStringIncludes(stdout, "EPERM Cannot give CAP_NET_RAW");
});

isolatedTest(
  "what the caller has ambient lasts beside what is added, and by root it lasts as another user",
  async () => {
    const ns = new Namespace({ capabilities: { add: ["CAP_NET_BIND_SERVICE"] } });
    const { stdout } = ns.command("sh", { args: ["-c", STATUS], uid: 7, gid: 7 }).outputSync();
    const all = bits("CAP_NET_BIND_SERVICE");
    const [inheritable, permitted, effective, , ambient] = read(new TextDecoder().decode(stdout));
    assertEquals([inheritable, permitted, effective, ambient], [all, all, all, all]);

    const program = programArgv(`
    const ns = new Namespace({ capabilities: { add: ["CAP_KILL"] } });
    const { stdout } = ns.command("sh", { args: ["-c", ${JSON.stringify(STATUS)}] }).outputSync();
    console.log(new TextDecoder().decode(stdout));`);
    const drop = ["setpriv", "--reuid=7", "--regid=7", "--clear-groups"];
    const caps = ["--inh-caps=+kill,+chown", "--ambient-caps=+kill,+chown"];
    const both = bits("CAP_KILL", "CAP_CHOWN");
    const output = await runArgv([...drop, ...caps, ...program]);
    const [, hasPermitted, , , hasAmbient] = read(output.stdout);
    assertEquals([output.stderr, hasPermitted, hasAmbient], ["", both, both]);
  },
);

Deno.test("capabilities are refused where they contradict each other", () => {
  const cases: readonly (readonly [NamespaceOptions["capabilities"], string])[] = [
    [{}, `must have one of "keep", "drop" and "add"`],
    [{ keep: ["CAP_KILL"], add: [] }, `must have nothing beside "keep"`],
    [{ drop: ["CAP_KILL"], add: ["CAP_KILL"] }, `"CAP_KILL" in both "drop" and "add"`],
    [{ add: ["CAP_KIL" as "CAP_KILL"] }, "capabilities.add[0]"],
    [{ add: "CAP_KILL" as unknown as [] }, `Option "capabilities.add" must be an array`],
  ];
  for (const [capabilities, message] of cases) {
    assertThrows(() => new Namespace({ capabilities }), TypeError, message);
  }
  const privateUser = { uid: 5 };
  new Namespace({ privateUser, disableUserNamespaces: true, capabilities: { add: ["CAP_KILL"] } });
  for (const capabilities of [{ add: ["CAP_SYS_RESOURCE" as const] }, { keep: ["CAP_SYS_RESOURCE" as const] }]) {
    assertThrows(
      () => new Namespace({ privateUser, disableUserNamespaces: true, capabilities }),
      TypeError,
      "disableUserNamespaces",
    );
  }
});
