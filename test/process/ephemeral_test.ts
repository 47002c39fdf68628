import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { type Change, Namespace, NamespaceError } from "../../mod.ts";
import { attribute, giveTo, setAttribute, sh, told, toldIn, withFolder } from "../support/ephemeral.ts";
import { until } from "../support/inside.ts";
import { lacking } from "../support/kernel.ts";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import { packageFolder, runProgram, startProgram } from "../support/program.ts";

const STORES = /^sys-linux-namespace-/;

/** Stores that there are. */
function stores(folder = "/var/tmp"): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => STORES.test(name)).sort();
}

/** What a shell sees of a folder: names, kinds, permissions, sizes and content. */
function tree(folder: string): string {
  const script =
    `find . -mindepth 1 -printf '%P %y %m %s %l\\n' | sort; find . -type f | sort | xargs -d '\\n' -r head -c 99`;
  return new TextDecoder().decode(
    new Deno.Command("sh", { args: ["-c", script], cwd: folder }).outputSync().stdout,
  );
}

const BEFORE = `
  echo old > a; echo same > same; echo x > gone; mkdir -p d/e o/p m u; echo 1 > d/e/f; echo 2 > d/g
  echo 3 > o/p/q; echo 4 > o/r; ln -s a l; echo file > t; echo 1 > u/x`;
const WORK = `
  echo new > a; : >> same; rm gone; rm -r d; rm -r o; mkdir o; echo 55 > o/r; echo 6 > o/s; ln -sf same l; chmod 700 m
  mkdir -p n/n; mkfifo n/fifo; ln -s ../x n/l; echo hi > "n/n/odd name"; rm t; mkdir t; echo 9 > t/9; rm -r u
  echo f > u; printf x > "$(printf 'no\\377utf8')"; chmod 4750 a; cp a b; rm b`;
const CHANGES: readonly (readonly [string, Change["kind"], Change["type"], number, number?])[] = [
  ["a", "changed", "file", 4, 4],
  ["d", "removed", "directory", 0],
  ["gone", "removed", "file", 2],
  ["l", "changed", "symlink", 0],
  ["m", "changed", "directory", 0],
  ["n", "added", "directory", 0],
  ["n/fifo", "added", "fifo", 0],
  ["n/l", "added", "symlink", 0],
  ["n/n", "added", "directory", 0],
  ["n/n/odd name", "added", "file", 3],
  ["no\ufffdutf8", "added", "file", 1],
  ["o/p", "removed", "directory", 0],
  ["o/r", "changed", "file", 3, 2],
  ["o/s", "added", "file", 2],
  ["t", "changed", "directory", 0, 5],
  ["t/9", "added", "file", 2],
  ["u", "changed", "file", 2],
];

/** The lines of a stream, as they come. */
async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string, void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}

