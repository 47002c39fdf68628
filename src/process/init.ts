/**
 * PID 1 of ours between a command and this process: what it is executed from, and what it says.
 *
 * @module
 */

import { errnoNumber } from "../abi/errno.ts";
import { stepError } from "../errors.ts";
import { initImage } from "../launch/compile.ts";
import { type Ending, library } from "../machine/library.ts";
import type { Step } from "../plan/step.ts";

/** `Report` of shim/report.zig: stage, step, errno. */
const REPORT_WORDS = 3;
const EXECUTION = 4;
const ENDED = 5;

const EINTR = errnoNumber("EINTR");
const EINVAL = errnoNumber("EINVAL");
const MFD_SEALING = { value: 3, name: "MFD_CLOEXEC|MFD_ALLOW_SEALING" };
/** Since Linux 6.3, where vm.memfd_noexec may be 1: then it has to be said. */
const MFD_EXEC = { value: 0x13, name: "MFD_CLOEXEC|MFD_ALLOW_SEALING|MFD_EXEC" };
const F_ADD_SEALS = { value: 1033, name: "F_ADD_SEALS" };
const ALL_SEALS = { value: 0xf, name: "F_SEAL_SEAL|F_SEAL_SHRINK|F_SEAL_GROW|F_SEAL_WRITE" };

let launcher: number | undefined;

/**
 * A descriptor of the launcher, in memory: made when it is first asked for, and kept.
 *
 * @throws {NamespaceError} When the kernel refuses memory that can be executed.
 */
export function launcherFd(): number {
  return launcher ??= intoMemory(initImage(Deno.build.arch));
}

function intoMemory(image: Uint8Array): number {
  const shim = library();
  const create = (flags: Step["args"][number]): Step => ({
    call: "memfd_create",
    args: ["sys-linux-namespace", flags],
    what: "put init into memory",
    option: "init",
  });
  let made = shim.execute([create(MFD_EXEC)]);
  if ("step" in made && made.errno === EINVAL) made = shim.execute([create(MFD_SEALING)]);
  if ("step" in made) throw stepError(made.step, made.errno);
  const fd = made.results[0]!;
  const bytes = { bytes: image, name: "<launcher>" };
  const write: Step = { call: "write", args: [fd, bytes, image.length], what: "put init into memory", option: "init" };
  // Children to come are executed from it, too: none that has been may write to it by way of /proc/1/exe.
  const seal: Step = { call: "fcntl", args: [fd, F_ADD_SEALS, ALL_SEALS], what: "seal init", option: "init" };
  const written = shim.execute([write, seal]);
  if (!("step" in written)) return fd;
  shim.close(fd);
  throw stepError(written.step, written.errno);
}

/** The pipe that init reports to. */
export class InitReport {
  readonly #fd: number;

  /** Takes the reading end. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Waits until init has started the command; the errno when it could not. */
  started(): number {
    const [stage, , errno] = this.#read();
    return stage === EXECUTION ? errno : 0;
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
