/**
 * The same program with Deno.Command and with ours: whatever can be observed must be the same.
 */
import { assert, assertEquals } from "@std/assert";
import { Namespace, NamespaceError } from "../../mod.ts";
import { isolatedTest } from "../support/leaks.ts";

type Make = (command: string | URL, options?: Deno.CommandOptions) => Deno.Command;

const utf8 = new TextDecoder();

/** Deno tells the path that it found; what was asked for comes out as its last part. */
function normalized(message: string): string {
  return message.replace(/^Failed to spawn '(.*\/)?([^'/]*)'/, "Failed to spawn '$2'");
}

function seen(value: unknown): unknown {
  if (value instanceof Uint8Array) return `bytes ${utf8.decode(value)}`;
  if (value instanceof ArrayBuffer) return `buffer ${utf8.decode(value)}`;
  if (Array.isArray(value)) return value.map(seen);
  if (typeof value !== "object" || value === null) return value;
  // Getters too: those of streams that are not piped throw.
  return Object.fromEntries(
    Object.keys(value).map((key) => [key, attempt(() => (value as Record<string, unknown>)[key])]),
  );
}

function failure(error: unknown): unknown {
  if (!(error instanceof Error)) throw error;
  if (error instanceof NamespaceError) return { class: "NamespaceError", message: error.message };
  // Objects of the same class, not only of the same name: a caller says `instanceof`.
  const known = Object.values(Deno.errors).find((known) => error.constructor === known) ?? error.constructor;
  return { class: known, message: normalized(error.message), code: (error as { code?: string }).code };
}

function attempt(get: () => unknown): unknown {
  try {
    return seen(get());
  } catch (error) {
    return failure(error);
  }
}

async function observe(run: (make: Make) => unknown, make: Make): Promise<unknown> {
  try {
    return seen(await run(make));
  } catch (error) {
    return failure(error);
  }
}

const sh = (script: string, options: Deno.CommandOptions = {}): [string, Deno.CommandOptions] => [
  "sh",
  { args: ["-c", script], ...options },
];

/** Runs something with a child, and waits for the child whatever comes of it. */
async function child(spawned: Deno.ChildProcess, use: (child: Deno.ChildProcess) => unknown): Promise<unknown> {
  try {
    return [await use(spawned), await spawned.status];
  } finally {
    await spawned.status;
  }
}

async function feed(stream: WritableStream<Uint8Array>, text: string): Promise<void> {
  const writer = stream.getWriter();
  await writer.write(new TextEncoder().encode(text));
  await writer.close();
}

const PIPED = { stdin: "null", stdout: "piped", stderr: "piped" } as const;