for (const user of USERS) {
  const lack = user === "root" ? undefined : lacking("overlays in user namespaces");

  isolatedTest(
    `what a command changes is seen by the next, told, and done outside when asked, as ${user}`,
    async () => {
      await withFolder(async (folder) => {
        const [plain, tried] = [`${folder}/plain`, `${folder}/tried`];
        for (const path of [plain, tried]) {
          Deno.mkdirSync(path);
          sh(BEFORE, path);
          sh(`find . -exec touch -hd @1000000000 {} +`, path);
        }
        sh(WORK, plain);
        giveTo(user, tried);
        Deno.chmodSync(folder, 0o755);
        const before = tree(tried);
        const said = await told<{ [name: string]: unknown; stages: string[]; all: Change[]; left: Change[] }>(
          user,
          `
        const ns = new Namespace({ ephemeral: true });
        const run = (script) => {
          const { code, stdout, stderr } = ns.command("sh", { args: ["-ec", script], cwd: "${tried}" }).outputSync();
          if (code !== 0) throw new Error(text(stderr));
          return text(stdout);
        };
        run(${JSON.stringify(WORK)});
        const again = run("cat a o/r 'n/n/odd name'; ls");
        const all = await ns.changes();
        const outside = await new Namespace().command("sh", { args: ["-c", "cat ${tried}/a"] }).output();
        await ns.commit(["${tried}/n/n", "${tried}/u/"]);
        const left = await ns.changes();
        const part = text(new Namespace().command("ls", { args: ["${tried}", "${tried}/n"] }).outputSync().stdout);
        await ns.commit();
        const none = await ns.changes();
        await ns.discard();
        console.log(JSON.stringify({ again, all, outside: text(outside.stdout), left, part, none }));`,
        );
        assertEquals(said.again, "new\n55\nhi\na\nl\nm\nn\nno\xffutf8\no\nsame\nt\nu\n".replace("\xff", "\ufffd"));
        const wanted = CHANGES.map(([path, kind, type, size, previousSize]) => {
          const change = { path: `${tried}/${path}`, kind, type, size };
          return previousSize === undefined ? change : { ...change, previousSize };
        });
        const withoutIds = ({ mode: _, previousMode: __, owner: ___, previousOwner: ____, ...rest }: Change) => rest;
        assertEquals(said.all.map(withoutIds), wanted);
        const chmodded = said.all.find(({ path }) => path === `${tried}/a`)!;
        assertEquals([chmodded.mode, chmodded.previousMode], [0o4750, 0o644]);
        assertEquals(said.outside, "old\n");
        const committed = ["n", "n/n", "n/n/odd name", "u"].map((path) => `${tried}/${path}`);
        assertEquals(said.left.map(withoutIds), wanted.filter(({ path }) => !committed.includes(path)));
        assertEquals(said.part, `${tried}:\na\nd\ngone\nl\nm\nn\no\nsame\nt\nu\n\n${tried}/n:\nn\n`);
        assertEquals(said.none, []);
        assertEquals(tree(tried), tree(plain));
        assert(tree(tried) !== before);
        const { mtime } = Deno.statSync(`${tried}/same`);
        assertEquals(mtime, new Date(1e12));
        assertEquals(stores(), []);
      });
    },
    lack,
  );

  isolatedTest(`nothing outside changes before it is asked for, and discard() drops all, as ${user}`, async () => {
    await withFolder(async (folder) => {
      sh(BEFORE, folder);
      giveTo(user, folder);
      const before = tree(folder);
      const said = await told<{ first: string; store: string; changes: Change[]; second: string }>(
        user,
        `
        const ns = new Namespace({ ephemeral: true });
        const run = (script) => text(ns.command("sh", { args: ["-c", script], cwd: "${folder}" }).outputSync().stdout);
        const first = run("rm -r *; echo $?; echo x > new; ls");
        const store = run("ls -A /var/tmp/sys-linux-namespace-*");
        const [{ path }] = await ns.changes();
        await ns.discard();
        await ns.discard();
        const changes = await ns.changes();
        const second = run("ls");
        await ns.discard();
        console.log(JSON.stringify({ first, store, path, changes, second }));`,
      );
      assertEquals(said.first, "0\nnew\n");
      assertEquals(said.store, "");
      assertEquals(said.changes, []);
      assertEquals(said.second, "a\nd\ngone\nl\nm\no\nsame\nt\nu\n");
      assertEquals(tree(folder), before);
    });
  }, lack);

  isolatedTest(`the folder of a command and those around it can be renamed and removed, as ${user}`, async () => {
    await withFolder(async (folder) => {
      sh("mkdir -p a/b/c; echo 1 > a/b/c/f", folder);
      giveTo(user, folder);
      const script =
        "mv ../../b ../../moved; cd ../..; mkdir b; mv moved/c b; rm -r moved; cd ..; mv a d; find d | sort";
      const said = await told<[string, string, string][]>(
        user,
        `
        await using ns = new Namespace({ ephemeral: true });
        const env = { HOME: "${folder}/a" };
        const options = { args: ["-ec", ${JSON.stringify(script)}], cwd: "${folder}/a/b/c", env };
        const { stdout, stderr } = ns.command("sh", options).outputSync();
        const changes = await ns.changes();
        console.log(JSON.stringify([[text(stdout), text(stderr)], ...changes.map(({ path, kind }) => [path, kind])]));`,
      );
      assertEquals(said, [
        ["d\nd/b\nd/b/c\nd/b/c/f\n", ""],
        [`${folder}/a`, "removed"],
        ...["d", "d/b", "d/b/c", "d/b/c/f"].map((path) => [`${folder}/${path}`, "added"]),
      ]);
    });
  }, lack);

  isolatedTest(`what is bound on an ephemeral view is in it, as ${user}`, async () => {
    await withFolder(async (folder) => {
      sh("mkdir d e; echo old > d/f", folder);
      giveTo(user, folder);
      const said = await told<[string, string][]>(
        user,
        `
        await using ns = new Namespace({
          ephemeral: true,
          mounts: [
            { type: "bind", source: "${folder}/d", target: "/mnt" },
            { type: "bind", source: "${folder}/new/e", target: "${folder}/e", ifMissing: "create" },
            { type: "bind", source: "${folder}/nowhere", target: "${folder}/d", ifMissing: "skip" },
          ],
        });
        const script = "echo more >> /mnt/f; cat d/f; echo x > e/x; ls new/e";
        const { code, stdout } = ns.command("sh", { args: ["-ec", script], cwd: "${folder}" }).outputSync();
        const changes = await ns.changes();
        console.log(JSON.stringify([["said", text(stdout)], ...changes.map(({ path, kind }) => [path, kind])]));`,
      );
      assertEquals(said, [
        ["said", "old\nmore\nx\n"],
        [`${folder}/d/f`, "changed"],
        [`${folder}/new`, "added"],
        [`${folder}/new/e`, "added"],
        [`${folder}/new/e/x`, "added"],
      ]);
      assertEquals(tree(folder), `d d 755 ${Deno.statSync(`${folder}/d`).size} \nd/f f 644 4 \ne d 755 4096 \nold\n`);
    });
  }, lack);

  isolatedTest(
    `a content whose time was set back, and attributes alone, are changes, and a look is none, as ${user}`,
    async () => {
      await withFolder(async (folder) => {
        sh("echo 1 > same; echo 2 > other; echo 3 > file; mkdir d; echo 4 > d/looked", folder);
        setAttribute(`${folder}/d`, "user.gone", Uint8Array.of(1));
        giveTo(user, folder);
        const source = `file://${packageFolder()}/src/machine/files.ts`;
        const said = await told<[string, string][]>(
          user,
          `
          const ns = new Namespace({ ephemeral: true });
          const script = "cp -p other kept; echo 9 > other; touch -r kept other; rm kept; : >> same; : >> d/looked";
          const { success } = ns.command("sh", { args: ["-ec", script], cwd: "${folder}" }).outputSync();
          if (!success) throw new Error(script);
          await ns.run(async () => {
            const { execute, pathArgument } = await import("${source}");
            const value = { bytes: Uint8Array.of(7, 0, 7), name: "<value>" };
            for (const name of ["file", "d"]) {
              const path = pathArgument("${folder}/" + name);
              execute([{ call: "lsetxattr", args: [path, "user.test", value, 3, 0], what: "set an attribute" }]);
            }
            execute([{ call: "lremovexattr", args: ["${folder}/d", "user.gone"], what: "remove an attribute" }]);
          });
          const changes = (await ns.changes()).filter(({ path }) => path.startsWith("${folder}"));
          await ns.commit(changes.map(({ path }) => path));
          const left = (await ns.changes()).filter(({ path }) => path.startsWith("${folder}"));
          await ns.discard();
          console.log(JSON.stringify([...changes, ...left].map(({ path, kind }) => [path, kind])));`,
          ["-A"],
        );
        assertEquals(said, ["d", "file", "other"].map((name) => [`${folder}/${name}`, "changed"]));
        for (const name of ["d", "file"]) {
          assertEquals(attribute(`${folder}/${name}`, "user.test"), Uint8Array.of(7, 0, 7));
        }
        assertEquals(attribute(`${folder}/d`, "user.gone"), undefined);
        assertEquals(Deno.readTextFileSync(`${folder}/other`), "9\n");
      });
    },
    lack,
  );

  isolatedTest(`what its owner can neither read nor change is told and committed as the rest, as ${user}`, async () => {
    const before = "mkdir -p ro/sub into ex m; echo 1 > ro/f; echo 2 > ro/sub/g; chmod 555 ro/sub ro into";
    const work = `chmod -R u+w ro; rm -r ro; chmod 755 into; echo 4 > into/new; chmod 555 into; mkdir d; echo 5 > d/f
      chmod 300 d; mkdir -p n/n; echo 6 > n/n/x; chmod 0 n/n n; echo 7 > noperm; chmod 0 noperm; echo 8 > ex/f; chmod 0 ex
      echo 9 > hard; ln hard hard2; mkdir ro2; ln hard ro2/hard3; chmod 555 ro2; chmod 711 m .`;
    await withFolder(async (folder) => {
      const [plain, tried] = [`${folder}/plain`, `${folder}/tried`];
      for (const path of [plain, tried]) {
        Deno.mkdirSync(path);
        sh(before, path);
      }
      sh(work, plain);
      giveTo(user, tried);
      Deno.chmodSync(folder, 0o755);
      const untouched = tree(tried);
      const program = startProgram(
        `
        const ns = new Namespace({ ephemeral: true });
        const script = ${JSON.stringify(work)};
        const { code } = ns.command("sh", { args: ["-ec", script], cwd: "${tried}" }).outputSync();
        const paths = async () => (await ns.changes()).map(({ path, kind }) => kind + " " + path);
        const [first, again] = [await paths(), await paths()];
        console.log(code);
        await Deno.stdin.read(new Uint8Array(1));
        const refused = await ns.commit().then(() => [], ({ name, code, message }) => [name, code, message]);
        console.log("refused");
        await Deno.stdin.read(new Uint8Array(1));
        await ns.commit();
        const left = await paths();
        await ns.discard();
        console.log(JSON.stringify({ first, again, refused, left }));`,
        { user, permissions: ["-A"] },
      );
      const [lines, input] = [linesOf(program.stdout), program.stdin.getWriter()];
      assertEquals((await lines.next()).value, "0");
      sh("chattr +i m", tried); // Permissions of folders come last, so all of the rest has to be taken back.
      await input.write(Uint8Array.of(10));
      assertEquals((await lines.next()).value, "refused");
      assertEquals(tree(tried), untouched);
      sh("chattr -i m", tried);
      await input.write(Uint8Array.of(10));
      const said: { first: string[]; again: string[]; refused: string[]; left: string[] } = JSON.parse(
        (await lines.next()).value!,
      );
      await input.close();
      assertEquals([(await lines.next()).done, (await program.status).code], [true, 0]);
      assertEquals(await program.stderr.text(), "");
      assertEquals(said.again, said.first);
      for (const change of [`changed ${tried}`, `removed ${tried}/ro`, `added ${tried}/n/n/x`]) {
        assert(said.first.includes(change), said.first.join());
      }
      assertEquals(said.refused.slice(0, 2), ["NamespaceError", "EPERM"]);
      assertMatch(said.refused[2]!, /^Cannot set owner and permissions of ".*\/m" for ephemeral: /);
      assertEquals(said.left, []); // Though who is not root cannot look at all of it outside.
      assertEquals(tree(tried), tree(plain));
      assert(tree(tried) !== untouched);
      assertEquals(Deno.statSync(tried).mode! & 0o777, 0o711);
      const names = ["hard", "hard2", "ro2/hard3"].map((name) => Deno.statSync(`${tried}/${name}`).ino);
      assertEquals(new Set(names).size, 1);
    });
  }, lack);

  isolatedTest(`what was written goes with the program, kill -9 included, as ${user}`, async () => {
    const code = (end: string) => `
      const ns = new Namespace({ ephemeral: true, privatePid: true });
      ns.command("sh", { args: ["-c", "mkdir -m 0 /tmp/closed; mkdir -m 0 /var/tmp/closed; exec 2>&-"] }).outputSync();
      const { pid } = ns.command("sleep", { args: ["1000"] }).spawn();
      console.log("running");
      ${end}`;
    for (const end of ["Deno.exit(0);", "Deno.kill(Deno.pid, 'SIGKILL');"]) {
      assertEquals(stores(), []);
      const output = await runProgram(code(end), { user, permissions: ["--allow-ffi", "--allow-run"] });
      assertEquals(output.stdout, "running\n");
      await until("the store is gone", () => stores().length === 0);
    }
  }, lack);

  isolatedTest(`the kernel's own files cannot be written to on an ephemeral view, as ${user}`, async () => {
    const said = await told<string>(
      user,
      `
      await using ns = new Namespace({ ephemeral: true });
      const script = "exec 2>/dev/null; for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_seqnum" +
        " /sys/kernel/mm/transparent_hugepage/enabled; do (printf '' >> $f) && echo $f; done; echo > /dev/null && ls /dev";
      console.log(JSON.stringify(text(ns.command("sh", { args: ["-c", script] }).outputSync().stdout)));`,
    );
    assertEquals(said.split("\n"), [
      ..."fd full null ptmx pts random shm stderr stdin stdout tty urandom zero".split(" "),
      "",
    ]);
  }, lack);

  isolatedTest(`mounts are seen through, each with its changes, as ${user}`, async () => {
    await withFolder(async (folder) => {
      sh("mkdir -p a/mounted fixed; echo 1 > a/file; ln -s file a/link; echo 2 > fixed/file", folder);
      Deno.chmodSync(folder, 0o755);
      giveTo(user, folder);
      const code = `
        const ns = new Namespace({ ephemeral: { readonly: ["${folder}/fixed"] } });
        const script = "echo 1 > mounted/new; echo 2 > new; mkdir folder; echo 3 > folder/x; rm link; echo 4 > ../fixed/file; ls";
        const { stdout } = ns.command("sh", { args: ["-c", script], cwd: "${folder}/a" }).outputSync();
        const changes = (await ns.changes()).map(({ path, kind }) => kind + " " + path);
        await ns.commit();
        const { stdout: committed } = new Namespace().command("sh", {
          args: ["-c", "cat mounted/new new folder/x; ls; cat ../fixed/file"], cwd: "${folder}/a" }).outputSync();
        await ns.discard();
        console.log(JSON.stringify([text(stdout), changes, text(committed)]));`;
      const around = new Namespace({
        mounts: [{ type: "tmpfs", target: `${folder}/a/mounted`, mode: 0o777 }],
      });
      assertEquals(await toldIn(around, user, code), [
        "file\nfolder\nmounted\nnew\n",
        [
          `added ${folder}/a/folder`,
          `added ${folder}/a/folder/x`,
          `removed ${folder}/a/link`,
          `added ${folder}/a/mounted/new`,
          `added ${folder}/a/new`,
        ],
        "1\n2\n3\nfile\nfolder\nmounted\nnew\n2\n",
      ]);
    });
  }, lack);
}

