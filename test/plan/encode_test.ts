import { assert, assertEquals, assertThrows } from "@std/assert";
import { syscallNumber } from "../../src/abi/syscalls.ts";
import { encode, LAYOUT } from "../../src/plan/encode.ts";
import type { Argument, Plan, Step } from "../../src/plan/step.ts";

const utf8 = new TextDecoder();

function planOf(child: readonly Step[], parent: readonly Step[] = []): Plan {
  return { cloneFlags: { value: 0x2002_0000, name: "flags" }, cloneOption: undefined, parent, child };
}

function step(args: readonly Argument[], more: Partial<Step> = {}): Step {
  return { call: "mount", args, what: "test", ...more };
}

/** Reads a plan back, by the layout that shim/plan.zig documents. */
function decode(bytes: Uint8Array<ArrayBuffer>): {
  header: number[];
  data: Uint8Array;
  step: (index: number) => { number: number; kinds: number; skip: number; rules: number[]; args: bigint[] };
  relocations: number[];
  text: (at: bigint) => string;
} {
  const view = new DataView(bytes.buffer);
  const header = Array.from({ length: 10 }, (_, index) => view.getUint32(index * 4, true));
  const stepCount = header[4]! + header[5]!;
  const relocationsAt = LAYOUT.header + stepCount * LAYOUT.step;
  const relocations = Array.from({ length: header[6]! }, (_, index) => view.getUint32(relocationsAt + index * 4, true));
  const data = bytes.subarray(bytes.length - header[3]!);
  return {
    header,
    data,
    relocations,
    step: (index) => {
      const at = LAYOUT.header + index * LAYOUT.step;
      return {
        number: view.getUint32(at, true),
        kinds: view.getUint16(at + 4, true),
        skip: view.getUint16(at + 6, true),
        rules: Array.from({ length: 12 }, (_, rule) => view.getUint16(at + 8 + rule * 2, true)),
        args: Array.from({ length: 6 }, (_, argument) => view.getBigUint64(at + 32 + argument * 8, true)),
      };
    },
    text: (at) => utf8.decode(data.subarray(Number(at), data.indexOf(0, Number(at)))),
  };
}

Deno.test("encode() writes a header that says how much of what there is", () => {
  const bytes = encode(planOf([step([]), step([])], [step([])]), "x86_64");
  const { header } = decode(bytes);
  assertEquals(header[0], 0x4c50534e);
  assertEquals(header[1], 62 << 16 | LAYOUT.version);
  assertEquals(header[2], bytes.length);
  assertEquals(header.slice(4, 7), [1, 2, 0]);
  assertEquals(new DataView(bytes.buffer).getBigUint64(40, true), 0x2002_0000n);
  assertEquals(decode(encode(planOf([step([])]), "aarch64")).header[1]! >>> 16, 183);
});

Deno.test("encode() writes each architecture's own call numbers", () => {
  for (const architecture of ["x86_64", "aarch64"] as const) {
    const { step: at } = decode(encode(planOf([step([])]), architecture));
    assertEquals(at(0).number, syscallNumber("mount", architecture));
  }
});

Deno.test("encode() writes numbers as 64 bits of two's complement", () => {
  const { step: at } = decode(
    encode(planOf([step([-100, 0xffff_ffff, 2 ** 40, null, { value: -1, name: "" }])]), "x86_64"),
  );
  assertEquals(at(0).args, [2n ** 64n - 100n, 0xffff_ffffn, 2n ** 40n, 0n, 2n ** 64n - 1n, 0n]);
  assertEquals(at(0).kinds, 0);
});

Deno.test("encode() puts strings into the data, each once, with a NUL", () => {
  const { step: at, text, data } = decode(encode(planOf([step(["proc", "/pröc", "proc"])]), "x86_64"));
  const { args, kinds } = at(0);
  assertEquals([text(args[0]!), text(args[1]!)], ["proc", "/pröc"]);
  assertEquals(args[2], args[0]);
  assertEquals(kinds, 0b01_01_01);
  assertEquals(data.at(-1), 0);
});

