/**
 * Programs that change themselves for good, such as by `setup()`: each has a Deno of its own.
 *
 * @module
 */

import { type ProgramOptions, runProgram } from "./program.ts";

/** What programs here have at hand. */
const TOOLS = `
  Deno.chdir("/");
  const KINDS = ["mnt", "net", "ipc", "uts", "cgroup", "user", "pid"];
  const namespaces = (thread) => KINDS.map((kind) => Deno.readLinkSync("/proc/self/task/" + thread + "/ns/" + kind)).join();
  const threads = () => [...Deno.readDirSync("/proc/self/task")].map(({ name }) => name);
  const everyThread = () => [...new Set(threads().map(namespaces))];
  const load = () => Promise.all(Array.from({ length: 16 }, () => Deno.readTextFile("/proc/self/stat")));
  const fds = () => [...Deno.readDirSync("/proc/self/fd")].length;
`;

/** The text of {@linkcode filterCalls}, for Workers and programs. */
export const FILTER_CALLS = `${filterCalls}`;

/** Runs a program with all permissions and these tools, and takes what it prints for JSON. */
export async function told(code: string, options: ProgramOptions = {}): Promise<unknown> {
  const all = `${TOOLS}\n${FILTER_CALLS}\n${code}`;
  const { code: status, stdout, stderr } = await runProgram(all, { permissions: ["-A"], ...options });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

/**
 * Makes the kernel answer system calls otherwise, for good, with a seccomp filter: see seccomp(2).
 *
 * @param calls Their numbers on x86_64 and on aarch64.
 * @param answer SECCOMP_RET_*.
 * @param everyThread Whether not only the calling one.
 * @param second Only where the second argument is this.
 */
function filterCalls(
  calls: readonly (readonly [number, number])[],
  answer: number,
  everyThread: boolean,
  second?: number,
): void {
  const numbers = calls.map(([x86, arm]) => Deno.build.arch === "x86_64" ? x86 : arm);
  const program = [
    [0x20, 0, 0, 0], // Load the number.
    ...numbers.map((number, index) => [0x15, numbers.length - index, 0, number]), // Leave the next ones out if it is this.
    [0x06, 0, 0, 0x7fff0000],
    ...second === undefined ? [] : [[0x20, 0, 0, 24], [0x15, 1, 0, second], [0x06, 0, 0, 0x7fff0000]],
    [0x06, 0, 0, answer],
  ];
  const filter = new DataView(new ArrayBuffer(program.length * 8));
  program.forEach(([code, yes, no, k], index) => {
    filter.setUint16(index * 8, code!, true);
    filter.setUint8(index * 8 + 2, yes!);
    filter.setUint8(index * 8 + 3, no!);
    filter.setUint32(index * 8 + 4, k!, true);
  });
  const libc = Deno.dlopen("libc.so.6", {
    syscall: { parameters: ["usize", "usize", "usize", "buffer"], result: "isize" },
  });
  const seccomp = Deno.build.arch === "x86_64" ? 317n : 277n;
  const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(filter));
  const header = new BigUint64Array([BigInt(program.length), BigInt(address)]);
  const result = libc.symbols.syscall(seccomp, 1n, everyThread ? 1n : 0n, header);
  libc.close();
  if (Number(result) !== 0) throw new Error("There is no filter");
}