isolatedTest("a program that is killed while it commits leaves nothing of what it has not done", async () => {
  await withFolder(async (folder) => {
    const program = startProgram(
      `
      const ns = new Namespace({ ephemeral: true });
      const script = "echo old > old; mkdir -m 555 ro; seq 3000 | split -l 1 -a 3 - part; head -c 300m /dev/zero > large";
      console.log(ns.command("sh", { args: ["-ec", script], cwd: "${folder}" }).outputSync().code);
      await ns.commit();`,
    );
    const others = () => [...Deno.readDirSync(folder)].map(({ name }) => name);
    await until("there is something of the commit", () => others().length > 0, 30_000);
    program.kill("SIGKILL");
    await program.status;
    assert(others().every((name) => name.startsWith(".sys-linux-namespace-")), others().join());
    await until("nothing is left", () => others().length === 0 && stores().length === 0);
    await program.stdin.close();
    assertEquals(await program.stdout.text(), "0\n");
    await program.stderr.cancel();
  });
});

isolatedTest("one command runs on an ephemeral view at a time", async () => {
  await using ns = new Namespace({ ephemeral: true });
  const child = ns.command("sleep", { args: ["1000"] }).spawn();
  assertThrows(() => ns.command("/bin/true").outputSync(), Deno.errors.Busy, "one ephemeral view at a time");
  assertThrows(() => ns.command("/bin/true").spawn(), Deno.errors.Busy);
  await assertRejects(() => ns.discard(), Deno.errors.Busy, "discard changes while a command runs");
  await assertRejects(() => ns.commit(), Deno.errors.Busy, "commit changes while a command runs");
  assertEquals(await ns.changes(), []);
  child.kill("SIGKILL");
  await child.status;
  assertEquals(ns.command("/bin/true").outputSync().code, 0);
  assertThrows(() => ns.command("/no/such/program").outputSync(), Deno.errors.NotFound);
  assertEquals((await ns.command("/bin/true").output()).code, 0);
});

