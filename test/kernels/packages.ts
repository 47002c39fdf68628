/**
 * Kernels, and a busybox to begin with, out of Debian's packages: from the mirror that this system's apt uses.
 *
 * @module
 */

/** Which suite of Debian has which kernel. */
export const KERNELS: ReadonlyMap<string, string> = new Map([
  ["5.10", "bullseye"],
  ["6.1", "bookworm"],
  ["6.12", "trixie"],
]);

/** What this system lacks, in one line. */
export class Missing extends Error {}

/** A kernel that can be booted. */
export interface Kernel {
  /** As uname(2) has it. */
  readonly version: string;
  readonly image: string;
  /** Of /lib/modules. */
  readonly modules: string;
  /** A static executable. */
  readonly busybox: string;
}

/** The folder that packages are unpacked in, and stay. */
export function kernelFolder(): string {
  const cache = Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME") ?? "/root"}/.cache`;
  return `${cache}/sys-linux-namespace/kernels`;
}

/**
 * A kernel out of the folder, where it is downloaded to if need be.
 *
 * @throws {Missing} When it cannot be had.
 */
export async function takeKernel(release: string, folder: string): Promise<Kernel> {
  const suite = KERNELS.get(release)!;
  const unpacked = `${folder}/${suite}`;
  if (!exists(`${unpacked}/complete`)) {
    const apt = new Apt(folder);
    await apt.update();
    await remove(unpacked);
    await apt.unpack("busybox-static", suite, unpacked);
    const depends = await apt.dependsOf("linux-image-amd64", suite);
    const image = depends.match(/linux-image-\S+/)?.[0];
    if (image === undefined) throw new Missing(`Debian's package linux-image-amd64 of ${suite} names no kernel`);
    await apt.unpack(image, suite, unpacked);
    const version = image.slice("linux-image-".length);
    const busybox = findBusybox(unpacked);
    const modules = findModules(unpacked, version);
    await run(busybox, ["depmod", "-b", modules.slice(0, -`/lib/modules/${version}`.length), version]);
    await Deno.writeTextFile(`${unpacked}/complete`, version);
  }
  const version = await Deno.readTextFile(`${unpacked}/complete`);
  return {
    version,
    image: `${unpacked}/boot/vmlinuz-${version}`,
    modules: findModules(unpacked, version),
    busybox: findBusybox(unpacked),
  };
}

function findBusybox(unpacked: string): string {
  return `${unpacked}/${exists(`${unpacked}/usr/bin/busybox`) ? "usr/" : ""}bin/busybox`;
}

function findModules(unpacked: string, version: string): string {
  const [first, second] = [`${unpacked}/lib/modules/${version}`, `${unpacked}/usr/lib/modules/${version}`];
  return exists(first!) ? first! : second!;
}

/** apt-get(8) with lists of its own, so that the system's own stay what they are. */
class Apt {
  readonly #folder: string;
  readonly #options: string[];
  readonly #environment: Record<string, string>;

  constructor(folder: string) {
    this.#folder = folder;
    const settings = {
      "Dir::Etc::SourceList": `${folder}/apt/sources.list`,
      "Dir::Etc::SourceParts": "/dev/null",
      "Dir::State::Lists": `${folder}/apt/lists`,
      "Dir::Cache": `${folder}/apt/cache`,
      "APT::Sandbox::User": "root", // Whose folders these are.
    };
    this.#options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
    this.#environment = { TMPDIR: `${folder}/apt`, LC_ALL: "C" };
  }

  async update(): Promise<void> {
    const format = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"];
    const mirror = (await run("apt-get", format)).split("\n")[0];
    if (!mirror) throw new Missing("apt has no mirror of Debian in its sources");
    for (const part of ["lists/partial", "cache/archives/partial"]) {
      await Deno.mkdir(`${this.#folder}/apt/${part}`, { recursive: true });
    }
    const key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]";
    const sources = [...KERNELS.values()].map((suite) => `deb ${key} ${mirror} ${suite} main\n`);
    await Deno.writeTextFile(`${this.#folder}/apt/sources.list`, sources.join(""));
    await this.#apt("apt-get", ["update"]);
  }

  /** What a package depends on, as its description says it. */
  async dependsOf(name: string, suite: string): Promise<string> {
    const text = await this.#apt("apt-cache", ["show", await this.#versioned(name, suite)]);
    return text.match(/^Depends: (.*)$/m)?.[1] ?? "";
  }

  async unpack(name: string, suite: string, into: string): Promise<void> {
    const folder = await Deno.makeTempDir({ dir: `${this.#folder}/apt` });
    try {
      console.log(`── apt-get download ${name}, of ${suite}`);
      await this.#apt("apt-get", ["download", await this.#versioned(name, suite)], folder);
      await Deno.mkdir(into, { recursive: true });
      for await (const file of Deno.readDir(folder)) await run("dpkg", ["-x", `${folder}/${file.name}`, into]);
    } finally {
      await remove(folder);
    }
  }

  /** A name with the version that a suite has of it. */
  async #versioned(name: string, suite: string): Promise<string> {
    const table = (await this.#apt("apt-cache", ["madison", name])).split("\n");
    const version = table.find((line) => line.includes(` ${suite}/main `))?.split("|")[1]?.trim();
    if (version === undefined) {
      throw new Missing(`Debian's package ${name} of ${suite} cannot be had from apt's mirror`);
    }
    return `${name}=${version}`;
  }

  #apt(command: string, args: readonly string[], cwd?: string): Promise<string> {
    return run(command, [...this.#options, ...args], { env: this.#environment, ...(cwd === undefined ? {} : { cwd }) });
  }
}

/**
 * What a command prints.
 *
 * @throws {Missing} When there is no such command, or it fails.
 */
export async function run(
  command: string,
  args: readonly string[],
  options: Deno.CommandOptions = {},
): Promise<string> {
  try {
    const { success, stdout, stderr } = await new Deno.Command(command, { ...options, args: [...args] }).output();
    if (success) return new TextDecoder().decode(stdout);
    const text = new TextDecoder().decode(stderr).trim().split("\n").at(-1);
    throw new Missing(`${command} ${args.filter((word) => !/^-o$|::/.test(word)).join(" ")} failed: ${text}`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Missing(`there is no ${command}`);
  }
}

/** Whether there is something at a path. */
export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function remove(path: string): Promise<void> {
  if (exists(path)) await Deno.remove(path, { recursive: true });
}
