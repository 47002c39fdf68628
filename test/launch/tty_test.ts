// A terminal of the command's own, on a terminal of the user's and without one: bytes, keys and sizes go through, and the
// user's is as it was after whatever end.

import { assert, assertEquals, assertMatch, assertNotMatch, assertStringIncludes } from "@std/assert";
import { Namespace } from "../../mod.ts";
import { nsrun } from "../support/cli.ts";
import { ImageFile } from "../support/image.ts";
import { isRunning, statusField, until } from "../support/inside.ts";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import { runArgv, type User } from "../support/program.ts";
import { Terminal } from "../support/terminal.ts";

const WORLDS = {
  "no namespaces": [],
  "no init": ["--private-pid"],
  "init": ["--init"],
} as const;

const DROP = "setpriv --reuid=65534 --regid=65534 --clear-groups";

/** The start of a line of sh(1) that runs a program as somebody. */
function by(user: User): string {
  return user === "root" ? "" : DROP;
}

function childrenOf(pid: number): number[] {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).trim().split(" ").filter(Boolean).map(Number);
  } catch {
    return []; // It has ended meanwhile.
  }
}

/** What a terminal is like, as an earlier line of a shell has kept it in `before`. */
const COMPARE = `echo status=$?; [ "$before" = "$(stty -g)" ] && echo the same`;
const SAME = /status=(\d+)\r\nthe same\r\n/;

/** Runs an image on a terminal, and tells its exit status, where the terminal is then as it was. */
async function statusAfter(
  line: string,
  act: (terminal: Terminal, pid: number) => void | Promise<void> = () => {},
): Promise<[status: number, shown: string]> {
  const script = `stty rows 31 cols 91 intr ^X; before=$(stty -g); sh -c 'echo launcher=$$; exec ${line}'; ${COMPARE}`;
  const terminal = new Terminal(script);
  await terminal.shows("launcher=");
  await act(terminal, Number(/launcher=(\d+)/.exec(terminal.shown)![1]));
  await terminal.end();
  assertMatch(terminal.shown, SAME);
  return [Number(SAME.exec(terminal.shown)![1]), terminal.shown];
}

