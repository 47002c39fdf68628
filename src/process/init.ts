/**
 * PID 1 of ours between a command and this process: what it is executed from, and what it says.
 *
 * @module
 */

import { errnoNumber } from "../abi/errno.ts";
import { NamespaceError } from "../errors.ts";
import { initImage } from "../launch/compile.ts";
import { type Ending, library } from "../machine/library.ts";
import { EVERY_SEAL_AND_EXEC, MFD_SEALING, sealedMemory } from "./memory.ts";

/** `Report` of shim/report.zig: stage, step, errno. */
const REPORT_WORDS = 3;
const EXECUTION = 4;
const ENDED = 5;

const EINTR = errnoNumber("EINTR");
/** Since Linux 6.3, where vm.memfd_noexec may be 1: then it has to be said. */
const MFD_EXEC = { value: 0x13, name: "MFD_CLOEXEC|MFD_ALLOW_SEALING|MFD_EXEC" };

let launcher: number | undefined;

/**
 * A descriptor of the launcher, in memory: made when it is first asked for, and kept.
 *
 * @throws {NamespaceError} When the kernel refuses memory that can be executed.
 */
export function launcherFd(): number {
  return launcher ??= intoMemory(initImage(Deno.build.arch));
}

/** Children to come are executed from it, too: none that has been may change it by way of /proc/1/exe, chmod(2) included. */
function intoMemory(image: Uint8Array): number {
  const content = { bytes: image, name: "<launcher>" };
  const why = { what: "put init into memory", option: "init" };
  try {
    return sealedMemory(content, MFD_EXEC, why, EVERY_SEAL_AND_EXEC);
  } catch (error) {
    if (!(error instanceof NamespaceError) || error.code !== "EINVAL") throw error;
    return sealedMemory(content, MFD_SEALING, why);
  }
}

/** The pipe that init reports to. */
export class InitReport {
  readonly #fd: number;

  /** Takes the reading end. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Waits until init has started the command; why it could not, and in which folder of PATH, by number, that was. */
  refused(): { readonly folder: number; readonly errno: number } | undefined {
    const [stage, folder, errno] = this.#read();
    return stage === EXECUTION ? { folder, errno } : undefined;
  }

  /** What init has said of the command's end, once init has ended; its own ending where it was killed. */
  ending(own: Ending): Ending {
    const [stage, signal, code] = this.#read();
    this.close();
    // Root of a user namespace inside may trace init, and have it say anything.
    if (stage !== ENDED || signal >>> 0 > 64 || code >>> 0 > 255) return own;
    return signal === 0 ? { code } : { signal };
  }

  close(): void {
    library().close(this.#fd);
  }

  #read(): readonly [stage: number, step: number, errno: number] {
    const words = new Int32Array(REPORT_WORDS);
    while (library().read(this.#fd, new Uint8Array(words.buffer)) === -EINTR) { /* Again. */ }
    return words as unknown as readonly [number, number, number];
  }
}
