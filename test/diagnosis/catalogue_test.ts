// Situations that make the kernel refuse something, each brought about for real; the message must have cause and remedy.

import { assertEquals, assertMatch } from "@std/assert";
import { type CommandOptions, Namespace, NamespaceError, type NamespaceOptions } from "../../mod.ts";
import { denoPath } from "../support/deno.ts";
import { isolatedTest } from "../support/leaks.ts";
import { programArgv, runArgv, type User } from "../support/program.ts";
import { USERS } from "../support/nobody.ts";

/** What is tried. */
interface Attempt {
  readonly options?: NamespaceOptions;
  readonly argv?: readonly [command: string, ...args: string[]];
  readonly commandOptions?: CommandOptions;
  readonly user?: User;
  /** A shell script before it, as root in a mount namespace of its own, that ends in exec "$@" or the like. */
  readonly script?: string;
  /** What the program itself does before: a libc that it may call is there, and the shim is loaded. */
  readonly code?: string;
}

/** Runs it in a Deno of its own, and returns the message of what is thrown. */
async function messageOf(attempt: Attempt): Promise<string> {
  const { options = {}, argv: [command, ...args] = ["true"], commandOptions, user = "root" } = attempt;
  const { script = 'exec "$@"', code = "" } = attempt;
  const program = programArgv(
    `
    const libc = Deno.dlopen("libc.so.6", {
      prctl: { parameters: ["i32", "usize", "buffer", "usize", "usize"], result: "i32" },
      setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
      unshare: { parameters: ["i32"], result: "i32" },
      chroot: { parameters: ["buffer"], result: "i32" },
    }).symbols;
    // struct sock_filter: code, jt, jf, k.
    const filter = (lines: number[][]) => {
      const view = new DataView(new ArrayBuffer(lines.length * 8));
      lines.forEach(([code, yes, no, k], index) => {
        view.setUint16(index * 8, code!, true);
        view.setUint8(index * 8 + 2, yes!);
        view.setUint8(index * 8 + 3, no!);
        view.setUint32(index * 8 + 4, k!, true);
      });
      const at = Deno.UnsafePointer.value(Deno.UnsafePointer.of(view));
      if (libc.prctl(38, 1n, null, 0n, 0n) !== 0) throw new Error("no PR_SET_NO_NEW_PRIVS");
      const program = new BigUint64Array([BigInt(lines.length), BigInt(at)]);
      if (libc.prctl(22, 2n, program, 0n, 0n) !== 0) throw new Error("no PR_SET_SECCOMP");
    };
    const made = new Namespace(${JSON.stringify(options)})
      .command(${JSON.stringify(command)}, ${
      JSON.stringify({ stdout: "null", stderr: "null", ...commandOptions, args })
    });
    try { new Namespace().command("/").outputSync(); } catch { /* The shim is loaded. */ }
    ${code}
    try {
      const { code } = made.outputSync();
      console.log(\`No error, but exit status \${code}\`);
    } catch (error) {
      const told = error instanceof NamespaceError ? error : (error as Error).cause;
      console.log(told instanceof NamespaceError ? told.message : String(error));
    }
    Deno.exit();`,
    { user, permissions: ["--allow-all"] },
  );
  const { stdout, stderr } = await runArgv([
    "unshare",
    "-m",
    "--propagation=private",
    "sh",
    "-ec",
    script,
    "sh",
    ...program,
  ]);
  if (stdout === "") throw new Error(stderr);
  return stdout;
}

/** A test of a situation, as each of these users: the error number, the cause and the remedy must be told. */
function situation(
  name: string,
  attempt: Attempt,
  code: string,
  cause: RegExp,
  remedy: RegExp,
  users: readonly User[] = USERS,
): void {
  for (const user of users) {
    isolatedTest(`${name} is told with its remedy, as ${user}`, async () => {
      const message = await messageOf({ ...attempt, user });
      assertMatch(message, new RegExp(`\\(${code}\\)\n`), message);
      assertMatch(message, cause);
      assertMatch(message, remedy);
    });
  }
}

