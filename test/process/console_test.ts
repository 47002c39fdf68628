// A terminal of the command's own has a name inside, in a /dev of its own: /dev/console.

import { assertEquals, assertMatch } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../../mod.ts";
import { ImageFile } from "../support/image.ts";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import { runArgv, runProgram } from "../support/program.ts";

// The library keeps what init is executed from.
new Namespace({ init: true }).command("true").outputSync();

/** Names of the terminal, whether each leads to it, and whether there is a way to one more. */
const LOOK = `tty; readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2; echo by name >/dev/console
  stty -F /dev/console size; [ "$(stat -Lc %t:%T /dev/console)" = "$(stat -Lc %t:%T /proc/self/fd/0)" ] && echo the same
  ls /dev/pts; script -qc "tty" /dev/null </dev/null`;
const SEEN = "/dev/console\n".repeat(4) + "by name\n24 80\nthe same\nptmx\n/dev/pts/0\n";

for (const user of USERS) {
  isolatedTest(`the command's terminal is /dev/console in a /dev of its own, as ${user}`, async () => {
    const worlds: NamespaceOptions[] = [{}, { init: true }];
    const code = `
      const worlds = ${JSON.stringify(worlds)}.map((world) => ({ ...world, mounts: [{ type: "dev" }] }));
      for (const ns of [...worlds.map((world) => new Namespace(world)), Namespace.sandbox()]) {
        const { stdout } = await ns.command("sh", { args: ["-c", ${JSON.stringify(LOOK)}], tty: true }).output();
        console.log(JSON.stringify(new TextDecoder().decode(stdout).replaceAll("\\r", "")));
      }`;
    const { stdout, stderr } = await runProgram(code, { user });
    assertEquals([stdout, stderr], [`${JSON.stringify(SEEN)}\n`.repeat(3), ""]);
    for (const options of [["--dev", "/dev"], ["--sandbox"], ["--sandbox", "--init"]]) {
      using image = new ImageFile([...options, "--tty", "sh", "-c", LOOK]);
      const drop = user === "root" ? [] : ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
      const { stdout, stderr } = await runArgv([...drop, image.path]);
      assertEquals([stdout.replaceAll("\r", ""), stderr], [SEEN, ""]);
    }
  });
}

isolatedTest(
  "there is no console without a terminal of the command's own, and none at other places but the file",
  () => {
    const read = (options: NamespaceOptions, script: string, tty: boolean) => {
      const { stdout } = new Namespace(options).command("sh", { args: ["-c", script], tty }).outputSync();
      return new TextDecoder().decode(stdout).replaceAll("\r", "");
    };
    assertEquals(read({ mounts: [{ type: "dev" }] }, "ls /dev/console || echo none", false), "none\n");
    const elsewhere = read(
      { mounts: [{ type: "dev", target: "/mnt" }] },
      "tty; test -c /mnt/console && echo there",
      true,
    );
    assertMatch(elsewhere, /^\/dev\/pts\/\d+\nthere\n$/);
  },
);

isolatedTest("who the command becomes can open its terminal by its name", async () => {
  const script = "id -u; echo by name >$(tty); stat -c %u $(tty)";
  for (const mounts of [[], [{ type: "dev" }]] as const) {
    const ns = new Namespace({ mounts: [...mounts] });
    const { stdout } = await ns.command("sh", { args: ["-c", script], tty: true, uid: 7 }).output();
    assertEquals(new TextDecoder().decode(stdout), "7\r\nby name\r\n7\r\n");
    using image = new ImageFile([...mounts.map(() => "--dev=/dev"), "--tty", "--uid=7", "sh", "-c", script]);
    assertEquals((await runArgv([image.path])).stdout, "7\r\nby name\r\n7\r\n");
  }
});

isolatedTest("a terminal of the same number that is not the command's is never bound", async () => {
  // /dev/ptmx is of another instance of devpts than /dev/pts, where its first number is that of the user's terminal.
  using image = new ImageFile(["--dev", "/dev", "--tty", "sh", "-c", "ls -A /dev | grep console; tty; echo end"]);
  const devices = [["null", 3], ["zero", 5], ["full", 7], ["random", 8], ["urandom", 9]].map(([name, minor]) => {
    return `mknod /dev/${name} c 1 ${minor}`;
  });
  const script = [
    "mount -t tmpfs tmpfs /run",
    "mkdir /run/pts /run/other",
    "mount --bind /dev/pts /run/pts",
    "mount -t devpts -o newinstance,ptmxmode=0666 devpts /run/other",
    "mount -t tmpfs tmpfs /dev",
    ...devices,
    "mknod /dev/tty c 5 0",
    "mkdir /dev/pts",
    "mount --bind /run/pts /dev/pts",
    "ln -s /run/other/ptmx /dev/ptmx",
    `exec ${image.path}`,
  ].join(" && ");
  const { stdout } = await new Deno.Command("script", {
    args: ["-qfec", `tty; unshare -m sh -c '${script}'`, "/dev/null"],
    stdin: "null",
  }).output();
  assertMatch(new TextDecoder().decode(stdout), /^\/dev\/pts\/0\r\n(?:(?!console)[^])*\/run\/other\/0\r\nend\r\n$/);
});
