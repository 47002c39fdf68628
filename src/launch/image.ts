/**
 * Executables: the launcher with a bundle behind it, in a segment of its own.
 *
 * @see {@link https://man7.org/linux/man-pages/man5/elf.5.html | elf(5)}
 * @module
 */

/** Where the bundle is mapped, in a file offset's distance: `bundle_base` of shim/launch.zig. */
const BUNDLE_BASE = 0x2000_0000;

const HEADERS_AT = 32; // e_phoff
const SECTIONS_AT = 40; // e_shoff
const HEADER_COUNT = 56; // e_phnum
const SECTION_COUNT = 60; // e_shnum
const HEADER_SIZE = 56;
const PT_LOAD = 1;
const PT_PHDR = 6;
const PF_R = 4;
/** The largest page size of either architecture. */
const ALIGNMENT = 0x10000;

/**
 * Puts a bundle behind a launcher.
 *
 * @param launcher The launcher of the bundle's architecture.
 * @param bundle What it is to launch.
 * @returns An executable.
 */
export function link(launcher: Uint8Array, bundle: Uint8Array): Uint8Array<ArrayBuffer> {
  const at = Math.ceil(launcher.length / 8) * 8;
  const image = new Uint8Array(at + bundle.length);
  image.set(launcher);
  image.set(bundle, at);
  const view = new DataView(image.buffer);
  const headersAt = Number(view.getBigUint64(HEADERS_AT, true));
  const count = view.getUint16(HEADER_COUNT, true);
  const headers = Array.from({ length: count }, (_, index) => {
    const from = headersAt + index * HEADER_SIZE;
    return image.slice(from, from + HEADER_SIZE);
  });
  // What says where the table itself is, is of use to dynamic linkers only: its place is taken.
  const kept = headers.filter((header) => typeOf(header) !== PT_PHDR);
  if (kept.length !== count - 1) throw new Error("Cannot link a launcher without a PT_PHDR");
  // Segments are in the order of their addresses, and this has the highest.
  kept.splice(kept.findLastIndex((header) => typeOf(header) === PT_LOAD) + 1, 0, segment(at, bundle.length));
  for (const [index, header] of kept.entries()) image.set(header, headersAt + index * HEADER_SIZE);
  view.setBigUint64(SECTIONS_AT, 0n, true);
  view.setUint16(SECTION_COUNT, 0, true);
  return image;
}

function typeOf(header: Uint8Array<ArrayBuffer>): number {
  return new DataView(header.buffer).getUint32(0, true);
}

function segment(at: number, size: number): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(HEADER_SIZE));
  view.setUint32(0, PT_LOAD, true);
  view.setUint32(4, PF_R, true);
  for (const [index, value] of [at, BUNDLE_BASE + at, BUNDLE_BASE + at, size, size, ALIGNMENT].entries()) {
    view.setBigUint64(8 + index * 8, BigInt(value), true);
  }
  return new Uint8Array(view.buffer);
}

/**
 * The bundle in an executable.
 *
 * @throws {TypeError} When it has none.
 */
export function bundleIn(image: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const isElf = image.length > 64 && new DataView(image.buffer, image.byteOffset).getUint32(0) === 0x7f454c46;
  if (!isElf) throw new TypeError("it is no executable");
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength);
  const headersAt = Number(view.getBigUint64(HEADERS_AT, true));
  for (let index = 0; index < view.getUint16(HEADER_COUNT, true); index++) {
    const at = headersAt + index * HEADER_SIZE;
    if (at + HEADER_SIZE > image.length) break;
    const [offset, address, , size] = [8, 16, 24, 32].map((field) => Number(view.getBigUint64(at + field, true)));
    if (view.getUint32(at, true) === PT_LOAD && address === BUNDLE_BASE + offset!) {
      if (offset! + size! > image.length) throw new TypeError("it is truncated");
      return image.subarray(offset!, offset! + size!);
    }
  }
  throw new TypeError("there is no plan in it");
}
