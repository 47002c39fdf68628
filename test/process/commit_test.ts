// What is there outside, and what was put there meanwhile, when changes of an ephemeral view are committed.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { Namespace } from "../../mod.ts";
import { attribute, giveTo, setAttribute, sh, told, toldApart, toldIn, withFolder } from "../support/ephemeral.ts";
import { lacking } from "../support/kernel.ts";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import { programArgv, runArgv } from "../support/program.ts";

function run(ns: Namespace, script: string, cwd: string): void {
  const { code, stderr } = ns.command("sh", { args: ["-ec", script], cwd }).outputSync();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
}

isolatedTest("a new folder can have files with several names, in folders that nobody can look into, too", async () => {
  await withFolder(async (folder) => {
    sh("echo file > f", folder);
    await using ns = new Namespace({ ephemeral: true });
    run(
      ns,
      "mkdir -p n/m; echo 1 > n/a; ln n/a n/b; ln n/a n/m/c; ln n/a z; rm f; mkdir f; ln z f/e; chmod 0 n/m",
      folder,
    );
    await ns.commit();
    const inodes = ["n/a", "n/b", "n/m/c", "z", "f/e"].map((name) => Deno.statSync(`${folder}/${name}`).ino);
    assertEquals([new Set(inodes).size, Deno.statSync(`${folder}/z`).nlink], [1, 5]);
    assertEquals(await ns.changes(), []);
  });
});

isolatedTest("a commit removes nothing of what was mounted meanwhile", async () => {
  await withFolder(async (folder) => {
    const said = await toldApart<unknown[]>(
      folder,
      `
      sh("mkdir -p d/sub/mnt disk; echo precious > disk/f; echo 1 > d/sub/z");
      await using ns = new Namespace({ ephemeral: true });
      ns.command("rm", { args: ["-r", "d"], cwd: folder }).outputSync();
      sh("mount --bind disk d/sub/mnt");
      const error = await ns.commit().catch((error) => [error.name, error.message]);
      const there = sh("cat disk/f d/sub/z");
      sh("umount d/sub/mnt");
      await ns.commit();
      console.log(JSON.stringify([error, there, sh("ls -A")]));`,
    );
    assertEquals(said, [
      ["Busy", `Cannot commit "${folder}/d": something is mounted at "${folder}/d/sub/mnt"`],
      "precious\n1\n",
      "disk\n",
    ]);
  });
});

isolatedTest("what cannot be put back, since there is something else by then, stays", async () => {
  await withFolder(async (folder) => {
    sh("mkdir a z; echo 1 > z/f; echo precious > a/file; seq 500 | split -l 1 -a 3 - a/more", folder);
    await using ns = new Namespace({ ephemeral: true });
    run(ns, "rm a/* z/f", folder);
    sh("chattr +i z", folder); // Where the last is.
    const args = ["-c", "while [ -e a/file ]; do :; done; echo again > a/file"];
    const other = new Deno.Command("sh", { args, cwd: folder }).spawn();
    const refused = await assertRejects(() => ns.commit());
    try {
      other.kill();
    } catch { /* It has ended, having seen that the file was gone. */ }
    await other.status;
    sh("chattr -i z", folder);
    const files = [...Deno.readDirSync(`${folder}/a`)].map(({ name }) => Deno.readTextFileSync(`${folder}/a/${name}`));
    assertEquals(files.filter((content) => content === "precious\n").length, 1);
    if (files.includes("again\n")) {
      assert(
        refused instanceof AggregateError && /\nWhat was at ".*" is ".*\/\.sys-linux-namespace-/.test(refused.message),
      );
    }
  });
});

/** An access control list that lets user 1234 do everything, as in posix_acl_xattr.h of Linux. */
const LIST = Uint8Array.from([
  [2, 0, 0, 0],
  ...[[1, 7, -1], [2, 7, 1234], [4, 5, -1], [16, 7, -1], [32, 0, -1]].map(([tag, permissions, id]) => {
    return [tag!, 0, permissions!, 0, ...new Uint8Array(Int32Array.of(id!).buffer)];
  }),
].flat());

isolatedTest("what is committed has no more access than it had inside, whatever the folder gives", async () => {
  await withFolder(async (folder) => {
    sh("mkdir given secret; echo 1 > secret/s; chmod 640 secret/s", folder);
    setAttribute(`${folder}/given`, "system.posix_acl_default", LIST);
    await using ns = new Namespace({ ephemeral: true });
    run(ns, "mv secret/s given/s; echo 2 > given/new", folder);
    await ns.commit();
    assertEquals(attribute(`${folder}/given/s`, "system.posix_acl_access"), undefined);
    assertEquals(Deno.statSync(`${folder}/given/s`).mode! & 0o777, 0o640);
    assert(attribute(`${folder}/given/new`, "system.posix_acl_access") !== undefined);
    assertEquals(await ns.changes(), []);
  });
});

