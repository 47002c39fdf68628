// Ways out of a root of its own, each tried for real: none may lead to what is outside, nor change it.

import { assert, assertEquals, assertMatch } from "@std/assert";
import { type MountOptions, Namespace, type NamespaceOptions } from "../../mod.ts";
import { sandboxOptions } from "../../src/sandbox.ts";
import { toldIn } from "../support/ephemeral.ts";
import { isolatedTest } from "../support/leaks.ts";
import { runAs, USERS } from "../support/nobody.ts";

const SECRET = "what-is-outside";

/** An attempt: what a shell does inside. `$OUT` is the path of a folder outside, with a file `secret` in it. */
interface Attempt {
  readonly name: string;
  readonly script: string;
  readonly mounts?: (folder: string) => readonly MountOptions[];
  readonly options?: NamespaceOptions;
  /** What it must say, where it could be silent because it did not try at all. */
  readonly says?: RegExp;
}

const perl = (code: string): string => `perl -e '${code}'`;
/** As root of a user namespace of its own making, with all capabilities in there. */
const asRoot = (script: string): string => `unshare --user --map-root-user --mount sh -c '${script}'`;

/** What each holds already: these are the machine's own. */
const writeSettings = (proc: string): string =>
  `for f in sys/kernel/core_pattern sys/vm/swappiness irq/default_smp_affinity; do v=$(cat ${proc}/$f); ` +
  `echo "$v" >${proc}/$f && echo ${SECRET}; done; (: >${proc}/sysrq-trigger) && echo ${SECRET}`;

const boundReadonly = (folder: string): readonly MountOptions[] => [
  { type: "bind", source: folder, target: "/work", readonly: true },
  { type: "hide", target: "/work/hidden" },
  { type: "hide", target: "/work/secret" },
];

const SETXATTR = { x86_64: 188, aarch64: 5 }[Deno.build.arch];