/** The words of setpriv(1) that programArgv puts before a program of nobody's come first: then the rest is nobody's. */
const AS_WHOM = `if [ "$1" = setpriv ]; then who="setpriv $2 $3 $4"; shift 4; else who=; fi;`;
/** Inside a user namespace whose sysctls are its own. */
const inUserNamespace = (script: string): string =>
  `${AS_WHOM} exec $who unshare --user --map-root-user sh -ec '${script}' sh "$@"`;

for (
  const [kind, options] of [
    ["user", { privateUser: true }],
    ["mnt", { privateMount: true }],
    ["pid", { privatePid: true, noProc: true }],
    ["net", { privateNet: true }],
    ["ipc", { privateIpc: true }],
    ["uts", { privateUts: true }],
    ["cgroup", { privateCgroup: true }],
    ["time", { privateTime: true }],
  ] as const
) {
  situation(
    `user.max_${kind}_namespaces=0`,
    { options, script: inUserNamespace(`echo 0 > /proc/sys/user/max_${kind}_namespaces; exec "$@"`) },
    "ENOSPC",
    new RegExp(`No disk is full: user.max_${kind}_namespaces is 0`),
    new RegExp(`sysctl -w user.max_${kind}_namespaces=`),
    kind === "user" || kind === "net" ? USERS : ["root"],
  );
}

situation(
  "a limit of one namespace that is reached",
  {
    options: { privateUts: true },
    script: inUserNamespace(`echo 1 > /proc/sys/user/max_uts_namespaces; exec unshare --uts "$@"`),
  },
  "ENOSPC",
  /as many namespaces as it may have \(user.max_uts_namespaces is 1\)/,
  /lsns/,
);

situation(
  "a limit of a user namespace further out",
  {
    options: { privateUser: true },
    script: inUserNamespace(`echo 1 > /proc/sys/user/max_user_namespaces; exec unshare --user --map-root-user "$@"`),
  },
  "ENOSPC",
  /full: a user namespace around this one has a limit of its own that is reached .*bwrap --disable-userns/,
  /or run this outside/,
);

situation(
  "a user namespace below 32 others",
  {
    options: { privateUser: true },
    script: `${AS_WHOM} down() { if [ $1 -gt 0 ]; then echo "unshare -U -r $(down $(($1 - 1)))"; fi; }
      n=40; while ! $who $(down $n) true 2>/dev/null; do n=$((n - 1)); done; exec $who $(down $n) "$@"`,
  },
  "ENOSPC",
  /nested 32 deep/,
  /lsns/,
);

situation(
  "a caller whose ids are not mapped",
  { options: { privateUser: true }, script: `${AS_WHOM} exec $who unshare --user "$@"` },
  "EPERM",
  /user id is not mapped in the user namespace that it is in: it shows as 65534/,
  /must map it/,
);

for (const user of USERS) {
  situation(
    "a /proc that is covered in part",
    {
      options: { privatePid: true, ...(user === "root" ? { privateUser: true } : {}) },
      script: `mount --bind /dev/null /proc/cmdline; mount --bind /dev/null /proc/version; exec "$@"`,
    },
    "EPERM",
    /"\/proc\/cmdline", "\/proc\/version" are covered by other mounts/,
    /Set noProc; or .*systempaths=unconfined/,
    [user],
  );
}

situation(
  "a /proc that is read-only",
  { options: { privateUser: true }, script: `mount -o remount,bind,ro /proc; exec "$@"` },
  "EROFS",
  /\/proc is mounted read-only/,
  /without privateUser/,
);

situation(
  "a /proc of another pid namespace",
  {
    options: { privateUser: true },
    // A pid of the inner namespace is somebody else's in the outer /proc, whose maps are written already.
    script: `exec unshare --pid --fork --kill-child "$@"`,
  },
  "E(?:PERM|ACCES|NOENT)",
  /of another pid namespace/,
  /mount -t proc proc \/proc/,
);

/** What Docker's default profile does: no clone3, and no clone with CLONE_NEW* but for CAP_SYS_ADMIN. */
const DOCKER = `filter([
  [0x20, 0, 0, 0], [0x15, 0, 1, 435], [0x06, 0, 0, ${0x0005_0000 + 38}],
  [0x15, 0, 3, 56], [0x20, 0, 0, 16], [0x45, 0, 1, 0x7e020000], [0x06, 0, 0, ${0x0005_0000 + 1}],
  [0x06, 0, 0, 0x7fff0000],
]);`;