Deno.test("encode() relocates every pointer of an array of strings, which ends with NULL", () => {
  const block = new TextEncoder().encode("A=1\0B=\0");
  for (const strings of [["A=1", "B="], block]) {
    const { step: at, text, data, relocations } = decode(encode(planOf([step([{ strings }])]), "x86_64"));
    const array = Number(at(0).args[0]);
    const pointers = new BigUint64Array(data.slice(array, array + 24).buffer);
    assertEquals([text(pointers[0]!), text(pointers[1]!), pointers[2]], ["A=1", "B=", 0n]);
    assertEquals(relocations, [array, array + 8]);
    assertEquals(array % 8, 0);
  }
});

Deno.test("encode() counts results from the beginning of their own section", () => {
  const first = step([1], { opens: true });
  const second = step([2]);
  const third = step([{ resultOf: second }, { resultOf: first }]);
  const { step: at } = decode(encode(planOf([first, second, third], [step([])]), "x86_64"));
  assertEquals(at(1).kinds, 0x8000);
  assertEquals(at(3).kinds, 0b10_10);
  assertEquals(at(3).args.slice(0, 2), [1n, 0n]);
  assertThrows(() => encode(planOf([third, second, first]), "x86_64"), RangeError, "the result of no earlier step");
  assertThrows(() => encode(planOf([third], [first, second]), "x86_64"), RangeError, "the result of no earlier step");
});

Deno.test("encode() writes rules and jumps", () => {
  const { step: at } = decode(
    encode(planOf([step([], { tolerate: [["ENOSYS", 1], ["EINVAL", 0]], skip: 2 })]), "x86_64"),
  );
  assertEquals(at(0).rules, [38, 1, 22, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals(at(0).skip, 2);
});

Deno.test("encode() says where a result is to be stored", () => {
  const bytes = { bytes: new Uint8Array(12), name: "<struct>" };
  const stores = { in: bytes, at: 8 };
  const { step: at } = decode(encode(planOf([step([bytes], { stores })]), "x86_64"));
  const { kinds, args } = at(0);
  assertEquals([kinds & 0x4000, kinds >> 10 & 3, args[5]! - args[0]!], [0x4000, 1, 8n]);
});

Deno.test("encode() refuses what a step has no room for", () => {
  const stores = { in: { bytes: new Uint8Array(12), name: "" }, at: 9 };
  assertThrows(() => encode(planOf([step([], { stores })]), "x86_64"), RangeError, "no room to store");
  assertThrows(() => encode(planOf([step([1, 2, 3, 4, 5, 6, 7])]), "x86_64"), RangeError, "too many arguments");
  const tolerate = Array.from({ length: 7 }, () => ["EPERM", 0] as const);
  assertThrows(() => encode(planOf([step([], { tolerate })]), "x86_64"), RangeError, "too many arguments or rules");
  assertThrows(() => encode(planOf([step([], { tolerate: [["EFOO", 0]] })]), "x86_64"), RangeError, `errno "EFOO"`);
  assertThrows(() => encode(planOf([step([{ strings: new Uint8Array([65]) }])]), "x86_64"), RangeError, "no NUL");
});

Deno.test("encode() says where the handshake's words and the child's pid are to be", () => {
  const words = planOf([step([{ word: "parent" }, { word: "go" }])], [
    step([{ childFolder: true }, { childFolder: true }]),
  ]);
  const { header, data, step: at } = decode(encode(words, "x86_64"));
  const [parent, go] = at(1).args as [bigint, bigint];
  assertEquals([Number(parent), Number(go)], [header[8]!, header[8]! + 4]);
  const [folder, again] = at(0).args as [bigint, bigint];
  assertEquals(folder, again);
  assertEquals(header[7], Number(folder) + "/proc/".length);
  assertEquals(utf8.decode(data.subarray(Number(folder), header[7])), "/proc/");
  assert(data.length >= header[7]! + 12, "there is room for the digits");
  assertEquals(decode(encode(planOf([step([])]), "x86_64")).header.slice(7, 9), [0xffff_ffff, 0xffff_ffff]);
});

Deno.test("encode() holds arguments and an environment of megabytes", () => {
  const args = Array.from({ length: 20_000 }, (_, index) => `argument ${index} ${"x".repeat(50)}`);
  const { step: at, data, text } = decode(encode(planOf([step([{ strings: args }])]), "x86_64"));
  const array = Number(at(0).args[0]);
  const pointers = new BigUint64Array(data.slice(array, array + 8 * 20_001).buffer);
  assertEquals(text(pointers[19_999]!), args[19_999]);
  assertEquals(pointers[20_000], 0n);
});