for (const user of USERS) {
  for (const [world, options] of Object.entries(WORLDS)) {
    isolatedTest(`keys, bytes and sizes go through: ${world}, as ${user}`, async () => {
      using image = new ImageFile([
        ...options,
        "--tty",
        "bash",
        "--norc",
        "-c",
        `trap "echo int" INT; stty size; stty -a | grep -o "intr = ^."; stty sane; echo ready
         until read -r a; do :; done; echo "got $a"; until [ "$(stty size)" = "40 100" ]; do sleep 0.01; done; echo resized
         stty raw -echo; echo raw; dd bs=1 count=6 status=none | od -An -tx1; exit 5`,
      ]);
      const [status, shown] = await statusAfter(`${by(user)} ${image.path}`, async (terminal, pid) => {
        await terminal.shows("31 91\r\nintr = ^X\r\nready");
        await terminal.type("\x03");
        await terminal.shows("int");
        await terminal.type("hello\n");
        await terminal.shows("got hello");
        await new Deno.Command("stty", { args: ["-F", outerTerminal(pid), "rows", "40", "cols", "100"] }).output();
        await terminal.shows("resized");
        await terminal.shows("raw");
        await terminal.type("\x03\x1a\x1c\x04\r\x11");
      });
      assertEquals(status, 5);
      assertStringIncludes(shown, " 03 1a 1c 04 0d 11");
    });

    isolatedTest(`the user's terminal is as it was after each end: ${world}, as ${user}`, async () => {
      const spoil = "stty raw -echo";
      const run = async (args: readonly string[], act?: (terminal: Terminal, pid: number) => void) => {
        using image = new ImageFile([...options, "--tty", ...args]);
        return (await statusAfter(`${by(user)} ${image.path}`, act))[0];
      };
      const wait = `${spoil}; echo here; exec sleep 600`;
      const send = (signal: Deno.Signal) => async (terminal: Terminal, pid: number) => {
        await terminal.shows("here");
        await until("it sleeps", () => {
          let last = pid;
          for (let next = [pid]; next.length > 0; next = childrenOf(last)) last = next[0]!;
          return statusField(last, "Name") === "sleep";
        });
        Deno.kill(pid, signal);
      };
      assertEquals(await run(["sh", "-c", `${spoil}; exit 3`]), 3);
      assertEquals(await run(["--cwd=/nowhere", "true"]), 125);
      assertEquals(await run(["/nowhere"]), 127);
      assertEquals(await run(["--timeout=0.1", "sh", "-c", wait]), 124);
      assertEquals(await run(["sh", "-c", wait], send("SIGTERM")), 143);
      assertEquals(await run(["sh", "-c", wait], send("SIGHUP")), 129);
      assertEquals(await run(["sh", "-c", wait], send("SIGINT")), 130);
      assertEquals(await run(["--no-term-child", "sh", "-c", wait], send("SIGTERM")), 143);
      assertEquals(await run(["--no-term-child", "sh", "-c", wait], send("SIGINT")), 130);
      if (world !== "no init") assertEquals(await run(["sh", "-c", `${spoil}; kill -KILL $$`]), 137);
    });
  }

  isolatedTest(`what is no terminal goes through it, too, as ${user}`, async () => {
    const run = async (args: readonly string[], stdin: string | null, env: Record<string, string> = {}) => {
      using image = new ImageFile(["--tty", ...args]);
      const argv = [...by(user).split(" "), image.path].filter((word) => word !== "");
      const child = new Deno.Command(argv[0]!, {
        args: argv.slice(1),
        env: { LINES: "", COLUMNS: "", ...env },
        stdin: stdin === null ? "null" : "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const feed = async () => {
        const writer = child.stdin.getWriter();
        await writer.write(new TextEncoder().encode(stdin!));
        await writer.close();
      };
      const [{ code, stdout, stderr }] = await Promise.all([child.output(), stdin === null ? undefined : feed()]);
      const decoder = new TextDecoder();
      return [code, decoder.decode(stdout), decoder.decode(stderr)] as const;
    };
    assertEquals(await run(["stty", "size"], null), [0, "24 80\r\n", ""]);
    assertEquals(await run(["stty", "size"], null, { LINES: "50", COLUMNS: "x" }), [0, "50 80\r\n", ""]);
    assertEquals(await run(["sh", "-c", "echo out; echo err >&2; exit 4"], null), [4, "out\r\nerr\r\n", ""]);
    // The end of input, also within a line, is typed as ^D.
    assertEquals(await run(["cat"], ""), [0, "", ""]);
    assertEquals(await run(["cat"], "whole\n"), [0, "whole\r\n", ""]);
    assertEquals(await run(["cat"], "whole\npart"), [0, "whole\r\npart", ""]);
    // Also for who edits lines itself, and begins to after it was typed.
    const [code, edited] = await run(
      ["bash", "--norc", "--noediting", "-ic", "sleep 0.1; exec bash --norc -i"],
      "echo $((6*7))\n",
    );
    assertEquals(code, 0);
    assertStringIncludes(edited, "42\r\n");
    // Both ways, more than all buffers on the way hold.
    const lines = Array.from({ length: 60_000 }, (_, index) => `line ${index}\n`).join("");
    assertEquals((await run(["cat"], lines))[1], lines.replaceAll("\n", "\r\n"));
    const sum = await run(["sh", "-c", "cat | cksum"], lines);
    assertMatch(sum[1], new RegExp(`^\\d+ ${lines.length}\r\n$`));
  });

  isolatedTest(`closed streams are none of the terminal's, as ${user}`, async () => {
    using image = new ImageFile(["--tty", "sh", "-c", "ls -l /proc/self/fd | grep -c /dev/pts; cat; echo end"]);
    for (const closed of ["<&-", "<&- 2>&-"]) {
      const { stdout } = await runArgv(["sh", "-c", `${by(user)} ${image.path} ${closed}; echo $?`]);
      assertEquals(stdout, "2\r\nend\r\n0\n"); // The third is a pipe.
    }
    const { stdout } = await runArgv(["sh", "-c", `${by(user)} ${image.path} <&- >&- 2>&-; echo $?`]);
    assertEquals(stdout, "0\n"); // As with nobody to read from the start.
  });
}

/** The terminal that a process has as its controlling one. */
function outerTerminal(pid: number): string {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /s, "").split(" ");
  const device = Number(fields[4]);
  return `/dev/pts/${(device & 0xff) | (device >>> 12 & 0xfff00)}`;
}