isolatedTest("a view has nothing of the folder that what is written goes to", async () => {
  await withFolder(async (folder) => {
    sh("mkdir store work", folder);
    setAttribute(`${folder}/store`, "system.posix_acl_default", LIST);
    await using ns = new Namespace({ ephemeral: { dir: `${folder}/store` } });
    run(ns, "echo 1 > f", `${folder}/work`);
    assertEquals((await ns.changes()).map(({ path, mode }) => [path, mode]), [[`${folder}/work/f`, 0o644]]);
  });
});

isolatedTest("a folder that can be changed in part alone is not changed", async () => {
  await withFolder(async (folder) => {
    const said = await toldApart<unknown[]>(
      folder,
      `
      sh("mkdir mnt; mount -t ramfs ramfs mnt; mkdir mnt/d"); // It has no attributes.
      await using ns = new Namespace({ ephemeral: true });
      const code = 'my ($f, $n, $v) = ("d", "user.x", "1"); syscall(${SETXATTR}, $f, $n, $v, 1, 0) == 0 or die $!';
      const args = ["-ec", 'chown 1:1 d; perl -e "$0"', code];
      const { stderr } = ns.command("sh", { args, cwd: folder + "/mnt" }).outputSync();
      const refused = await ns.commit().catch(({ code }) => code);
      console.log(JSON.stringify([text(stderr), refused, sh("stat -c %u:%g mnt/d")]));`,
    );
    assertEquals(said, ["", "EOPNOTSUPP", "0:0\n"]);
  });
});

isolatedTest("folders that are under an overlay outside can be removed and replaced", async () => {
  await withFolder(async (folder) => {
    const said = await toldApart(
      folder,
      `
      sh("mkdir -p l/gone/a l/moved l/file u w o; echo 1 > l/gone/a/f; echo 2 > l/moved/g; echo 3 > l/file/h");
      sh("cd l; echo 5 > a; ln a b; echo 6 > c; ln c d"); // What is renamed there becomes a file of its own.
      sh("mount -t overlay -o lowerdir=l,upperdir=u,workdir=w,redirect_dir=off overlay o");
      const ns = new Namespace({ ephemeral: true });
      const script = "rm -r gone; mv moved to; rm -r file; echo 4 > file; echo 7 >> a; rm c";
      const { code } = ns.command("sh", { args: ["-ec", script], cwd: folder + "/o" }).outputSync();
      await ns.commit();
      const left = await ns.changes();
      await ns.discard();
      console.log(JSON.stringify([code, sh("find o | sort; cat o/to/g o/file o/a o/b o/d"), left]));`,
    );
    assertEquals(said, [0, "o\no/a\no/b\no/d\no/file\no/to\no/to/g\n2\n4\n5\n7\n5\n6\n", []]);
  });
});

isolatedTest("changes are told where what was under them is gone", async () => {
  await withFolder(async (folder) => {
    const said = await toldApart(
      folder,
      `
      sh("mkdir mnt; mount -t tmpfs tmpfs mnt; echo 1 > mnt/old");
      const ns = new Namespace({ ephemeral: true });
      const script = "echo 2 > mnt/new; echo 3 > here; grep -c mnt.*noexec /proc/mounts || :";
      sh("mount -o remount,noexec mnt");
      const { stdout } = ns.command("sh", { args: ["-ec", script], cwd: folder }).outputSync();
      sh("umount mnt; rmdir mnt");
      const told = (await ns.changes()).map(({ kind, path }) => kind + path.replace(folder, " "));
      await ns.commit([folder + "/here"]);
      const some = sh("find . | sort");
      await ns.commit();
      await ns.discard();
      console.log(JSON.stringify([text(stdout), told, some, sh("find . | sort")]));`,
    );
    assertEquals(said, [
      "1\n",
      ["added /here", "added /mnt", "added /mnt/new"],
      ".\n./here\n",
      ".\n./here\n./mnt\n./mnt/new\n",
    ]);
  });
});

isolatedTest("a commit is of nothing where the path is empty, and seconds are enough of a time", async () => {
  await withFolder(async (folder) => {
    await using ns = new Namespace({ ephemeral: true });
    run(ns, "echo 1 > a", folder);
    await assertRejects(() => ns.commit([""]), RangeError, `There is no change at ""`);
    await ns.commit();
    const { mtime } = Deno.statSync(`${folder}/a`);
    sh(`touch -d @${Math.floor(Number(mtime) / 1000)} a`, folder); // As a file system has it that has no more.
    assertEquals(await ns.changes(), []);
  });
});

const SETXATTR = { x86_64: 188, aarch64: 5 }[Deno.build.arch];

