/**
 * The front door: {@linkcode Namespace} holds what was asked for, and runs things in it.
 *
 * @module
 */

import { type CodeProcess, spawnCode } from "./code/code_process.ts";
import type { CodeOptions } from "./code/launch.ts";
import { CodePool, type CodePoolOptions } from "./code/pool.ts";
import type { AnyFunction } from "./code/source.ts";
import type { BuildOptions } from "./launch/build.ts";
import type { CodeWorker, CodeWorkerOptions } from "./code/worker.ts";
import { type NamespaceOptions, type Settings, validate } from "./options.ts";
import type { Explanation } from "./plan/explain.ts";
import type { CommandOptions } from "./command_options.ts";
import { Command, type Trace } from "./process/command.ts";
import type { Change, FoundChange } from "./process/changes.ts";
import { EphemeralView } from "./process/ephemeral.ts";
import { explain, type ExplainOptions } from "./process/explain.ts";
import { setup } from "./process/setup.ts";
import { sandboxOptions } from "./sandbox.ts";

const utf8 = new TextEncoder();

/**
 * Linux namespaces to run things in. The object is a description: each command gets namespaces of its own.
 *
 * With CAP_SYS_ADMIN (root) it makes just the namespaces that were asked for. Any other user gets a user namespace around
 * them in which nobody's id changes, unless {@linkcode NamespaceOptions.privateUser} says otherwise.
 *
 * Needs `--allow-ffi`, and nothing else. Nothing is loaded before the first command.
 *
 * @example A command that sees no other process
 * ```ts
 * import { Namespace } from "@sys-linux/namespace";
 * import { assertEquals } from "@std/assert";
 *
 * const ns = new Namespace({ privatePid: true, privateTmp: { size: "16m" } });
 * const { stdout } = await ns.command("sh", { args: ["-c", "echo $$; ls /tmp"] }).output();
 * assertEquals(new TextDecoder().decode(stdout), "1\n");
 * ```
 */
export class Namespace implements AsyncDisposable {
  /** Says on stderr which system calls are made for each command, and what they return. @default {false} */
  static debug = false;

  readonly #options: NamespaceOptions;
  readonly #settings: Settings;

  /**
   * Checks the options; makes no system call.
   *
   * @param options What is to be private.
   * @throws {TypeError} When an option is unknown, has the wrong type, or contradicts another.
   * @throws {RangeError} When an option has a value that cannot be.
   */
  constructor(options: NamespaceOptions = {}) {
    this.#settings = validate(options);
    this.#options = options;
  }

  /**
   * A namespace for what is not to be trusted with this system: programs can be run, and see nothing else of it.
   *
   * - `root: "empty"`, read-only, with `mounts` in this order: /usr, /bin, /sbin, /lib, /lib32, /lib64, /libx32 where they
   *   are there, and of /etc what programs look up (alternatives, ca-certificates, hosts, ld.so.cache, localtime,
   *   nsswitch.conf, os-release, pki/tls/certs, protocols, resolv.conf, services, ssl/certs), all read-only, without
   *   set-user-ID bits and devices; /etc/passwd and /etc/group with a user `sandbox`; an empty home folder,
   *   /home/sandbox; a small /dev; then yours
   * - `privateTmp`, `privatePid` with `init` (PID 1 is none of the command's, and dies with this process whatever the command
   *   does) and its /proc, in which acpi, bus, fs, irq, mtrr, scsi, sys and sysrq-trigger are read-only, and
   *   dynamic_debug, keys, kpagecgroup, kpagecount, kpageflags, pagetypeinfo, slabinfo, timer_list and vmallocinfo empty
   *   (a caller that is root owns them, for the kernel, inside too), and so in every `proc` of `mounts`; `privateNet`,
   *   `privateIpc`, `privateUts`, `privateCgroup`
   * - `privateUser: { uid: 1000, gid: 1000 }`: whoever the caller is, the command has no capability; with
   *   `disableUserNamespaces`; where `privateUser` is given, in place of that, `capabilities` without CAP_MKNOD and CAP_SETFCAP
   * - `noNewPrivs`, `newSession`, `privateKeyring`, `seccomp: "default"`
   * - `env: { HOME: "/home/sandbox", USER: "sandbox", LOGNAME: "sandbox" }`; all other variables are the caller's, with what
   *   is secret in them, unless a command has `clearEnv`
   *
   * It is not a boundary against the kernel's own bugs, nor against what is given to it:
   *
   * - What is bound writable belongs to the command, where it is the caller's, and so do the system's settings in a /proc
   *   that is bound, or is in a folder that is.
   * - Without `seccomp`, a command of root's can leave set-user-ID programs of root's there, for all outside; and with it,
   *   too, put something else into one that is there already.
   * - Descriptors that the command inherits are the caller's, such as /dev/null or a log: root's command can change the
   *   permissions of those files. Give `stdin`, `stdout` and `stderr` as "null" or "piped" to what is not trusted.
   *
   * A `hide` in /bin, /sbin or /lib* hides below /usr as well, and the other way round, as one can be a link to the other;
   * a program that has more names than these two is seen by the others still.
   *
   * @param options Those that are given take the place of the preset's; `mounts` and `env` come after its own. With another
   * `root` the preset mounts nothing but /tmp and /proc and what covers that, and has no `env`.
   * @returns The namespace.
   * @throws {TypeError} When an option is unknown, has the wrong type, or contradicts another.
   * @throws {RangeError} When an option has a value that cannot be.
   *
   * @example A command that sees its own folder, and cannot change it
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   * import { assertEquals } from "@std/assert";
   *
   * const ns = Namespace.sandbox({ mounts: [{ type: "bind", source: Deno.cwd(), target: "/project", readonly: true }] });
   * const script = "touch /project/x 2>/dev/null || echo read-only; echo $HOME; id -u; ls -A ~";
   * const { stdout } = await ns.command("sh", { args: ["-c", script] }).output();
   * assertEquals(new TextDecoder().decode(stdout), "read-only\n/home/sandbox\n1000\n");
   * ```
   */
  static sandbox(options: NamespaceOptions = {}): Namespace {
    return new Namespace(sandboxOptions(options));
  }

