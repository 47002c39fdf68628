import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { isRunning, readLine, until } from "../support/inside.ts";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import { runProgram, startProgram } from "../support/program.ts";

const ALL = ["--allow-all"];

for (const user of USERS) {
  isolatedTest(`reexec() starts the program over inside, as ${user}`, async () => {
    const code = `
      console.log("begin");
      await new Namespace({ privatePid: true, privateUser: true, hostname: "box" }).reexec();
      console.log(Deno.pid, Deno.uid(), Deno.hostname());
      console.error("to stderr");
      Deno.exit(7);`;
    const { code: status, stdout, stderr } = await runProgram(code, { user, permissions: ALL });
    assertEquals([status, stdout, stderr], [7, "begin\nbegin\n1 0 box\n", "to stderr\n"]);
  });

  isolatedTest(`reexec() keeps permissions, environment, stdin and folder, as ${user}`, async () => {
    const code = `
      await new Namespace({ privateUts: true }).reexec();
      const states = ["read", "net", "ffi"].map((name) => Deno.permissions.querySync({ name }).state);
      console.log(...states, Deno.env.get("NO_COLOR"), await new Response(Deno.stdin.readable).text());`;
    const child = startProgram(code, { user, permissions: ["--allow-ffi", "--allow-read", "--allow-env"] });
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode("from outside"));
    await writer.close();
    const { stdout, stderr } = await child.output();
    const decoder = new TextDecoder();
    assertEquals(
      [decoder.decode(stdout), decoder.decode(stderr)],
      ["granted prompt granted 1 from outside\n", ""],
    );
  });

  isolatedTest(
    `reexec() keeps the process id, hands signals on, and ends as the program does, as ${user}`,
    async () => {
      const code = `
      await new Namespace({ privatePid: true, noProc: true }).reexec();
      Deno.addSignalListener("SIGUSR1", () => Deno.exit(5));
      console.log(Deno.pid);
      setInterval(() => {}, 1000);`;
      const child = startProgram(code, { user, permissions: ALL });
      assertEquals(await readLine(child.stdout), "1");
      child.kill("SIGUSR1");
      assertEquals((await child.status).code, 5);
      await Promise.all([child.stdin.close(), child.stdout.cancel(), child.stderr.cancel()]);
    },
  );

  isolatedTest(`reexec(): who kills the process kills the program, as ${user}`, async () => {
    const code = `
      await new Namespace({ privateUts: true }).reexec();
      console.log(Deno.pid);
      setInterval(() => {}, 1000);`;
    const child = startProgram(code, { user, permissions: ALL });
    const inner = Number(await readLine(child.stdout));
    assert(inner !== child.pid && isRunning(inner));
    child.kill("SIGKILL");
    assertEquals((await child.status).signal, "SIGKILL");
    await until("the program is gone", () => !isRunning(inner));
    await Promise.all([child.stdin.close(), child.stdout.cancel(), child.stderr.cancel()]);
  });

  isolatedTest(`reexec() of several namespaces goes into all of them, each once, as ${user}`, async () => {
    const code = `
      await new Namespace({ hostname: "outer" }).reexec();
      await new Namespace({ privatePid: true, init: true }).reexec();
      await new Namespace({ hostname: "outer" }).reexec();
      console.log(Deno.hostname(), Deno.pid);
      const args = ["-c", "env; ls /proc/self/fd"];
      console.log(new TextDecoder().decode(new Deno.Command("sh", { args }).outputSync().stdout).includes("\\n3\\n4"));`;
    const { stdout, stderr } = await runProgram(code, { user, permissions: ALL });
    assertEquals([stdout, stderr], ["outer 2\nfalse\n", ""]);
  });

  isolatedTest(`reexec() that the kernel refuses throws, and the program goes on, as ${user}`, async () => {
    const code = `
      const ns = new Namespace({ privateUser: { uidMap: [{ inside: 0, outside: 4294967290 }], gidMap: [{ inside: 0, outside: 5 }] } });
      const pid = Deno.pid;
      try { await new Namespace({ privateTime: { boottime: -4e9 } }).reexec(); } catch (error) {
        console.log(error instanceof NamespaceError, error.option, pid === Deno.pid);
      }`;
    const { code: status, stdout, stderr } = await runProgram(code, { user, permissions: ALL });
    assertEquals([status, stdout, stderr], [0, "true privateTime true\n", ""]);
  });
}

isolatedTest("reexec() tells settings apart that differ in a set, a large number or no limit alone", async () => {
  const code = `
    const bounding = () => /CapBnd:\\s*(\\S+)/.exec(Deno.readTextFileSync("/proc/self/status"))[1];
    const rule = (value) => ({ default: "allow", rules: [{ calls: ["mkdirat"], action: "log", args: [{ index: 0, op: "==", value }] }] });
    await new Namespace({ capabilities: { drop: ["CAP_BPF"] }, seccomp: rule(1n), rlimits: { core: 0 } }).reexec();
    await new Namespace({ capabilities: { drop: ["CAP_SYS_BOOT"] }, seccomp: rule(1n), rlimits: { core: 0 } }).reexec();
    await new Namespace({ rlimits: { core: [0, 0] } }).reexec();
    console.log(BigInt("0x" + bounding()) >> 22n & 1n, BigInt("0x" + bounding()) >> 39n & 1n);`;
  const { stdout, stderr } = await runProgram(code, { permissions: ALL });
  assertEquals([stdout, stderr], ["0n 0n\n", ""]);
});

isolatedTest("reexec() is not deceived by a variable that somebody else has set", async () => {
  const code = `
    Deno.env.set("SYS_LINUX_NAMESPACE_INSIDE", "3");
    await new Namespace({ hostname: "box" }).reexec();
    console.log(Deno.hostname());`;
  const { stdout } = await runProgram(code, { permissions: ALL });
  assertEquals(stdout, "box\n");
});

isolatedTest("reexec() refuses in a Worker, with a debugger, and for a program from stdin, and says why", async () => {
  const attempt = (options: string) =>
    `try { await new Namespace({ hostname: "x" }).reexec(); console.log(Deno.hostname()); }
    catch (error) { console.log(error.name, error.message); } ${options}`;
  const worker = `
    if ("WorkerGlobalScope" in globalThis) { ${attempt("postMessage(0);")} }
    else {
      const worker = new Worker(import.meta.url, { type: "module" });
      worker.onmessage = () => Deno.exit(0);
    }`;
  const { stdout } = await runProgram(worker, { permissions: ALL });
  assertStringIncludes(stdout, "NotSupported Cannot start this program over: it is a Worker");
  const debugged = await runProgram(attempt(""), { permissions: [...ALL, "--inspect=127.0.0.1:0"] });
  assertStringIncludes(debugged.stdout, "NotSupported Cannot start this program over: a debugger is attached");
});

isolatedTest("reexec() refuses for a program that was read from stdin", async () => {
  const mod = new URL("../../mod.ts", import.meta.url).href;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  })
    .spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(`import { Namespace } from "${mod}";
    try { await new Namespace({ hostname: "x" }).reexec(); } catch (error) { console.log(error.message); }`));
  await writer.close();
  const { stdout } = await child.output();
  assertStringIncludes(new TextDecoder().decode(stdout), "it was read from stdin");
});
