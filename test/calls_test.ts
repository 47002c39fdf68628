// ./mount and ./unshare change the calling thread for good, so each case has a Deno of its own.

import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { MNT_DETACH, mount, MS_BIND, MS_RDONLY, MS_REMOUNT, umount } from "../src/mount.ts";
import { CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, setns, unshare } from "../src/unshare.ts";

const ROOT = new URL("..", import.meta.url);
const IMPORTS = `
  import * as m from "${new URL("src/mount.ts", ROOT)}";
  import * as u from "${new URL("src/unshare.ts", ROOT)}";
  import { NamespaceError } from "${new URL("mod.ts", ROOT)}";
`;

async function inOwnDeno(code: string): Promise<string> {
  const args = ["eval", "--no-config", "--no-lock", "--ext=ts", `${IMPORTS}${code}`];
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

const ignore = Deno.uid() !== 0;

Deno.test({ name: "unshare(), mount() and umount() act on the calling thread", ignore }, async () => {
  const outside = Deno.readLinkSync("/proc/self/ns/mnt");
  const [inside, mounted, content, after] = JSON.parse(
    await inOwnDeno(`
      const read = (path: string) => Deno.readTextFileSync(path);
      u.unshare(u.CLONE_NEWNS);
      m.mount("none", "/", null, { flags: m.MS_REC | m.MS_PRIVATE });
      const folder = Deno.makeTempDirSync();
      m.mount("tmpfs", folder, "tmpfs", { flags: m.MS_NOSUID | m.MS_NODEV, data: { size: "1m", mode: "0700" } });
      Deno.writeTextFileSync(folder + "/file", "content");
      const mounted = read("/proc/thread-self/mounts").split("\\n").find((line) => line.includes(folder));
      m.mount(folder, "/mnt", null, { flags: m.MS_BIND });
      m.mount("none", "/mnt", null, { flags: m.MS_BIND | m.MS_REMOUNT | m.MS_RDONLY });
      let content = read("/mnt/file");
      try { Deno.writeTextFileSync("/mnt/file", "changed"); } catch (error) { content += " " + (error as { code: string }).code; }
      m.umount("/mnt");
      m.umount(folder, m.MNT_DETACH);
      Deno.removeSync(folder);
      const after = read("/proc/thread-self/mounts").includes(folder);
      console.log(JSON.stringify([Deno.readLinkSync("/proc/thread-self/ns/mnt"), mounted, content, after]));
    `),
  );
  assertEquals(inside !== outside, true);
  assertStringIncludes(mounted, "rw,nosuid,nodev,relatime,size=1024k,mode=700");
  assertEquals([content, after], ["content EROFS", false]);
});

Deno.test({ name: "setns() enters the namespace of another process, and no descriptor is left", ignore }, async () => {
  const child = new Deno.Command("unshare", {
    args: ["-u", "sh", "-c", "hostname other; echo; exec sleep 60"],
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  try {
    const [name, before, after] = JSON.parse(
      await inOwnDeno(`
        const count = () => [...Deno.readDirSync("/proc/self/fd")].length;
        u.unshare(0); // Loads the shim.
        const before = count();
        u.setns("/proc/${child.pid}/ns/uts", u.CLONE_NEWUTS);
        const after = count();
        const name = new TextDecoder().decode(new Deno.Command("hostname").outputSync().stdout);
        console.log(JSON.stringify([name, before, after]));
      `),
    );
    assertEquals([name, after - before], ["other\n", 0]);
  } finally {
    child.kill("SIGKILL");
    await reader.cancel();
    await child.status;
  }
});

Deno.test({ name: "mount() and setns() tell what the kernel refused", ignore }, async () => {
  const errors = JSON.parse(
    await inOwnDeno(`
      const tell = (call: () => void) => {
        try { call(); } catch (error) {
          if (error instanceof NamespaceError) return [error.message.split("\\n")[0], error.syscall, error.step];
          throw error;
        }
      };
      console.log(JSON.stringify([
        tell(() => m.mount("tmpfs", "/nowhere", "tmpfs")),
        tell(() => m.umount("/nowhere", m.MNT_FORCE)),
        tell(() => u.setns("/nowhere")),
        tell(() => u.setns("/proc/self/ns/net", u.CLONE_NEWUTS)),
      ]));
    `),
  );
  assertEquals(errors, [
    [
      `Cannot mount tmpfs at "/nowhere": No such file or directory (ENOENT)`,
      "mount",
      `mount("tmpfs", "/nowhere", "tmpfs", 0, NULL)`,
    ],
    [`Cannot unmount "/nowhere": No such file or directory (ENOENT)`, "umount2", `umount2("/nowhere", MNT_FORCE)`],
    [
      `Cannot enter the namespace "/nowhere": No such file or directory (ENOENT)`,
      "openat",
      `openat(AT_FDCWD, "/nowhere", O_RDONLY|O_CLOEXEC)`,
    ],
    [
      `Cannot enter the namespace "/proc/self/ns/net": Invalid argument (EINVAL)`,
      "setns",
      `setns(<openat>, CLONE_NEWUTS)`,
    ],
  ]);
});

// P14: relative mount targets were accepted.
Deno.test("mount() and umount() refuse what cannot be meant, before any call", () => {
  assertThrows(() => mount("tmpfs", "tmp", "tmpfs"), TypeError, `Option "target" must be an absolute path: got "tmp"`);
  assertThrows(() => mount("tmpfs", "", "tmpfs"), TypeError, `Option "target" must be an absolute path: got ""`);
  assertThrows(() => umount("./tmp", MNT_DETACH), TypeError, "absolute path");
  assertThrows(() => mount("tmp\0fs", "/tmp", "tmpfs"), TypeError, `Option "source" must not contain a NUL`);
  assertThrows(() => mount("a", "/b", null, { flags: -MS_BIND }), TypeError, `Option "flags"`);
  assertThrows(
    () => mount("a", "/b", null, { flag: MS_RDONLY | MS_REMOUNT } as object),
    TypeError,
    `did you mean "flags"?`,
  );
  assertThrows(
    () => mount("a", "/b", "tmpfs", { data: { size: "1m,mode=777" } }),
    TypeError,
    `Option "data.size" must not contain a comma`,
  );
});

Deno.test("unshare() and setns() refuse what a process with threads cannot do", () => {
  assertThrows(() => unshare(CLONE_NEWUSER | CLONE_NEWNS), TypeError, "cannot enter a user namespace");
  assertThrows(() => unshare(CLONE_NEWPID), TypeError, "start no thread");
  assertThrows(() => setns("/proc/self/ns/user", CLONE_NEWUSER), TypeError, "Namespace.command()");
  assertThrows(() => unshare(1.5), TypeError, `Option "flags"`);
});
