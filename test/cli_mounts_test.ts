import { assertEquals, assertThrows } from "@std/assert";
import { parseCommandLine } from "../src/cli/arguments.ts";
import { spelled, UsageError } from "../src/cli/words.ts";
import { validate } from "../src/options.ts";
import { sandboxOptions } from "../src/sandbox.ts";

/** What a line asks for, without what is undefined. */
function asked(line: readonly string[]): unknown {
  const { root, mounts } = parseCommandLine([...line, "true"]).namespace;
  return JSON.parse(JSON.stringify({ root, mounts }));
}

Deno.test("options of mounts keep their order", () => {
  const line = [
    "--tmpfs",
    "/a",
    "--ro-bind=/b",
    "--hide",
    "/c",
    "--tmpfs=/d:size=1m,mode=700,nr-inodes=5",
    "--bind",
    "/e:/f",
  ];
  assertEquals(asked(line), {
    mounts: [
      { type: "tmpfs", target: "/a" },
      { type: "bind", source: "/b", readonly: true },
      { type: "hide", target: "/c" },
      { type: "tmpfs", target: "/d", size: "1m", mode: "700", nrInodes: "5" },
      { type: "bind", source: "/e", target: "/f" },
    ],
  });
});

Deno.test("each option of mounts is what the library takes", () => {
  const cases: readonly (readonly [string, string, unknown])[] = [
    ["bind", "/a:/b:ro,nosuid,inside,no-recursive,if-missing=skip", {
      ...{ type: "bind", source: "/a", target: "/b", readonly: true, nosuid: true, inside: true },
      ...{ recursive: false, ifMissing: "skip" },
    }],
    ["bind", String.raw`/a\:b:/c\\d`, { type: "bind", source: "/a:b", target: "/c\\d" }],
    ["proc", "/p:ro,hidepid=invisible,subset=pid", {
      ...{ type: "proc", target: "/p", readonly: true, hidepid: "invisible", subset: "pid" },
    }],
    ["dev", "/dev", { type: "dev", target: "/dev" }],
    ["mqueue", "/q", { type: "mqueue", target: "/q" }],
    ["sysfs", "/s:rw", { type: "sysfs", target: "/s", readonly: false }],
    ["overlay", String.raw`/o:lower=/a\,b,lower=/c,upper=/u,work=/w`, {
      ...{ type: "overlay", target: "/o", lower: ["/a,b", "/c"], upper: "/u", work: "/w" },
    }],
    ["symlink", "to:/l", { type: "symlink", target: "/l", to: "to" }],
    ["dir", "/d:mode=700", { type: "dir", target: "/d", mode: "700" }],
    ["file", "/f:a:b\\c", { type: "file", target: "/f", content: "a:b\\c" }],
    ["remount", "/:ro,dev,no-recursive", {
      type: "remount",
      target: "/",
      readonly: true,
      nodev: false,
      recursive: false,
    }],
  ];
  for (const [option, value, mount] of cases) {
    const mounts = parseCommandLine([`--${option}`, value, "true"]).namespace.mounts!;
    assertEquals(JSON.parse(JSON.stringify(mounts)), [mount], option);
    validate({ root: "empty", mounts });
  }
  assertEquals(asked(["--root", "overlay:lower=/,upper=tmpfs"]), {
    root: { overlay: { lower: ["/"], upper: "tmpfs" } },
  });
  assertEquals(asked(["--root=empty"]), { root: "empty" });
});

Deno.test("--sandbox is the preset, and takes other options over its own", () => {
  const { namespace } = parseCommandLine(["--sandbox", "--hostname=box", "--ro-bind", "/etc", "true"]);
  assertEquals(
    validate(namespace),
    validate(sandboxOptions({
      hostname: "box",
      termChild: true,
      mounts: [{ type: "bind", source: "/etc", readonly: true }],
    })),
  );
});

Deno.test("options of mounts that make no sense are refused", () => {
  for (
    const [line, text] of [
      [["--bind"], "--bind needs a value"],
      [["--bind", "/a:/b:rw:c"], "has too many colons"],
      [["--bind", "/a:/b:readonly"], `Unknown part "readonly" of --bind`],
      [["--tmpfs", "/a:sizes=5"], `did you mean "size"?`],
      [["--symlink", "/a"], "--symlink must be TO:PATH"],
      [["--file", "/a"], "--file must be PATH:TEXT"],
      [["--overlay", "/a:up=/b"], "must have lower=DIR"],
      [["--dev", "/a:x"], `Unknown part "x" of --dev`],
    ] as const
  ) {
    assertThrows(() => parseCommandLine(line), UsageError, text);
  }
  assertEquals(spelled("mounts[2].target"), "mount 3 (target)");
});
