// nsrun --config: options from a file, below those of the command line.

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { parseCommandLine } from "../src/cli/arguments.ts";
import { configText } from "../src/cli/config.ts";
import { nsrun, type RunOptions, stdoutOf } from "./support/cli.ts";
import { USERS } from "./support/nobody.ts";
import { makeSchema, SCHEMA_FILE } from "./support/schema.ts";

const READING = ["--allow-ffi", "--allow-read"];

async function withFile(content: unknown, use: (path: string) => Promise<void>): Promise<void> {
  const path = Deno.makeTempFileSync({ suffix: ".json" });
  try {
    Deno.writeTextFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
    Deno.chmodSync(path, 0o644);
    await use(path);
  } finally {
    Deno.removeSync(path);
  }
}

Deno.test("the schema of --config is that of the options", async () => {
  const committed = JSON.parse(Deno.readTextFileSync(SCHEMA_FILE));
  const made = JSON.parse(await makeSchema());
  assertEquals(committed, made, `run "deno task schema"`);
  assert(["privateTmp", "hostname", "noNewPrivs", "unsetEnv", "command"].every((name) => name in made.properties));
});

/** As much of JSON Schema as the schema has. */
function isValid(schema: Schema | boolean, value: unknown): boolean {
  if (typeof schema === "boolean") return schema;
  const { type, anyOf, items, prefixItems = [], minItems = 0, properties = {}, required = [], propertyNames } = schema;
  const { additionalProperties = true, exclusiveMinimum = -Infinity } = schema;
  if ("const" in schema && schema.const !== value) return false;
  if (schema.enum !== undefined && !schema.enum.includes(value)) return false;
  if (anyOf !== undefined && !anyOf.some((one) => isValid(one, value))) return false;
  if (type === undefined) return true;
  if (type === "array") {
    return Array.isArray(value) && value.length >= minItems &&
      value.every((one, index) => isValid(prefixItems[index] ?? items ?? true, one));
  }
  if (type !== "object") return typeof value === type && !(type === "number" && (value as number) <= exclusiveMinimum);
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return required.every((name) => name in value) &&
    Object.entries(value).every(([name, one]) =>
      isValid(propertyNames ?? true, name) && isValid(properties[name] ?? additionalProperties, one)
    );
}

interface Schema {
  readonly type?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly items?: Schema | boolean;
  readonly prefixItems?: readonly Schema[];
  readonly minItems?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly propertyNames?: Schema;
  readonly additionalProperties?: Schema | boolean;
  readonly exclusiveMinimum?: number;
}

/** What each type of a schema is. */
function typesIn(schema: unknown): string[] {
  if (typeof schema !== "object" || schema === null) return [];
  const { type } = schema as Schema;
  return [...typeof type === "string" ? [type] : [], ...Object.values(schema).flatMap(typesIn)];
}

