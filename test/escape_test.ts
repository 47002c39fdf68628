// Who is inside and wants out: each attempt is made for real, in the preset for what is not to be trusted, by root's
// command and by nobody's. What an attempt says is not believed: it must come back with what is only outside, or have
// changed it.

import { assert, assertEquals, assertNotMatch, assertStringIncludes } from "@std/assert";
import { Namespace, type NamespaceOptions } from "../mod.ts";
import { isRunning } from "./support/inside.ts";
import { isolatedTest } from "./support/leaks.ts";
import { runProgram, type User } from "./support/program.ts";
import { USERS } from "./support/nobody.ts";

interface Attempt {
  readonly what: string;
  /** For sh(1). It prints OUT, or the secret, when it is out. */
  readonly script: string;
  /** Whether it gets out where there is no sandbox, and does no harm: then it is known to be a good attempt. */
  readonly provable?: boolean;
}

/** What is there outside, as variables of the scripts. */
interface Outside {
  /** A file that anybody can read. */
  readonly SECRET: string;
  /** A process of the same user. */
  readonly VICTIM: string;
  /** Where somebody listens on 127.0.0.1. */
  readonly PORT: string;
  /** The name of an abstract socket on which somebody listens. */
  readonly ABSTRACT: string;
  /** The key of a shared memory segment. */
  readonly SHM: string;
}

const TOKEN = `token-${crypto.randomUUID()}`;

/** A system call by number, which Perl's syscall() makes; $! is why not. */
const perl = (code: string): string => `perl -MSocket -e '${code}'`;
/** Root in a user namespace of its own: what everybody can be. */
const nested = (script: string): string => `unshare -Urm sh -c '${script}'`;

const CHROOT_TWICE =
  `mkdir -p "/tmp/x/y"; chdir("/tmp/x"); chroot("/tmp/x/y") or exit; chdir("..") for 1..64; chroot(".") or exit;
  open(my $f, "<", $ENV{SECRET}) and print <$f>;`;

