// Real refusals, by the real kernel as strace(1) --inject has it: the error names the step, nothing is left.

import { assert, assertEquals } from "@std/assert";
import type { NamespaceOptions } from "../../mod.ts";
import { isolatedTest } from "../support/leaks.ts";
import { USERS } from "../support/nobody.ts";
import type { User } from "../support/program.ts";
import { trace } from "../support/strace.ts";

interface Injection {
  readonly options: NamespaceOptions;
  readonly commandOptions?: { readonly uid?: number; readonly gid?: number; readonly cwd?: string };
  /** A call that Deno itself does not make. */
  readonly call: string;
  readonly errno: string;
  /** Which one of each thread. @default {the first} */
  readonly when?: number;
  /** How the step of the error begins. */
  readonly step: string;
  /** For what setpriv(1) calls too. @default {both} */
  readonly user?: User;
}

const ALL = { privateTmp: true, privatePid: true, privateNet: true, hostname: "box", domainname: "example" } as const;

const SPAWN: readonly Injection[] = [
  { options: ALL, call: "mount", errno: "EPERM", step: `mount("none", "/", NULL, MS_REC|MS_PRIVATE` },
  { options: ALL, call: "mount", errno: "ENOSPC", when: 2, step: `mount("tmpfs", "/tmp"` },
  { options: ALL, call: "mount", errno: "EPERM", when: 3, step: `mount("proc", "/proc"` },
  { options: ALL, call: "sethostname", errno: "EPERM", step: `sethostname("box", 3)` },
  { options: ALL, call: "setdomainname", errno: "EFAULT", step: `setdomainname("example", 7)` },
  { options: { privateTime: { boottime: 5 } }, call: "unshare", errno: "EINVAL", step: "unshare(CLONE_NEWTIME)" },
  {
    options: { privateUser: true },
    commandOptions: { uid: 0, gid: 0 },
    call: "setresgid",
    errno: "EAGAIN",
    step: "setresgid(0, 0, 0)",
    user: "root",
  },
  {
    options: { privateUser: true },
    commandOptions: { uid: 0, gid: 0 },
    call: "setresuid",
    errno: "EPERM",
    step: "setresuid(0, 0, 0)",
    user: "root",
  },
  { options: ALL, commandOptions: { cwd: "/" }, call: "chdir", errno: "EIO", step: `chdir("/")` },
];

const SETUP: readonly Injection[] = [
  { options: { privateTmp: true }, call: "mount", errno: "EPERM", step: `mount("none", "/"` },
  { options: { privateTmp: true }, call: "mount", errno: "EINVAL", when: 2, step: `mount("tmpfs", "/tmp"` },
  {
    options: { hostname: "box", privateTmp: true },
    call: "sethostname",
    errno: "EPERM",
    step: `sethostname("box", 3)`,
  },
  { options: { privateNet: true }, call: "unshare", errno: "ENOSPC", step: "unshare(CLONE_NEWNET)" },
  { options: { privateNet: true, privateTmp: true }, call: "socket", errno: "EMFILE", step: "socket(AF_INET" },
];

/** What a program has done, and what it holds before and after. */
interface Told {
  readonly error: { readonly name: string; readonly step: string; readonly code: string; readonly message: string };
  readonly before: unknown;
  readonly after: unknown;
}

function program({ options, commandOptions = {} }: Injection, action: "spawn" | "setup"): string {
  const run = action === "setup"
    ? "ns.setup();"
    : `ns.command("/bin/true", ${JSON.stringify(commandOptions)}).spawn();`;
  return `
    function holdings() {
      const fds = [...Deno.readDirSync("/proc/self/fd")].length;
      const threads = [...Deno.readDirSync("/proc/self/task")].map(({ name }) => "/proc/self/task/" + name);
      const children = threads.map((thread) => Deno.readTextFileSync(thread + "/children").trim()).join("");
      const kinds = ["mnt", "net", "uts", "ipc", "cgroup"];
      const places = new Set(threads.map((thread) => kinds.map((kind) => Deno.readLinkSync(thread + "/ns/" + kind)).join()));
      return { fds, children, places: [...places], mounts: Deno.readTextFileSync("/proc/self/mountinfo"), cwd: Deno.cwd() };
    }
    const settled = () => new Promise((resolve) => setTimeout(resolve, 0)); // As what is closed later is.
    await new Namespace().command("/bin/true").output();
    await settled();
    const before = holdings();
    const ns = new Namespace(${JSON.stringify(options)});
    try {
      ${run}
    } catch (error: any) {
      const { name, step, code, message } = error;
      await settled();
      console.log(JSON.stringify({ error: { name, step, code, message }, before, after: holdings() }));
    }
  `;
}

