import { assertEquals, assertThrows } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../mod.ts";
import { validate } from "../src/options.ts";
import "./support/load.ts";

const ALLOW = { default: "allow", rules: [] };

function rule(change: object): object {
  return { default: "allow", rules: [{ calls: ["read"], action: "kill", ...change }] };
}

function argument(change: object): object {
  return rule({ args: [{ index: 0, op: "==", value: 1, ...change }] });
}

const REFUSED: readonly [seccomp: unknown, type: typeof TypeError | typeof RangeError, message: string][] = [
  ["strict", TypeError, `"seccomp" must be "default", false, a Uint8Array or an object`],
  [true, TypeError, `"seccomp" must be "default"`],
  [new Uint8Array(), RangeError, `"seccomp" must be 1 to 4096 records`],
  [new Uint8Array(9), RangeError, "got 9 bytes"],
  [new Uint8Array(8 * 4097), RangeError, "got 32776 bytes"],
  [{ default: "allow" }, TypeError, `"seccomp.rules" must be an array`],
  [{ rules: [] }, TypeError, `"seccomp.default" must be one of "allow", "kill", "log"`],
  [{ ...ALLOW, rule: [] }, TypeError, `did you mean "seccomp.rules"?`],
  [{ ...ALLOW, rules: [5] }, TypeError, `"seccomp.rules[0]" must be an object`],
  [rule({ calls: "read" }), TypeError, `"seccomp.rules[0].calls" must be an array`],
  [rule({ calls: ["raed"] }), TypeError, `"seccomp.rules[0].calls[0]" must be the name of a system call`],
  [rule({ calls: ["getpidd"] }), TypeError, `did you mean "getpid"?`],
  [rule({ calls: ["@mounts"] }), TypeError, `did you mean "@mount"?`],
  [rule({ action: "deny" }), TypeError, `"seccomp.rules[0].action" must be one of`],
  [rule({ action: { errno: "ENOPE" } }), TypeError, `"seccomp.rules[0].action.errno" must be the name of an errno`],
  [rule({ args: {} }), TypeError, `"seccomp.rules[0].args" must be an array`],
  [rule({ args: Array(25).fill({ index: 0, op: "==", value: 1 }) }), RangeError, "at most 24 entries: got 25"],
  [argument({ index: 6 }), RangeError, `"seccomp.rules[0].args[0].index" must be an integer from 0 to 5`],
  [
    argument({ op: "=<" }),
    TypeError,
    `"seccomp.rules[0].args[0].op" must be one of "==", "!=", "<", "<=", ">", ">=", "&"`,
  ],
  [
    argument({ op: "<", value: 0 }),
    RangeError,
    `"seccomp.rules[0].args[0].value" must leave something below it: got 0`,
  ],
  [argument({ op: ">", value: -1 }), RangeError, "must leave something above it: got 18446744073709551615"],
  [argument({ op: ">", value: 5, mask: 5 }), RangeError, "must leave something above it: got 5"],
  [argument({ op: "<", value: 9, mask: 1 }), RangeError, "must have no bits beside those of mask"],
  [argument({ value: 1.5 }), TypeError, `"seccomp.rules[0].args[0].value" must be an integer`],
  [argument({ value: 2 ** 60 }), TypeError, "must be an integer"],
  [argument({ value: "0xzz" }), TypeError, "must be an integer"],
  [argument({ value: 2n ** 64n }), RangeError, "must fit in 64 bits"],
  [argument({ value: -(2n ** 63n) - 1n }), RangeError, "must fit in 64 bits"],
  [argument({ value: 3, mask: 1 }), RangeError, "nothing is ever equal to it"],
  [argument({ mask: 0 }), RangeError, `"seccomp.rules[0].args[0].mask" must have a bit`],
  [argument({ op: "&", value: 0 }), RangeError, `"seccomp.rules[0].args[0].value" must have a bit`],
  [argument({ op: "&", mask: 1 }), TypeError, `means nothing with "&"`],
  [{ default: "kill", rules: [] }, TypeError, `"seccomp" must allow "execve"`],
  [{ default: { errno: "EPERM" }, rules: [{ calls: ["execve"], action: "allow" }] }, TypeError, `allow "execveat"`],
  [rule({ calls: ["write"], args: [{ index: 0, op: "==", value: 7 }] }), TypeError, `must allow "write"`],
  [rule({ calls: ["exit_group"], action: { errno: "EPERM" } }), TypeError, `must allow "exit_group"`],
];

Deno.test("validate() refuses filters that cannot be", () => {
  for (const [seccomp, type, message] of REFUSED) {
    assertThrows(() => new Namespace({ seccomp } as NamespaceOptions), type, message, Deno.inspect(seccomp));
  }
});

Deno.test("validate() refuses a filter under which init could not work", () => {
  const seccomp = { default: "allow", rules: [{ calls: ["waitid"], action: "kill" }] } as const;
  const options = seccomp as unknown as NonNullable<NamespaceOptions["seccomp"]>;
  validate({ seccomp: options });
  assertThrows(() => validate({ seccomp: options, init: true }), TypeError, `must allow "waitid": "init" makes it`);
});

Deno.test("validate() takes a copy of a program", () => {
  const program = Uint8Array.of(6, 0, 0, 0, 0, 0, 0xff, 0x7f);
  const settings = validate({ seccomp: program });
  program.fill(0);
  assertEquals(
    settings.seccomp !== undefined && "program" in settings.seccomp && [...settings.seccomp.program],
    [6, 0, 0, 0, 0, 0, 0xff, 0x7f],
  );
});

Deno.test("a program that refuses what must be done under it is refused before anything is done", () => {
  const returnsErrno = Uint8Array.of(6, 0, 0, 0, 1, 0, 5, 0);
  const command = new Namespace({ seccomp: returnsErrno }).command("true");
  assertThrows(() => command.outputSync(), TypeError, `Option "seccomp" must allow "execve"`);
});

Deno.test("setup() refuses filters", () => {
  assertThrows(() => new Namespace({ seccomp: "default" }).setup(), TypeError, `Cannot set up "seccomp"`);
});