isolatedTest("code runs on an ephemeral view, too", async () => {
  await withFolder(async (folder) => {
    await using ns = new Namespace({ ephemeral: true });
    await ns.run((path: string) => Deno.writeTextFile(path, "written"), `${folder}/file`);
    const found = await ns.run((path: string) => Deno.readTextFile(path), `${folder}/file`);
    assertEquals(found, "written");
    assertEquals([...Deno.readDirSync(folder)], []);
    const changes = await ns.changes(); // And none of Deno's own.
    assertEquals(changes.map(({ path }) => path), [`${folder}/file`]);
  });
});

isolatedTest("many changes in many folders, and folders with many changes, are told and done", async () => {
  await withFolder(async (folder) => {
    await using ns = new Namespace({ ephemeral: true });
    sh("mkdir d; for i in $(seq 1 150); do mkdir f$i; echo $i > f$i/x; done; seq -f d/%g 1 700 | xargs touch", folder);
    const script = "for i in f*; do echo more >> $i/x; done; rm d/7*; seq -f d/new%g 1 700 | xargs touch; rm -r f1";
    assertEquals(ns.command("sh", { args: ["-ec", script], cwd: folder }).outputSync().code, 0);
    const changes = await ns.changes();
    const count = (wanted: Change["kind"]) => changes.filter(({ kind }) => kind === wanted).length;
    assertEquals([count("changed"), count("removed"), count("added")], [149, 13, 700]);
    await ns.commit();
    assertEquals(await ns.changes(), []);
    assertEquals([...Deno.readDirSync(`${folder}/d`)].length, 700 - 12 + 700);
    assertEquals(Deno.readTextFileSync(`${folder}/f150/x`), "150\nmore\n");
  });
});

