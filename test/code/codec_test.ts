// The codec: every kind of value there and back, and what is refused.

import { assert, assertEquals, assertNotStrictEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { codec } from "../../src/code/codec.ts";

const { encode, decode } = codec();

function bytesOf(value: unknown): Uint8Array<ArrayBuffer> {
  const parts = encode(value, "it");
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function copy<T>(value: T): T {
  return decode(bytesOf(value)) as T;
}

Deno.test("codec() carries primitive values", () => {
  const numbers = [0, -0, 1, -1, 127, 128, 2 ** 31 - 1, -(2 ** 31), 2 ** 31, 2 ** 53, -(2 ** 53), 0.1, NaN, Infinity];
  for (const value of [undefined, null, true, false, ...numbers, -Infinity, Number.MIN_VALUE, Number.MAX_VALUE]) {
    assert(Object.is(copy(value), value), String(value));
  }
  for (const value of [0n, 1n, -1n, 2n ** 64n, -(2n ** 200n)]) assertStrictEquals(copy(value), value);
});

Deno.test("codec() carries strings, well-formed or not", () => {
  for (
    const value of ["", "a", "ä€😀", "\0", "\ufeffBOM", "\ud800", "a\udc00b", "x".repeat(100_000), "é".repeat(70_000)]
  ) {
    assertStrictEquals(copy(value), value);
  }
});

Deno.test("codec() carries objects, arrays, maps, sets, dates and regular expressions", () => {
  const value = {
    a: [1, [2, { b: null }]],
    "": "",
    map: new Map<unknown, unknown>([["k", 1], [{ o: 1 }, new Map()]]),
    set: new Set([1, "1", NaN]),
    date: new Date(12345.0),
    never: new Date(NaN),
    regexp: /a+[/]\n/giu,
    wrapped: [Object(1), Object("s"), Object(false), Object(3n)],
  };
  assertEquals(copy(value), value);
  assertEquals(copy(value), structuredClone(value));
  assert(Number.isNaN(copy(value).never.getTime()));
});

Deno.test("codec() keeps holes, extra properties, and the key __proto__", () => {
  // deno-lint-ignore no-sparse-arrays -- that is what is tested
  const holes = [1, , undefined, ,];
  assertEquals(Object.keys(copy(holes)), ["0", "2"]);
  assertEquals(copy(holes).length, 4);
  const far: number[] = [];
  far[4_000_000_000] = 1;
  assertEquals([copy(far).length, copy(far)[4_000_000_000]], [4_000_000_001, 1]);
  assertEquals(copy("ab".match(/b/)!).index, 1);
  const own = JSON.parse('{"__proto__": {"polluted": 1}}');
  assertEquals(Object.keys(copy(own)), ["__proto__"]);
  assertStrictEquals(Object.getPrototypeOf(copy(own)), Object.prototype);
});

Deno.test("codec() makes plain objects of the instances of classes, as structuredClone() does", () => {
  class Point {
    x = 1;
    #y = 2;
    sum(): number {
      return this.x + this.#y;
    }
  }
  const point = copy(new Point());
  assertEquals({ ...point }, { x: 1 });
  assertStrictEquals(Object.getPrototypeOf(point), Object.prototype);
});

Deno.test("codec() keeps cycles and shared references", () => {
  interface Node {
    self?: Node;
    list: unknown[];
    error?: Error;
  }
  const node: Node = { list: [] };
  node.self = node;
  node.list.push(node, node.list, new Map([[node, new Set([node])]]));
  node.error = new Error("e", { cause: node });
  const made = copy(node);
  assertStrictEquals(made.self, made);
  assertStrictEquals(made.list[0], made);
  assertStrictEquals(made.list[1], made.list);
  const [[key, value]] = [...made.list[2] as Map<Node, Set<Node>>] as [[Node, Set<Node>]];
  assertStrictEquals(key, made);
  assert(value.has(made));
  assertStrictEquals(made.error!.cause, made);
});

Deno.test("codec() carries buffers and views, and what they share", () => {
  const buffer = new ArrayBuffer(64);
  new Uint8Array(buffer).forEach((_, index, all) => all[index] = index);
  const views = [
    new DataView(buffer, 3, 5),
    new Int8Array(buffer),
    new Uint8Array(buffer, 1, 7),
    new Uint8ClampedArray(buffer),
    new Int16Array(buffer, 2),
    new Uint16Array(buffer),
    new Int32Array(buffer, 4, 2),
    new Uint32Array(buffer),
    new Float32Array(buffer),
    new Float64Array(buffer),
    new BigInt64Array(buffer),
    new BigUint64Array(buffer),
    new Float16Array(buffer),
  ];
  const made = copy({ buffer, views });
  assertEquals(made, { buffer, views });
  for (const [index, view] of made.views.entries()) {
    assertStrictEquals(view.buffer, made.buffer);
    assertStrictEquals(view.constructor, views[index]!.constructor);
    assertEquals([view.byteOffset, view.byteLength], [views[index]!.byteOffset, views[index]!.byteLength]);
  }
  assertNotStrictEquals(made.buffer, buffer);

  const resizable = copy(new ArrayBuffer(8, { maxByteLength: 32 }));
  assertEquals([resizable.byteLength, resizable.resizable, resizable.maxByteLength], [8, true, 32]);
  const big = new Uint8Array(1_000_000).map((_, index) => index % 251);
  assertEquals(copy([1, big, 2, big.subarray(5)]), [1, big, 2, big.subarray(5)]);
});

Deno.test("codec() copies at once: what happens to a buffer later does not matter", () => {
  const big = new Uint8Array(100_000);
  const parts = encode(big, "it");
  big.fill(1);
  assert(parts.every((part) => part.buffer !== big.buffer));
  assertEquals(parts.flatMap((part) => [...part]).filter((byte) => byte === 1).length < 10, true);
});

Deno.test("codec() carries errors with class, message, stack, cause and properties", () => {
  const cause = Object.assign(new Deno.errors.NotFound("gone"), { code: "ENOENT" });
  const error = new RangeError("bad", { cause });
  const made = copy(error);
  assert(made instanceof RangeError);
  assertEquals([made.name, made.message, made.stack], [error.name, error.message, error.stack]);
  assert(made.cause instanceof Deno.errors.NotFound);
  assertEquals((made.cause as Error & { code: string }).code, "ENOENT");
  assertEquals(Object.keys(made), []);

  const several = copy(new AggregateError([new TypeError("a"), 2], "m"));
  assert(several instanceof AggregateError && several.errors[0] instanceof TypeError);
  assertEquals(several.errors[1], 2);

  const aborted = copy(new DOMException("stop", "AbortError"));
  assert(aborted instanceof DOMException);
  assertEquals([aborted.name, aborted.message, aborted.code], ["AbortError", "stop", 20]);
});

Deno.test("codec() gives errors of unknown classes the class that is known, and their name", () => {
  class Mine extends TypeError {
    detail = 5;
  }
  class Named extends Error {
    override name = "Other";
  }
  const mine = copy(new Mine("m"));
  assert(mine instanceof TypeError && !(mine instanceof Mine));
  assertEquals([(mine as Error).name, (mine as Mine).detail], ["Mine", 5]);
  assertEquals(copy(new Named("m")).name, "Other");
  assertEquals(copy(Object.assign(new Error("m"), { name: "Set" })).name, "Set");
});

Deno.test("codec() leaves out of an error what cannot be cloned, and nothing else", () => {
  const shared = { n: 1 };
  const cause = { big: new Uint8Array(50_000), list: [shared, () => 1] };
  const error = Object.assign(new Error("m", { cause }), { fn: () => 1, kept: shared, last: [shared] });
  const made = copy([error, shared]) as [Error & { fn?: unknown; kept: unknown; last: unknown[] }, unknown];
  assertEquals([made[0].message, "fn" in made[0], "cause" in made[0]], ["m", false, false]);
  assertEquals(made[0].kept, shared);
  assertStrictEquals(made[0].kept, made[1]);
  assertStrictEquals(made[0].last[0], made[1]);
});

Deno.test("codec() says what cannot be cloned, and where it is", () => {
  const cases: [unknown, string][] = [
    [() => 1, "Cannot clone it: a function cannot be cloned"],
    [{ a: [1, { fn: function named() {} }] }, `Cannot clone it.a[1].fn: a function ("named") cannot be cloned`],
    [[Symbol("s")], "Cannot clone it[0]: a symbol cannot be cloned"],
    [{ "x y": Promise.resolve() }, "a Promise cannot be cloned"],
    [new WeakMap(), "Cannot clone it: a WeakMap cannot be cloned"],
    [new SharedArrayBuffer(4), "Cannot clone it: a SharedArrayBuffer cannot be cloned"],
    [new Uint8Array(new SharedArrayBuffer(4)), "a SharedArrayBuffer cannot be cloned"],
    [new Blob([]), "Cannot clone it: a Blob cannot be cloned"],
    [new Map([["k", () => 1]]), "Cannot clone it value 0: a function cannot be cloned"],
    [(function* () {})(), "a Generator cannot be cloned"],
  ];
  for (const [value, message] of cases) assertThrows(() => encode(value, "it"), TypeError, message);
  const buffer = new ArrayBuffer(8);
  buffer.transfer();
  assertThrows(() => encode({ buffer }, "it"), TypeError, "Cannot clone it.buffer: its ArrayBuffer is detached");
});

Deno.test("codec() refuses bytes that are cut short, or too many, or none of its own", () => {
  const bytes = bytesOf({ a: [1, "two", new Map([[3n, new Uint8Array(4)]])], e: new Error("x") });
  for (let size = 0; size < bytes.length; size++) {
    assertThrows(() => decode(bytes.slice(0, size)));
  }
  assertThrows(() => decode(new Uint8Array([...bytes, 0])), TypeError, "there is more after it");
  assertThrows(() => decode(new Uint8Array([255])), TypeError, "there is no kind 255");
  assertThrows(() => decode(new Uint8Array([9, 0])), TypeError, "refers to what is not there");
});

Deno.test("codec() takes no more memory for views and growing buffers than came", () => {
  const [VIEW, UINT8, FLOAT64] = [18, 2, 9];
  const view = (kind: number, ...of: number[]) => decode(Uint8Array.of(VIEW, kind, 0, 0, ...of));
  const length = [...new Uint8Array(new Float64Array([8e9]).buffer)].reverse();
  assertThrows(() => view(UINT8, 5, ...length), TypeError, "it is a view of no buffer"); // Of a number.
  assertThrows(() => view(FLOAT64, 12, 255, 255, 255, 255, 15, 0), TypeError, "it is a view of no buffer"); // Of an array.
  assertThrows(
    () => view(UINT8, 10, 1, 7, 6, ...new TextEncoder().encode("length"), 5, ...length),
    TypeError,
    "it is a view of no buffer",
  );
  assertThrows(() => view(99, 17, 0, 0), TypeError, "it is a view of no buffer");
  const growing = (count: number) =>
    Array.from({ length: count }, () => new ArrayBuffer(1, { maxByteLength: 2 ** 30 }));
  const carried = decode(new Uint8Array(bytesOf(growing(4)))) as ArrayBuffer[];
  assertEquals(carried.map(({ maxByteLength }) => maxByteLength), Array(4).fill(2 ** 30));
  assertThrows(() => decode(bytesOf(growing(5))), RangeError, "could grow to more than there is room for");
});

Deno.test("codec() survives bytes changed at random: it decodes or throws", () => {
  const bytes = bytesOf({
    a: [1, "two", new Map([[3n, new Uint8Array(4)]])],
    e: new Error("x"),
    d: new Date(),
    r: /x/g,
  });
  let seed = 12345;
  const random = (below: number) => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % below;
  for (let round = 0; round < 2_000; round++) {
    const changed = bytes.slice();
    changed[random(changed.length)] = random(256);
    try {
      decode(changed);
    } catch (error) {
      assert(error instanceof Error);
    }
  }
});
