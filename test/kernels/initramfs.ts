/**
 * The first file system of a kernel that boots: busybox, modules, and what is executed.
 *
 * @module
 */

import type { Kernel } from "./packages.ts";

/** What init.sh loads. */
const MODULES = ["virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "overlay", "crc32c_generic", "ext4"];

/** As the kernel unpacks it: cpio's "newc" format, uncompressed. */
export async function makeInitramfs(
  { version, modules, busybox }: Kernel,
  files: ReadonlyMap<string, string>,
): Promise<Uint8Array<ArrayBuffer>> {
  const archive = new Archive();
  for (const folder of ["dev", "proc", "sys", "host", "disk", "root"]) archive.addFolder(folder);
  archive.addFile("bin/busybox", await Deno.readFile(busybox));
  for (const [path, text] of files) archive.addFile(path, new TextEncoder().encode(text));
  const table = new DependencyTable(await Deno.readTextFile(`${modules}/modules.dep`));
  // What has no file is a part of the kernel itself.
  const names = MODULES.filter((name) => table.pathOf(name) !== undefined);
  const paths = table.withDependencies(names);
  for (const path of paths) {
    archive.addFile(`lib/modules/${version}/${path}`, await Deno.readFile(`${modules}/${path}`));
  }
  archive.addFile(`lib/modules/${version}/modules.dep`, new TextEncoder().encode(table.text));
  archive.addFile("modules", new TextEncoder().encode(names.join("\n")));
  return archive.finish();
}

/** modules.dep, as depmod(8) writes it. */
class DependencyTable {
  readonly text: string;
  readonly #paths: ReadonlyMap<string, readonly string[]>;

  constructor(text: string) {
    this.text = text;
    const lines = text.split("\n").map((line) => line.split(/[: ]+/).filter((word) => word !== ""));
    this.#paths = new Map(lines.filter(([path]) => path !== undefined).map(([path, ...needed]) => [path!, needed]));
  }

  pathOf(name: string): string | undefined {
    return this.#paths.keys().find((path) => /([^/]+)\.ko/.exec(path)?.[1]?.replaceAll("-", "_") === name);
  }

  withDependencies(names: readonly string[]): ReadonlySet<string> {
    const found = names.map((name) => this.pathOf(name)!);
    return new Set(found.flatMap((path) => [...this.#paths.get(path)!, path]));
  }
}

class Archive {
  readonly #parts: Uint8Array[] = [];
  readonly #folders = new Set<string>();
  #count = 0;

  addFolder(path: string): void {
    if (this.#folders.has(path)) return;
    this.#folders.add(path);
    this.#add(path, 0o040755, new Uint8Array());
  }

  addFile(path: string, content: Uint8Array): void {
    const parts = path.split("/");
    for (let depth = 1; depth < parts.length; depth++) this.addFolder(parts.slice(0, depth).join("/"));
    this.#add(path, 0o100755, content);
  }

  finish(): Uint8Array<ArrayBuffer> {
    this.#add("TRAILER!!!", 0, new Uint8Array());
    const bytes = new Uint8Array(this.#parts.reduce((size, part) => size + part.length, 0));
    let at = 0;
    for (const part of this.#parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }

  #add(path: string, mode: number, content: Uint8Array): void {
    const name = new TextEncoder().encode(`${path}\0`);
    // inode, mode, uid, gid, links, time, size, device (4 numbers), size of the name, checksum.
    const fields = [++this.#count, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
    this.#push(new TextEncoder().encode(header), name);
    this.#push(content);
  }

  /** What ends at a multiple of four, filled up with zeros. */
  #push(...parts: readonly Uint8Array[]): void {
    const size = parts.reduce((sum, part) => sum + part.length, 0);
    this.#parts.push(...parts, new Uint8Array((4 - size % 4) % 4));
  }
}
