// Maps with more than the caller's own ids: written by newuidmap(1) and newgidmap(1) for an ordinary user, and directly for
// root. They take the package uidmap. /etc/subuid is another one for each program, in a mount namespace of its own.

import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../../mod.ts";
import { validate } from "../../src/options.ts";
import { withRanges } from "../../src/plan/user.ts";
import { nsrun } from "../support/cli.ts";
import { isolatedTest } from "../support/leaks.ts";
import { packageFolder, programArgv, type ProgramOptions, type ProgramOutput, runArgv } from "../support/program.ts";

try {
  Deno.statSync("/usr/bin/newuidmap");
} catch (cause) {
  throw new Error("These tests take newuidmap(1) and newgidmap(1): apt-get install uidmap", { cause });
}

const SUBIDS = "nobody:100000:65536\n65534:300000:10\nroot:500000:1000\nsomebody:900000:5\n";
const AUTO = { privateUser: { uidMap: "auto", gidMap: "auto" } } as const satisfies NamespaceOptions;

/** What is before a command line for which /etc/subuid and /etc/subgid are these. /mnt is a tmpfs that anybody can write to. */
function around({ subids = SUBIDS, script = "" } = {}): readonly string[] {
  const setUp = `mount -t tmpfs none /mnt; printf '${subids.replaceAll("\n", "\\n")}' > /mnt/subids; chmod 1777 /mnt
    for file in subuid subgid; do mount --bind /mnt/subids /etc/$file; done; ${script}
    exec "$@"`;
  return ["unshare", "-m", "sh", "-ec", setUp, "-"];
}

function runWith(argv: readonly string[], more: Parameters<typeof around>[0] = {}): Promise<ProgramOutput> {
  return runArgv([...around(more), ...argv]);
}

const DROP = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

function run(code: string, more: { subids?: string; script?: string } & ProgramOptions = {}): Promise<ProgramOutput> {
  return runWith(programArgv(code, { user: "nobody", ...more }), more);
}

/** What a program's command reads from inside. */
const READ = `cat /proc/self/uid_map /proc/self/gid_map; cat /proc/self/setgroups; id -u; id -g`;

async function mapsOf(options: NamespaceOptions, commandOptions = {}, more = {}): Promise<string[]> {
  const { stdout, stderr } = await run(
    `
    const { stdout } = new Namespace(${JSON.stringify(options)})
      .command("sh", { args: ["-c", ${JSON.stringify(READ)}], ...${JSON.stringify(commandOptions)} }).outputSync();
    console.log(new TextDecoder().decode(stdout));`,
    more,
  );
  assertEquals(stderr, "");
  return stdout.trim().split("\n").map((line) => line.trim().replaceAll(/\s+/g, " "));
}

isolatedTest(`uidMap: "auto" is the caller as 0 and its subordinate ids behind, as nobody`, async () => {
  const maps = ["0 65534 1", "1 100000 65536", "65537 300000 10"];
  assertEquals(await mapsOf(AUTO), [...maps, ...maps, "allow", "0", "0"]);
  assertEquals(await mapsOf(AUTO, { uid: 33, gid: 34 }), [...maps, ...maps, "allow", "33", "34"]);
});

isolatedTest(`uidMap: "auto" leaves no id out where the caller is another than 0`, async () => {
  const options = { privateUser: { ...AUTO.privateUser, uid: 1000, gid: 0, setgroups: "deny" as const } };
  assertEquals(await mapsOf(options), [
    ...["1000 65534 1", "0 100000 1000", "1001 101000 64536", "65537 300000 10"],
    ...["0 65534 1", "1 100000 65536", "65537 300000 10", "deny", "1000", "0"],
  ]);
});

isolatedTest("maps of ranges are written by newuidmap, and those of the caller's own id directly", async () => {
  const range = [{ inside: 0, outside: 100_005, count: 3 }, { inside: 10, outside: 65534 }];
  const own = [{ inside: 0, outside: 65534 }];
  assertEquals(await mapsOf({ privateUser: { uidMap: range, gidMap: own } }), [
    ...["0 100005 3", "10 65534 1", "0 65534 1", "deny", "10", "0"],
  ]);
  assertEquals(await mapsOf({ privateUser: { uidMap: own, gidMap: range } }), [
    ...["0 65534 1", "0 100005 3", "10 65534 1", "allow", "0", "10"],
  ]);
});