const ATTEMPTS: readonly Attempt[] = [
  { name: "the outer path", script: "ls -d $OUT; cat $OUT/secret", says: /No such file/ },
  {
    name: "/proc/1/root",
    script: "cat /proc/1/root$OUT/secret; ls /proc/1/root/",
    says: /Permission denied[^]*denied/,
  },
  { name: "/proc/self/root with ..", script: "cat /proc/self/root/../../../..$OUT/secret", says: /No such file/ },
  { name: "/proc/1/cwd", script: "cat /proc/1/cwd/../../..$OUT/secret", says: /Permission denied/ },
  { name: "/proc/2/cwd", script: "cat /proc/2/cwd/../../..$OUT/secret; ls /proc/2/root/", says: /No such file[^]*usr/ },
  { name: ".. from /", script: "cd /..; cat ../../..$OUT/secret; ls -A /..", says: /No such file[^]*usr/ },
  {
    name: "leaked descriptors (CVE-2024-21626)",
    script: "for fd in 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do cat /proc/self/fd/$fd$OUT/secret; " +
      "cat /proc/self/fd/$fd/../../../..$OUT/secret; done; ls /proc/$$/fd",
    says: /\n0\n1\n2\n(?:10\n|255\n)?$/,
  },
  {
    name: "cwd through a descriptor (CVE-2024-21626)",
    script: "for fd in 3 4 5 6 7 8 9 10; do cd /proc/self/fd/$fd && pwd; done",
    says: /can't cd/,
  },
  {
    name: "double chroot",
    script: asRoot(
      perl(
        `mkdir "/tmp/d"; chroot("/tmp/d") or die "chroot: $!"; chdir ".." for 1..64; chroot "."; ` +
          `print "tried\\n"; open(F, ".$ENV{OUT}/secret") and print <F>; opendir(D, "."); print join " ", sort readdir D`,
      ).replaceAll("'", `'"'"'`),
    ),
    says: /tried[^]*usr/,
  },
  {
    name: "umount of a cover",
    mounts: boundReadonly,
    script: asRoot("umount /work/secret; umount -l /work/hidden; umount /work; cat /work/secret /work/hidden/*"),
    says: /umount: \/work\/secret: (?:not mounted|must be superuser|Invalid)/,
  },
  {
    name: "umount of what is mounted over the root",
    script: asRoot("umount -l /; umount -l /proc; umount -l /dev; cat $OUT/secret; cd /; cat ..$OUT/secret"),
    says: /umount/,
  },
  {
    name: "a bind of what is below a cover",
    mounts: boundReadonly,
    script: asRoot("mount --bind /work /tmp && cat /tmp/secret /tmp/hidden/*; mount --move /work/secret /tmp"),
    says: /mount:/,
  },
  {
    name: "remounting read-write",
    mounts: boundReadonly,
    script: `mount -o remount,rw /work; ${
      asRoot("mount -o remount,bind,rw /work; mount -o remount,rw /work; touch /work/new")
    }`,
    says: /Read-only file system/,
  },
  {
    name: "writing to what is read-only below",
    mounts: (folder) => [{ type: "bind", source: folder, target: "/work", readonly: true }],
    script: "touch /work/new /work/hidden/new; ln /work/secret /tmp/link; chmod 777 /work",
    says: /Read-only file system/,
  },
  {
    name: "mknod of the disk",
    script: `mknod /tmp/disk b 254 0; mknod /dev/disk b 254 0; ${
      asRoot("mknod /tmp/disk b 254 0")
    }; head -c 9 /tmp/disk`,
    says: /not permitted/,
  },
  {
    name: "release_agent (CVE-2022-0492)",
    script: asRoot(
      "mkdir /tmp/c; mount -t cgroup -o rdma cgroup /tmp/c && echo $OUT/pwned >/tmp/c/release_agent; " +
        "unshare -C mount -t cgroup -o memory none /tmp/c && echo $OUT/pwned >/tmp/c/release_agent; " +
        "mount -t cgroup2 none /tmp/c; ls /tmp/c/release_agent",
    ),
    says: /mount|No such file/,
  },
  {
    name: "core_pattern and other sysctls",
    script: `${writeSettings("/proc")}; ${
      asRoot("v=$(cat /proc/sys/kernel/core_pattern); echo $v >/proc/sys/kernel/core_pattern && echo " + SECRET)
    }; mount -o remount,bind,rw /proc/sys`,
    says: /(?:denied|Read-only)/,
  },
  ...[{}, { noProc: true }, { privatePid: false }].map((options): Attempt => ({
    name: `sysctls in another root, with ${JSON.stringify(options)}`,
    options: { ...options, root: "/" },
    script: writeSettings("/proc"),
    says: /(?:denied|Read-only)/,
  })),
  {
    name: "sysctls in a /proc that was asked for",
    mounts: () => [{ type: "proc", hidepid: "invisible" }, { type: "proc", target: "/proc2/" }],
    script: `${writeSettings("/proc")}; ${writeSettings("/proc2")}; cat /proc/keys /proc2/keys | wc -c`,
    says: /(?:(?:denied|Read-only)[^]*){6}\n0\n$/,
  },
  {
    name: "a set-user-ID program",
    script:
      "cp /bin/sh /tmp/s; chmod 4755 /tmp/s; chown 0 /tmp/s; /tmp/s -c id; su -c id; grep CapEff /proc/self/status",
    says: /CapEff:\s0{16}/,
  },
  {
    name: "a set-user-ID program that is left outside",
    mounts: (folder) => [{ type: "bind", source: folder, target: "/work" }],
    options: { seccomp: "default" },
    script: `chmod 4777 /work/secret; ${perl('chmod 02777, "/work/secret"; sysopen(F, "/work/new", 0x41, 04755)')}; ` +
      `find /work -type f -perm /6000 | grep . && echo ${SECRET}`,
    says: /not permitted/,
  },
  {
    name: "open_by_handle_at",
    script: perl(
      `open(F, "/usr"); my $h = pack("II", 8, 1) . pack("II", 2, 0); my $r = syscall(304, fileno(F), $h, 0); ` +
        `print $r < 0 ? "refused: $!\\n" : "opened\\n"`,
    ),
    says: /refused/,
  },
  {
    name: "symbolic links in targets",
    mounts: (folder) => [
      { type: "symlink", target: "/link", to: "../../../../../../tmp" },
      { type: "symlink", target: "/absolute", to: folder },
      { type: "bind", source: "/usr/share", target: "/link" },
    ],
    script: "cat /absolute/secret; ls /tmp | head -1",
    says: /No such file/,
  },
  {
    name: "magic links as a symbolic link's goal",
    mounts: () => [
      { type: "symlink", target: "/l", to: "/proc/1/root" },
      { type: "symlink", target: "/c", to: "/proc/self/cwd" },
    ],
    script: "cat /l$OUT/secret /c$OUT/secret",
    says: /No such file/,
  },
  {
    name: "another mount namespace",
    script: `nsenter --mount=/proc/1/ns/mnt cat $OUT/secret; ${asRoot("nsenter -t 1 -m cat $OUT/secret")}`,
    says: /nsenter/,
  },
  {
    name: "a new /proc from a nested user namespace",
    script: asRoot("mount -t proc proc /tmp && cat /tmp/1/root$OUT/secret").replace("--mount", "--mount --pid --fork"),
  },
  {
    name: "the old root by pivot_root",
    script: asRoot(
      "mkdir /tmp/a; mount -t tmpfs t /tmp/a; cd /tmp/a; mkdir old; pivot_root . old; read x <old$OUT/secret && echo $x; read x <old/..$OUT/secret && echo $x",
    ),
    says: /nonexistent|No such file/,
  },
  {
    name: "user namespaces",
    script: asRoot(`echo ${SECRET}`),
    options: { disableUserNamespaces: true },
    says: /unshare failed: No space left on device/,
  },
  {
    name: "modes and times of devices",
    script: "for d in /dev/*; do chmod 666 $d; touch -d @0 $d; done; echo x >/dev/null && echo written; " +
      `for d in null zero full random urandom tty; do case $(stat -c %Y /dev/$d) in 0) echo ${SECRET};; esac; done`,
    says: /'\/dev\/null': Read-only file system[^]*written/,
  },
  {
    name: "names of keys, timers, and where things are in memory",
    script: "cd /proc; head -qc 9 keys timer_list slabinfo kpage* vmallocinfo pagetypeinfo dynamic_debug/* | wc -c",
    says: /^0$/m,
  },
  {
    name: "the other name of what is hidden",
    mounts: () => [{ type: "hide", target: "/usr/lib/os-release" }, { type: "hide", target: "/bin//./cat" }],
    script: "wc -c /usr/lib/os-release /lib/os-release /usr/bin/cat /bin/cat",
    says: /^0 total$/m,
  },
  {
    name: "capabilities of a file that is left in what is bound",
    mounts: (folder) => [{ type: "bind", source: folder, target: "/work" }],
    options: { privateUser: true },
    script: `cp /bin/true /work/able; ${
      perl(
        `my ($file, $name, $value) = ("/work/able", "security.capability", pack("V5", 0x02000001, 0xc2, 0, 0, 0)); ` +
          `syscall(${SETXATTR}, $file, $name, $value, 20, 0) == 0 and print "${SECRET}"; print "$!\\n"`,
      )
    }; rm /work/able`,
    says: /^Operation not permitted$/m,
  },
  {
    name: "/proc/<pid>/root of what is outside",
    script: "for p in /proc/[0-9]*; do cat $p/root$OUT/secret; done",
    says: /No such file/,
  },
];