isolatedTest(
  "what was written last is shown, and who keeps the terminal open after the command keeps nobody",
  async () => {
    for (const options of Object.values(WORLDS)) {
      using image = new ImageFile([
        ...options,
        "--tty",
        "sh",
        "-c",
        `trap "" HUP; (exec sleep 3) & seq 1 9000; exit 6`,
      ]);
      const child = new Deno.Command(image.path, { stdin: "null", stdout: "piped" }).spawn();
      await new Promise((resolve) => setTimeout(resolve, 100)); // Its output waits to be read.
      const { code, stdout } = await child.output();
      const lines = Array.from({ length: 9000 }, (_, index) => `${index + 1}\r\n`).join("");
      assertEquals([code, new TextDecoder().decode(stdout)], [6, lines]);
    }
    // Whoever goes on to write without end is not waited for.
    using image = new ImageFile(["--tty", "sh", "-c", `trap "" HUP; (while echo x; do :; done) & sleep 0.1; exit 7`]);
    assertEquals((await runArgv([image.path])).code, 7);
  },
);

isolatedTest("a terminal that is closed and opened again shows what is written to it", async () => {
  using image = new ImageFile(["--tty", "sh", "-c", "exec <&- >&- 2>&-; sleep 0.1; echo again > /dev/tty"]);
  assertEquals((await runArgv([image.path])).stdout, "again\r\n");
});

isolatedTest("nobody who reads is as a terminal that is closed", async () => {
  for (const options of Object.values(WORLDS)) {
    using image = new ImageFile([...options, "--tty", "yes"]);
    const { stdout } = await runArgv(["bash", "-c", `${image.path} | head -n 1; echo \${PIPESTATUS[0]}`]);
    assertEquals(stdout, "y\r\n129\n");
  }
});

isolatedTest("who waits for a reader is ended by signals and the clock", async () => {
  for (const [args, status] of [[["--timeout=0.3"], 124], [[], 143]] as const) {
    using image = new ImageFile([...args, "--tty", "--term-grace-ms=50", "yes"]);
    const child = new Deno.Command(image.path, { stdin: "null", stdout: "piped" }).spawn();
    await until("nothing more can be written", () => statusField(childrenOf(child.pid)[0] ?? 1, "State")?.[0] === "S");
    await new Promise((resolve) => setTimeout(resolve, 100));
    if (args.length === 0) child.kill("SIGTERM");
    assertEquals((await child.status).code, status);
    await child.stdout.cancel();
  }
});