isolatedTest(`uidMap: "auto" is written directly by root`, async () => {
  const maps = ["0 0 1", "1 500000 1000"];
  assertEquals(await mapsOf(AUTO, {}, { user: "root", script: "mount -t tmpfs none /usr/local/bin" }), [
    ...[...maps, ...maps, "allow", "0", "0"],
  ]);
  const map = [{ inside: 0, outside: 9, count: 5 }];
  const { steps } = new Namespace({ privateUser: { uidMap: map, gidMap: map } }).explain("true", {
    as: { uid: 0 },
    uid: 0,
    gid: 0,
  });
  assertEquals(steps.filter(({ by }) => by === "helper"), []);
});

isolatedTest("all that runs something has those maps, and leaves nothing behind, as nobody", async () => {
  const { stdout, stderr } = await run(
    `
    const held = () => [...Deno.readDirSync("/proc/self/fd")].length + " " +
      [...Deno.readDirSync("/proc/self/task")].map(({ name }) => {
        try { return Deno.readTextFileSync("/proc/self/task/" + name + "/children"); } catch { return ""; }
      }).join("");
    const auto = ${JSON.stringify(AUTO)};
    const count = (text: string) => text.trim().split("\\n").length;
    const cat = { args: ["/proc/self/uid_map"] };
    const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    new Namespace({ init: true }).command("true").outputSync();
    await new Namespace({ privateTmp: true }).run(() => 1);
    const before = held();
    for (const more of [{}, { init: true }, { privatePid: true, privateTmp: true, privateNet: true }]) {
      const ns = new Namespace({ ...auto, ...more });
      console.log(count(decode(ns.command("cat", cat).outputSync().stdout)));
      console.log(count(decode((await ns.command("cat", cat).output()).stdout)));
    }
    console.log(count(await new Namespace(auto).run(() => Deno.readTextFileSync("/proc/self/uid_map"))));
    const refused = new Namespace({ privateUser: { uidMap: [{ inside: 0, outside: 7, count: 9 }], gidMap: "auto" } });
    for (let time = 0; time < 3; time++) {
      try { refused.command("true", { uid: 0 }).outputSync(); } catch (error) { console.log(error.code); }
    }
    // The end of a signal's listeners is noticed in another turn.
    for (let time = 0; time < 200 && held() !== before; time++) await new Promise((done) => setTimeout(done, 10));
    console.log(held() === before ? "nothing left" : held() + " before " + before);`,
    { permissions: ["-A"] },
  );
  assertEquals([stdout, stderr], [`${"3\n".repeat(7)}${"EPERM\n".repeat(3)}nothing left\n`, ""]);
});