/** A filter that answers one call with an errno. */
const filtered = (call: number, errno: number): string =>
  `filter([[0x20, 0, 0, 0], [0x15, 0, 1, ${call}], [0x06, 0, 0, ${0x0005_0000 + errno}], [0x06, 0, 0, 0x7fff0000]]);`;

situation(
  "a container's filter against namespaces",
  { options: { privatePid: true }, code: DOCKER },
  "EPERM",
  /A seccomp filter .*Seccomp: 2/,
  /--cap-add SYS_ADMIN, or --security-opt seccomp=/,
);
situation(
  "a container's filter against mounts",
  { options: { privateTmp: true }, code: filtered(165, 1) },
  "EPERM",
  /A seccomp filter/,
  /seccomp=/,
);
situation(
  "a filter that knows a call not",
  { options: { hostname: "box" }, code: filtered(170, 38) },
  "ENOSYS",
  /A seccomp filter/,
  /seccomp=/,
);

/** A root that is a plain folder, and has what a program needs. */
const CHROOT = `
  mount -t tmpfs none /mnt; mkdir /mnt/root
  for d in bin lib lib64 usr etc proc dev tmp root $FOLDERS; do
    [ -e /$d ] || continue; mkdir -p /mnt/root/$d; mount --rbind /$d /mnt/root/$d
  done
  exec chroot /mnt/root "$@"`;

/** The folder that Deno is in, for who is in a chroot. */
const DENO = denoPath().split("/").slice(1, -1).join("/");

situation(
  "a chroot, where nobody makes user namespaces,",
  { options: { privateUser: true }, script: `FOLDERS="${DENO}";${CHROOT}` },
  "EPERM",
  /in a chroot, where nobody can make user namespaces/,
  /pivot_root\(2\)/,
);
situation(
  "a chroot whose root is no mount",
  { options: { privateMount: true }, script: `FOLDERS="${DENO}";${CHROOT}` },
  "EINVAL",
  /\/ is not a mount of its own here: this process is in a chroot/,
  /mount --bind DIR DIR/,
  ["root"],
);
situation(
  "a chroot into a mount, which only root can see,",
  {
    options: { privateUser: true },
    script: `exec unshare -mpf --mount-proc sh -ec 'mount --rbind / /mnt; chroot /mnt "$@"; exit $?' sh "$@"`,
  },
  "EPERM",
  /in a chroot, where nobody can make user namespaces/,
  /pivot_root\(2\)/,
  ["root"],
);

situation(
  "a mount with noexec",
  {
    argv: ["/mnt/program"],
    script: `mount -t tmpfs -o noexec none /mnt; cp /bin/true /mnt/program; exec "$@"`,
  },
  "EACCES",
  /on a mount with noexec, "\/mnt"/,
  /Copy it elsewhere, or as root: mount -o remount,exec "\/mnt"/,
);
situation(
  "a program whose folder may not be entered",
  {
    argv: ["/mnt/closed/program"],
    script: `mount -t tmpfs none /mnt; mkdir -m 700 /mnt/closed; cp /bin/true /mnt/closed/program; exec "$@"`,
  },
  "EACCES",
  /User 65534 may not enter "\/mnt\/closed"/,
  /see its mode and owner/,
  ["nobody"],
);
situation(
  "a folder that may not be entered",
  { commandOptions: { cwd: "/mnt/closed/x" }, script: `mount -t tmpfs none /mnt; mkdir -m 700 /mnt/closed; exec "$@"` },
  "EACCES",
  /User 65534 may not enter "\/mnt\/closed"/,
  /see its mode and owner/,
  ["nobody"],
);

/** Everybody may read what is there, and see it through a mount of its own. */
const FILES = `mount -t tmpfs -o mode=755 none /mnt; cd /mnt;`;