const ALL: readonly Attempt[] = [
  { what: "read a file", script: "cat $SECRET", provable: true },
  { what: "read it through the root of PID 1", script: "cat /proc/1/root$SECRET" },
  { what: "read it through the own root", script: "cat /proc/self/root$SECRET", provable: true },
  { what: "read it through the thread's folder", script: "cat /proc/thread-self/cwd/../../../../../..$SECRET" },
  {
    what: "climb above the root",
    script: "cat ../../../../../../../../..$SECRET; cd /..; cat ./$SECRET",
    provable: true,
  },
  { what: "go by a link", script: "ln -s /proc/1/root/ /tmp/link; cat /tmp/link$SECRET" },
  {
    what: "use a descriptor that leaked",
    script: "for fd in /proc/self/fd/*; do cat $fd/..$SECRET $fd$SECRET $fd/../../../..$SECRET; done",
  },
  {
    what: "use a descriptor of PID 1",
    script:
      "for fd in /proc/1/fd/*; do cat $fd$SECRET; done; readlink /proc/1/fd/* | grep -v 'pipe\\|null\\|/proc\\|socket' | grep -q . && echo OUT",
  },
  { what: "chroot twice", script: nested(perl(CHROOT_TWICE.replaceAll("'", "")).replaceAll("'", `'\\''`)) },
  {
    what: "make a system folder writable",
    script: nested("mount -o remount,rw,bind /usr && touch /usr/namespace-escape && echo OUT"),
  },
  { what: "make the root writable", script: nested("mount -o remount,rw / && touch /namespace-escape && echo OUT") },
  {
    what: "take a cover away",
    script: nested("for p in /home/sandbox /dev /tmp /proc /; do umount $p; umount -l $p; done; cat $SECRET"),
  },
  {
    what: "see what is under a mount",
    script: nested(
      "mkdir /tmp/b; mount --bind / /tmp/b; cat /tmp/b$SECRET; ls -A /tmp/b/home /tmp/b/root | grep -q . && echo OUT",
    ),
  },
  {
    what: "pivot back",
    script: nested(
      "mkdir /tmp/n; mount -t tmpfs none /tmp/n; mkdir /tmp/n/o; pivot_root /tmp/n /tmp/n/o && cat /o$SECRET",
    ),
  },
  {
    what: "make the disk's device",
    script: `mknod /tmp/d b 254 0 && head -c 4096 /tmp/d | grep -q . && echo OUT; ${
      nested("mknod /tmp/e b 254 0 && head -c 4096 /tmp/e | grep -q . && echo OUT")
    }`,
  },
  {
    what: "open a device",
    script:
      "for d in /dev/vda /dev/sda /dev/mem /dev/kmsg /dev/port /dev/kvm /dev/fuse; do head -c 1 $d && echo OUT; done",
  },
  {
    what: "mount a disk",
    script: nested(
      "for d in /dev/vda /dev/sda; do mount -t ext4 $d /mnt && echo OUT; done; mount -t devtmpfs none /tmp && ls /tmp/vda && echo OUT",
    ),
  },
  {
    what: "open a file by its handle (CVE-2014-3519)",
    script: perl(
      'my $h = pack("IiQ", 8, 1, 2); open(my $d, "<", "/usr"); my $f = syscall(304, fileno($d), $h, 0); print "OUT" if $f >= 0;',
    ),
  },
  {
    what: "see processes by a /proc of a nested namespace",
    script: `unshare -Urpfm sh -c 'mount -t proc none /proc 2>/dev/null; test -d /proc/$VICTIM && echo OUT'`,
  },
  {
    what: "see processes",
    script: "test -d /proc/$VICTIM && grep -q . /proc/$VICTIM/cmdline && echo OUT",
    provable: true,
  },
  {
    what: "write a kernel setting",
    script:
      "for f in kernel/core_pattern kernel/modprobe kernel/hostname kernel/panic vm/drop_caches fs/suid_dumpable; do (echo 1 > /proc/sys/$f) && echo OUT; done",
  },
  {
    what: "write a kernel setting as root of a nested namespace",
    script: nested(
      "for f in kernel/core_pattern kernel/modprobe vm/drop_caches; do (echo 1 > /proc/sys/$f) && echo OUT; done",
    ),
  },
  {
    what: "ask the kernel for an action",
    script: `(echo h > /proc/sysrq-trigger) && echo OUT; ${nested("(echo h > /proc/sysrq-trigger) && echo OUT")}`,
  },
  { what: "read the kernel's memory", script: "head -c 8 /proc/kcore && echo OUT; head -c 8 /proc/kmsg && echo OUT" },
  {
    what: "write the executable of PID 1 (CVE-2019-5736)",
    script: perl('for my $p ("/proc/1/exe", "/proc/self/exe") { open(my $f, "+<", $p) and print "OUT" }'),
  },
  {
    what: "set a release agent (CVE-2022-0492)",
    script:
      `unshare -UrmC sh -c 'mkdir /tmp/c; for t in rdma memory cpuset pids; do mount -t cgroup -o $t none /tmp/c && echo /tmp/x > /tmp/c/release_agent && echo OUT; done'`,
  },
  {
    what: "stay in a folder that leaked (CVE-2024-21626)",
    script:
      "for n in 3 4 5 6 7 8 9 10 20; do cat /proc/self/fd/$n/../../../../..$SECRET; done; cat /proc/self/cwd/../../../..$SECRET",
  },
  {
    what: "unpack with a link (CVE-2021-30465)",
    script: "mkdir -p /tmp/v; ln -s / /tmp/v/up; cat /tmp/v/up/../..$SECRET",
  },
  { what: "end all processes", script: "kill -9 -1" },
  { what: "end a process", script: "kill -9 $VICTIM && echo OUT" },
  { what: "trace a process", script: perl('print "OUT" if syscall(101, 16, $ENV{VICTIM}+0, 0, 0) == 0;') },
  {
    what: "open a process",
    script: perl('my $f = syscall(434, $ENV{VICTIM}+0, 0); print "OUT" if $f >= 0;'),
    provable: true,
  },
  {
    what: "read a process's memory",
    script: "head -c 1 /proc/$VICTIM/mem && echo OUT; cat /proc/$VICTIM/environ | grep -q . && echo OUT",
  },
  {
    what: "lower a process's limits",
    script: perl('my $l = pack("QQ", 0, 0); print "OUT" if syscall(302, $ENV{VICTIM}+0, 7, $l, 0) == 0;'),
  },
  {
    what: "slow down a user's processes",
    script: perl('setpriority(2, $<, 19); setpriority(0, $ENV{VICTIM}, 19) and print "OUT";'),
  },
  {
    what: "reach a server of the loopback",
    script: perl(
      'socket(my $s, AF_INET, SOCK_STREAM, 0); connect($s, sockaddr_in($ENV{PORT}, inet_aton("127.0.0.1"))) and print "OUT";',
    ),
    provable: true,
  },
  {
    what: "reach an abstract socket",
    script: perl(
      'socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack("S a*", AF_UNIX, "\\0" . $ENV{ABSTRACT})) and print "OUT";',
    ),
    provable: true,
  },
  {
    what: "reach the network",
    script: perl(
      'socket(my $s, AF_INET, SOCK_DGRAM, 0); connect($s, sockaddr_in(53, inet_aton("192.0.2.1"))) and send($s, "x", 0) and print "OUT";',
    ),
  },
  {
    what: "have a raw socket",
    script: perl(
      'socket(my $s, AF_INET, SOCK_RAW, 1) and print "OUT"; socket(my $p, 17, SOCK_RAW, 768) and print "OUT";',
    ),
  },
  {
    what: "attach shared memory",
    script: perl('my $id = shmget($ENV{SHM}, 0, 0); defined $id and print "OUT";'),
    provable: true,
  },
  {
    what: "become somebody",
    script: perl(
      '$) = "0 0"; $> = 0; $< = 0; print "OUT" if $> == 0 || $< == 0; for my $id (1, 2, 65534) { $> = $id; print "OUT" if $> == $id }',
    ),
  },
  {
    what: "become root by a program",
    script:
      "for p in su sudo mount newgrp passwd chsh pkexec; do f=$(command -v $p) && test -u $f && $f -c id </dev/null 2>/dev/null | grep -q 'uid=0' && echo OUT; done",
  },
  {
    what: "write the maps again",
    script:
      "(echo '0 0 4294967295' > /proc/self/uid_map) && echo OUT; (echo '0 0 1' > /proc/1/uid_map) && echo OUT; (echo allow > /proc/self/setgroups) && echo OUT",
  },
  {
    what: "map ids that are not one's own",
    script:
      `unshare -U sh -c '(echo "0 0 65536" > /proc/self/uid_map) && echo OUT; (echo "0 0 1" > /proc/self/uid_map) && echo OUT'`,
  },
  {
    what: "have capabilities back",
    script: perl(
      'my $h = pack("II", 0x20080522, 0); my $d = pack("I6", ~0 & 0xffffffff, ~0 & 0xffffffff, 0, 0x1ff, 0x1ff, 0); print "OUT" if syscall(126, $h, $d) == 0;',
    ),
  },
  {
    what: "enter the namespaces of PID 1",
    script: "for n in mnt net pid ipc uts user cgroup; do nsenter --$n=/proc/1/ns/$n cat $SECRET; done",
  },
  {
    what: "climb to the outer namespaces",
    script: perl(
      'for my $n (qw(user pid)) { open(my $f, "<", "/proc/self/ns/$n"); my $p = ioctl($f, 0xb702, 0); print "OUT" if defined $p } for my $n (qw(mnt net uts)) { open(my $f, "<", "/proc/self/ns/$n"); my $u = ioctl($f, 0xb701, 0) or next; syscall(308, $u+0, 0x10000000) == 0 and print "OUT" }',
    ),
  },
  { what: "load a module", script: perl('print "OUT" if syscall(175, "", 0, "") == 0;') },
  { what: "restart the machine", script: perl("syscall(169, 0xfee1dead, 672274793, 0x1234567, 0);") },
  { what: "set the clock", script: perl('my $t = pack("qq", 1, 0); print "OUT" if syscall(227, 0, $t) == 0;') },
  { what: "name the machine", script: `hostname escaped; ${nested("hostname escaped")}` },
  { what: "swap", script: perl('print "OUT" if syscall(167, "/tmp/x", 0) == 0;') },
  {
    what: "fill the outer /tmp or /dev/shm",
    script: "touch /tmp/namespace-escape /dev/shm/namespace-escape /var/tmp/namespace-escape",
  },
];