isolatedTest("a commit that is refused changes nothing", async () => {
  await withFolder(async (folder) => {
    await using ns = new Namespace({ ephemeral: true });
    sh("mkdir d; echo 1 > a; echo 2 > b; mkdir m; echo 3 > d/f", folder);
    const script = "echo new > a; rm b; chmod 700 m; rm d/f; echo x > d/new; echo 4 > z; mkdir y; echo 5 > y/y";
    assertEquals(ns.command("sh", { args: ["-c", script], cwd: folder }).outputSync().code, 0);
    sh("chattr +i m", folder);
    const before = tree(folder);
    try {
      const refused = await assertRejects(() => ns.commit(), NamespaceError);
      assertMatch(refused.message, /^Cannot set owner and permissions of ".*\/m" for ephemeral: .* \(EPERM\)/);
      assertEquals(tree(folder), before);
    } finally {
      sh("chattr -i m", folder);
    }
    await assertRejects(() => ns.commit([`${folder}/nowhere`]), RangeError, "There is no change at");
    await ns.commit([`${folder}/a`, `${folder}/y`]);
    assertStringIncludes(tree(folder), "==> ./a <==\nnew\n");
    assertStringIncludes(tree(folder), "==> ./y/y <==\n5\n");
  });
});

isolatedTest("a commit goes through no link that was put there meanwhile", async () => {
  await withFolder(async (folder) => {
    await using ns = new Namespace({ ephemeral: true });
    sh("mkdir d victim; echo 1 > d/f; echo 2 > victim/f", folder);
    assertEquals(
      ns.command("sh", { args: ["-c", "echo new > d/f; echo x > d/new"], cwd: folder }).outputSync().code,
      0,
    );
    sh("rm -r d; ln -s victim d", folder);
    await ns.commit();
    assertEquals(tree(`${folder}/victim`), "f f 644 2 \n2\n");
    assertEquals(tree(`${folder}/d`), "f f 644 4 \nnew f 644 2 \n==> ./f <==\nnew\n\n==> ./new <==\nx\n");
  });
});