const CASES: Record<string, (make: Make) => unknown> = {
  "output()": (make) => make(...sh("echo out; echo err >&2")).output(),
  "output() of no output": (make) => make("true").output(),
  "output() of a failure": (make) => make(...sh("echo x; exit 42")).output(),
  "output() of code 255": (make) => make(...sh("exit 255")).output(),
  "output() with stdout null": (make) => make(...sh("echo x", { stdout: "null" })).output(),
  "output() with stderr null": (make) => make(...sh("echo x >&2", { stderr: "null" })).output(),
  "output() has a null stdin": (make) => make("cat").output(),
  "output() refuses a piped stdin": (make) => make("cat", { stdin: "piped" }).output(),
  "output() of a missing command": (make) => make("no-such-command").output(),
  "output() with a signal": (make) => {
    const controller = new AbortController();
    const output = make("sleep", { args: ["60"], signal: controller.signal }).output();
    controller.abort();
    return output.then(({ success }) => success);
  },
  "outputSync()": (make) => make(...sh("echo out; echo err >&2")).outputSync(),
  "outputSync() of a failure": (make) => make(...sh("exit 3")).outputSync(),
  "outputSync() with both null": (make) => make("true", { stdout: "null", stderr: "null" }).outputSync(),
  "outputSync() refuses a piped stdin": (make) => make("cat", { stdin: "piped" }).outputSync(),
  "outputSync() of a missing path": (make) => make("/no/such/command").outputSync(),
  "outputSync() of a missing relative path": (make) => make("./no-such-command").outputSync(),
  "outputSync() of an empty name": (make) => make("").outputSync(),
  "outputSync() of a folder": (make) => make("/etc").outputSync(),
  "outputSync() of a file that is not executable": (make) => make("/etc/passwd").outputSync(),
  "outputSync() of a large output": (make) => make(...sh("head -c 3000000 /dev/zero | tr '\\0' x")).outputSync(),
  "outputSync() of two large outputs": (make) =>
    make(...sh("head -c 300000 /dev/zero | tr '\\0' x >&2; head -c 300000 /dev/zero | tr '\\0' y")).outputSync(),
  "spawn() and status": (make) => make(...sh("exit 7")).spawn().status,
  "spawn() and output()": (make) => make(...sh("echo a; echo b >&2", PIPED)).spawn().output(),
  "spawn() and output() of one stream": (make) => make(...sh("echo a", { stdout: "piped" })).spawn().output(),
  "spawn() and getters of what is not piped": (make) =>
    child(make("true", { stdin: "null" }).spawn(), (it) => [
      attempt(() => it.stdin),
      attempt(() => it.stdout),
      attempt(() => it.stderr),
    ]),
  "spawn() with all piped": (make) =>
    child(make("cat", { stdin: "piped", stdout: "piped", stderr: "piped" }).spawn(), async (it) => {
      const [, stdout, stderr] = await Promise.all([feed(it.stdin, "through"), it.stdout.text(), it.stderr.text()]);
      return [stdout, stderr];
    }),
  "stdout.text()": (make) => child(make(...sh("echo héllo", PIPED)).spawn(), (it) => both(it, it.stdout.text())),
  "stdout.text() of a byte order mark and no UTF-8": (make) =>
    child(make(...sh("printf '\\357\\273\\277x\\377'", PIPED)).spawn(), (it) => both(it, it.stdout.text())),
  "stdout.json()": (make) => child(make(...sh(`echo '{"a":[1]}'`, PIPED)).spawn(), (it) => both(it, it.stdout.json())),
  "stdout.json() of no JSON": (make) =>
    child(make(...sh("echo '{'", PIPED)).spawn(), (it) => both(it, it.stdout.json())),
  "stdout.bytes()": (make) => child(make(...sh("echo x", PIPED)).spawn(), (it) => both(it, it.stdout.bytes())),
  "stderr.arrayBuffer()": (make) =>
    child(make(...sh("echo x >&2", { stderr: "piped" })).spawn(), (it) => it.stderr.arrayBuffer()),
  "stdout is one object": (make) =>
    child(
      make(...sh("echo x", { stdout: "piped" })).spawn(),
      async (it) => [it.stdout === it.stdout, await it.stdout.text()],
    ),
  "stdout is a ReadableStream": (make) =>
    child(
      make(...sh("echo x", { stdout: "piped" })).spawn(),
      async (it) => [it.stdout instanceof ReadableStream, await it.stdout.text()],
    ),
  "output() while stdout is read": (make) =>
    child(make(...sh("echo x", PIPED)).spawn(), async (it) => {
      const texts = Promise.all([it.stdout.text(), it.stderr.text()]);
      const refused = await it.output().catch(failure);
      return [refused, await texts];
    }),
  "output() twice": (make) =>
    child(make(...sh("echo x", PIPED)).spawn(), async (it) => [await it.output(), await it.output().catch(failure)]),
  "output() after some of stdout was read": (make) =>
    child(make(...sh("echo a; read -r x; echo b", { stdin: "piped", stdout: "piped" })).spawn(), async (it) => {
      const reader = it.stdout.getReader();
      const first = (await reader.read()).value;
      reader.releaseLock();
      await feed(it.stdin, "\n");
      return [first, await it.output()];
    }),
  "stdout.text() after some of stdout was read": (make) =>
    child(make(...sh("echo a; read -r x; echo b", { stdin: "piped", stdout: "piped" })).spawn(), async (it) => {
      const reader = it.stdout.getReader();
      const first = (await reader.read()).value;
      reader.releaseLock();
      await feed(it.stdin, "\n");
      return [first, await it.stdout.text()];
    }),
  "pipeTo() between children": async (make) => {
    const from = make(...sh("echo one; echo two", { stdout: "piped" })).spawn();
    const to = make("tac", { stdin: "piped", stdout: "piped" }).spawn();
    const [, text] = await Promise.all([from.stdout.pipeTo(to.stdin), to.stdout.text()]);
    return [text, await from.status, await to.status];
  },
  "env adds to the environment": (make) =>
    make(...sh('echo "$NAMESPACE_TEST" "${PATH:+path}"', { env: { NAMESPACE_TEST: "a b" } })).output(),
  "env replaces, and keeps an empty value": (make) =>
    make(...sh('echo "[$HOME]" "${EMPTY-unset}"', { env: { HOME: "/x", EMPTY: "" } })).output(),
  "env is Deno.env's of this moment": (make) => {
    Deno.env.set("NAMESPACE_TEST_NOW", "now");
    try {
      return make(...sh("echo $NAMESPACE_TEST_NOW")).outputSync();
    } finally {
      Deno.env.delete("NAMESPACE_TEST_NOW");
    }
  },
  "clearEnv": (make) => make("/usr/bin/env", { clearEnv: true, env: { ONLY: "this" } }).output(),
  "clearEnv without env": (make) => make("/usr/bin/env", { clearEnv: true }).output(),
  "cwd": (make) => make("pwd", { cwd: "/usr" }).output(),
  "cwd as a URL": (make) => make("pwd", { cwd: new URL("file:///usr/") }).output(),
  "cwd of a relative path": (make) => make("pwd", { cwd: "." }).output(),
  "cwd that is not inherited by $PWD alone": (make) =>
    make("readlink", { args: ["/proc/self/cwd"], cwd: "/usr" }).output(),
  "command as a URL": (make) => make(new URL("file:///bin/echo"), { args: ["x"] }).output(),
  "command relative to cwd": (make) => make("./echo", { args: ["x"], cwd: "/bin" }).output(),
  "args with spaces and quotes": (make) => make("printf", { args: ["<%s>", "a b", "'\"", "", "é"] }).output(),
  "args of numbers": (make) => make("echo", { args: [1, 2.5] as unknown as string[] }).output(),
  "uid and gid": (make) => make("id", { uid: 12, gid: 34 }).output(),
  "uid alone": (make) => make(...sh("id -u; id -g", { uid: 12 })).output(),
  "gid alone": (make) => make(...sh("id -u; id -g", { gid: 34 })).output(),
  "kill() of a child": (make) =>
    child(make("cat", { stdin: "piped", stdout: "null" }).spawn(), async (it) => {
      it.kill("SIGKILL");
      await it.stdin.close().catch(() => {});
    }),
  "kill() after the end": (make) =>
    child(make("true").spawn(), async (it) => {
      await it.status;
      it.kill();
    }),
  "kill() of no such signal": (make) => child(make("true").spawn(), (it) => it.kill("SIGFOO" as Deno.Signal)),
  "a child that kills itself, which PID 1 cannot": (make) =>
    make(...sh("kill -9 $$; exit 5")).output().then(({ success }) => success),
  "AbortSignal aborted after the end": (make) => {
    const controller = new AbortController();
    const { status } = make("true", { signal: controller.signal }).spawn();
    return status.then((status) => {
      controller.abort();
      return status;
    });
  },
  "asyncDispose after the end": async (make) => {
    await using it = make(...sh("exit 4")).spawn();
    return await it.status;
  },
  "a script without #!": (make) => {
    const file = Deno.makeTempFileSync();
    try {
      Deno.writeTextFileSync(file, 'echo "$1"\n');
      Deno.chmodSync(file, 0o755);
      return make(file, { args: ["argument"] }).outputSync();
    } finally {
      Deno.removeSync(file);
    }
  },
};