for (const user of USERS) {
  for (const { name, script, mounts, options = {}, says } of ATTEMPTS) {
    isolatedTest(`there is no way out by ${name}, as ${user}`, async () => {
      const folder = Deno.makeTempDirSync({ prefix: "namespace-escape-" });
      try {
        Deno.chmodSync(folder, 0o777);
        Deno.writeTextFileSync(`${folder}/secret`, `${SECRET}\n`);
        Deno.mkdirSync(`${folder}/hidden`);
        Deno.writeTextFileSync(`${folder}/hidden/secret`, `${SECRET}\n`);
        Deno.chmodSync(`${folder}/hidden`, 0o777);
        const isBound = name === "writing to what is read-only below";
        const [result] = await runAs(user, [{
          // Without a filter of system calls and with user namespaces: else most of it could not even be tried.
          options: sandboxOptions({
            seccomp: false,
            disableUserNamespaces: false,
            ...options,
            mounts: [...mounts?.(folder) ?? []],
          }),
          argv: ["sh", "-c", `exec 2>&1; ${script}; true`],
          commandOptions: { env: { OUT: folder } },
        }]);
        assertEquals(result!.error, undefined);
        if (says !== undefined) assertMatch(result!.stdout, says);
        if (!isBound) assert(!result!.stdout.includes(SECRET), result!.stdout);
        assertEquals([...Deno.readDirSync(folder)].map((entry) => entry.name).sort(), ["hidden", "secret"]);
        assertEquals([...Deno.readDirSync(`${folder}/hidden`)].map((entry) => entry.name), ["secret"]);
        assertEquals(Deno.readTextFileSync(`${folder}/secret`), `${SECRET}\n`);
        assertEquals(Deno.statSync(folder).mode! & 0o777, 0o777);
      } finally {
        Deno.removeSync(folder, { recursive: true });
      }
    });
  }
}

