import { assertEquals, assertThrows } from "@std/assert";
import { parseCommandLine } from "../src/cli/arguments.ts";
import { describeFailure } from "../src/cli/errors.ts";
import { type CgroupOptions, cgroupSettings } from "../src/options_cgroup.ts";
import { validate } from "../src/options.ts";

/** What is written to which file. */
function written(options: CgroupOptions): Record<string, string> {
  return Object.fromEntries(cgroupSettings(options)!.limits.map(({ file, value }) => [file, value]));
}

Deno.test("cgroupSettings() writes limits as the kernel reads them", () => {
  assertEquals(
    written({
      pidsMax: 64,
      memoryMax: "256m",
      memoryHigh: 1,
      memorySwapMax: 0,
      cpuMax: 0.5,
      cpuWeight: 10,
      ioWeight: 20,
      cpusetCpus: "0-3,5",
      cpusetMems: "0",
      hugetlbMax: { "2MB": "4M", "1GB": "max" },
    }),
    {
      "pids.max": "64",
      "memory.max": "268435456",
      "memory.high": "1",
      "memory.swap.max": "0",
      "cpu.max": "50000 100000",
      "cpu.weight": "10",
      "io.weight": "default 20",
      "cpuset.cpus": "0-3,5",
      "cpuset.mems": "0",
      "hugetlb.2MB.max": "4194304",
      "hugetlb.1GB.max": "max",
    },
  );
  assertEquals(written({ cpuMax: { quota: 1000 }, memoryMax: "1t" }), {
    "cpu.max": "1000 100000",
    "memory.max": String(2 ** 40),
  });
  assertEquals(written({ cpuMax: { quota: 5000, period: 2000 } }), { "cpu.max": "5000 2000" });
  assertEquals(written({ cpuMax: "max", pidsMax: "max", memoryMax: "max" }), {
    "pids.max": "max",
    "memory.max": "max",
    "cpu.max": "max",
  });
});

Deno.test("cgroupSettings() knows which controllers are needed, and that none are", () => {
  const { limits } = cgroupSettings({ memorySwapMax: "max", cpusetCpus: "1", hugetlbMax: { "2MB": 0 } })!;
  assertEquals(limits.map(({ controller }) => controller), ["memory", "cpuset", "hugetlb"]);
  assertEquals(cgroupSettings(true), { parent: undefined, limits: [] });
  assertEquals(cgroupSettings({ parent: "/sys/fs/cgroup/jobs" }), { parent: "/sys/fs/cgroup/jobs", limits: [] });
  for (const none of [undefined, false]) assertEquals(validate({ cgroup: none }).cgroup, undefined);
});

Deno.test("cgroupSettings() refuses what cannot be, by its name", () => {
  const cases: [unknown, typeof TypeError | typeof RangeError, string][] = [
    ["yes", TypeError, `"cgroup"`],
    [{ pidMax: 1 }, TypeError, `did you mean "cgroup.pidsMax"?`],
    [{ pidsMax: 0 }, RangeError, `"cgroup.pidsMax"`],
    [{ pidsMax: "5" }, TypeError, `"cgroup.pidsMax"`],
    [{ memoryMax: 0 }, RangeError, `"cgroup.memoryMax"`],
    [{ memoryMax: "10%" }, RangeError, `"cgroup.memoryMax"`],
    [{ memoryMax: "99999999g" }, RangeError, `"cgroup.memoryMax"`],
    [{ memoryHigh: true }, TypeError, `"cgroup.memoryHigh"`],
    [{ memorySwapMax: -1 }, RangeError, `"cgroup.memorySwapMax"`],
    [{ cpuMax: 0 }, RangeError, `"cgroup.cpuMax"`],
    [{ cpuMax: NaN }, RangeError, `"cgroup.cpuMax"`],
    [{ cpuMax: "0.5" }, TypeError, `"cgroup.cpuMax"`],
    [{ cpuMax: { quota: 999 } }, RangeError, `"cgroup.cpuMax.quota"`],
    [{ cpuMax: { quota: 5000, period: 2_000_000 } }, RangeError, `"cgroup.cpuMax.period"`],
    [{ cpuMax: { quotas: 5000 } }, TypeError, `"cgroup.cpuMax.quotas"`],
    [{ cpuWeight: 0 }, RangeError, `"cgroup.cpuWeight"`],
    [{ ioWeight: 10_001 }, RangeError, `"cgroup.ioWeight"`],
    [{ cpusetCpus: "0-" }, RangeError, `"cgroup.cpusetCpus"`],
    [{ cpusetMems: 0 }, TypeError, `"cgroup.cpusetMems"`],
    [{ hugetlbMax: { "../x": 1 } }, TypeError, `"cgroup.hugetlbMax"`],
    [{ hugetlbMax: { "2MB": "x" } }, RangeError, `"cgroup.hugetlbMax.2MB"`],
    [{ parent: "jobs" }, TypeError, `"cgroup.parent"`],
  ];
  for (const [value, type, text] of cases) {
    assertThrows(() => validate({ cgroup: value as CgroupOptions }), type, text);
  }
});

Deno.test("parseCommandLine() makes one cgroup of its options", () => {
  const of = (...words: string[]) => parseCommandLine([...words, "true"]).namespace.cgroup;
  assertEquals(of(), undefined);
  assertEquals(of("--cgroup"), true);
  assertEquals(of("--cgroup", "--pids-max", "5", "--cpu-weight=7"), { pidsMax: 5, cpuWeight: 7 });
  assertEquals(of("--memory-max=16m", "--memory-swap-max", "0", "--cgroup-parent", "/a"), {
    parent: "/a",
    memoryMax: "16m",
    memorySwapMax: "0",
  });
  assertEquals(of("--cpu-max", "0.5"), { cpuMax: 0.5 });
  assertEquals(of("--cpu-max", "50000/100000"), { cpuMax: { quota: 50_000, period: 100_000 } });
  assertEquals(of("--hugetlb-max=2MB=4m", "--hugetlb-max=1GB=max"), { hugetlbMax: { "2MB": "4m", "1GB": "max" } });
  validate({ cgroup: of("--memory-swap-max", "0", "--pids-max=max", "--cpu-max=max") });
  assertThrows(() => of("--pids-max", "few"), Error, "--pids-max must be a number");
  assertThrows(() => of("--cpu-max", "5000/"), Error, "--cpu-max must be a number");
  assertThrows(() => of("--hugetlb-max", "2MB"), Error, "--hugetlb-max must be SIZE=BYTES");
});

Deno.test("describeFailure() names the limits as they are typed", () => {
  const error = assertThrows(() => validate({ cgroup: { memoryMax: "x" } }));
  assertEquals(describeFailure(error).message.startsWith("--memory-max must be a number of bytes"), true);
  const parent = assertThrows(() => validate({ cgroup: { parent: "x" } }));
  assertEquals(describeFailure(parent).message.startsWith("--cgroup-parent must be the path"), true);
});
