/**
 * This process becomes another program: execve(2), by way of libc alone, as there is no need of the shim for it.
 *
 * @module
 */

const MFD_CLOEXEC = 1;
/** Since Linux 6.3, where vm.memfd_noexec may be 1: then it has to be said. */
const MFD_EXEC = 0x10;

/**
 * Replaces this process by an executable that is in memory. The process id, the descriptors 0 to 2 and the current
 * folder stay; every thread of this program ends. It returns only by throwing.
 *
 * @param image An executable.
 * @param argv Its arguments, its own name first.
 * @throws {Deno.errors.NotSupported} When the kernel does not execute what is in memory.
 * @throws {Deno.errors.NotCapable} Without `--allow-ffi`.
 */
export function become(image: Uint8Array<ArrayBuffer>, argv: readonly string[]): never {
  if (Deno.build.os !== "linux") throw new Deno.errors.NotSupported("Cannot make namespaces: they are Linux's own");
  const { symbols } = Deno.dlopen("libc.so.6", {
    memfd_create: { parameters: ["buffer", "u32"], result: "i32" }, // const char *name, unsigned int flags
    write: { parameters: ["i32", "buffer", "usize"], result: "isize" }, // int fd, const void *buffer, size_t size
    fexecve: { parameters: ["i32", "buffer", "pointer"], result: "i32" }, // int fd, char **argv, char **environ
    environ: { type: "pointer" },
  });
  const strings = argv.map((argument) => new TextEncoder().encode(`${argument}\0`));
  const name = new TextEncoder().encode("sys-linux-namespace\0");
  let fd = symbols.memfd_create(name, MFD_CLOEXEC | MFD_EXEC);
  if (fd < 0) fd = symbols.memfd_create(name, MFD_CLOEXEC);
  if (fd >= 0 && Number(symbols.write(fd, image, BigInt(image.length))) === image.length) {
    const pointers = new BigUint64Array(strings.length + 1);
    for (const [index, bytes] of strings.entries()) {
      pointers[index] = Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
    }
    const environ = new Deno.UnsafePointerView(symbols.environ!).getPointer();
    symbols.fexecve(fd, new Uint8Array(pointers.buffer), environ);
  }
  throw new Deno.errors.NotSupported(
    "Cannot execute the launcher: the kernel executes nothing that is in memory. See that vm.memfd_noexec is not 2, and " +
      "that no seccomp filter refuses memfd_create(2) and execveat(2)",
  );
}
