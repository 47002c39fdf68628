import { assertEquals, assertThrows } from "@std/assert";
import { type MountOptions, Namespace, type NamespaceOptions } from "../../mod.ts";
import { picture } from "../../src/plan/picture.ts";
import { validate } from "../../src/options.ts";
import { sandboxOptions } from "../../src/sandbox.ts";

const wrong = (options: unknown, Class: typeof TypeError | typeof RangeError, text: string): void => {
  assertThrows(() => validate(options as NamespaceOptions), Class, text);
};
const wrongMount = (mount: unknown, Class: typeof TypeError | typeof RangeError, text: string): void =>
  wrong({ mounts: [mount] }, Class, text);

Deno.test("validate() refuses roots that cannot be", () => {
  wrong({ root: "usr" }, RangeError, `Option "root" must be an absolute path: got "usr"`);
  wrong({ root: "/a/../b" }, RangeError, `Option "root" must be a path without ".."`);
  wrong({ root: 5 }, TypeError, `Option "root" must be "host", "empty", a folder or`);
  wrong({ root: { overlay: { lower: "/" } } }, TypeError, `Option "root.overlay.lower" must be an array`);
  wrong({ root: { overlay: { lower: ["/a"] } } }, RangeError, `must have two folders or "upper" beside it: got 1`);
  wrong({ root: { overlay: { lower: [], upper: "tmpfs" } } }, RangeError, "must have a folder: got 0");
  wrong({ root: { overlay: { lower: ["/a"], upper: "/b" } } }, TypeError, `needs "root.overlay.work" beside it`);
  wrong(
    { root: { overlay: { lower: ["/a"], upper: "tmpfs", work: "/b" } } },
    TypeError,
    "means something only together",
  );
  wrong({ root: "empty", privateMount: false }, TypeError, `"root" implies "privateMount"`);
});

Deno.test("validate() refuses mounts that cannot be", () => {
  wrong({ mounts: {} }, TypeError, `Option "mounts" must be an array`);
  wrongMount("x", TypeError, `Option "mounts[0]" must be an object`);
  wrongMount({ type: "bnd" }, TypeError, `Option "mounts[0].type" must be one of "bind", "tmpfs"`);
  wrongMount({ type: "bind" }, TypeError, `Option "mounts[0].source" must be a string`);
  wrongMount({ type: "bind", source: "a" }, RangeError, `Option "mounts[0].source" must be an absolute path`);
  wrongMount({ type: "bind", source: "/a/../b" }, RangeError, `must be a path without ".."`);
  wrongMount({ type: "bind", source: "/a", target: "/../b" }, RangeError, `"mounts[0].target" must be a path without`);
  wrongMount({ type: "bind", source: "/a\0" }, TypeError, "must not contain a NUL");
  wrongMount({ type: "bind", source: "/" }, RangeError, `must not be "/"`);
  wrongMount({ type: "bind", source: "/a", readOnly: true }, TypeError, `did you mean "mounts[0].readonly"?`);
  wrongMount(
    { type: "bind", source: "/a", ifMissing: "ignore" },
    TypeError,
    `must be one of "error", "skip", "create"`,
  );
  wrongMount({ type: "tmpfs", target: "/a", size: "big" }, RangeError, `Option "mounts[0].size"`);
  wrongMount({ type: "tmpfs", target: "/a", mode: 0o10000 }, RangeError, `Option "mounts[0].mode"`);
  wrongMount({ type: "proc", hidepid: "2" }, TypeError, `"mounts[0].hidepid" must be one of`);
  wrongMount({ type: "file", target: "/a", content: 5 }, TypeError, "must be a string or a Uint8Array");
  wrongMount({ type: "symlink", target: "/a", to: "/b" }, TypeError, "would make a symbolic link outside");
  wrongMount({ type: "remount", target: "/" }, TypeError, "must say which of readonly");
  wrongMount({ type: "overlay", target: "/a", lower: ["/b"] }, RangeError, `must have two folders`);
  wrong({ mounts: [{ type: "hide", target: "/a" }], privateMount: false }, TypeError, `implies "privateMount"`);
});

