// How the package is come by and what it is allowed: --allow-ffi alone, also from an http URL, and nothing done at import.

import { assertEquals, assertStringIncludes } from "@std/assert";

const ROOT = new URL("..", import.meta.url);

/** The C library, the shim, and looking at the shim's memory. */
const FFI_ALONE = ["ffi=/proc/self/fd/N", "ffi=libc.so.N", "ffi=null"];

interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The permissions that were asked for, as `name` or `name=value`. */
  readonly permissions: readonly string[];
}

/** Runs a module with these permissions, and keeps the record that Deno makes of those it uses. */
async function run(module: string, flags: readonly string[]): Promise<Run> {
  const folder = Deno.makeTempDirSync();
  try {
    const audit = `${folder}/audit.jsonl`;
    Deno.writeTextFileSync(`${folder}/main.ts`, module);
    const args = ["run", "--no-prompt", "--no-config", "--no-lock", ...flags, `${folder}/main.ts`];
    const env = { DENO_AUDIT_PERMISSIONS: audit, NO_COLOR: "1" };
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args, env }).output();
    const lines = await Deno.readTextFile(audit).catch(() => "");
    const permissions = lines.split("\n").filter((line) => line !== "").map((line) => {
      const { permission, value } = JSON.parse(line);
      return `${permission}=${String(value).replace(/\d+$/, "N")}`;
    });
    return { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr), permissions };
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

function program(base: string): string {
  return `
    import { Namespace } from "${base}mod.ts";
    const ns = new Namespace({ privatePid: true, privateTmp: true, privateNet: true, hostname: "box" });
    const child = ns.command("sh", { args: ["-c", "cat; echo $$ $(hostname)"], stdin: "piped", stdout: "piped" }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode("in "));
    await writer.close();
    console.log((await child.stdout.text()).trim(), (await child.status).code);
    console.log(ns.command("true").outputSync().code);
  `;
}

Deno.test("importing the package asks for no permission and does nothing", async () => {
  const modules = ["mod.ts", "src/diagnose.ts", "src/mount.ts", "src/unshare.ts"].map((name) =>
    `import "${new URL(name, ROOT)}";`
  );
  const { code, stdout, stderr, permissions } = await run(modules.join("\n"), []);
  assertEquals({ code, stdout, stderr, permissions }, { code: 0, stdout: "", stderr: "", permissions: [] });
});

Deno.test("Namespace.command() needs --allow-ffi and nothing else", async () => {
  const { code, stdout, stderr, permissions } = await run(program(ROOT.href), ["--allow-ffi"]);
  assertEquals({ code, stdout, stderr }, { code: 0, stdout: "in 1 box 0\n0\n", stderr: "" });
  assertEquals([...new Set(permissions)].sort(), FFI_ALONE);
});

Deno.test("Namespace.command() works the same when it is imported from an http URL", async () => {
  const requested: string[] = [];
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    const path = new URL(request.url).pathname.slice(1);
    requested.push(path);
    const headers = { "content-type": "application/typescript" };
    return new Response(await Deno.readTextFile(new URL(path, ROOT)), { headers });
  });
  const origin = `127.0.0.1:${server.addr.port}`;
  const flags = ["--allow-ffi", `--allow-import=${origin}`, "--reload"];
  const { code, stdout, stderr, permissions } = await run(program(`http://${origin}/`), flags);
  assertEquals([code, stdout], [0, "in 1 box 0\n0\n"], stderr);
  const asked = permissions.filter((permission) => !permission.startsWith("import="));
  assertEquals([...new Set(asked)].sort(), FFI_ALONE);
  assertEquals(requested.filter((path) => path !== "mod.ts" && !path.startsWith("src/")), []);
});

Deno.test("Namespace.command() says which permission is missing", async () => {
  const { code, stderr } = await run(program(ROOT.href), []);
  assertEquals(code, 1);
  assertStringIncludes(stderr, "--allow-ffi");
});

Deno.test("src and mod.ts import by relative paths alone, except for the CLI, and nothing of node:", async () => {
  const files = ["mod.ts"];
  const walk = async (folder: string): Promise<void> => {
    for await (const entry of Deno.readDir(new URL(folder, ROOT))) {
      if (entry.isDirectory) await walk(`${folder}${entry.name}/`);
      else if (entry.name.endsWith(".ts")) files.push(`${folder}${entry.name}`);
    }
  };
  await walk("src/");
  const foreign: string[] = [];
  for (const file of files) {
    const source = await Deno.readTextFile(new URL(file, ROOT));
    for (const [, specifier] of source.matchAll(/^(?:import|export)\b[^;]*?from\s+"([^"]+)"/gm)) {
      if (!specifier!.startsWith("./") && !specifier!.startsWith("../")) foreign.push(`${file}: ${specifier}`);
    }
  }
  assertEquals(foreign.filter((line) => !/^src\/cli\/[a-z]+\.ts: npm:deno-std@/.test(line)), []);
});
