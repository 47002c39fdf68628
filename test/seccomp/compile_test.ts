// Filters, compiled: what the program says of a call is what the rules say, read one after the other.

import { assert, assertEquals, assertThrows } from "@std/assert";
import type { SeccompArgument, SeccompProfile, SeccompRule } from "../../mod.ts";
import { type Architecture, type SyscallName, syscallNumber } from "../../src/abi/syscalls.ts";
import { errnoNumber } from "../../src/abi/errno.ts";
import { seccompSettings } from "../../src/options_seccomp.ts";
import { compileFilter, type Filter, INSTRUCTIONS_MAX, interpret, RET } from "../../src/seccomp/compile.ts";
import { callsOf, defaultProfile, GROUP_NAMES } from "../../src/seccomp/groups.ts";
import { allCalls, isCall, numbersOf } from "../../src/seccomp/syscalls.ts";
import { type Random, seeded } from "../support/random.ts";

const ARCHITECTURES: readonly Architecture[] = ["x86_64", "aarch64"];
const NEEDED = ["execve", "execveat", "exit_group", "rt_sigaction", "rt_sigprocmask", "write"];
const ALLOW_NEEDED: SeccompRule = { calls: NEEDED, action: "allow" };
const ALL_BITS = 2n ** 64n - 1n;

function filterOf(profile: SeccompProfile): Filter {
  const settings = seccompSettings(profile, false);
  assert(settings !== undefined && "rules" in settings);
  return settings;
}

function actionOf(action: SeccompRule["action"]): number {
  return typeof action === "string" ? RET[action] : RET.errno | errnoNumber(action.errno);
}

function fits({ index, op, value, mask = ALL_BITS }: SeccompArgument, args: readonly bigint[]): boolean {
  const given = args[index]!;
  const wanted = BigInt.asUintN(64, BigInt(value));
  if (op === "&") return (given & wanted) !== 0n;
  const [one, other] = [given & BigInt(mask), wanted & BigInt(mask)];
  switch (op) {
    case "==":
      return one === other;
    case "!=":
      return one !== other;
    case "<":
      return one < other;
    case "<=":
      return one <= other;
    case ">":
      return one > other;
    case ">=":
      return one >= other;
  }
}

/** The rules as their description has them. */
function decide(profile: SeccompProfile, call: string | undefined, args: readonly bigint[]): number {
  const rule = profile.rules.find((rule) =>
    rule.calls.some((name) => name === call || callsOf(name)?.includes(call ?? "")) &&
    (rule.args ?? []).every((argument) => fits(argument, args))
  );
  return actionOf(rule?.action ?? profile.default);
}

function pick<T>(random: Random, choices: readonly T[]): T {
  return choices[Math.floor(random() * choices.length)]!;
}

const VALUES = [0n, 1n, 2n, 0xffff_ffffn, 0x1_0000_0000n, 0x1_0000_0001n, 0x8000_0000n, 2n ** 63n, ALL_BITS, 0x5412n];

function randomValue(random: Random): bigint {
  return random() < 0.7 ? pick(random, VALUES) : BigInt.asUintN(64, BigInt(Math.floor(random() * 2 ** 53)) * 4099n);
}

function randomArgument(random: Random): SeccompArgument {
  const ops = ["==", "!=", "<", "<=", ">", ">=", "&"] as const;
  const [index, op] = [Math.floor(random() * 6), pick(random, ops)];
  const value = randomValue(random);
  if (op === "&") return { index, op, value: value || 1n };
  const mask = random() < 0.5 ? ALL_BITS : randomValue(random) || 0xffff_ffffn;
  const masked = value & mask;
  // What nothing is below or above is refused.
  if (op === "<" && masked === 0n || op === ">" && masked === mask) return { index, op: "!=", value: masked, mask };
  return mask === ALL_BITS ? { index, op, value } : { index, op, value: masked, mask };
}

/** With rules about hundreds of calls, a program would soon be too long. */
const SMALL_GROUPS = GROUP_NAMES.filter((name) => callsOf(name)!.length < 40);

function randomProfile(random: Random, ruleCount: number): SeccompProfile {
  const calls = allCalls();
  const actions = ["allow", "kill", "log", { errno: "EPERM" }, { errno: "ENOSYS" }] as const;
  const rules = Array.from({ length: ruleCount }, (): SeccompRule => ({
    calls: Array.from(
      { length: 1 + Math.floor(random() * 4) },
      () => pick(random, random() < 0.1 ? SMALL_GROUPS : calls),
    ),
    action: pick(random, actions),
    args: random() < 0.5 ? [] : Array.from({ length: 1 + Math.floor(random() * 3) }, () => randomArgument(random)),
  }));
  return { default: pick(random, actions), rules: [ALLOW_NEEDED, ...rules] };
}

/** Asks of every call, and of the numbers around them. */
function checkAll(profile: SeccompProfile, architecture: Architecture, random: Random, times: number): number {
  const program = compileFilter(filterOf(profile), architecture);
  const names = new Map([...numbersOf(architecture)].map(([name, number]) => [number, name]));
  for (let number = 0; number < 520; number++) {
    for (let time = 0; time < times; time++) {
      const args = Array.from({ length: 6 }, () => randomValue(random));
      const expected = decide(profile, names.get(number), args);
      if (interpret(program, architecture, number, args) !== expected) {
        assertEquals([number, names.get(number), args, interpret(program, architecture, number, args)], [
          number,
          names.get(number),
          args,
          expected,
        ]);
      }
    }
  }
  return program.length / 8;
}