Deno.test("a plan has as many steps for each of 2,000 binds as for one of 20, and no loop", () => {
  const steps = (count: number): number => {
    const binds = Array.from({ length: count }, (_, index): MountOptions => {
      return { type: "bind", source: "/etc", target: `/mnt/${index}`, readonly: true };
    });
    const mounts: MountOptions[] = [{ type: "tmpfs", target: "/mnt" }, ...binds];
    return new Namespace({ mounts }).explain("/bin/true", { as: { uid: 0 } }).steps.length;
  };
  const [few, many] = [steps(20), steps(2_000)];
  assertEquals(many - few, 1_980 * 8);
});

Deno.test("sandboxOptions() lets any option take the place of its own", () => {
  const preset = sandboxOptions();
  assertEquals(sandboxOptions({ privateNet: undefined }), preset);
  assertEquals(sandboxOptions({ privateNet: false }), { ...preset, privateNet: false });
  const { env, ...rest } = preset;
  assertEquals({ ...sandboxOptions({ root: "/srv" }), mounts: [] }, { ...rest, root: "/srv", mounts: [] });
  assertEquals(sandboxOptions({ env: { USER: "me", A: "1" } }), { ...preset, env: { ...env, USER: "me", A: "1" } });
  assertEquals(validate(sandboxOptions({ seccomp: false })).seccomp, undefined);
  const dropped: NamespaceOptions["capabilities"] = { drop: ["CAP_MKNOD", "CAP_SETFCAP"] };
  const { disableUserNamespaces: _, ...others } = preset;
  assertEquals(sandboxOptions({ privateUser: true }), { ...others, privateUser: true, capabilities: dropped });
  assertEquals(sandboxOptions({ privateUser: true, capabilities: "none" }).capabilities, "none");
  const mine: MountOptions = { type: "tmpfs", target: "/mine" };
  assertEquals(sandboxOptions({ mounts: [mine] }).mounts!.at(-2), mine);
  const { mounts } = sandboxOptions({ privatePid: false });
  assertEquals(mounts!.filter((mount) => "source" in mount && mount.source.startsWith("/proc")), []);
  const overlay = { lower: ["/usr"], upper: "tmpfs" };
  assertEquals(sandboxOptions({ root: { overlay }, noProc: true }).mounts, []); // It would be made there.
});

Deno.test("sandboxOptions() hides by both names what is in /usr and in / where the one is a link to the other", () => {
  const others = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
  const cases: [string, string[]][] = [
    ["/usr/lib/x", ["/lib/x"]],
    ["/lib64", ["/usr/lib64"]],
    ["//usr/./bin//", ["/bin"]],
    ["/usr", others],
    ["/usr/library", []],
    ["/usr/share/lib", []],
    ["/home/bin", []],
  ];
  for (const [target, expected] of cases) {
    const { mounts } = sandboxOptions({ mounts: [{ type: "hide", target }] });
    const at = mounts!.findIndex((mount) => mount.type === "hide" && mount.target === target);
    const found = mounts!.slice(at + 1, -1);
    assertEquals(found, expected.map((target): MountOptions => ({ type: "hide", target })), target);
    assertEquals(sandboxOptions({ root: "/", mounts: [{ type: "hide", target }] }).mounts!.at(-1)!.target, target);
  }
});

Deno.test("sandboxOptions() leaves it to validate() to refuse mounts that are none", () => {
  const wrongs = [5, "x", [null], Array(1), [{ type: "hide" }], [{ type: "hide", target: 5 }], [{
    type: "proc",
    target: 5,
  }]];
  for (const mounts of wrongs) {
    assertThrows(() => validate(sandboxOptions({ mounts: mounts as MountOptions[] })), TypeError, `Option "mounts`);
  }
});

Deno.test("picture() shows what is mounted in a root of its own, where it is", () => {
  const mounts: MountOptions[] = [{ type: "tmpfs", target: "/a" }, {
    type: "bind",
    source: "/etc",
    target: "/b",
    readonly: true,
  }];
  const lines = picture(new Namespace({ root: "empty", mounts, privateTmp: true }).explain("x", { as: { uid: 0 } }));
  const shown = [...lines.matchAll(/mount\d+\[\("(.*?)(?:<br>.*)?"\)\]/g)].map(([, title]) => title);
  assertEquals(shown, ["tmpfs as the new root", "tmpfs at /tmp", "tmpfs at /a", "bind /etc read-only at /b"]);
});