for (const user of USERS) {
  const lack = lacking("overlays in user namespaces");

  isolatedTest(`files of several names can be in a folder that nobody can enter, as ${user}`, async () => {
    await withFolder(async (folder) => {
      giveTo(user, folder);
      Deno.chmodSync(folder, 0o755);
      const said = await told(
        user,
        `
        const ns = new Namespace({ ephemeral: true, privateUser: true });
        const script = "mkdir n n/a n/b; echo 1 > n/a/f; ln n/a/f n/b/f; chmod 0 n/a";
        const { code } = ns.command("sh", { args: ["-ec", script], cwd: "${folder}" }).outputSync();
        await ns.commit();
        const left = await ns.changes();
        await ns.commit(); // Of nothing.
        const again = "chmod 700 n/a; echo 2 > n/a/f";
        ns.command("sh", { args: ["-ec", again], cwd: "${folder}" }).outputSync();
        const since = (await ns.changes()).map(({ path }) => path);
        await ns.discard();
        console.log(JSON.stringify([code, left, since]));`,
      );
      assertEquals(said, [0, [], ["n/a", "n/a/f", "n/b/f"].map((name) => `${folder}/${name}`)]);
      assertEquals(["a", "b"].map((name) => Deno.readTextFileSync(`${folder}/n/${name}/f`)), ["1\n", "1\n"]);
    });
  }, lack);

  isolatedTest(`folders that are made anew in a view have all that those outside have, as ${user}`, async () => {
    await withFolder(async (folder) => {
      sh(`mkdir -p a/mounted a/"$(printf 'no\\377utf8')"; ln -s nowhere a/link; ln -s nowhere a/same`, folder);
      giveTo(user, `${folder}/a`);
      Deno.chmodSync(folder, 0o755);
      setAttribute(`${folder}/a`, "user.test", new TextEncoder().encode("x"));
      const around = new Namespace({
        mounts: [{ type: "tmpfs", target: `${folder}/a/mounted`, mode: 0o777 }],
      });
      const said = await toldIn<unknown[]>(
        around,
        user,
        `
        const folder = "${folder}/a";
        const ns = new Namespace({ ephemeral: true, privateUser: true });
        const script = "rm link; mkdir -p link/sub; echo 1 > link/file; echo 2 > link/sub/f";
        const { code, stderr } = ns.command("sh", { args: ["-ec", script], cwd: folder }).outputSync();
        const changes = (await ns.changes()).map(({ kind, path }) => kind + path.replace(folder, " "));
        await ns.commit();
        const { stdout } = new Namespace().command("sh", { args: ["-c", "cat link/file link/sub/f"], cwd: folder })
          .outputSync();
        const left = await ns.changes();
        await ns.discard();
        console.log(JSON.stringify([code, text(stderr), changes, text(stdout), left]));`,
      );
      const changes = ["changed /link", "added /link/file", "added /link/sub", "added /link/sub/f"];
      assertEquals(said, [0, "", changes, "1\n2\n", []]);
      assertEquals(attribute(`${folder}/a`, "user.test"), new TextEncoder().encode("x"));
    });
  }, lack);

  isolatedTest(`a command begins where the caller is, in whatever bytes that is called, as ${user}`, async () => {
    await withFolder(async (folder) => {
      giveTo(user, folder);
      Deno.chmodSync(folder, 0o755);
      const code = `
        const names = [];
        for (const options of [{ ephemeral: true, privateUser: true }, { mounts: [{ type: "tmpfs", target: "/mnt" }] }]) {
          await using ns = new Namespace(options);
          const there = ns.command("pwd").outputSync().stdout;
          const below = ns.command("pwd", { cwd: "sub" }).outputSync().stdout;
          names.push([there, below].map((bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")));
        }
        console.log(JSON.stringify(names));`;
      const name = "no\xff";
      const script =
        `cd "$1"; mkdir -m 777 "$(printf 'no\\377')" "$(printf 'no\\377')"/sub; cd "$(printf 'no\\377')"; shift; exec "$@"`;
      const { stdout, stderr } = await runArgv(["sh", "-c", script, "sh", folder, ...programArgv(code, { user })]);
      assertEquals(stderr, "");
      const both = [`${folder}/${name}\n`, `${folder}/${name}/sub\n`];
      assertEquals(JSON.parse(stdout), [both, both]);
    });
  }, lack);
}

isolatedTest("mounts are seen through in whatever order the kernel tells them", async () => {
  await withFolder(async (folder) => {
    sh("mkdir outer root", folder);
    const said = await told(
      "root",
      `
      const script = "mount -t tmpfs tmpfs outer; echo seen > outer/file; mount --rbind / root; " +
        "mount --move outer root/mnt; cd root; mount --move . /; exec chroot . sh -c 'cat /mnt/file; exec \\"$@\\"' sh \\"$@\\"";
      const code = 'const { Namespace } = await import("' + import.meta.resolve("./mod.ts") + '");' +
        'await using ns = new Namespace({ ephemeral: true });' +
        'console.log(new TextDecoder().decode(ns.command("cat", { args: ["/mnt/file"] }).outputSync().stdout));';
      const args = ["-ec", script, "sh", Deno.execPath(), "eval", "--no-lock", code];
      const { stdout, stderr } = new Namespace({ privateMount: true }).command("sh", { args, cwd: "${folder}" }).outputSync();
      console.log(JSON.stringify([text(stdout), text(stderr)]));`,
      ["-A"],
    );
    assertEquals(said, ["seen\nseen\n\n", ""]);
  });
});