isolatedTest("newuidmap gets the map, and nothing of this process", async () => {
  // In its place a program that tells what it was given, and says no.
  const script = `printf '#!/bin/sh\\nexec > /mnt/told\\necho "$0 $@"\\nls -l /proc/self/fd/\\ncat /proc/self/environ
echo noise >&2\\nexit 3\\n' > /mnt/fake
    chmod 755 /mnt/fake; mount --bind /mnt/fake /usr/bin/newuidmap; exec 9< /etc/passwd`; // Which execve does not close.
  const { stdout, stderr } = await run(
    `
    const file = Deno.openSync("/etc/hostname");
    Deno.env.set("SECRET", "secret");
    try {
      new Namespace(${JSON.stringify(AUTO)}).command("true").outputSync();
      console.log("OUT");
    } catch (error) {
      console.log(error instanceof NamespaceError, error.code, error.option, error.message.split("\\n")[0]);
    }
    console.log(Deno.readTextFileSync("/mnt/told"));
    file.close();`,
    { script, permissions: ["-A"] },
  );
  const [error, argv, ...told] = stdout.split("\n");
  assertEquals(stderr, "");
  assertEquals(
    error,
    "true EPERM privateUser Cannot map user ids (0 to 65534; 1 to 100000, 65536 of them; 65537 to 300000, 10 of them) " +
      "by newuidmap for privateUser: Operation not permitted (EPERM)",
  );
  assertMatch(argv!, /^\/usr\/bin\/newuidmap \d+ 0 65534 1 1 100000 65536 65537 300000 10$/);
  const descriptors = told.filter((line) => line.includes(" -> ")).map((line) =>
    line.replace(/^.* (\d+ -> .*)$/, "$1")
  );
  // Its own, and those of the script: the shell's copy of the script, and the listing.
  assertEquals(descriptors.filter((line) => /^[02] /.test(line)), ["0 -> /dev/null", "2 -> /dev/null"]);
  for (const line of descriptors.filter((line) => !/^[012] /.test(line))) assertMatch(line, /fake|newuidmap|\/proc\//);
  assert(!stdout.includes("SECRET"));
});

isolatedTest("what is in newuidmap's way is told, with its remedy", async () => {
  const failure = async (options: NamespaceOptions, more: Parameters<typeof run>[1], before: string[] = []) => {
    const program = programArgv(
      `
      try {
        new Namespace(${JSON.stringify(options)}).command("true", { uid: 0, gid: 0 }).outputSync();
        console.log("OUT");
      } catch (error) {
        console.log(error.name, error.code, error.message);
      }`,
      { user: "nobody", permissions: ["--allow-ffi"] },
    );
    const { stdout, stderr } = await runWith([...before, ...program], more);
    assertEquals(stderr, "");
    return stdout;
  };
  // As if it were not installed: a layer over /usr/bin that does not have it.
  const remove = `mkdir /mnt/u /mnt/w
    mount -t overlay none -o lowerdir=/usr/bin,upperdir=/mnt/u,workdir=/mnt/w /usr/bin; rm /usr/bin/newuidmap`;
  const missing = await failure(AUTO, { script: remove });
  assertMatch(missing, /^NamespaceError ENOENT Cannot execute newuidmap to map user ids .* for privateUser/);
  assertMatch(missing, /newuidmap is not installed.* package uidmap.* Leave uidMap and gidMap out/);
  const barred = await failure(AUTO, { script: "chmod 644 /mnt/subids; mount --bind /mnt/subids /usr/bin/newuidmap" });
  assertMatch(barred, /^NamespaceError EACCES .*\n.*may not execute newuidmap/);
  const noNewPrivs = await failure(AUTO, {}, ["setpriv", "--no-new-privs"]);
  assertMatch(noNewPrivs, /^NamespaceError EPERM .*\n"\/usr\/bin\/newuidmap" is root's .*NoNewPrivs is set/);
  const map = [{ inside: 0, outside: 165_000, count: 1000 }];
  const foreign = await failure({ privateUser: { uidMap: map, gidMap: map } }, {});
  assertMatch(
    foreign,
    /\/etc\/subuid, which has not 165000 and the 999 after it.*usermod --add-subuids 100000-165535 USER/,
  );
  const none = await failure(AUTO, { subids: "somebody:1:2\n" });
  assertMatch(none, /^NotSupported undefined Cannot have "auto" for "privateUser.uidMap": \/etc\/subuid has no range/);
  assertMatch(none, /usermod --add-subuids 100000-165535 USER/);
});

isolatedTest("nsrun has them by --uid-map auto, and says what is in the way", async () => {
  const run = (...words: string[]) => nsrun(words, { before: [...around(), ...DROP] });
  const maps = ["--uid-map=auto", "--gid-map", "auto"];
  const { stdout, stderr } = await run(...maps, "--init", "cat", "/proc/self/uid_map");
  assertEquals([stderr, stdout.trim().split("\n").length], ["", 3]);
  const other = await run(...maps, "--private-user=uid=7,gid=8", "sh", "-c", "id -u; id -g");
  assertEquals([other.stderr, other.stdout], ["", "7\n8\n"]);
  const refused = await run("--uid-map=0:7:8", "--gid-map=0:7:8", "--uid=0", "--gid=0", "true");
  assertEquals(refused.code, 125);
  assertMatch(
    refused.stderr,
    /by newuidmap for --private-user: Operation not permitted[\s\S]*has not 7 and the 7 after it/,
  );
  const none = await nsrun([...maps, "true"], { before: [...around({ subids: "" }), ...DROP] });
  assertEquals(none.code, 125);
  assertMatch(none.stderr, /^nsrun: Cannot have "auto" for --uid-map: .* Or give --uid-map the ids\n$/);
});

isolatedTest("an executable that was built writes ranges by newuidmap where it is run by nobody", async () => {
  const range = [{ inside: 0, outside: 65534 }, { inside: 1, outside: 100_000, count: 9 }];
  const output = `${packageFolder()}/ranges`;
  await new Namespace({ privateUser: { uidMap: range, gidMap: range }, privatePid: true, init: true })
    .build("sh", { args: ["-c", "id -u; cat /proc/self/uid_map"], output });
  const { stdout, stderr } = await runWith([...DROP, output]);
  assertEquals([stdout.split(/\s+/).slice(0, 7), stderr], [["0", "0", "65534", "1", "1", "100000", "9"], ""]);
  const refused = await runWith([...DROP, output], { subids: "" });
  assertEquals(refused.code, 125);
  assertStringIncludes(refused.stderr, "by newuidmap for privateUser: Operation not permitted (EPERM)");
});

isolatedTest("reexec() has them", async () => {
  const { stdout, stderr } = await run(
    `
    await new Namespace(${JSON.stringify(AUTO)}).reexec();
    console.log(Deno.uid(), Deno.readTextFileSync("/proc/self/uid_map").trim().split("\\n").length);`,
    { permissions: ["-A"] },
  );
  assertEquals([stdout, stderr], ["0 3\n", ""]);
});

Deno.test(`"auto" is refused for what is built, and beside what contradicts it`, async () => {
  let error: unknown;
  await new Namespace(AUTO).build("true").catch((thrown) => error = thrown);
  assert(error instanceof TypeError);
  assertStringIncludes(error.message, `Option "privateUser.uidMap" cannot be "auto" in what is built`);
  const map = [{ inside: 0, outside: 0 }];
  const cases: readonly (readonly [NamespaceOptions["privateUser"], string])[] = [
    [{ uidMap: map, gidMap: "auto", uid: 5 }, `"privateUser.uid" and "privateUser.uidMap" contradict`],
    [{ uidMap: "auto", gidMap: map, gid: 5 }, `"privateUser.gid" and "privateUser.gidMap" contradict`],
    [{ uidMap: "aut" as "auto", gidMap: "auto" }, `Option "privateUser.uidMap" must be "auto" or an array`],
    [{ uidMap: "auto" } as unknown as { uid: number }, `Option "privateUser.gidMap" must be "auto" or an array`],
  ];
  for (const [privateUser, message] of cases) {
    assertThrows(() => new Namespace({ privateUser }), TypeError, message);
  }
});

Deno.test(`"auto" has each id once, whatever /etc/subuid says`, () => {
  const mapFor = (uid: number, own: number, ...subordinate: [first: number, count: number][]) => {
    const settings = validate({ privateUser: { uidMap: "auto", gidMap: "auto", uid } });
    const ids = { own, subordinate: subordinate.map(([first, count]) => ({ first, count })) };
    const { user } = withRanges(settings, () => ids);
    assert("uidMap" in user && !("inside" in user.uidMap));
    return user.uidMap.map(({ inside, outside, count }) => [inside, outside, count]);
  };
  assertEquals(mapFor(0, 1000, [5000, 10]), [[0, 1000, 1], [1, 5000, 10]]);
  assertEquals(mapFor(3, 1000, [5000, 10]), [[3, 1000, 1], [0, 5000, 3], [4, 5003, 7]]);
  assertEquals(mapFor(3, 1000, [5000, 2]), [[3, 1000, 1], [0, 5000, 2]]);
  assertEquals(mapFor(3, 1000, [5000, 3], [6000, 1]), [[3, 1000, 1], [0, 5000, 3], [4, 6000, 1]]);
  assertEquals(mapFor(0, 1000, [999, 3]), [[0, 1000, 1], [1, 999, 1], [2, 1001, 1]]); // Its own is in a range.
  assertEquals(mapFor(0, 1, [5, 4], [5, 4], [7, 4]), [[0, 1, 1], [1, 5, 4], [5, 9, 2]]);
  assertEquals(mapFor(0, 1, [5, 0]), [[0, 1, 1]]);
  assertEquals(mapFor(0, 1, [2, 0xffff_fff0], [0, 1]).at(-1), [0xffff_fff1, 0, 1]);
});
