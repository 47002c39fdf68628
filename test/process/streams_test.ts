import { assert, assertEquals, assertLessOrEqual, assertRejects, assertThrows } from "@std/assert";
import { Namespace } from "../../mod.ts";
import { statusField, until } from "../support/inside.ts";
import { fileDescriptors, isolatedTest } from "../support/leaks.ts";
import { runProgram } from "../support/program.ts";

const MiB = 1024 * 1024;
const NEWLINE = new TextEncoder().encode("\n");

/** Not cryptographic, but nothing that could be right by accident. */
function randomBytes(size: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(size / 4);
  let state = 0x9e3779b9;
  for (let index = 0; index < words.length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return new Uint8Array(words.buffer);
}

/** Whether the bytes are the same. A word at a time where it can be: there are billions of them. */
function sameBytes(actual: Uint8Array, expected: Uint8Array): boolean {
  if (actual.length !== expected.length) return false;
  const aligned = actual.byteOffset % 4 === 0 && expected.byteOffset % 4 === 0;
  const count = aligned ? actual.length >>> 2 : 0;
  const [left, right] = [actual, expected].map((bytes) =>
    new Int32Array(bytes.buffer, aligned ? bytes.byteOffset : 0, count)
  );
  for (let index = 0; index < count; index++) if (left![index] !== right![index]) return false;
  for (let index = count * 4; index < actual.length; index++) if (actual[index] !== expected[index]) return false;
  return true;
}

function assertSameBytes(actual: Uint8Array, expected: Uint8Array): void {
  assert(sameBytes(actual, expected), `${actual.length} bytes, not the ${expected.length} that were expected`);
}

function sh(script: string, options: Deno.CommandOptions = {}, world = {}) {
  return new Namespace(world).command("sh", { args: ["-c", script], ...options }).spawn();
}

isolatedTest("stdout carries 1 GiB intact", async () => {
  // Lines of 16 bytes: where a byte is lost or doubled, all that follow are not where they should be.
  const line = "0123456789abcde\n";
  const size = 1024 * MiB;
  const text = line.repeat(128 * 1024 / line.length);
  const expected = Array.from({ length: line.length }, (_, phase) => new TextEncoder().encode(text.slice(phase)));
  const child = sh(`yes ${line.trim()} | head -c ${size}`, { stdout: "piped", stdin: "null" }, { privatePid: true });
  let at = 0;
  for await (const chunk of child.stdout) {
    const same = expected[at % line.length]!.subarray(0, chunk.length);
    if (!sameBytes(chunk, same)) throw new Error(`Differs after ${at}`);
    at += chunk.length;
  }
  assertEquals(at, size);
  assertEquals((await child.status).code, 0);
});

isolatedTest("outputSync() and output() collect 64 MiB intact", async () => {
  const script = "yes 0123456789abcde | head -c 67108864";
  const expected = new TextEncoder().encode("0123456789abcde\n".repeat(4 * MiB));
  const command = new Namespace({ privatePid: true }).command("sh", { args: ["-c", script] });
  assertSameBytes(command.outputSync().stdout, expected);
  assertSameBytes((await command.output()).stdout, expected);
});

isolatedTest("stdin and stdout carry 16 MiB of random bytes through a child", async () => {
  const bytes = randomBytes(16 * MiB);
  for (const chunk of [16 * MiB, 1_000_003]) {
    const child = new Namespace({ privatePid: true }).command("cat", { stdin: "piped", stdout: "piped" }).spawn();
    const write = async () => {
      const writer = child.stdin.getWriter();
      for (let at = 0; at < bytes.length; at += chunk) await writer.write(bytes.subarray(at, at + chunk));
      await writer.close();
    };
    const [received] = await Promise.all([child.stdout.bytes(), write()]);
    assertSameBytes(received, bytes);
    assertEquals((await child.status).code, 0);
  }
});

isolatedTest("stdin takes chunks of no bytes, and views into larger buffers", async () => {
  const child = new Namespace().command("cat", { stdin: "piped", stdout: "piped" }).spawn();
  const writer = child.stdin.getWriter();
  const buffer = new TextEncoder().encode("..abc..");
  await writer.write(new Uint8Array());
  await writer.write(buffer.subarray(2, 5));
  await writer.write(new Uint8Array(buffer.buffer, 5, 0));
  await writer.close();
  assertEquals(await child.stdout.text(), "abc");
  assertEquals((await child.status).code, 0);
});

isolatedTest("stdout is not read before somebody asks, and no further: the child waits", async () => {
  const child = new Namespace().command("head", { args: ["-c", "10000000", "/dev/zero"], stdout: "piped" }).spawn();
  const written = () => Number(/^wchar: (\d+)$/m.exec(Deno.readTextFileSync(`/proc/${child.pid}/io`))?.[1]);
  // Asleep in pipe_write, having filled the pipe: it will not go on by itself.
  const blocked = (least: number) => () =>
    written() >= least && statusField(child.pid, "State")?.startsWith("S") === true;
  await until("the child waits", blocked(65536));
  assertLessOrEqual(written(), 65536 + 8192);
  const reader = child.stdout.getReader();
  let read = 0;
  while (read < 200_000) read += (await reader.read()).value?.length ?? 0;
  await until("the child waits again", blocked(read + 65536 - 8192));
  assertLessOrEqual(written(), read + 2 * 65536 + 8192); // One chunk may have been read ahead.
  reader.releaseLock();
  for await (const chunk of child.stdout) read += chunk.length;
  assertEquals(read, 10_000_000);
  assertEquals((await child.status).code, 0);
});

isolatedTest("stdin write() resolves only when the pipe has taken it: the writer waits", async () => {
  const child = sh("read -r line; exec cat >/dev/null", { stdin: "piped" });
  const writer = child.stdin.getWriter();
  let taken = 0;
  const writes = Array.from({ length: 64 }, () => writer.write(randomBytes(4096)).then(() => taken += 4096));
  // The random bytes have newlines in them: without SIGSTOP the shell would read them.
  child.kill("SIGSTOP");
  await until("the pipe is full", () => taken >= 65536 - 4096);
  await new Promise((resolve) => setTimeout(resolve, 0));
  assertLessOrEqual(taken, 65536 + 4096);
  child.kill("SIGCONT");
  await Promise.all(writes);
  await writer.close();
  assertEquals((await child.status).code, 0);
});

isolatedTest("stdin write() after the child's end rejects with BrokenPipe", async () => {
  const child = new Namespace({ privatePid: true }).command("true", { stdin: "piped" }).spawn();
  await child.status;
  const writer = child.stdin.getWriter();
  await assertRejects(() => writer.write(NEWLINE), Deno.errors.BrokenPipe, "Broken pipe (os error 32)");
  await assertRejects(() => writer.closed);
});

isolatedTest("stdin write() rejects with the code that Deno's has", async () => {
  const child = new Namespace().command("true", { stdin: "piped" }).spawn();
  await child.status;
  const error = await assertRejects(() => child.stdin.getWriter().write(NEWLINE), Deno.errors.BrokenPipe);
  assertEquals((error as { code?: string }).code, "EPIPE");
});

isolatedTest("stdin write() that waits rejects when the child ends", async () => {
  const child = sh("kill -9 $$", { stdin: "piped" });
  await assertRejects(() => child.stdin.getWriter().write(new Uint8Array(MiB)), Deno.errors.BrokenPipe);
  assertEquals((await child.status).signal, "SIGKILL");
});

isolatedTest("stdin abort() gives up a write that waits, and the child reads the end", async () => {
  const child = sh("kill -STOP $$; exec wc -c", { stdin: "piped", stdout: "piped" });
  const writer = child.stdin.getWriter();
  await until("the child has stopped", () => statusField(child.pid, "State")?.startsWith("T") ?? false);
  const write = writer.write(new Uint8Array(MiB));
  write.catch(() => {});
  writer.closed.catch(() => {});
  await writer.abort(new Error("enough")); // Where Deno.Command's waits until there is room again.
  await assertRejects(() => write);
  child.kill("SIGCONT");
  assertEquals((await child.stdout.text()).trim(), "65536");
  assertEquals((await child.status).code, 0);
});

isolatedTest("stdin left open is closed with the child", async () => {
  const child = sh("exit 3", { stdin: "piped" });
  assertEquals((await child.status).code, 3);
  await child.stdin.close().catch(() => {}); // As Deno has it, the descriptor is there until then.
});

isolatedTest("stdout cancel() gives the child SIGPIPE", async () => {
  const child = new Namespace({ privateUts: true }).command("yes", { stdout: "piped" }).spawn();
  await child.stdout.cancel();
  assertEquals(await child.status, { success: false, code: 141, signal: "SIGPIPE" });
});

isolatedTest("stdout cancel() resolves a read that waits", async () => {
  const child = new Namespace().command("cat", { stdin: "piped", stdout: "piped" }).spawn();
  const reader = child.stdout.getReader();
  const read = reader.read();
  await reader.cancel();
  assertEquals((await read).done, true);
  await child.stdin.close();
  assertEquals((await child.status).code, 0);
});

isolatedTest("stdout ends when the last who holds it has closed it, not with the child", async () => {
  const script = "exec 3<&0; (read -r line <&3; echo later) & echo now";
  const child = sh(script, { stdin: "piped", stdout: "piped" });
  assertEquals((await child.status).code, 0);
  const writer = child.stdin.getWriter();
  await writer.write(NEWLINE);
  await writer.close();
  assertEquals(await child.stdout.text(), "now\nlater\n");
});

isolatedTest("stdout is an async iterable whose break gives up the pipe", async () => {
  const child = new Namespace().command("yes", { stdout: "piped" }).spawn();
  let first: Uint8Array | undefined;
  for await (const chunk of child.stdout) {
    first = chunk;
    break;
  }
  assertEquals(new TextDecoder().decode(first?.subarray(0, 4)), "y\ny\n");
  assertEquals((await child.status).signal, "SIGPIPE");
});

isolatedTest("stdout gives what there is, without waiting for more", async () => {
  const child = new Namespace().command("cat", { stdin: "piped", stdout: "piped" }).spawn();
  const writer = child.stdin.getWriter();
  const reader = child.stdout.getReader();
  for (const text of ["one", "two", "three"]) {
    await writer.write(new TextEncoder().encode(text));
    assertEquals(new TextDecoder().decode((await reader.read()).value), text);
  }
  await writer.close();
  assertEquals((await reader.read()).done, true);
  assertEquals((await child.status).code, 0);
});

isolatedTest("stdout is a byte stream that reads into a caller's buffer", async () => {
  const child = sh("printf 0123456789", { stdout: "piped" });
  assert(child.stdout instanceof ReadableStream);
  const reader = child.stdout.getReader({ mode: "byob" });
  const { value } = await reader.read(new Uint8Array(4));
  assertEquals(new TextDecoder().decode(value), "0123");
  assertEquals(new TextDecoder().decode((await reader.read(new Uint8Array(100))).value), "456789");
  assertEquals((await reader.read(new Uint8Array(1))).done, true);
  assertEquals((await child.status).code, 0);
});

isolatedTest("stdout tee() and pipeThrough() work as with any stream", async () => {
  const child = sh("printf 'a\\nb\\n'", { stdout: "piped" });
  const [one, two] = child.stdout.tee();
  const text = (stream: ReadableStream<Uint8Array>) =>
    new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).text();
  assertEquals(await Promise.all([text(one), text(two)]), ["a\nb\n", "a\nb\n"]);
  assertThrows(() => child.stdout.getReader(), TypeError);
  assertEquals((await child.status).code, 0);
});