/** Perl's syscall() takes numbers, and these are those of x86_64. */
const ATTEMPTS = ALL.filter(({ script }) => Deno.build.arch === "x86_64" || !script.includes("syscall("));

/** What the filter of system calls refuses must lead nowhere without it, too. */
/** Without what refuses most of it at once. */
const NO_FILTER: NamespaceOptions = { seccomp: false, disableUserNamespaces: false };

/** Something of everything, outside, by a program that goes on until it is killed. */
const OUTSIDE = `
  use Socket; $| = 1;
  socket(my $t, AF_INET, SOCK_STREAM, 0); bind($t, sockaddr_in(0, inet_aton("127.0.0.1"))); listen($t, 100);
  socket(my $u, AF_UNIX, SOCK_STREAM, 0); my $name = "namespace-escape-$$"; bind($u, pack("S a*", AF_UNIX, "\\0" . $name)); listen($u, 100);
  my $key = 0x40000000 | $$; my $id = shmget($key, 4096, 01600);
  $SIG{TERM} = sub { shmctl($id, 0, 0); exit };
  print join(" ", $$, (sockaddr_in(getsockname($t)))[0], $name, $key), "\\n";
  sleep 1000 while 1;`;

/** Runs all scripts, each in a sandbox of its own, or in none. Its text goes to nobody's program. */
function runScripts(
  scripts: readonly string[],
  options: NamespaceOptions | null,
  env: Record<string, string>,
): string[] {
  const decoder = new TextDecoder();
  return scripts.map((script) => {
    const ns = options === null ? new Namespace() : Namespace.sandbox(options);
    const { stdout } = ns.command("sh", { args: ["-c", `exec 2>/dev/null; cd /; ${script}`], env }).outputSync();
    return decoder.decode(stdout);
  });
}

