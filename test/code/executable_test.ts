// Code inside runs in a Deno that was executed from the outside's file, which it may belong to.

import { assertEquals, assertMatch } from "@std/assert";
import { denoPath } from "../support/deno.ts";
import { lacking } from "../support/kernel.ts";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import { programArgv, runArgv, type User } from "../support/program.ts";

/** What code does to the file that it is executed from; it says what it could do, and what it was told where not. */
const ATTEMPTS = `async () => {
  const attempts = {
    chmod: () => Deno.chmodSync("/proc/self/exe", 0o777),
    utime: () => Deno.utimeSync("/proc/self/exe", 0, 0),
    open: () => Deno.openSync("/proc/self/exe", { write: true }).close(),
    init: () => {
      if (Deno.statSync("/proc/1/exe").nlink === 0) throw new Error("in memory, of this namespace alone");
      Deno.chmodSync("/proc/1/exe", 0o777);
    },
  };
  return Object.entries(attempts).map(([name, attempt]) => {
    try {
      attempt();
      return name + " done";
    } catch (error) {
      return name + " " + (/\\(os error \\d+\\)/.exec(error.message)?.[0] ?? error.message);
    }
  });
}`;

/** Read-only; and what is being executed cannot be opened to be written to, wherever it is. */
const REFUSED = ["chmod (os error 30)", "utime (os error 30)", "open (os error 26)"];
/** Where the file system inside is another. */
const NAMESPACES = {
  "sandbox()": "Namespace.sandbox()",
  "sandbox() without a filter": "Namespace.sandbox({ seccomp: false, init: false })",
  "an ephemeral view": "new Namespace({ ephemeral: true, privateUser: true })",
  "mounts": `new Namespace({ mounts: [{ type: "tmpfs", target: "/mnt" }], privateUser: { uid: 5, gid: 5 } })`,
} as const;

/** Runs a program by a Deno that belongs to the user, and looks whether that is as it was. */
async function runOwned(user: User, code: string, folderMode = 0o755): Promise<string[]> {
  const folder = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "namespace-executable-" });
  try {
    const deno = `${folder}/own/deno`;
    Deno.mkdirSync(`${folder}/own`);
    Deno.chmodSync(folder, 0o755);
    Deno.copyFileSync(denoPath(), deno);
    Deno.chmodSync(deno, 0o755);
    if (user === "nobody" || folderMode === 0o700) Deno.chownSync(`${folder}/own`, 65534, 65534);
    if (user === "nobody") Deno.chownSync(deno, 65534, 65534);
    Deno.chmodSync(`${folder}/own`, folderMode);
    const { mode, mtime, size } = Deno.statSync(deno);
    const argv = programArgv(code, { user, permissions: ["-A"] }).map((word) => word === denoPath() ? deno : word);
    const { stdout, stderr } = await runArgv(argv);
    const after = Deno.statSync(deno);
    assertEquals([stderr, after.mode, after.mtime, after.size], ["", mode, mtime, size]);
    return stdout.trim().split("\n");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

for (const user of USERS) {
  isolatedTest(
    `code in ${Object.keys(NAMESPACES).join(", ")} cannot change the file of this Deno, as ${user}`,
    async () => {
      const said = await runOwned(
        user,
        Object.values(NAMESPACES).map((made) => `
        {
          await using ns = ${made};
          console.log((await ns.run(${ATTEMPTS})).join(", "));
          console.log(await ns.run(() => Deno.execPath().replace(/^.*\\/own/, "")));
        }`).join(""),
      );
      const [attempts, paths] = [0, 1].map((rest) => said.filter((_, index) => index % 2 === rest));
      for (const line of attempts!) {
        assertEquals(line.split(", ").slice(0, 3), REFUSED);
        assertMatch(line, /, init (\(os error (2|13|30)\)|in memory, of this namespace alone)$/);
      }
      assertEquals(paths, Object.keys(NAMESPACES).map(() => "/deno"));
    },
    lacking("overlays in user namespaces"),
  );

  isolatedTest(
    `what reexec() starts over in a root of its own cannot change the file of this Deno, as ${user}`,
    async () => {
      const said = await runOwned(
        user,
        `await new Namespace({ mounts: [{ type: "tmpfs", target: "/mnt" }], privateUser: true }).reexec();
       console.log((await (${ATTEMPTS})()).join(", "));`,
      );
      assertEquals(said[0]!.split(", ").slice(0, 3), REFUSED);
    },
  );
}

isolatedTest("root's Deno in a folder that only somebody else can enter is as it was, and is executed", async () => {
  const said = await runOwned("root", `console.log((await Namespace.sandbox().run(${ATTEMPTS})).join(", "));`, 0o700);
  assertEquals(said[0]!.split(", ").slice(0, 3), REFUSED);
}, lacking("mount_setattr"));

isolatedTest("code is refused a root of its own when another file is where this Deno was", async () => {
  const said = await runOwned(
    "root",
    `
    const path = Deno.execPath();
    const { atime, mtime } = Deno.statSync(path);
    Deno.copyFileSync(path, path + "-new");
    Deno.utimeSync(path + "-new", atime, mtime);
    Deno.renameSync(path + "-new", path); // As an upgrade does it.
    try {
      await Namespace.sandbox().run(() => 1);
    } catch (error) {
      console.log(error.name, /^Cannot run code with a file system of its own: ".*" is not the file/.test(error.message));
    }
    console.log(await new Namespace({ privatePid: true }).run(() => 2));`,
  );
  assertEquals(said, ["NotSupported true", "2"]);
});