isolatedTest("what leads elsewhere inside is not followed by a commit, which changes the link itself", async () => {
  await withFolder(async (folder) => {
    await using ns = new Namespace({ ephemeral: true });
    sh("mkdir d victim; echo 1 > d/f; echo 2 > victim/f", folder);
    const script = `rm -r d; ln -s ${folder}/victim d; ln -s /etc/passwd p; ln -s ${folder}/victim/f g`;
    assertEquals(ns.command("sh", { args: ["-c", script], cwd: folder }).outputSync().code, 0);
    await ns.commit();
    assertEquals(Deno.readTextFileSync(`${folder}/victim/f`), "2\n");
    assertEquals(Deno.readLinkSync(`${folder}/d`), `${folder}/victim`);
    assertEquals(Deno.readLinkSync(`${folder}/p`), "/etc/passwd");
  });
});

isolatedTest("a commit keeps owners, times and extended attributes", async () => {
  await withFolder(async (folder) => {
    await using ns = new Namespace({ ephemeral: true });
    const file = `${folder}/file`;
    Deno.writeTextFileSync(file, "old");
    Deno.chownSync(file, 5, 6);
    const value = new TextEncoder().encode("value");
    setAttribute(file, "user.test", value);
    // A capability, version 2: CAP_NET_RAW, which a change of the owner takes away.
    const capability = new Uint8Array(20);
    new DataView(capability.buffer).setUint32(0, 0x0200_0001, true);
    new DataView(capability.buffer).setUint32(4, 1 << 13, true);
    Deno.writeTextFileSync(`${folder}/able`, "able");
    setAttribute(`${folder}/able`, "security.capability", capability);
    const script = "echo more >> file; touch -d @1234567890.123456789 file able; chown 7:8 able; " +
      "head -c 3000000 /dev/zero > zeros; truncate -s 1g holes; printf x | dd of=holes bs=1 seek=500M conv=notrunc";
    assertEquals(ns.command("sh", { args: ["-ec", script], cwd: folder }).outputSync().code, 0);
    await ns.commit();
    const { uid, gid, mtime, size } = Deno.statSync(file);
    assertEquals([uid, gid, mtime?.getTime(), size], [5, 6, 1234567890123, 8]);
    assertEquals(attribute(file, "user.test"), value);
    assertEquals(Deno.statSync(`${folder}/able`).uid, 7);
    assertEquals(attribute(`${folder}/able`, "security.capability"), undefined); // chown(2) in the view has taken it.
    assertEquals(attribute(file, "trusted.overlay.origin"), undefined);
    assertEquals(Deno.statSync(`${folder}/zeros`).size, 3_000_000);
    const { size: length, blocks } = Deno.statSync(`${folder}/holes`);
    assertEquals([length, blocks! < 2048], [2 ** 30, true]); // A block is of 512 bytes.
    const holes = new Deno.Command("sh", { args: ["-c", "tail -c +524288001 holes | head -c 2"], cwd: folder });
    assertEquals(holes.outputSync().stdout, Uint8Array.of(0x78, 0));
    await ns.discard();
    setAttribute(`${folder}/able`, "security.capability", capability);
    assertEquals(ns.command("touch", { args: ["-d", "@5", `${folder}/able`] }).outputSync().code, 0);
    await ns.commit();
    assertEquals(attribute(`${folder}/able`, "security.capability"), capability);
    assertEquals(Deno.statSync(`${folder}/able`).uid, 7);
  });
});