const EXECUTIONS: readonly (readonly [
  name: string,
  script: string,
  command: string,
  code: string,
  cause: RegExp,
  remedy: RegExp,
])[] = [
  ["a file that is not executable", `echo > x`, "/mnt/x", "EACCES", /not executable for user/, /chmod \+x "\/mnt\/x"/],
  [
    "an interpreter that is missing",
    `echo "#!/usr/bin/pythom -u" > x; chmod +x x`,
    "/mnt/x",
    "ENOENT",
    /its interpreter is not: its first line says "#!\/usr\/bin\/pythom"/,
    /Install that, or change the line/,
  ],
  [
    "an interpreter whose name could mislead a terminal",
    `printf '#!\\033[31m/nope\\n' > x; chmod +x x`,
    "/mnt/x",
    "ENOENT",
    /its first line says "#!\\u001b\[31m\/nope"/,
    /Install that, or change the line/,
  ],
  [
    "an interpreter that is missing of a command in PATH",
    `echo "#!/usr/bin/pythom" > /mnt/xyzzy; chmod +x xyzzy`,
    "xyzzy",
    "ENOENT",
    /its interpreter is not/,
    /Install that/,
  ],
  [
    "a script with Windows's line ends",
    `printf "#!/bin/sh\\r\\necho\\r\\n" > x; chmod +x x`,
    "/mnt/x",
    "ENOENT",
    /lines that end as on Windows/,
    /sed -i/,
  ],
  [
    "a program of another architecture",
    // struct elf64_hdr: ELFCLASS64, ELFDATA2LSB, ET_EXEC, EM_AARCH64 or, there, EM_RISCV.
    `printf "\\177ELF\\2\\1\\1\\0\\0\\0\\0\\0\\0\\0\\0\\0\\2\\0\\363\\0" > x; head -c 100 /dev/zero >> x; chmod +x x`,
    "/mnt/x",
    "ENOEXEC",
    /was built for riscv64, and this machine is (x86_64|aarch64)/,
    /Take the build for/,
  ],
  [
    "a program whose loader is missing",
    `sed "s,/lib\\(64\\)\\?/ld-linux,/lib\\1/no-linux," /bin/true > x; chmod +x x`,
    "/mnt/x",
    "ENOENT",
    /its dynamic loader "\/lib.*\/no-linux-.*" is not/,
    /a static one/,
  ],
  [
    "a program whose loader is another machine's",
    `printf "\\177ELF\\2\\1\\1\\0\\0\\0\\0\\0\\0\\0\\0\\0\\3\\0\\363\\0" > ld; head -c 100 /dev/zero >> ld; chmod +x ld
     sed "s,/lib64/ld-linux-x86-64.so.2,/mnt/ld\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00," /bin/true > x; chmod +x x`,
    "/mnt/x",
    "ELIBBAD",
    /interpreter \("\/mnt\/ld"\) is not one for this machine/,
    /Install the one that belongs to it/,
  ],
  [
    "a command that is missing",
    "",
    "/mnt/no/such",
    "ENOENT",
    /path ends at "\/mnt": there is no "no"/,
    /correct the path/,
  ],
  [
    "a command that is in a folder that PATH has not",
    `mkdir /mnt/bin`,
    "chroot",
    "ENOENT",
    /It is in "\/usr\/sbin", which PATH does not have/,
    /give the path "\/usr\/sbin\/chroot"/,
  ],
];

for (const [name, script, command, code, cause, remedy] of EXECUTIONS) {
  const env = { PATH: "/mnt:/bin" };
  const attempt = { argv: [command] as const, commandOptions: { env }, script: `${FILES} ${script}\n exec "$@"` };
  situation(name, attempt, code, cause, remedy);
}

situation(
  "a program with capabilities that cannot be had",
  {
    argv: ["/mnt/x"],
    script: `${FILES} cp /bin/true x; setcap cap_net_raw+ep x; exec setpriv --bounding-set=-net_raw "$@"`,
  },
  "EPERM",
  /"\/mnt\/x" has capabilities that this process cannot get/,
  /getcap "\/mnt\/x"/,
);

