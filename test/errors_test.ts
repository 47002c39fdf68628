import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { NamespaceError } from "../mod.ts";
import { errnoName, errnoNumber, errnoText } from "../src/abi/errno.ts";
import { stepError } from "../src/errors.ts";
import { nearest } from "../src/nearest.ts";
import { mountTmp } from "../src/plan/mounts.ts";
import "./support/load.ts";

// P11: "mount failed: -1 Operation not permitted".
Deno.test("NamespaceError names the step, its arguments, the option, the cause and the remedy", () => {
  const error = stepError(mountTmp([["size", "1m"]]), errnoNumber("ENOSPC"));
  assert(error instanceof NamespaceError && error instanceof Error);
  assertEquals(error.name, "NamespaceError");
  assertEquals(
    [error.code, error.errno, error.syscall, error.option],
    ["ENOSPC", 28, "mount", "privateTmp"],
  );
  assertEquals(error.step, `mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID|MS_NODEV, "size=1m")`);
  const [first, hint] = error.message.split("\n");
  assertEquals(first, `Cannot mount tmpfs at "/tmp" for privateTmp: No space left on device (ENOSPC)`);
  assertEquals(hint, error.hint);
  assertStringIncludes(hint!, "fs.mount-max");
});

Deno.test("NamespaceError has no hint where no cause is known", () => {
  const error = stepError({ call: "chdir", args: ["/x"], what: `enter the folder "/x"` }, errnoNumber("EIO"));
  assertEquals(error.message, `Cannot enter the folder "/x": Input/output error (EIO)`);
  assertEquals([error.hint, error.option], [undefined, undefined]);
});

Deno.test("errno tables agree with themselves and with the kernel's best known numbers", () => {
  for (
    const [name, number] of [["EPERM", 1], ["EAGAIN", 11], ["EINVAL", 22], ["ENOSYS", 38], ["EOPNOTSUPP", 95]] as const
  ) {
    assertEquals([errnoNumber(name), errnoName(number)], [number, name]);
  }
  assertEquals([errnoName(9999), errnoText(9999)], ["errno 9999", "Unknown error"]);
});

Deno.test("nearest() finds what was meant, and nothing where nothing is near", () => {
  assertEquals(nearest("private-tmp", ["privatePid", "privateTmp"]), "privateTmp");
  assertEquals(nearest("hostnam", ["domainname", "hostname"]), "hostname");
  assertEquals(nearest("elephant", ["hostname", "privateTmp"]), undefined);
});