isolatedTest("who waits for a reader, for input or for the end does not spin", async () => {
  for (
    const [script, ready] of [
      ["while :; do echo x; done", 0],
      ["echo ready; exec <&- >&- 2>&-; exec sleep 600", 1],
      ["echo ready; exec sleep 600", 1],
    ] as const
  ) {
    using image = new ImageFile(["--tty", "sh", "-c", script]);
    const child = new Deno.Command(image.path, { stdin: "piped", stdout: "piped" }).spawn();
    const reader = child.stdout.getReader();
    await reader.read();
    if (ready === 0) await new Promise((resolve) => setTimeout(resolve, 200)); // All on the way is full.
    // Input that nobody reads, more than there is room for.
    const writer = child.stdin.getWriter();
    const written = writer.write(new Uint8Array(300_000).fill(10)).catch(() => {});
    const switches = () =>
      Number(statusField(child.pid, "voluntary_ctxt_switches")) +
      Number(statusField(child.pid, "nonvoluntary_ctxt_switches"));
    await until("it waits", () => statusField(child.pid, "State")?.[0] === "S");
    for (let looks = 0, last = -1; looks < 50 && last !== (last = switches()); looks++) { // Until all has its place.
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const [ticks, before] = [cpuTicks(child.pid), switches()];
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert(switches() - before < 10, `${script}: ${switches() - before}`);
    assert(cpuTicks(child.pid) - ticks < 10, script);
    child.kill("SIGTERM");
    await reader.cancel();
    await written;
    await writer.close().catch(() => {});
    assert((await child.status).code >= 129);
  }
});

/** Of a hundredth of a second each, in which a process ran. */
function cpuTicks(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /s, "").split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

for (const [world, options] of Object.entries(WORLDS)) {
  isolatedTest(`job control: stopped from outside, in the background, and gone on with: ${world}`, async () => {
    using image = new ImageFile([...options, "--tty", "sh", "-c", "echo inside; cat; exec sleep 600"]);
    const terminal = new Terminal("bash --norc --noprofile --noediting -i");
    await terminal.type(`stty -echo; before=$(stty -g); bash -c 'echo launch''er=$$; exec ${image.path}'\n`);
    await terminal.shows("inside");
    const pid = Number(/launcher=(\d+)/.exec(terminal.shown)![1]);
    const isRaw = () => !/ icanon/.test(settingsOf(outerTerminal(pid)));
    await until("it is raw", isRaw);
    for (const signal of ["SIGTSTP", "SIGSTOP"] as const) {
      Deno.kill(pid, signal);
      await until("it has stopped", () => statusField(pid, "State")?.[0] === "T");
      await until("the shell has its terminal", () => !isRaw());
      await terminal.type("echo shell''$?; fg\n");
      await terminal.shows(`shell${signal === "SIGTSTP" ? 148 : 147}`);
      await until("it is raw again", () => isRaw() && statusField(pid, "State")?.[0] === "S");
      await terminal.type(`after ${signal}\n`);
      await terminal.shows(`after ${signal}`);
    }
    // In the background it stops, as who reads from a terminal does.
    Deno.kill(pid, "SIGTSTP");
    await until("it has stopped", () => statusField(pid, "State")?.[0] === "T");
    await until("the shell has its terminal", () => !isRaw());
    await terminal.type("bg; sleep 0.3; echo bac''k\n");
    await terminal.shows("back");
    await until("it has stopped again", () => statusField(pid, "State")?.[0] === "T");
    assertEquals(isRaw(), false);
    await terminal.type("fg\n");
    await until("it is raw again", () => isRaw() && statusField(pid, "State")?.[0] === "S");
    // The key does inside what it does in a session of nobody's: nothing.
    await terminal.type("\x1a");
    await terminal.type("still\n");
    await terminal.shows("still");
    await terminal.type("\x04");
    await until("it sleeps", () => {
      let last = pid;
      for (let next = [pid]; next.length > 0; next = childrenOf(last)) last = next[0]!;
      return statusField(last, "Name") === "sleep";
    });
    Deno.kill(pid, "SIGTERM");
    await until("it has ended", () => !isRunning(pid));
    await terminal.type(`${COMPARE}; exit 5\n`);
    assertEquals(await terminal.end(), 5);
    assertMatch(terminal.shown, /status=143\r\nthe same/);
  });

  isolatedTest(`a user's terminal that hangs up ends the command: ${world}`, async () => {
    using image = new ImageFile([...options, "--tty", "sleep", "600"]);
    const terminal = new Terminal(`echo launcher=$$; exec ${image.path}`);
    await terminal.shows("launcher=");
    const pid = Number(/launcher=(\d+)/.exec(terminal.shown)![1]);
    await until("the command runs", () => childrenOf(pid).length > 0);
    terminal.hangUp();
    await terminal.end();
    await until("it has ended", () => !isRunning(pid));
  });
}

function settingsOf(terminal: string): string {
  const { stdout } = new Deno.Command("stty", { args: ["-F", terminal, "-a"] }).outputSync();
  return new TextDecoder().decode(stdout);
}

isolatedTest(
  "nsrun --tty and an executable with tty do the same, and say when there is no terminal to be had",
  async () => {
    const { code, stdout } = await nsrun(["--tty", "--private-pid", "sh", "-c", "tty; exit 8"]);
    assertEquals(code, 8);
    assertMatch(stdout, /^\/dev\/pts\/\d+\r\n$/);
    const folder = Deno.makeTempDirSync();
    try {
      const output = `${folder}/jail`;
      await new Namespace().build("stty", { args: ["size"], tty: { rows: 7, columns: 9 }, output });
      assertEquals((await runArgv([output])).stdout, "7 9\r\n");
      const args = ["build", `--output=${output}`, "--tty", "--sandbox", "tty"];
      assertEquals((await nsrun(args, { permissions: ["--allow-all"] })).code, 0);
      assertEquals((await runArgv([output])).stdout, "/dev/console\r\n");
      const script = `mount -t tmpfs tmpfs /dev && exec ${output}`;
      const refused = await runArgv(["unshare", "-m", "sh", "-c", script]);
      assertEquals([refused.code, refused.stderr], [
        125,
        'jail: Cannot open a terminal by "/dev/ptmx": No such file or directory (ENOENT)\n',
      ]);
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  },
);

/** Types into every terminal that it can get at, and says what came of it. */
const INJECT = `perl -e '
  for my $fd (0..12) { open(my $f, "<&=", $fd) or next; type($f) }
  for my $path (glob("/dev/tty /dev/console /dev/pts/* /proc/self/fd/* /proc/1/fd/*")) { open(my $f, "+<", $path) or next; type($f) }
  sub type { ioctl($_[0], 0x5412, my $c = $_) for split //, "injected\\n" }'`;

for (const user of USERS) {
  isolatedTest(
    `a command with a terminal of its own cannot type into the user's (CVE-2017-5226), as ${user}`,
    async () => {
      if (Deno.readTextFileSync("/proc/sys/dev/tty/legacy_tiocsti").trim() === "0") return; // Nobody can.
      const attempt = async (...options: readonly string[]) => {
        using image = new ImageFile([...options, "sh", "-c", `${INJECT} >/dev/null 2>&1`]);
        const terminal = new Terminal(`${by(user)} ${image.path}; echo ended; read -r line; echo "[line=$line]"`);
        await terminal.shows("ended");
        await terminal.type("clean\n");
        await terminal.end();
        return /\[line=(.*)\]/.exec(terminal.shown)![1];
      };
      assertEquals(await attempt(), "injected", "it is no attempt");
      if (user === "nobody") assertEquals(await attempt("--tty"), "clean");
      assertEquals(await attempt("--tty", "--sandbox"), "clean");
      assertEquals(await attempt("--tty", "--private-user=self", "--private-pid"), "clean");
    },
  );
}

isolatedTest("no descriptor of the launcher's leads from the command to the user's terminal", async () => {
  const fds = Array.from({ length: 9 }, (_, index) => `--inherit-fd=${index + 3}`);
  for (const fd of fds) {
    using image = new ImageFile(["--tty", fd, "sh", "-c", "ls -l /proc/self/fd"]);
    const terminal = new Terminal(`${image.path}; echo status=$?; tty`);
    await terminal.end();
    const outer = /status=\d+\r\n(\S+)/.exec(terminal.shown)![1]!;
    assertNotMatch(terminal.shown.split("status=")[0]!, new RegExp(`${outer}\\b`));
  }
});
