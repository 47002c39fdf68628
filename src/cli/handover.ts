/**
 * What nsrun has read, for the diagnoser, which can read no file, nor a pipe again. It may be a secret, so it is in memory
 * and not among the arguments, which anybody can see.
 *
 * @module
 */

import { execute, statuses } from "../machine/files.ts";
import { library } from "../machine/library.ts";
import { ABOVE_GIVEN, F_DUPFD, SEEK_SET } from "../plan/files.ts";
import { MFD_SEALING, sealedMemory } from "../process/memory.ts";

const WHY = { what: "keep the files that were read" };

/** A descriptor of a text, as a word; undefined where the kernel gives no number for it. */
export function handOver(text: string): string | undefined {
  const fd = sealedMemory({ bytes: new TextEncoder().encode(text), name: "<files>" }, MFD_SEALING, WHY);
  // The launcher and the diagnoser are to have it; no command, whatever number it asks for, unless there are no more.
  for (const lowest of [ABOVE_GIVEN, 3]) {
    const tolerate = [["EINVAL", 0]] as const;
    const [copy] = execute([{ call: "fcntl", args: [fd, F_DUPFD, lowest], ...WHY, tolerate }]);
    if (copy! >= 0) return String(copy);
  }
  return undefined;
}

/** The text of such a descriptor. */
export function takeOver(word: string): string {
  const fd = Number(word);
  const bytes = new Uint8Array(statuses(fd, [""])[0]!.size);
  execute([{ call: "lseek", args: [fd, 0, SEEK_SET], ...WHY }]);
  library().read(fd, bytes);
  return new TextDecoder().decode(bytes);
}
