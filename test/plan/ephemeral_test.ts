import { assertEquals } from "@std/assert";
import { type Entry, type Look, ViewPlanner, type ViewRequest, visibleMounts } from "../../src/plan/ephemeral.ts";

const MOUNTINFO = `20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
21 20 0:5 / /dev rw - devtmpfs udev rw
22 20 8:2 / /home rw - xfs /dev/sdb rw
23 22 0:30 / /home/me/mnt\\040point\\134x rw - tmpfs tmpfs rw
24 20 8:3 / /data rw - ext4 /dev/sdc rw
25 20 0:31 / /old rw - tmpfs a rw
26 25 0:32 / /old/below rw - tmpfs b rw
27 25 0:33 / /old rw - tmpfs c ro,size=4k
28 20 8:4 / /boot ro - vfat /dev/sdd rw
`;
/** What `mount --move` and pivot_root(2) leave: what came first is on what came later, and hidden by it or not. */
const MOVED = `30 29 0:40 / / rw - tmpfs r rw
21 30 0:5 / /dev rw,noexec - devtmpfs udev rw
22 21 0:6 / /dev/pts rw - devpts devpts rw
23 31 0:7 / /mnt/a rw - tmpfs a rw
31 30 0:8 / /mnt rw - tmpfs b rw
24 30 0:9 / /mnt/a/hidden rw - tmpfs c rw
`;

Deno.test("visibleMounts() leaves out what is covered, in whatever order it is told", () => {
  const shown = visibleMounts(MOUNTINFO).map(({ path, type, readonly }) => ({ path, type, readonly }));
  assertEquals(shown, [
    { path: "/", type: "ext4", readonly: false },
    { path: "/dev", type: "devtmpfs", readonly: false },
    { path: "/home", type: "xfs", readonly: false },
    { path: "/home/me/mnt point\\x", type: "tmpfs", readonly: false },
    { path: "/data", type: "ext4", readonly: false },
    { path: "/old", type: "tmpfs", readonly: true },
    { path: "/boot", type: "vfat", readonly: true },
  ]);
  const moved = visibleMounts(MOVED).map(({ path, noexec }) => `${path}${noexec ? " noexec" : ""}`);
  assertEquals(moved, ["/", "/dev noexec", "/dev/pts", "/mnt", "/mnt/a"]);
});

const FOLDERS: Readonly<Record<string, readonly Entry[]>> = {
  "/": [
    { name: "bin", type: "symlink" },
    ...["boot", "data", "dev", "home", "old", "usr", "secret"].map((name): Entry => ({ name, type: "directory" })),
    { name: "swap", type: "file" },
  ],
  "/home": [{ name: "me", type: "directory" }, { name: "you", type: "directory" }],
  "/home/me": [{ name: "mnt point\\x", type: "directory" }, { name: "work", type: "directory" }, {
    name: "note",
    type: "file",
  }],
};

const LOOK: Look = {
  mounts: [...visibleMounts(MOUNTINFO), {
    path: "/secret/mount",
    type: "ext4",
    readonly: false,
    noexec: true,
  }],
  entries: (path) => FOLDERS[path],
  isFolder: (path) => path !== "/file",
  link: () => "usr/bin",
  isWritable: (path) => path.startsWith("/home/me"),
  isOwn: (path) => path.startsWith("/home/me") || path.startsWith("/usr/src/mine"),
};

const REQUEST: ViewRequest = {
  store: "/data/store",
  hasUser: false,
  readonly: [],
  furnished: [],
};

/** What is mounted, in short. */
function shorten(request: Partial<ViewRequest>, look: Partial<Look> = {}): readonly string[] {
  const { root, mounts, last } = new ViewPlanner({ ...LOOK, ...look }, { ...REQUEST, ...request }).plan();
  const told = [...mounts, ...last].map((mount) => {
    const { type, target } = mount;
    return `${type} ${target}${mount.type === "bind" && mount.readonly === true ? " ro" : ""}`;
  });
  return [typeof root === "string" ? root : `overlay ${root.overlay.lower} ${root.overlay.upper}`, ...told];
}

