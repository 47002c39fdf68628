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
const MFD_CLOEXEC = { value: 1, name: "MFD_CLOEXEC" };
/** Since Linux 6.3, where vm.memfd_noexec may be 1: then it has to be said. */
const MFD_EXEC = { value: 0x11, name: "MFD_CLOEXEC|MFD_EXEC" };

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
  if ("step" in made && made.errno === EINVAL) made = shim.execute([create(MFD_CLOEXEC)]);
  if ("step" in made) throw stepError(made.step, made.errno);
  const fd = made.results[0]!;
  const bytes = { bytes: image, name: "<launcher>" };
  const write: Step = { call: "write", args: [fd, bytes, image.length], what: "put init into memory", option: "init" };
  const written = shim.execute([write]);
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
    if (stage !== ENDED) return own;
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