isolatedTest(
  "a commit has all of what was renamed or given other permissions, whatever overlays are by default",
  async () => {
    const restore = ["redirect_dir", "metacopy", "index"].map((name) => overlayDefault(name, "Y"));
    try {
      await withFolder(async (folder) => {
        sh("mkdir -p d/e; echo 1 > d/e/f; echo 2 > g; echo 3 > h; ln h i", folder);
        await using ns = new Namespace({ ephemeral: true });
        for (const script of ["mv d n; chmod 600 g; echo 4 >> i", "mv n/e n/m; grep ' / overlay' /proc/self/mounts"]) {
          const { code, stdout } = ns.command("sh", { args: ["-ec", script], cwd: folder }).outputSync();
          assertEquals(code, 0);
          if (script.startsWith("mv n/e")) {
            assertStringIncludes(new TextDecoder().decode(stdout), "redirect_dir=nofollow");
          }
        }
        await ns.commit();
        const files = [...["n/m/f", "g", "i"].map((name) => Deno.readTextFileSync(`${folder}/${name}`))];
        assertEquals(files, ["1\n", "2\n", "3\n4\n"]);
        assertThrows(() => Deno.statSync(`${folder}/d`), Deno.errors.NotFound);
      });
    } finally {
      for (const undo of restore) undo();
    }
  },
);

/** Changes how the system mounts overlays that do not say it, where it lets itself be told; the way back. */
function overlayDefault(name: string, value: string): () => void {
  const path = `/sys/module/overlay/parameters/${name}`;
  const before = Deno.readTextFileSync(path);
  try {
    Deno.writeTextFileSync(path, value);
  } catch {
    return () => {}; // In a container, whose /sys is read-only.
  }
  return () => Deno.writeTextFileSync(path, before);
}

isolatedTest("what is written can go elsewhere, but not on an overlay", async () => {
  await using ns = new Namespace({ ephemeral: { dir: "/dev/shm" } });
  assertEquals(ns.command("sh", { args: ["-c", "echo x > /etc/namespace-test"] }).outputSync().code, 0);
  assertEquals([stores(), stores("/dev/shm").length], [[], 1]);
  assertEquals((await ns.changes()).map(({ path }) => path), ["/etc/namespace-test"]);
  await ns.discard();
  assertEquals(stores("/dev/shm"), []);

  const missing = new Namespace({ ephemeral: { dir: "/var/tmp/no/such" } });
  const refused = assertThrows(() => missing.command("/bin/true").outputSync(), NamespaceError);
  assertEquals([refused.code, refused.option, refused.syscall], ["ENOENT", "ephemeral", "mkdirat"]);

  const overlay = new Namespace({
    mounts: [{ type: "overlay", target: "/opt", lower: ["/opt"], upper: "tmpfs" }],
  });
  const code = `
    try {
      new Namespace({ ephemeral: { dir: "/opt" } }).command("/bin/true").outputSync();
    } catch (error) {
      console.log(JSON.stringify(error.message));
    }`;
  assertEquals(
    await toldIn(overlay, "root", code),
    `Option "ephemeral.dir" must be on another file system than an overlay, such as "/dev/shm": got "/opt"`,
  );
});

isolatedTest("explain() tells of an ephemeral view, and makes none", () => {
  const ns = new Namespace({ ephemeral: true, mounts: [{ type: "tmpfs", target: "/mnt" }] });
  const steps = ns.explain("/bin/true").steps;
  const options = new Set(steps.map(({ option }) => option));
  assert(options.has("ephemeral") && options.has("mounts") && !options.has("root"));
  assertStringIncludes(steps.find(({ text }) => text.startsWith(`mount("overlay"`))!.text, "sys-linux-namespace-XXXX");
  assertEquals(stores(), []);
});

isolatedTest("an ephemeral view is refused where nobody could look at its changes", async () => {
  const mounts = [{
    type: "overlay",
    target: "/mnt",
    lower: ["/etc"],
    upper: "/var/tmp/u",
    work: "/var/tmp/w",
  }] as const;
  assertThrows(
    () => new Namespace({ ephemeral: true, mounts: mounts.map((mount) => ({ ...mount, lower: [...mount.lower] })) }),
    TypeError,
    `Options "ephemeral" and "mounts[0].upper" contradict each other`,
  );
  const ns = new Namespace({ ephemeral: true });
  assertThrows(() => ns.setup(), TypeError, `Cannot set up "ephemeral" in a running process`);
  await assertRejects(
    () => ns.build("true"),
    TypeError,
    `Option "ephemeral" is for commands that this program waits for`,
  );
  await assertRejects(() => ns.reexec(), TypeError, `Option "ephemeral" is for commands`);
  await assertRejects(() => new Namespace().changes(), TypeError, `without the option "ephemeral"`);
  await assertRejects(() => new Namespace().commit(), TypeError, `without the option "ephemeral"`);
  await assertRejects(() => new Namespace().discard(), TypeError, `without the option "ephemeral"`);
  await new Namespace()[Symbol.asyncDispose]();
  assertThrows(() => new Namespace({ ephemeral: true, root: "empty" }), TypeError, `"ephemeral" and "root" contradict`);
  assertThrows(() => new Namespace({ ephemeral: true, privateMount: false }), TypeError, `"ephemeral" implies`);
  assertThrows(
    () => new Namespace({ ephemeral: { dir: "tmp" } }),
    RangeError,
    `"ephemeral.dir" must be an absolute path`,
  );
  assertThrows(
    () => new Namespace({ ephemeral: { readonly: "/usr" as unknown as [] } }),
    TypeError,
    "must be an array",
  );
});