async function attemptAll(
  user: User,
  options: NamespaceOptions | null,
  attempts: readonly Attempt[],
  env: Outside,
): Promise<string[]> {
  const scripts = attempts.map(({ script }) => script);
  if (user === "root") return runScripts(scripts, options, { ...env });
  const call = `runScripts(${JSON.stringify(scripts)}, ${JSON.stringify(options)}, ${JSON.stringify(env)})`;
  const { stdout, stderr } = await runProgram(`${runScripts}\nconsole.log(JSON.stringify(${call}));`, { user });
  assert(stdout !== "", stderr);
  return JSON.parse(stdout);
}

for (const user of USERS) {
  isolatedTest(`none of ${ATTEMPTS.length} attempts gets out of Namespace.sandbox(), as ${user}`, async () => {
    const folder = Deno.makeTempDirSync({ dir: "/var/tmp", prefix: "namespace-escape-" });
    const ids = user === "root" ? {} : { uid: 65534, gid: 65534 };
    const outside = new Deno.Command("perl", { args: ["-e", OUTSIDE], stdout: "piped", ...ids }).spawn();
    try {
      Deno.chmodSync(folder, 0o755);
      const SECRET = `${folder}/secret`;
      Deno.writeTextFileSync(SECRET, TOKEN, { mode: 0o644 });
      const reader = outside.stdout.getReader();
      const said = new TextDecoder().decode((await reader.read()).value).trim().split(" ");
      await reader.cancel();
      const [VICTIM, PORT, ABSTRACT, SHM] = said as [string, string, string, string];
      const env: Outside = { SECRET, VICTIM, PORT, ABSTRACT, SHM };

      const provable = ATTEMPTS.filter((attempt) => attempt.provable);
      const proofs = await attemptAll(user, null, provable, env);
      for (const [index, { what }] of provable.entries()) {
        assert(
          proofs[index]!.includes("OUT") || proofs[index]!.includes(TOKEN),
          `to ${what} is no attempt: ${proofs[index]}`,
        );
      }

      const hostname = Deno.hostname();
      for (const options of [{}, NO_FILTER]) {
        const results = await attemptAll(user, options, ATTEMPTS, env);
        for (const [index, { what }] of ATTEMPTS.entries()) {
          assertNotMatch(results[index]!, new RegExp(`OUT|${TOKEN}`), `to ${what}`);
        }
      }
      assert(isRunning(Number(VICTIM)));
      assertEquals(Deno.hostname(), hostname);
      assertEquals(Deno.readTextFileSync(SECRET), TOKEN);
      const status = Deno.readTextFileSync(`/proc/${VICTIM}/stat`).split(" ");
      assertEquals(status[18], "0", "a process outside was slowed down");
      for (const path of ["/tmp", "/var/tmp", "/dev/shm", "/usr", ""]) {
        assert(!exists(`${path}/namespace-escape`), path);
      }
    } finally {
      outside.kill("SIGTERM");
      await outside.status;
      Deno.removeSync(folder, { recursive: true });
    }
  });
}

isolatedTest("what runs in Namespace.sandbox() has no capability, and nothing of the outside in its mounts", () => {
  const script = "grep -h '^Cap[EPA]' /proc/self/status; cat /proc/self/mountinfo";
  const { stdout } = Namespace.sandbox().command("sh", { args: ["-c", script] }).outputSync();
  const text = new TextDecoder().decode(stdout);
  for (const set of ["CapPrm", "CapEff", "CapAmb"]) assertStringIncludes(text, `${set}:\t0000000000000000`);
  assertNotMatch(text, / \/ \/\S+ \S+ .*- ext4/); // No whole disk.
});

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}