for (const architecture of ARCHITECTURES) {
  Deno.test(`a filter says what its rules say, on ${architecture}`, () => {
    const random = seeded(7);
    for (let round = 0; round < 60; round++) {
      checkAll(randomProfile(random, Math.floor(random() * 40)), architecture, random, 4);
    }
  });

  Deno.test(`a filter of 500 rules jumps as far as it has to, on ${architecture}`, () => {
    const random = seeded(11);
    assert(checkAll(randomProfile(random, 500), architecture, random, 20) > 1000);
  });

  Deno.test(`the default profile says what its rules say, on ${architecture}`, () => {
    assert(checkAll(defaultProfile(), architecture, seeded(3), 20) < 250);
  });

  Deno.test(`a filter ends what calls by another architecture's numbers, on ${architecture}`, () => {
    const other = ARCHITECTURES.find((one) => one !== architecture)!;
    const program = compileFilter(filterOf({ default: "allow", rules: [] }), architecture);
    assertEquals(interpret(program, other, 0, []), RET.kill);
    assertEquals(interpret(program, architecture, 0, []), RET.allow);
  });

  Deno.test(`system calls have the numbers that plans have, on ${architecture}`, () => {
    const known: readonly SyscallName[] = ["clone3", "close_range", "execveat", "mount", "seccomp", "openat2", "write"];
    for (const name of known) assertEquals(numbersOf(architecture).get(name), syscallNumber(name, architecture), name);
    assertEquals(new Set(numbersOf(architecture).values()).size, numbersOf(architecture).size);
  });
}

Deno.test("a filter has no calls of the x32 ABI, whatever its rules allow", () => {
  const program = compileFilter(filterOf({ default: "allow", rules: [] }), "x86_64");
  for (const number of [0x4000_0000, 0x4000_0000 + 59, 0xffff_ffff]) {
    assertEquals(interpret(program, "x86_64", number, []), RET.errno | errnoNumber("ENOSYS"));
  }
});

Deno.test("the first rule that fits decides", () => {
  const args: SeccompArgument[] = [{ index: 0, op: "==", value: -100, mask: 0xffff_ffff }];
  const program = compileFilter(
    filterOf({
      default: "allow",
      rules: [
        { calls: ["openat"], action: "log", args },
        { calls: ["openat"], action: { errno: "EACCES" } },
        { calls: ["openat"], action: "kill" },
      ],
    }),
    "x86_64",
  );
  assertEquals(interpret(program, "x86_64", 257, [0xffff_ff9cn]), RET.log);
  assertEquals(interpret(program, "x86_64", 257, [ALL_BITS - 99n]), RET.log);
  assertEquals(interpret(program, "x86_64", 257, [3n]), RET.errno | errnoNumber("EACCES"));
});

Deno.test("groups are of calls that there are", () => {
  for (const group of GROUP_NAMES) {
    for (const call of callsOf(group)!) assert(isCall(call), `${group}: ${call}`);
  }
  assertEquals(callsOf("@nothing"), undefined);
});

Deno.test("a filter that is too long for the kernel is refused", () => {
  const rules = Array.from({ length: 900 }, (_, value): SeccompRule => ({
    calls: ["read"],
    action: "kill",
    args: [{ index: 0, op: "==", value: value + 1 }],
  }));
  const filter = filterOf({ default: "allow", rules });
  assertThrows(() => compileFilter(filter, "x86_64"), RangeError, `at most ${INSTRUCTIONS_MAX} instructions`);
});

Deno.test("comparisons are of 64 bits without a sign, at every edge of both halves", () => {
  const edges = [0n, 1n, 2n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_fffen, 0xffff_ffffn];
  const values = edges.flatMap((upper) => edges.map((lower) => upper << 32n | lower));
  for (const op of ["==", "!=", "<", "<=", ">", ">="] as const) {
    for (const value of values) {
      if (op === "<" && value === 0n || op === ">" && value === ALL_BITS) continue;
      const argument = { index: 2, op, value };
      const program = compileFilter(
        filterOf({ default: "allow", rules: [{ calls: ["read"], action: "log", args: [argument] }] }),
        "x86_64",
      );
      for (const given of values) {
        const args = [0n, 0n, given];
        const expected = fits(argument, args) ? RET.log : RET.allow;
        assertEquals(interpret(program, "x86_64", 0, args), expected, `${given} ${op} ${value}`);
      }
    }
  }
});

Deno.test("24 comparisons of both halves are as far as a condition jumps", () => {
  const args = Array.from({ length: 24 }, (_, index): SeccompArgument => {
    return { index: index % 6, op: index % 2 === 0 ? ">=" : "<=", value: 0x5_0000_0005n, mask: 0xf_ffff_ffffn };
  });
  const program = compileFilter(
    filterOf({ default: "allow", rules: [{ calls: ["read"], action: "log", args }] }),
    "x86_64",
  );
  assertEquals(interpret(program, "x86_64", 0, Array(6).fill(0x5_0000_0005n)), RET.log);
  for (let index = 0; index < 6; index++) {
    for (const other of [0x5_0000_0004n, 0x5_0000_0006n, 0x4_0000_0005n]) {
      const given = Array(6).fill(0x5_0000_0005n).with(index, other);
      const holds = index % 2 === 0 ? other >= 0x5_0000_0005n : other <= 0x5_0000_0005n;
      assertEquals(interpret(program, "x86_64", 0, given), holds ? RET.log : RET.allow);
    }
  }
});