  /**
   * A command that will run in namespaces of its own, with the interface of Deno.Command.
   *
   * @param command A path, a file URL, or a name to be looked for in PATH, inside.
   * @param options As for Deno.Command, with the same defaults.
   * @returns What takes the place of a Deno.Command anywhere.
   *
   * @example In place of a Deno.Command
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   * import { assertEquals } from "@std/assert";
   *
   * const ns = new Namespace({ hostname: "box", privateNet: true });
   * const command: Deno.Command = ns.command("uname", { args: ["-n"] });
   * const { code, stdout } = await command.output();
   * assertEquals([code, new TextDecoder().decode(stdout)], [0, "box\n"]);
   * ```
   */
  command(command: string | URL, options: CommandOptions = {}): Command {
    return new Command(this.#settings, command, options, () => Namespace.debug ? trace : undefined);
  }

  /**
   * Says what {@linkcode command} and `spawn()` do, without doing it: every system call between the clone and the program's
   * first instruction, in order, with its arguments, the option that asked for it, and a sentence about it.
   *
   * For this process it needs `--allow-ffi`, to know who it is. For somebody described by
   * {@linkcode ExplainOptions.as} it needs no permission, and works on any system; but `ephemeral`, and `"auto"` for the
   * maps of `privateUser`, depend on the machine: for these it needs Linux and `--allow-ffi` then, too.
   *
   * @param command A path, a file URL, or a name that would be looked for in PATH; without one, no program is executed.
   * @param options As for {@linkcode command}, and who is to run it.
   * @returns The steps. As a string it is to be read, in JSON to be kept.
   * @throws {TypeError} When an option is wrong.
   *
   * @example What an ordinary user's command would do
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   * import { assertEquals } from "@std/assert";
   *
   * const ns = new Namespace({ hostname: "box" });
   * const explanation = ns.explain("/bin/sh", { as: { uid: 1000 } });
   * assertEquals(explanation.clone.text, "clone(CLONE_NEWUSER|CLONE_NEWUTS)");
   * const [step] = explanation.steps.filter(({ option }) => option === "hostname");
   * assertEquals(step?.text, `sethostname("box", 3)`);
   * console.log(`${explanation}`);
   * ```
   */
  explain(command?: string | URL, options: ExplainOptions = {}): Explanation {
    return explain(this.#settings, command, options);
  }

  /**
   * Moves this process into namespaces of its own, for good: every thread of it, at once, before this returns. What Deno
   * does from then on, synchronously or not, in Workers and in commands that it starts, is inside. The current folder stays.
   *
   * It takes CAP_SYS_ADMIN, and can be done for mounts, /tmp, network, IPC, semaphores, names and cgroups. A process that
   * runs already cannot enter a pid, user or time namespace: {@linkcode reexec} and {@linkcode command} are for those. After
   * one with mounts, even where that failed, `Deno.chdir()` changes the folder of the calling thread alone, so give absolute
   * paths to what is asynchronous.
   *
   * @throws {TypeError} When a running process cannot enter what was asked for.
   * @throws {NamespaceError} When the kernel refuses a step; then everything is as it was.
   *
   * @example A name for this program alone
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   * import { assertEquals } from "@std/assert";
   *
   * new Namespace({ hostname: "box" }).setup();
   * assertEquals(Deno.hostname(), "box");
   * ```
   */
  setup(): void {
    setup(this.#settings, Namespace.debug ? trace : undefined);
  }

  /**
   * Builds an executable that runs a command in such namespaces, by itself: it needs neither Deno nor libc, nor anything
   * else. Who it runs as, where, and with which environment is decided when it is run.
   *
   * To write it to a file takes `--allow-write`; to build it takes no permission, and any system will do.
   *
   * @param command A path, or a name to be looked for in PATH, inside, when it is run.
   * @param options As for {@linkcode command}, and where to write it to.
   * @returns The executable's bytes.
   * @throws {TypeError} When an option is wrong.
   *
   * @example A shell without network, for another architecture
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   * import { assertEquals } from "@std/assert";
   *
   * const ns = new Namespace({ privateNet: true, privatePid: true, hostname: "box" });
   * const image = await ns.build("sh", { arch: "aarch64" });
   * assertEquals(new TextDecoder().decode(image.subarray(1, 4)), "ELF");
   * ```
   */
  async build(command: string | URL, options: BuildOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    const { build } = await import("./launch/build.ts");
    return await build(this.#settings, this.#options, command, options);
  }

  /**
   * What commands have added, changed and removed so far in the view of {@linkcode NamespaceOptions.ephemeral}, in the
   * order of its paths. What was written and is as before is no change; what a removed folder had in it is not told.
   *
   * @returns The changes; none before the first command, and after {@linkcode discard}.
   * @throws {TypeError} Without the option `ephemeral`.
   * @throws {NamespaceError} When something cannot be looked at.
   *
   * @example What a command would do
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   * import { assertEquals } from "@std/assert";
   *
   * const folder = Deno.makeTempDirSync();
   * await using ns = new Namespace({ ephemeral: true });
   * await ns.command("sh", { args: ["-c", "mkdir new && echo hello > new/file"], cwd: folder }).output();
   * const changes = await ns.changes();
   * assertEquals(changes.map(({ kind, path, size }) => [kind, path, size]), [
   *   ["added", `${folder}/new`, 0],
   *   ["added", `${folder}/new/file`, 6],
   * ]);
   * await ns.commit(changes);
   * assertEquals(Deno.readTextFileSync(`${folder}/new/file`), "hello\n");
   * Deno.removeSync(folder, { recursive: true });
   * ```
   */
  async changes(): Promise<Change[]> {
    const view = this.#view();
    const { toldChange, withChanges } = await import("./process/changes.ts");
    return view.written === undefined ? [] : withChanges(view.written, (changes) => changes.map(toldChange));
  }

  /**
   * Does outside what {@linkcode changes} tells, all or nothing: each file takes its place at once, with its owner,
   * permissions, time and extended attributes. What is committed is no change any more.
   *
   * It is done with the rights of this process, and through no symbolic link. What others have changed outside meanwhile
   * is replaced, but nothing is removed of what they have mounted. Where the outside is an overlay itself, as in most
   * containers, a folder cannot be moved out of its place: those that are removed or replaced go when all else is done.
   *
   * @param which Which changes: those at absolute paths, and below them, and those that {@linkcode changes} has told, each
   * alone and only as it was told; with the new folders that they are in. @default {all}
   * @throws {TypeError} Without the option `ephemeral`, and for a change that was not told.
   * @throws {RangeError} When there is no change at a path.
   * @throws {Deno.errors.Busy} While a command runs, and when something is not as it was told any more, here or outside: of
   * a folder that is removed that is what is directly in it, and that nothing is mounted in it.
   * @throws {NamespaceError} When a step is refused; then everything outside is as it was, and {@linkcode changes} is to be
   * asked again.
   * @throws {AggregateError} When not all could be taken back then, or what was replaced could not all be removed.
   */
  async commit(which?: readonly (string | Change)[]): Promise<void> {
    const view = this.#view();
    const [{ selectChanges, withChanges }, { commitChanges }] = await Promise.all([
      import("./process/changes.ts"),
      import("./process/commit.ts"),
    ]);
    view.refuseIfBusy("commit changes");
    const select = (all: readonly FoundChange[]) => which === undefined ? all : selectChanges(all, which);
    if (view.written === undefined) select([]);
    else withChanges(view.written, (all, access) => commitChanges(select(all), access, view.written!));
  }

  /**
   * Drops what commands have written to the view of {@linkcode NamespaceOptions.ephemeral}: the next one begins anew. It
   * is also done at the end of an `await using` block, and when this process ends, however it ends.
   *
   * @throws {TypeError} Without the option `ephemeral`.
   * @throws {Deno.errors.Busy} While a command runs.
   */
  async discard(): Promise<void> {
    await this.#view().discard();
  }

  /** Calls {@linkcode discard} where there is a view to be dropped. */
  async [Symbol.asyncDispose](): Promise<void> {
    await EphemeralView.of(this.#settings)?.discard();
  }

  #view(): EphemeralView {
    const view = EphemeralView.of(this.#settings);
    if (view === undefined) throw new TypeError(`There are no changes to be told of without the option "ephemeral"`);
    return view;
  }

  /**
   * Starts this program over in namespaces of its own, whichever they are. Outside, the call does not return: this
   * process becomes a small supervisor (same process id, same stdin, stdout and stderr), and Deno runs the program again
   * as its child, with the same arguments, permissions and environment. There, the call returns at once. So it is to be
   * the first thing that a program does.
   *
   * The supervisor hands signals on, and ends as the program does: with its exit code, or 128 + n after signal n. When it
   * is killed, the program is.
   *
   * @throws {Deno.errors.NotSupported} In a Worker, with a debugger attached, or where the program came from stdin.
   * @throws {NamespaceError} When the kernel refuses a step; then this process goes on as it was.
   *
   * @example A program that is root and alone, whoever starts it
   * ```ts ignore
   * import { Namespace } from "@sys-linux/namespace";
   *
   * await new Namespace({ privateUser: true, privatePid: true, privateTmp: true }).reexec();
   * console.log(Deno.uid(), Deno.pid, [...Deno.readDirSync("/tmp")]);
   * ```
   */
  async reexec(): Promise<void> {
    const { reexec } = await import("./code/reexec.ts");
    reexec(this.#settings, debugTrace);
  }

  /**
   * Runs a function, or the default export of a module, in namespaces of its own: in another Deno, which is PID 1 with
   * `privatePid`. It has the permissions of this process, and its stdin, stdout and stderr: see {@linkcode spawn} for others.
   *
   * Arguments and result are copied, by the rules of the structured clone algorithm. Of a function only the text goes
   * inside: what it needs from around it is to be passed as an argument, or imported in it. `import("./x.ts")` has no file
   * there that it could be relative to, nor the program's import map, and `import.meta` is not there at all: pass
   * `import.meta.resolve("./x.ts")` as an argument, which takes the permission to read that file, or run the module itself.
   *
   * Of the stack of an error that a function throws, the first lines are places in its own text, such as `run:name:2:5`:
   * of the JavaScript that runs, without types and as Deno formats it, counted from its first line, with that line below.
   * Then come those of who called this. A module's places are those of its file.
   *
   * When the code has returned, its process is ended, whatever else it had begun.
   *
   * @param code A function, async or not.
   * @param args Its arguments.
   * @returns What it returned.
   * @throws {RunError} When its process ends before it returns: by `Deno.exit()`, a crash or a signal.
   * @throws {TypeError} When the code is neither a function nor a URL, or an argument or the result cannot be cloned.
   * @throws {NamespaceError} When the kernel refuses a step.
   * @throws Whatever the code throws: errors of Deno and of the language by their class, others by their name.
   *
   * @example A function as PID 1
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   * import { assertEquals } from "@std/assert";
   *
   * const ns = new Namespace({ privatePid: true, hostname: "box" });
   * const greeting = await ns.run((word: string) => `${word} from PID ${Deno.pid} on ${Deno.hostname()}`, "hello");
   * assertEquals(greeting, "hello from PID 1 on box");
   * ```
   */
  run<Args extends unknown[], Result>(code: (...args: Args) => Result, ...args: Args): Promise<Awaited<Result>>;
  /**
   * Runs the default export of a module in namespaces of its own. A remote module is imported there, too: from Deno's
   * cache, or over the network, which `privateNet` hides.
   *
   * @param code The URL of a module, such as `import.meta.resolve("./inside.ts")`.
   * @param args The arguments of its default export.
   * @returns What that returned.
   */
  run<Result = unknown>(code: URL | string, ...args: unknown[]): Promise<Result>;
  async run(code: AnyFunction | URL | string, ...args: unknown[]): Promise<unknown> {
    return await spawnCode(this.#settings, code, { args }, debugTrace, Namespace.prototype.run).result;
  }

  /**
   * Like {@linkcode run}, with options, and a handle on the process that runs the code.
   *
   * @param code A function, async or not.
   * @param options Arguments, permissions, and what Deno.Command has, with the same defaults.
   * @returns The process. All that can fail before Deno is executed inside is thrown here, and then nothing is left of it.
   * @throws {TypeError} When an option is wrong, or an argument cannot be cloned.
   * @throws {NamespaceError} When the kernel refuses a step.
   *
   * @example Code that may do nothing but compute
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   * import { assertEquals } from "@std/assert";
   *
   * const ns = new Namespace({ privatePid: true, privateNet: true });
   * await using child = ns.spawn((text: string) => eval(text), { args: ["6 * 7"], permissions: "none" });
   * assertEquals(await child.result, 42);
   * ```
   */
  spawn<Args extends unknown[], Result>(
    code: (...args: Args) => Result,
    options: CodeOptions<Args> & { args: Args },
  ): CodeProcess<Awaited<Result>>;
  /**
   * Runs code that takes no arguments.
   *
   * @param code A function, async or not.
   * @param options As above.
   * @returns The process.
   */
  spawn<Result>(code: () => Result, options?: CodeOptions<[]>): CodeProcess<Awaited<Result>>;
  /**
   * Runs the default export of a module.
   *
   * @param code The URL of a module.
   * @param options As above.
   * @returns The process.
   */
  spawn<Result = unknown>(code: URL | string, options?: CodeOptions): CodeProcess<Result>;
  spawn(code: AnyFunction | URL | string, options: CodeOptions = {}): CodeProcess<unknown> {
    return spawnCode(this.#settings, code, options, debugTrace, Namespace.prototype.spawn);
  }

  /**
   * A warm Deno in namespaces of its own, for many calls: some 0.1 ms each instead of a start of Deno.
   *
   * @param options Permissions, and what Deno.Command has, with the same defaults.
   * @returns The worker, which is ready.
   * @throws {TypeError} When an option is wrong.
   * @throws {NamespaceError} When the kernel refuses a step.
   * @throws {RunError} When Deno ends before it is ready.
   *
   * @example Several functions in one process
   * ```ts
   * import { Namespace } from "@sys-linux/namespace";
   * import { assertEquals } from "@std/assert";
   *
   * await using worker = await new Namespace({ privatePid: true, hostname: "box" }).worker();
   * assertEquals(await worker.run(() => Deno.pid), 1);
   * assertEquals(await worker.run((a: number, b: number) => a + b, 2, 3), 5);
   * ```
   */
  async worker(options: CodeWorkerOptions = {}): Promise<CodeWorker> {
    const { startWorker } = await import("./code/worker.ts");
    return await startWorker(this.#settings, options, debugTrace, Namespace.prototype.worker);
  }

  /**
   * Several workers that share the calls, each in namespaces of its own. They are started when they are needed, and
   * others in the place of those that die.
   *
   * @param options How many, and those of {@linkcode worker}.
   * @returns The pool.
   * @throws {TypeError} When an option is wrong.
   * @throws {RangeError} When a number cannot be.
   *
   * @example A worker that is gone does no harm
   * ```ts
   * import { Namespace, RunError } from "@sys-linux/namespace";
   * import { assertEquals, assertRejects } from "@std/assert";
   *
   * await using pool = new Namespace({ privatePid: true }).pool({ size: 2 });
   * await assertRejects(() => pool.run(() => Deno.exit(1)), RunError);
   * assertEquals(await pool.run((n: number) => n + 1, 1), 2);
   * ```
   */
  pool(options: CodePoolOptions = {}): CodePool {
    return new CodePool(this.#settings, options, debugTrace);
  }
}

function debugTrace(): Trace | undefined {
  return Namespace.debug ? trace : undefined;
}

function trace(line: string): void {
  Deno.stderr.writeSync(utf8.encode(`namespace: ${line}\n`));
}