isolatedTest("what is hidden inside by privateTmp is told with its remedy", () => {
  const folder = Deno.makeTempDirSync({ dir: "/tmp" });
  const ns = new Namespace({ privateTmp: true });
  try {
    Deno.copyFileSync("/bin/true", `${folder}/program`);
    for (
      const [command, options] of [[`${folder}/program`, {}], ["true", { cwd: `${folder}/` }], [
        "program",
        { env: { PATH: folder } },
      ]] as const
    ) {
      const { hint } = refusalOf(() => ns.command(command, options).outputSync());
      assertMatch(hint ?? "", /is outside: privateTmp puts a new, empty "\/tmp" over it/);
      assertMatch(hint ?? "", /in another folder than "\/tmp"/);
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

isolatedTest("arguments that are too large together are told with their sizes", () => {
  const args = Array.from({ length: 100 }, () => "x".repeat(100_000));
  const { code, hint } = refusalOf(() => new Namespace().command("true", { args }).outputSync());
  assertEquals(code, "E2BIG");
  assertMatch(hint ?? "", /they have 100\d{5} bytes, and may have a quarter of RLIMIT_STACK \(\d+ here\)/);
  assertMatch(hint ?? "", /stdin or a file, or raise ulimit -s/);
  const one = refusalOf(() => new Namespace().command("true", { args: ["x".repeat(200_000)] }).outputSync());
  assertMatch(one.hint ?? "", /one string has 200001 bytes, and each may have 128 KiB. .*stdin or a file/);
});

/** The refusal in what is thrown. */
function refusalOf(run: () => unknown): NamespaceError {
  try {
    run();
  } catch (error) {
    if (error instanceof NamespaceError) return error;
    if (error instanceof Error && error.cause instanceof NamespaceError) return error.cause;
    throw error;
  }
  throw new Error("Nothing was refused");
}

situation(
  "a pid namespace whose PID 1 has ended",
  {
    code: `libc.unshare(0x20000000); new Namespace().command("true", { stdout: "null", stderr: "null" }).outputSync();`,
  },
  "ENOMEM",
  /born in another pid namespace, and that one's PID 1 has ended/,
  /Add --fork, or use privatePid/,
  ["root"],
);
situation(
  "RLIMIT_NPROC",
  { code: `libc.setrlimit(6, new BigUint64Array([1n, 1n]));` },
  "EAGAIN",
  /this user may have 1 \(RLIMIT_NPROC, ulimit -u\)/,
  /raise the limit/,
  ["nobody"],
);
const PIDS = "/sys/fs/cgroup/pids";
isolatedTest("pids.max of the cgroup is told with its remedy", async () => {
  const two = Deno.readTextFileSync("/proc/filesystems").includes("cgroup2") && !exists(PIDS);
  const group = `${two ? "/sys/fs/cgroup" : PIDS}/namespace-test-${Deno.pid}`;
  Deno.mkdirSync(group);
  try {
    const message = await messageOf({
      script: `echo $$ > ${group}/cgroup.procs; exec "$@"`,
      code: `Deno.writeTextFileSync("${group}/pids.max", "1");`,
    });
    assertMatch(message, /\(EAGAIN\)\n/);
    assertMatch(message, new RegExp(`that it may have: 1, by "${group}/pids.max"`));
    assertMatch(message, /--pids-limit/);
  } finally {
    Deno.removeSync(group);
  }
});

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

situation(
  "uid 0 of the outside without CAP_SETFCAP",
  { options: { privateUser: true }, script: `exec setpriv --bounding-set=-setfcap --inh-caps=-setfcap "$@"` },
  "EPERM",
  /takes CAP_SETFCAP since Linux 5.12/,
  /docker run --cap-add SETFCAP/,
  ["root"],
);

const RANGES: NamespaceOptions = {
  privateUser: {
    uidMap: [{ inside: 0, outside: 100_000, count: 10 }],
    gidMap: [{ inside: 0, outside: 65_534 }],
  },
};
situation(
  "a range of ids that is not the caller's",
  { options: RANGES, commandOptions: { uid: 0 } },
  "EPERM",
  /newuidmap maps .* its ranges in \/etc\/subuid, which has not 100000 and the 9 after it/,
  /usermod --add-subuids 100000-165535 USER/,
  ["nobody"],
);
situation(
  "a range of group ids that is not the caller's",
  {
    options: {
      privateUser: { uidMap: [{ inside: 0, outside: 65_534 }], gidMap: [{ inside: 0, outside: 100_000, count: 10 }] },
    },
    commandOptions: { gid: 0 },
  },
  "EPERM",
  /newgidmap maps .* its ranges in \/etc\/subgid, which has not 100000 and the 9 after it/,
  /usermod --add-subgids 100000-165535 USER/,
  ["nobody"],
);
situation(
  "a range of ids where newuidmap cannot be root",
  {
    options: RANGES,
    commandOptions: { uid: 0 },
    script: `mount -o bind /usr/bin /usr/bin; mount -o remount,bind,nosuid /usr/bin; exec "$@"`,
  },
  "EPERM",
  /"\/usr\/bin\/newuidmap" is root's by its set-user-ID bit, and that does nothing here: it is on a mount with nosuid/,
  /privateUser alone maps the caller/,
  ["nobody"],
);
situation(
  "setgroups that is not to be given up",
  { options: { privateUser: { setgroups: "allow" } } },
  "EPERM",
  /Without CAP_SETGID the caller's own group id can be mapped only where setgroups\(2\) is given up/,
  /Leave setgroups out of privateUser/,
  ["nobody"],
);
situation(
  "an id that is not there in the outer user namespace",
  { options: RANGES, commandOptions: { uid: 0, gid: 0 }, script: `exec unshare -U -r "$@"` },
  "EPERM",
  /There is no user 100000 and the 9 after it/,
  /Map ids that are there/,
  ["root"],
);
situation(
  "no CAP_SYS_ADMIN where a user namespace is refused",
  { options: { privateUser: false, privateNet: true } },
  "EPERM",
  /Namespaces need CAP_SYS_ADMIN, or a user namespace around them/,
  /leave privateUser out/,
  ["nobody"],
);
situation(
  "a /tmp that is missing",
  {
    options: { privateTmp: true },
    script:
      `mount -t tmpfs none /mnt; mkdir /mnt/proc /mnt/dev; mount --rbind /proc /mnt/proc; mount --rbind /dev /mnt/dev; exec "$@"`,
    code: `if (libc.chroot(new TextEncoder().encode("/mnt\\0")) !== 0) throw new Error("no chroot");`,
  },
  "ENOENT",
  /There is no "\/tmp" to mount on/,
  /mkdir -p "\/tmp"/,
  ["root"],
);
situation(
  "a flag of an outer mount, which a user namespace may not take away,",
  {
    options: { privateUser: true, mounts: [{ type: "remount", target: "/mnt", nosuid: false }] },
    script: `mount -t tmpfs -o nosuid none /mnt; exec "$@"`,
  },
  "EPERM",
  /the kernel locks the flags of mounts that come from outside/,
  /run it as root without a user namespace/,
);
situation(
  "a layer of an overlay that is missing",
  { options: { mounts: [{ type: "overlay", target: "/mnt", lower: ["/usr", "/no/such"], upper: "tmpfs" }] } },
  "ENOENT",
  /The lower layer, "\/no\/such", is not there outside/,
  /Correct the path/,
  ["root"],
);
situation(
  "a layer of an overlay that is a file",
  { options: { mounts: [{ type: "overlay", target: "/mnt", lower: ["/etc/passwd"], upper: "tmpfs" }] } },
  "(?:EINVAL|ENOTDIR)",
  /The lower layer, "\/etc\/passwd", is no folder outside/,
  /Correct the path/,
  ["root"],
);
situation(
  "a mount namespace that is full",
  {
    options: { privateTmp: true },
    // Each mount doubles what there is, while there is room, and then one by one: not all on one folder, which is slow.
    script: `mount -t tmpfs none /mnt; for n in $(seq 0 255); do mkdir /mnt/$n; done; exec "$@"`,
    code: `
      const { mount, MS_BIND, MS_REC } = await import("./src/mount.ts");
      for (const flags of [MS_BIND | MS_REC, MS_BIND]) {
        try { for (let n = 0;; n = (n + 1) % 256) mount("/mnt", \`/mnt/\${n}\`, null, { flags }); } catch (error) {
          if ((error as { code: string }).code !== "ENOSPC") throw error;
        }
      }`,
  },
  "ENOSPC",
  /No disk is full: a mount namespace can have \d+ mounts \(fs.mount-max\)/,
  /sysctl -w fs.mount-max=/,
  ["root"],
);