isolatedTest("stdout and stderr are apart, both full pipes at the same time", async () => {
  const child = sh("head -c 1000000 /dev/zero >&2 & head -c 2000000 /dev/zero; wait", {
    stdout: "piped",
    stderr: "piped",
  });
  const { stdout, stderr } = await child.output();
  assertEquals([stdout.length, stderr.length], [2_000_000, 1_000_000]);
});

isolatedTest("status resolves though nobody reads stdout", async () => {
  const child = sh("echo unread", { stdout: "piped" });
  assertEquals((await child.status).code, 0);
  assertEquals(await child.stdout.text(), "unread\n");
});

isolatedTest("asyncDispose closes the pipes that nobody has used up", async () => {
  const before = fileDescriptors().length;
  {
    await using _child = new Namespace().command("cat", { stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
    assertEquals(fileDescriptors().length > before, true);
  }
  await until("they are closed", () => fileDescriptors().length <= before);
});

isolatedTest("pipes that nobody can reach any more are closed", async () => {
  const { stdout, stderr } = await runProgram(
    `
      const count = () => [...Deno.readDirSync("/proc/self/fd")].length;
      const leave = async () => {
        const child = new Namespace().command("true", { stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
        await child.status;
      };
      await leave();
      const before = count();
      let most = before;
      for (let index = 0; index < 20; index++) {
        await leave();
        most = Math.max(most, count()); // Each time: some may have been collected before the last one is left.
      }
      for (let turn = 0; turn < 200 && count() > before; turn++) {
        globalThis.gc();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      console.log(most > before, count() <= before);
    `,
    { permissions: ["-A", "--v8-flags=--expose-gc"] },
  );
  assertEquals([stdout, stderr], ["true true\n", ""]);
});