async function inject(injection: Injection, action: "spawn" | "setup", user: User): Promise<void> {
  const { call, errno, when = 1, step } = injection;
  const { code, stdout, stderr, threads } = await trace(program(injection, action), {
    user,
    calls: [call],
    permissions: ["-A"],
    more: [`--inject=${call}:error=${errno}:when=${when}`],
  });
  const title = JSON.stringify({ ...injection, action, user });
  const injected = [...threads.values()].flat().filter(({ line }) => line.includes("(INJECTED)"));
  assertEquals(injected.length, 1, `${title}: ${injected.map(({ line }) => line).join("\n")}`);
  assert(code === 0 && stdout !== "", `${title}: ${code}: ${stderr}`);
  const { error, before, after }: Told = JSON.parse(stdout);
  assertEquals([error.name, error.code], ["NamespaceError", errno], title);
  assert(error.step.startsWith(step), `${title}: ${error.step}`);
  assert(error.message.includes(`(${errno})`), error.message);
  assertEquals(after, before, title);
}

for (const user of USERS) {
  isolatedTest(`spawn() names the step that the kernel refuses, and leaves nothing, as ${user}`, async () => {
    for (const injection of SPAWN) {
      if (injection.user === undefined || injection.user === user) await inject(injection, "spawn", user);
    }
  });
}

isolatedTest("setup() names the step that the kernel refuses, and is undone", async () => {
  for (const injection of SETUP) await inject(injection, "setup", "root");
});

/** What a commit does, as long as it can be taken back: which one of each call is refused. */
const COMMIT: readonly (readonly [call: string, errno: string, ...which: number[]])[] = [
  ["mkdirat", "ENOSPC", 1, 2],
  ["symlinkat", "ENOSPC", 1],
  ["mknodat", "EPERM", 1],
  ["sendfile", "ENOSPC", 1, 3],
  ["fchownat", "EPERM", 1, 4, 8],
  ["utimensat", "EPERM", 1, 7],
  ["renameat2", "EIO", 1, 2, 3, 4, 5, 6, 7],
];

isolatedTest("commit() does all or nothing, whichever step the kernel refuses", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "namespace-commit-", dir: "/var/tmp" });
  const tree = () => {
    const script = "find . -printf '%P %y %m %s %l\\n' | sort; find . -type f | sort | xargs cat";
    return new TextDecoder().decode(new Deno.Command("sh", { args: ["-c", script], cwd: folder }).outputSync().stdout);
  };
  try {
    const before = "echo 1 > a; echo 2 > b; mkdir -p d/e m; echo 3 > d/e/f; ln -s a l";
    new Deno.Command("sh", { args: ["-c", before], cwd: folder }).outputSync();
    const untouched = tree();
    for (const [call, errno, ...which] of COMMIT) {
      for (const when of which) {
        const work =
          "echo new > a; rm b; rm -r d; chmod 700 m; mkdir -p n/n; echo 5 > n/f; ln -sf b l; mkfifo p; echo 6 > z";
        const code = `
          import { execute } from "./src/machine/files.ts";
          const ns = new Namespace({ ephemeral: { dir: "/dev/shm" } });
          ns.command("sh", { args: ["-ec", ${JSON.stringify(work)}], cwd: "${folder}" }).outputSync();
          const changes = (await ns.changes()).length;
          console.log(Deno.pid);
          // Calls are counted in each process. So this one has more of them than the command had on its way.
          const idle = { call: "${call}", args: [-1, "x", -1, 0, 0], what: "count", tolerate: [["EBADF", 0], ["EFAULT", 0], ["EINVAL", 0], ["EPERM", 0]] };
          execute(Array.from({ length: 1000 }, () => idle) as any);
          let refused;
          try {
            await ns.commit();
          } catch (error: any) {
            refused = [error.name, error.syscall, error.code];
          }
          await ns.discard();
          console.log(JSON.stringify({ refused, changes }));`;
        const made = await countBefore(code.replace("await ns.commit();", ""), call);
        const { code: exit, stdout, stderr } = await trace(code, {
          calls: [call],
          permissions: ["-A"],
          more: [`--inject=${call}:error=${errno}:when=${made + when}`],
        });
        assertEquals(exit, 0, stderr);
        const { refused, changes } = JSON.parse(stdout.split("\n")[1]!);
        assertEquals(refused, ["NamespaceError", call, errno], `${call} ${when}`);
        assertEquals(changes, 10);
        assertEquals(tree(), untouched, `${call} ${when}`);
      }
    }
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

const counted = new Map<string, number>();

/** How often the thread of a program's JavaScript makes a call. */
async function countBefore(code: string, call: string): Promise<number> {
  const known = counted.get(call);
  if (known !== undefined) return known;
  const { stdout, threads } = await trace(code, { calls: [call], permissions: ["-A"] });
  const count = threads.get(Number.parseInt(stdout))!.filter((traced) => traced.call === call).length;
  counted.set(call, count);
  return count;
}