Deno.test("the schema of --config takes what --print-config prints, and what the library takes", () => {
  const schema: Schema = JSON.parse(Deno.readTextFileSync(SCHEMA_FILE));
  assertEquals([...new Set(typesIn(schema))].sort(), ["array", "boolean", "number", "object", "string"]);
  const lines = [...Deno.readTextFileSync(new URL("../src/OPTIONS.md", import.meta.url)).matchAll(/^nsrun (.*)$/gm)];
  assert(lines.length > 60);
  for (const [, line] of lines) {
    const isPlain = !/["'\\]|=\$|\.json|--config|^(?:try|explain|build|doctor|inspect) /.test(line!);
    if (isPlain) assert(isValid(schema, JSON.parse(configText(parseCommandLine(line!.split(" "))))), line);
  }
  const expanded = JSON.parse(JSON.stringify(parseCommandLine(["--sandbox", "true"]).namespace));
  assert(isValid(schema, expanded));
  for (
    const [value, isRight] of [
      [{ mounts: [{ type: "bind", source: "/a", readonly: true, nosuid: true }] }, true],
      [{ mounts: [{ type: "bind" }] }, false],
      [{ mounts: [{ type: "tmpfs" }] }, false],
      [{ mounts: [{ type: "overlay", target: "/a", lower: ["/b"], upper: "tmpfs" }] }, true],
      [{ mounts: [{ type: "remount", target: "/", readonly: true, recursive: false }] }, true],
      [{ mounts: [{ type: "nothing", target: "/" }] }, false],
      [{ rlimits: { nofile: 5, nproc: [1, "unlimited"] } }, true],
      [{ rlimits: { nofil: 5 } }, false],
      [{ rlimits: { nofile: [5] } }, false],
      [{ capabilities: { keep: ["CAP_KILL"] } }, true],
      [{ capabilities: { keep: ["CAP_KIL"] } }, false],
      [{ seccomp: { default: "allow", rules: [{ calls: ["@mount"], action: { errno: "EPERM" } }] } }, true],
      [{ seccomp: { default: "allow", rules: [{ calls: ["@mount"], action: { error: "EPERM" } }] } }, false],
      [{ fds: { 3: "inherit" } }, true],
      [{ fds: { 3: "input" } }, false],
      [{ fds: { 3: 5 } }, false],
      [{ timeoutMs: 0 }, false],
      [{ sandbox: true, env: { A: "1" } }, true],
      [{ hostnme: "x" }, false],
    ] as const
  ) assertEquals(isValid(schema, value), isRight, JSON.stringify(value));
});

for (const user of USERS) {
  Deno.test(`nsrun --config takes namespaces and the command from a file, as ${user}`, async () => {
    const config = {
      $schema: "https://example.org/config.schema.json",
      hostname: "box",
      privatePid: true,
      env: { A: "1", B: "1" },
      unsetEnv: ["PRESENT"],
      command: "sh",
      args: ["-c", "echo $$ $(hostname) $A $B $PRESENT"],
    };
    await withFile(config, async (path) => {
      const options = { user, permissions: READING };
      assertEquals(await stdoutOf(["--config", path], options), "1 box 1 1\n");
      const words = [`--config=${path}`, "--hostname", "other", "--env", "B=2", "--env", "PRESENT=3"];
      assertEquals(await stdoutOf(words, options), "1 other 1 2 3\n");
      assertEquals(await stdoutOf(["--config", path, "echo", "$A"], options), "$A\n");
      const explained = await stdoutOf(["explain", "--config", path], options);
      assertStringIncludes(explained, `sethostname("box", 3)`);
    });
  });
}

Deno.test("nsrun --print-config prints what --config takes", async () => {
  const words = ["-p", "--private-tmp=size=16m", "--hostname", "box", "--env", "A=1", "--no-term-child"];
  const printed = await stdoutOf([...words, "--timeout", "5", "--print-config", "sh", "-c", "true"]);
  assertEquals(JSON.parse(printed), {
    privatePid: true,
    privateTmp: { size: "16m" },
    hostname: "box",
    termChild: false,
    env: { A: "1" },
    timeoutMs: 5000,
    command: "sh",
    args: ["-c", "true"],
  });
  await withFile(printed, async (path) => {
    const again = await stdoutOf(["--config", path, "--print-config"], { permissions: READING });
    assertEquals(JSON.parse(again), JSON.parse(printed));
  });
});

Deno.test("nsrun --config puts lists of the file and of the command line together, and replaces what else is given twice", async () => {
  const config = {
    mounts: [{ type: "tmpfs", target: "/a" }],
    rlimits: { nofile: [5, 6], core: 0 },
    capabilities: { drop: ["CAP_KILL"] },
    landlock: { read: ["/a"], connectTcp: [443], ifMissing: "skip" },
    cgroup: { pidsMax: 5, memoryMax: "1g", hugetlbMax: { "2MB": "64m" } },
    groups: [1],
    cpuAffinity: [0],
    privateTmp: { size: "1m" },
    privateUser: { uid: 5 },
    fds: { 3: "inherit" },
    hostname: "a",
  };
  await withFile(config, async (path) => {
    const both = async (...words: string[]) =>
      JSON.parse(await stdoutOf(["--config", path, ...words, "--print-config"], { permissions: READING }));
    assertEquals(await both(), config);
    const limits = ["--rlimit", "nofile=7:8", "--rlimit=nproc=9", "--pids-max=7", "--hugetlb-max=1GB=1g"];
    const landlock = ["--landlock=read=/b", "--landlock", "write=/c", "--landlock=if-missing=error"];
    const lists = ["--dir", "/b", "--cap-drop=chown", "--cap-add", "net_raw", "--inherit-fd", "4"];
    const replaced = ["--groups", "2", "--cpu-affinity=1", "-tmode=700", "-Ugid=7", "--hostname", "b"];
    assertEquals(await both(...limits, ...landlock, ...lists, ...replaced), {
      mounts: [...config.mounts, { type: "dir", target: "/b" }],
      rlimits: { nofile: ["7", "8"], core: 0, nproc: "9" },
      capabilities: { drop: ["CAP_KILL", "CAP_CHOWN"], add: ["CAP_NET_RAW"] },
      landlock: { read: ["/a", "/b"], write: ["/c"], connectTcp: [443], ifMissing: "error" },
      cgroup: { pidsMax: 7, memoryMax: "1g", hugetlbMax: { "2MB": "64m", "1GB": "1g" } },
      groups: [2],
      cpuAffinity: [1],
      privateTmp: { mode: "700" },
      privateUser: { gid: 7 },
      fds: { 3: "inherit", 4: "inherit" },
      hostname: "b",
    });
    const { capabilities, cgroup } = await both("--capabilities", "none", "--cgroup");
    assertEquals([capabilities, cgroup], ["none", config.cgroup]);
    assertEquals((await both("--no-cgroup")).cgroup, false);
  });
  await withFile({ capabilities: "none", cgroup: true }, async (path) => {
    const words = ["--config", path, "--cap-keep=kill", "--pids-max=5", "--print-config"];
    assertEquals(JSON.parse(await stdoutOf(words, { permissions: READING })), {
      capabilities: { keep: ["CAP_KILL"] },
      cgroup: { pidsMax: 5 },
    });
  });
});

Deno.test("a file for --config can be a sandbox, whose options it and the command line take the place of", async () => {
  const mounts = [{ type: "file", target: "/mine", content: "mine" }];
  await withFile({ sandbox: true, mounts, env: { USER: "me" } }, async (path) => {
    const script = "cat /mine; echo , $HOME $USER $(id -u); grep -c : /proc/net/dev; grep Seccomp: /proc/self/status";
    const words = ["--config", path, "--no-seccomp", "sh", "-c", script];
    const options = { permissions: READING };
    assertEquals(await stdoutOf(words, options), "mine, /home/sandbox me 1000\n1\nSeccomp:\t0\n");
    const printed = JSON.parse(await stdoutOf(["--print-config", ...words], options));
    assertEquals([printed.sandbox, printed.mounts, printed.env], [true, mounts, { USER: "me" }]);
  });
  await withFile({ mounts }, async (path) => {
    const words = ["--config", path, "--sandbox", "sh", "-c", "cat /mine; echo , $HOME"];
    assertEquals(await stdoutOf(words, { permissions: READING }), "mine, /home/sandbox\n");
  });
});

Deno.test("nsrun says what a file for --config cannot be", async () => {
  const refused = async (path: string, permissions: readonly string[], text: string) => {
    const { code, stderr } = await nsrun(["--config", path, "true"], { permissions });
    assertEquals(code, 125);
    assertStringIncludes(stderr, text);
  };
  await withFile({ hostnme: "box" }, async (path) => {
    await refused(path, ["--allow-ffi"], `run Deno with --allow-read=${path}`);
    await refused(path, READING, `Unknown option "hostnme": did you mean "hostname"? (in "${path}")`);
  });
  for (
    const [content, text] of [
      [{ timeoutMs: "3s" }, `Option "timeoutMs" must be a number of milliseconds above 0: got "3s" (in `],
      [{ timeoutMs: -5 }, `Option "timeoutMs" must be`],
      [{ env: ["A=1"] }, `Option "env" must be an object`],
      [{ args: [1] }, `Option "args[0]" must be a string`],
      [{ privatPid: true }, `did you mean "privatePid"?`],
      [{ sandbox: "yes" }, `Option "sandbox" must be true or false`],
    ] as const
  ) await withFile(content, async (path) => await refused(path, READING, text));
  await withFile("{", async (path) => await refused(path, READING, `Cannot read --config "${path}"`));
  await withFile([], async (path) => await refused(path, READING, "Options must be an object"));
  for (
    const [content, text] of [
      [{ hostname: 5 }, "--hostname must be a string"],
      [{ fds: { 3: 5 } }, `--inherit-fd 3 must be "inherit" here`],
      [{ cpuAffinity: [] }, "--cpu-affinity must have at least one CPU: got an empty array"],
      [{ seccomp: 5 }, '--seccomp must be "default", false or an object such as'],
      [{ seccomp: { defaultAction: "kill" } }, "Unknown option --seccomp (defaultAction): known are default, rules"],
      [{ mounts: [{ type: "file", target: "/a", content: 5 }] }, "mount 1 (content) must be a string: got 5"],
    ] as const
  ) await withFile(content, async (path) => await refused(path, READING, `nsrun: ${text}`));
  await withFile({ args: 5, command: "true" }, async (path) => {
    const { stderr } = await nsrun(["--config", path], { permissions: READING });
    assertStringIncludes(stderr, `"args" must be an array`);
  });
  await refused("/nowhere/x.json", READING, `Cannot read --config "/nowhere/x.json"`);
});

/** Words before nsrun that give it a text as what can be read from descriptor 5 once. */
function piped(text: string): string[] {
  return ["sh", "-c", 'printf "$0" | { exec 5<&0 0</dev/null; "$@"; }', text];
}

for (const user of USERS) {
  Deno.test(`what is refused is said by a program that reads no file again, as ${user}`, async () => {
    const filter = { default: "allow", rules: [] };
    const refused = async (words: string[], options: RunOptions) => {
      const { code, stderr } = await nsrun(words, { user, permissions: READING, ...options });
      return [code, stderr.split(": ")[1]];
    };
    const notFound = [127, 'Cannot execute "/nosuch"'];
    for (const text of [JSON.stringify(filter), JSON.stringify(filter) + " ".repeat(300_000)]) {
      await withFile(text, async (path) => {
        const permissions = ["--allow-ffi", `--allow-read=${path}`];
        assertEquals(await refused(["--seccomp", path, "/nosuch"], { permissions }), notFound);
        assertEquals(await refused([`--seccomp=${path}`, "/etc"], { permissions }), [126, 'Cannot execute "/etc"']);
      });
    }
    await withFile({ command: "/nosuch", seccomp: filter }, async (path) => {
      assertEquals(await refused(["--config", path], {}), notFound);
    });
    for (const option of ["--config", "--seccomp"]) {
      const text = JSON.stringify(option === "--config" ? { seccomp: filter } : filter);
      assertEquals(await refused([option, "/dev/fd/5", "/nosuch"], { before: piped(text) }), notFound);
      const stdin = new TextEncoder().encode(text);
      assertEquals(await refused([option, "-", "/nosuch"], { stdin, permissions: ["--allow-ffi"] }), notFound);
    }
    const errno = "Cannot install the filter of system calls for --seccomp";
    const wrong = "\\377\\377\\0\\0\\0\\0\\0\\0"; // No instruction that there is.
    assertEquals(await refused(["--seccomp=/dev/fd/5", "true"], { before: piped(wrong) }), [125, errno]);
    const { stderr } = await nsrun(["--seccomp=/dev/fd/5", "true"], {
      user,
      permissions: READING,
      before: piped(wrong),
    });
    assertStringIncludes(
      stderr,
      "Invalid argument (EINVAL)\nA program that is given as bytes is checked by the kernel",
    );
  });
}

Deno.test("nsrun --config - is stdin, and says so of /dev/stdin", async () => {
  const stdin = new TextEncoder().encode(`{"hostname": "box"${" ".repeat(200_000)}}`);
  assertEquals(await stdoutOf(["--config", "-", "sh", "-c", "hostname; cat"], { stdin }), "box\n");
  const { code, stderr } = await nsrun(["--config", "/dev/stdin", "true"], { stdin, permissions: READING });
  assertEquals([code, stderr], [125, 'nsrun: --config needs to read "/dev/stdin": write --config -\n']);
});

Deno.test("nsrun --print-config and build have the folder of the command as the shell has it", async () => {
  const printed = JSON.parse(await stdoutOf(["-w", "etc", "--print-config", "true"]));
  assertEquals(printed.cwd, "/etc");
  const folder = Deno.makeTempDirSync({ dir: "/var/tmp" });
  try {
    await stdoutOf(["build", "-o", `${folder}/jail`, "-w", "etc", "pwd"], { permissions: ["--allow-all"] });
    const { stdout } = await new Deno.Command(`${folder}/jail`, { cwd: "/usr" }).output();
    assertEquals(new TextDecoder().decode(stdout), "/etc\n");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("what the kernel refuses is explained for options of a file, too", async () => {
  await withFile(
    { privateUser: { uidMap: [{ inside: 0, outside: 0 }], gidMap: [{ inside: 0, outside: 0 }] } },
    async (path) => {
      const { code, stderr } = await nsrun(["--config", path, "--uid=0", "--gid=0", "true"], {
        user: "nobody",
        permissions: READING,
      });
      assertEquals(code, 125);
      assertStringIncludes(stderr, "user ids");
      assertStringIncludes(stderr, "EPERM");
    },
  );
});