isolatedTest("a program that is killed leaves no store, in whatever it is", async () => {
  const program = startProgram(`
    const ns = new Namespace({ ephemeral: true });
    const child = ns.command("sh", { args: ["-c", "while :; do mktemp /tmp/namespace.XXXXXX; done"] }).spawn();
    await child.status;`);
  const reader = program.stdout.getReader();
  await reader.read();
  assertEquals(stores().length, 1);
  program.kill("SIGKILL");
  while (!(await reader.read()).done) { /* Until the command is dead, too. */ }
  await program.status;
  await program.stderr.cancel();
  await program.stdin.close();
  await until("the store is gone", () => stores().length === 0);
  assertEquals([...Deno.readDirSync("/tmp")].filter(({ name }) => name.startsWith("namespace.")), []);
});

isolatedTest("what a command leaves running ends with it", async () => {
  await withFolder(async (folder) => {
    await using ns = new Namespace({ ephemeral: true });
    const script =
      "trap '' TERM HUP; (setsid sh -c 'while :; do echo x >> late; done' & ) ; until [ -s late ]; do sleep 0.05; done";
    assertEquals(ns.command("sh", { args: ["-c", script], cwd: folder }).outputSync().code, 0);
    const [first] = await ns.changes();
    await new Promise((resolve) => setTimeout(resolve, 50));
    assertEquals(await ns.changes(), [first!]);
    await ns.commit([first!]);
    assertEquals(Deno.statSync(`${folder}/late`).size, first!.size);
  });
});

isolatedTest("a commit of changes that were told is of these alone, and only as they were told", async () => {
  await withFolder(async (folder) => {
    sh("echo 1 > a; echo 2 > b; mkdir d; chmod 0 a", folder);
    await using ns = new Namespace({ ephemeral: true });
    const run = (script: string) => ns.command("sh", { args: ["-ec", script], cwd: folder }).outputSync();
    run("echo x >> a; echo y >> b; mkdir -p n/n; echo z > n/n/z; rmdir d");
    const told = await ns.changes();
    const of = (name: string) => told.find(({ path }) => path === `${folder}/${name}`)!;
    await ns.commit([of("a"), of("n/n/z")]);
    assertEquals(tree(folder).split("\n")[0], "a f 0 4 ");
    assertEquals((await ns.changes()).map(({ path }) => path), ["b", "d"].map((name) => `${folder}/${name}`));
    run("chmod 4755 b"); // Inside.
    await assertRejects(() => ns.commit([of("b")]), Deno.errors.Busy, "it is not as changes() has told");
    sh("touch d/new", folder); // And outside.
    await assertRejects(() => ns.commit([of("d")]), Deno.errors.Busy, "it is not as changes() has told");
    await assertRejects(() => ns.commit([{ ...of("d") }]), TypeError, "must be one that changes() has told");
    await ns.commit();
    assertEquals(Deno.statSync(`${folder}/b`).mode! & 0o7777, 0o4755);
  });
});

isolatedTest("a remaining process of a command that has ended cannot have its links followed", async () => {
  await withFolder(async (folder) => {
    await using ns = new Namespace({ ephemeral: true, privatePid: false });
    const script = "mkdir d; echo 1 > d/f; echo $$ > pid; (sleep 1000 >/dev/null 2>&1 & echo $! > left)";
    assertEquals(ns.command("sh", { args: ["-c", script], cwd: folder }).outputSync().code, 0);
    const left = new TextDecoder().decode(ns.command("cat", { args: [`${folder}/left`] }).outputSync().stdout);
    try {
      const inside = `/proc/${left.trim()}/root${folder}`;
      sh(`rm -r d; ln -s /etc d`, inside);
      await ns.commit();
      assertEquals(Deno.readLinkSync(`${folder}/d`), "/etc");
    } finally {
      Deno.kill(Number(left), "SIGKILL");
    }
    await until("it is gone", () => {
      try {
        Deno.statSync(`/proc/${left.trim()}/root/`);
        return false;
      } catch {
        return true;
      }
    });
  });
});
