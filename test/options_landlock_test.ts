import { assertEquals, assertThrows } from "@std/assert";
import { validate } from "../src/options.ts";

const REFUSALS:
  readonly (readonly [landlock: unknown, error: typeof TypeError | typeof RangeError, message: string])[] = [
    [true, TypeError, `Option "landlock" must be an object such as { read: ["/usr"] }: got true`],
    [{}, TypeError, `it rules nothing`],
    [{ ifMissing: "skip" }, TypeError, `it rules nothing`],
    [{ reed: ["/"] }, TypeError, `Unknown option "landlock.reed": did you mean "landlock.read"?`],
    [{ read: "/usr" }, TypeError, `Option "landlock.read" must be an array such as ["/usr"]: got "/usr"`],
    [{ write: ["/a", "b"] }, TypeError, `Option "landlock.write[1]" must be a path that begins at /: got "b"`],
    [{ execute: ["/a\0"] }, TypeError, `Option "landlock.execute[0]" must not contain a NUL`],
    [{ bindTcp: [65536] }, RangeError, `Option "landlock.bindTcp[0]" must be an integer from 0 to 65535`],
    [{ connectTcp: ["443"] }, TypeError, `Option "landlock.connectTcp[0]" must be a number`],
    [{ read: ["/"], ifMissing: "warn" }, TypeError, `Option "landlock.ifMissing" must be one of "error", "skip"`],
  ];

Deno.test("validate() refuses what landlock cannot be", () => {
  for (const [landlock, error, message] of REFUSALS) {
    assertThrows(() => validate({ landlock } as Parameters<typeof validate>[0]), error, message);
  }
});

Deno.test("validate() takes together what lists say of one path or port", () => {
  const landlock = { read: ["/a"], write: ["/a", "/b"], bindTcp: [1], connectTcp: [1, 2] };
  const settings = validate({ landlock }).landlock!;
  assertEquals(settings.paths!.map(([path]) => path), ["/a", "/b"]);
  assertEquals(settings.paths![0]![1] & ~settings.paths![1]![1], 0b1100);
  assertEquals([settings.tcp, settings.ports], [3, [[1, 3], [2, 2]]]);
  assertEquals(validate({ landlock: { bindTcp: [] } }).landlock, {
    paths: undefined,
    tcp: 1,
    ports: [],
    isOptional: false,
  });
  assertEquals(validate({ landlock: { read: [] } }).landlock!.paths, []);
});