isolatedTest("what is the system's in /proc is covered where the caller's /proc does not have it", async () => {
  const said = await toldIn(
    new Namespace({ privateMount: true }),
    "root",
    `
    const value = Deno.readTextFileSync("/proc/sys/vm/swappiness").trim();
    new Deno.Command("mount", { args: ["-t", "proc", "-o", "subset=pid", "proc", "/proc"] }).outputSync();
    const ns = Namespace.sandbox({ privateUser: { uid: 1000, gid: 1000 } }); // Without disableUserNamespaces.
    const args = ["-c", "exec 2>&1; id -u; echo " + value + " >/proc/sys/vm/swappiness && echo written"];
    const sysctl = await Deno.stat("/proc/sys/vm").then(() => "there", () => "not there");
    console.log(JSON.stringify([sysctl, text(ns.command("sh", { args, env: { LC_ALL: "C" } }).outputSync().stdout)]));`,
  );
  assertEquals(said, ["not there", "1000\nsh: 1: cannot create /proc/sys/vm/swappiness: Read-only file system\n"]);
});

isolatedTest("a link that is exchanged while mounts are made leads nowhere else (CVE-2021-30465)", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "namespace-escape-" });
  // Its root has a folder "volume" that somebody exchanges all the time for a link to the outside.
  const script = `cd "$0"; until [ -e end ]; do mv -T volume a; mv -T b volume; mv -T volume b; mv -T a volume; done`;
  try {
    for (const name of ["root/usr", "root/bin", "root/lib", "root/lib64", "root/volume", "outside"]) {
      Deno.mkdirSync(`${folder}/${name}`, { recursive: true });
    }
    Deno.symlinkSync(`../../../../../..${folder}/outside`, `${folder}/root/b`);
    const racer = new Deno.Command("sh", { args: ["-c", script, `${folder}/root`], stderr: "null" }).spawn();
    try {
      const mounts: MountOptions[] = [
        ...["/usr", "/bin", "/lib", "/lib64"].map((source): MountOptions => {
          return { type: "bind", source, readonly: true, ifMissing: "skip" };
        }),
        { type: "bind", source: "/etc", target: "/volume" },
      ];
      // `ls` of what the mount would cover: were it outside, the folder there would have another content inside.
      const request = {
        options: { root: `${folder}/root`, mounts },
        argv: ["/bin/sh", "-c", `ls ${folder}/outside; ls /; true`] as const,
      };
      const results = await runAs("root", Array.from({ length: 200 }, () => request));
      const refused = results.filter(({ error }) => error !== undefined);
      for (const { error } of refused) assertMatch(error!.code ?? "", /ENOENT|ENOTDIR|EINVAL|ELOOP|EAGAIN/);
      assert(
        refused.length > 0 && refused.length < results.length,
        `${refused.length} of ${results.length} were refused`,
      );
      assertEquals([...Deno.readDirSync(`${folder}/outside`)], []);
      assert(!Deno.readTextFileSync("/proc/self/mountinfo").includes(folder));
    } finally {
      Deno.writeTextFileSync(`${folder}/root/end`, ""); // Killed, it would leave an mv(1) at work.
      await racer.status;
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