const KERNEL = [
  "bind /proc",
  ...["acpi", "bus", "fs", "irq", "mtrr", "scsi", "sys", "sysrq-trigger"].map((name) => `bind /proc/${name} ro`),
  "bind /sys ro",
  "dev /dev",
  "hide /data/store",
];

Deno.test("ViewPlanner puts an overlay over each mount that can be under one", () => {
  assertEquals(shorten({}), [
    "overlay / /data/store/0/upper",
    "overlay /home",
    "overlay /home/me/mnt point\\x",
    "overlay /data",
    "bind /old ro",
    "bind /boot ro",
    "overlay /secret/mount",
    "remount /secret/mount",
    ...KERNEL,
  ]);
});

Deno.test("ViewPlanner leaves alone what is read-only or furnished", () => {
  assertEquals(shorten({ readonly: ["/home", "/usr"], furnished: ["/data", "/proc"] }), [
    "overlay / /data/store/0/upper",
    "bind /home ro",
    "bind /old ro",
    "bind /boot ro",
    "overlay /secret/mount",
    "remount /secret/mount",
    "bind /usr ro",
    ...KERNEL.slice(1),
  ]);
});

Deno.test("ViewPlanner makes the folders on the way to mounts anew in a user namespace", () => {
  const request = { hasUser: true };
  assertEquals(shorten(request), [
    "/data/store/root",
    "remount /",
    "bind /home/me",
    "bind /boot ro",
    "overlay /data",
    "overlay /home/me/mnt point\\x",
    "overlay /home/me/work",
    "bind /home/me/note ro",
    "overlay /home/you",
    "bind /old ro",
    "overlay /usr",
    "bind /secret ro",
    "bind /swap ro",
    ...KERNEL,
  ]);
  const planner = new ViewPlanner(LOOK, { ...REQUEST, ...request });
  const { made, layers, open, places } = planner.plan();
  assertEquals(open.map(({ path }) => path), ["/", "/home", "/home/me"]);
  assertEquals(layers.map(({ path }) => path), [
    "/data",
    "/home/me/mnt point\\x",
    "/home/me/work",
    "/home/you",
    "/usr",
  ]);
  assertEquals(made.slice(0, 3), [
    { type: "directory", path: "/data/store/root", like: "/" },
    { type: "symlink", path: "/data/store/root/bin", to: "usr/bin" },
    { type: "directory", path: "/data/store/root/boot", like: "/boot" },
  ]);
  for (const folder of ["/home/me", "/home/me/work", "/usr", "/data", "/proc/self"]) {
    assertEquals(planner.open(folder), []);
  }
  const more = planner.open("/usr/src/mine/at/work"); // The uppermost that is the caller's.
  const upper = "/data/store/5/upper";
  assertEquals(places, [
    { type: "overlay", target: "/usr/src/mine", lower: ["/usr/src/mine"], upper, work: "/data/store/5/work" },
  ]);
  assertEquals(more[1], { type: "directory", path: upper, like: "/usr/src/mine" });
  assertEquals(layers.at(-1), { path: "/usr/src/mine", upper, work: "/data/store/5/work" });
  for (const folder of ["/usr/src/mine", "/usr/src/mine/at", "/usr/src/mine/else"]) {
    assertEquals(planner.open(folder), []);
  }
  planner.open("/usr/src");
  assertEquals(places.map((mount) => "target" in mount && mount.target), ["/usr/src", "/usr/src/mine"]);
});

Deno.test("ViewPlanner leaves a root read-only that cannot be under an overlay, and leaves out what cannot be seen", () => {
  const mounts = LOOK.mounts.map((mount) => mount.path === "/" ? { ...mount, type: "fuse.bindfs" } : mount);
  const isFolder = (path: string) => path === "/secret/mount" ? undefined : true;
  const planned = shorten({}, { mounts, isFolder });
  assertEquals(planned.slice(0, 2), ["host", "remount /"]);
  assertEquals(planned.filter((mount) => mount.includes("/secret")), []);
});

Deno.test("ViewPlanner has nothing to be written to where the root is no mount", () => {
  const mounts = LOOK.mounts.filter(({ path }) => path === "/home");
  const planned = shorten({ hasUser: true }, { mounts });
  assertEquals(planned.filter((mount) => mount.includes("/usr")), ["bind /usr ro"]);
});
