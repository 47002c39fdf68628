/**
 * A machine in qemu that boots a kernel over this system's files, and runs Deno there.
 *
 * @module
 */

import { makeInitramfs } from "./initramfs.ts";
import { type Kernel, kernelFolder, Missing, run } from "./packages.ts";

const QEMU = "qemu-system-x86_64";
const PROJECT = new URL("../../", import.meta.url).pathname.slice(0, -1);
/** Folders that are empty inside, or have other things in them. */
const COVERED = /^\/(tmp|var\/tmp|run|dev|sys|proc)\//;
/** What begins a line that is not the tests' own. */
const MARK = "\x01kernels\x01";
const BOOT_SECONDS_MAX = 120;
const TESTS_SECONDS_MAX = 3 * 60 * 60;

/** What a run came to. */
export interface Outcome {
  readonly code: number;
  /** Deno's own count: `ok | 3 passed | 0 failed`. */
  readonly summary: string | undefined;
  readonly bootSeconds: number;
  readonly seconds: number;
}

/** kvm, where the processor can; a /dev/kvm by itself does not say so. */
export function acceleration(): "kvm" | "tcg" {
  if (!/^flags\s*:.* (vmx|svm)( |$)/m.test(Deno.readTextFileSync("/proc/cpuinfo"))) return "tcg";
  try {
    Deno.openSync("/dev/kvm", { read: true, write: true }).close();
    return "kvm";
  } catch {
    return "tcg";
  }
}

/**
 * Boots a kernel, and runs Deno there with these arguments, in the project's folder and as root.
 *
 * @throws {Missing} When this system lacks what it takes.
 */
export async function runInside(kernel: Kernel, args: readonly string[]): Promise<Outcome> {
  if (Deno.uid() !== 0) throw new Missing("it takes root, who can read all files of this system");
  await run(QEMU, ["--version"]).catch(() => {
    throw new Missing(`there is no ${QEMU}: apt-get install qemu-system-x86`);
  });
  const folder = await Deno.makeTempDir({ dir: kernelFolder() });
  const begin = performance.now();
  try {
    await Deno.writeFile(`${folder}/initramfs`, await makeInitramfs(kernel, await scripts(kernel, args)));
    await run("mke2fs", ["-q", "-t", "ext4", "-F", `${folder}/disk`, "16G"]);
    const machine = new Deno.Command(QEMU, { args: machineArgs(kernel, folder), stdin: "null", stdout: "piped" })
      .spawn();
    return await follow(machine, `${folder}/console`, begin);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The files that PID 1 begins with. */
async function scripts(kernel: Kernel, args: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const cache = Deno.env.get("DENO_DIR") ??
    `${Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME")}/.cache`}/deno`;
  const deno = Deno.execPath();
  const needed = [PROJECT, cache, kernel.modules, deno.slice(0, deno.lastIndexOf("/"))];
  const settings = [
    `modules=${quoted(kernel.modules)}`,
    `covered=${quoted(needed.filter((path) => COVERED.test(path)).join(" "))}`,
  ];
  const environment = {
    PATH: Deno.env.get("PATH") ?? "",
    HOME: "/root",
    LANG: "C.UTF-8",
    NO_COLOR: "1",
    DENO_DIR: cache,
  };
  const words = [
    ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    deno,
    ...args,
  ];
  const test = [
    "/run/kernels/busybox stty -F /dev/ttyS1 raw -echo",
    "exec < /dev/null > /dev/ttyS1 2>&1",
    `echo "${MARK} booted"`,
    `cd ${quoted(PROJECT)}`,
    `{ /run/kernels/busybox setsid env -i ${words.map(quoted).join(" ")}; echo "${MARK} $?"; } 2>&1 | cat`,
    "echo b > /proc/sysrq-trigger",
  ];
  return new Map([
    ["init", await Deno.readTextFile(new URL("init.sh", import.meta.url))],
    ["settings.sh", settings.join("\n")],
    ["test.sh", test.join("\n")],
  ]);
}

function machineArgs({ image }: Kernel, folder: string): string[] {
  const accel = acceleration();
  return [
    ...["-nodefaults", "-no-reboot", "-display", "none", "-m", "4G", "-smp", String(navigator.hardwareConcurrency)],
    ...(accel === "kvm" ? ["-accel", "kvm", "-cpu", "host"] : ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"]),
    ...["-kernel", image, "-initrd", `${folder}/initramfs`],
    ...["-append", "console=ttyS0 panic=-1 loglevel=4 mitigations=off swapaccount=1"],
    ...["-serial", `file:${folder}/console`, "-serial", "stdio"],
    ...["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"],
    ...["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"],
    ...["-drive", `file=${folder}/disk,format=raw,if=virtio,cache=unsafe`],
    ...["-device", "virtio-rng-pci"],
  ];
}

/** Shows what the machine says, until it ends. */
async function follow(machine: Deno.ChildProcess, log: string, begin: number): Promise<Outcome> {
  const end = (): void => machine.kill("SIGKILL");
  let limit = setTimeout(end, BOOT_SECONDS_MAX * 1000);
  Deno.addSignalListener("SIGINT", end);
  Deno.addSignalListener("SIGTERM", end);
  let code: number | undefined;
  let summary: string | undefined;
  let bootSeconds = NaN;
  try {
    for await (const line of linesOf(machine.stdout)) {
      if (line.startsWith(MARK)) {
        clearTimeout(limit);
        if (Number.isNaN(bootSeconds)) {
          bootSeconds = (performance.now() - begin) / 1000;
          limit = setTimeout(end, TESTS_SECONDS_MAX * 1000);
        } else code = Number(line.slice(MARK.length));
        continue;
      }
      console.log(line);
      summary = line.match(/^(?:ok|FAILED) \| .*$/)?.[0] ?? summary;
    }
  } finally {
    clearTimeout(limit);
    Deno.removeSignalListener("SIGINT", end);
    Deno.removeSignalListener("SIGTERM", end);
    await machine.status;
  }
  if (code === undefined) console.log(`── the machine ended before the tests did:\n${await Deno.readTextFile(log)}`);
  return { code: code ?? 1, summary, bootSeconds, seconds: (performance.now() - begin) / 1000 };
}

async function* linesOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
  if (rest !== "") yield rest;
}

/** As one word of a shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
