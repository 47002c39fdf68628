import { assertEquals } from "@std/assert";
import { isolatedTest } from "../support/leaks.ts";
import { packageFolder, runProgram } from "../support/program.ts";

// In programs of their own: what goes wrong here goes wrong in native code, and takes all of Deno along.

/** The text of a program that has `start()`, which makes a Worker of the code and gives its first message. */
function withWorkers(workerCode: string, code: string): string {
  const text = `import { Namespace } from "file://${packageFolder()}/mod.ts";\n${workerCode}`;
  return `const url = ${JSON.stringify(`data:application/typescript,${encodeURIComponent(text)}`)};
    function start() {
      const worker = new Worker(url, { type: "module" });
      const { promise, resolve, reject } = Promise.withResolvers();
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = reject;
      return promise.then((data) => ({ worker, data }));
    }
    async function until(condition) {
      for (let left = 400; left > 0 && !condition(); left--) await new Promise((resolve) => setTimeout(resolve, 5));
      return condition();
    }
    const children = () => [...Deno.readDirSync("/proc/self/task")].flatMap(({ name }) => {
      try {
        return Deno.readTextFileSync("/proc/self/task/" + name + "/children").split(" ").map(Number).filter((pid) => pid > 0);
      } catch {
        return []; // The thread has ended.
      }
    });
    ${code}`;
}

isolatedTest(
  "Worker.terminate() ends the children of the Worker, leaves no zombie, and the program goes on",
  async () => {
    const worker =
      `const worlds = [{}, { privatePid: true }, { privateUser: true, privatePid: true }, { termChild: false }];
    const children = worlds.map((options) =>
      new Namespace(options).command("sleep", { args: ["60"], stdout: "piped" }).spawn());
    self.postMessage(children.map(({ pid }) => pid));`;
    const program = `const { worker, data } = await start();
    console.log(children().filter((pid) => data.includes(pid)).length);
    worker.terminate();
    console.log(await until(() => !children().some((pid) => data.includes(pid))));
    const { code } = await new Namespace({ privatePid: true }).command("true").output();
    console.log(code);`;
    const { code, signal, stdout, stderr } = await runProgram(withWorkers(worker, program), { permissions: ["-A"] });
    assertEquals({ code, signal, stdout, stderr }, { code: 0, signal: null, stdout: "4\ntrue\n0\n", stderr: "" });
  },
);

isolatedTest("Worker that ends by itself takes its children along", async () => {
  const worker =
    `const child = new Namespace({ privatePid: true, termChild: false }).command("sleep", { args: ["60"] }).spawn();
    child.unref();
    self.postMessage([child.pid]);
    self.close();`;
  const program = `const { data } = await start();
    console.log(await until(() => !children().some((pid) => data.includes(pid))));`;
  const { code, signal, stdout, stderr } = await runProgram(withWorkers(worker, program), { permissions: ["-A"] });
  assertEquals({ code, signal, stdout, stderr }, { code: 0, signal: null, stdout: "true\n", stderr: "" });
});

// execve, so the kernel goes on to report it, with a token that is no longer known.
isolatedTest("spawn() in several Workers at once works as in the program", async () => {
  const worker = `const outputs = [];
    for (let round = 0; round < 30; round++) {
      const command = new Namespace({ privatePid: true }).command("sh", { args: ["-c", "echo $$ " + round] });
      const { stdout } = round % 2 ? await command.output() : command.outputSync();
      outputs.push(new TextDecoder().decode(stdout).trim());
    }
    self.postMessage(outputs.join());`;
  const program = `const results = await Promise.all([start(), start(), start()]);
    for (const { worker, data } of results) {
      worker.terminate();
      console.log(data);
    }
    console.log(await until(() => children().length === 0));`;
  const { code, signal, stdout, stderr } = await runProgram(withWorkers(worker, program), { permissions: ["-A"] });
  const line = Array.from({ length: 30 }, (_, round) => `1 ${round}`).join();
  const expected = `${line}\n${line}\n${line}\ntrue\n`;
  assertEquals({ code, signal, stdout, stderr }, { code: 0, signal: null, stdout: expected, stderr: "" });
});

isolatedTest("commands as other users, by several threads at once, leave this program's memory its own", async () => {
  const libc = `
    const { prctl } = Deno.dlopen("libc.so.6", { prctl: { parameters: ["i32"], result: "i32" } }).symbols;
    const isDumpable = () => prctl(3) === 1;
    const ids = { uid: 65534, gid: 65534 };
    function run(options, rounds) {
      let dumpable = true;
      for (let round = 0; round < rounds; round++) {
        new Namespace().command("true", options).outputSync();
        dumpable &&= isDumpable();
      }
      return dumpable;
    }`;
  const { stdout, stderr } = await runProgram(
    withWorkers(
      `${libc} self.postMessage(0); const both = [run({}, 30), run(ids, 30)]; self.postMessage(both.join());`,
      `${libc}
      const { worker } = await start();
      const said = new Promise((resolve) => worker.onmessage = ({ data }) => resolve(data));
      console.log(run(ids, 60), await said, isDumpable());
      worker.terminate();`,
    ),
    { permissions: ["-A"] },
  );
  assertEquals([stdout, stderr], ["true true,true true\n", ""]);
});