/** Not reading stderr would leave it to be collected for nobody. */
async function both(child: Deno.ChildProcess, stdout: Promise<unknown>): Promise<unknown> {
  return await Promise.all([stdout.catch(failure), child.stderr.text()]);
}

const TWINS: Record<string, Make> = {
  "{}": (command, options) => new Namespace().command(command, options),
  "{ privatePid: true }": (command, options) => new Namespace({ privatePid: true }).command(command, options),
};

for (const [name, run] of Object.entries(CASES)) {
  isolatedTest(`command() is as Deno.Command: ${name}`, async () => {
    const expected = await observe(run, (command, options) => new Deno.Command(command, options));
    for (const [options, make] of Object.entries(TWINS)) {
      assertEquals(await observe(run, make), expected, `with ${options}`);
    }
  });
}

/** PID 1 of a pid namespace is spared these by the kernel: they are compared without one. */
const SIGNALS = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGUSR1",
  "SIGPIPE",
  "SIGALRM",
  "SIGTERM",
  "SIGSEGV",
  "SIGKILL",
] as const;

isolatedTest("command() is as Deno.Command: status after each signal", async () => {
  const statuses = async (make: Make) => {
    const children = SIGNALS.map((signal) => {
      const child = make("sleep", { args: ["60"] }).spawn();
      child.kill(signal);
      return child.status;
    });
    return (await Promise.all(children)).map((status) => ({ ...status }));
  };
  const expected = await statuses((command, options) => new Deno.Command(command, options));
  assertEquals(expected.map(({ signal }) => signal), [...SIGNALS]);
  assertEquals(await statuses((command, options) => new Namespace().command(command, options)), expected);
});

isolatedTest("command() is a Deno.Command to the type checker, and its child a Deno.ChildProcess", async () => {
  const command: Deno.Command = new Namespace({ privatePid: true }).command("true", { stdin: "null" });
  const child: Deno.ChildProcess = command.spawn();
  const status: Deno.CommandStatus = await child.status;
  assertEquals(status, { success: true, code: 0, signal: null });
  const output: Deno.CommandOutput = command.outputSync();
  assert(output.success);
});
