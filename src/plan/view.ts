/**
 * What is seen of the file system: a root of its own, and what is mounted in it.
 *
 * A new root is put together beside the old one, on a tmpfs of ours, the stage, which is the root of the mount namespace
 * meanwhile and has both on it:
 *
 *     stage/old   what was / so far. It is the root of the process until the end (chroot), so that every path of the
 *                 outside, and every symbolic link in one, leads where it leads outside
 *     stage/new   the new root. It is reached by a descriptor alone, and openat2(2) with RESOLVE_IN_ROOT, to which a
 *                 symbolic link or ".." cannot be a way out
 *
 * Sources come as descriptors of mounts that are attached nowhere (open_tree, fsmount) and are moved to descriptors of
 * their targets (move_mount): between a look and a deed there is no path that somebody could change. In the end the new
 * root becomes the root of the namespace, and the stage goes with all that is on it.
 *
 * @module
 */

import { MNT_DETACH, MOUNT_FLAG_NAMES, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY } from "../abi/mount.ts";
import {
  Covers,
  type FileSystemSettings,
  type FlagSettings,
  type LayerSettings,
  type MountSettings,
  parentOf,
  type RootSettings,
  type ViewSettings,
} from "../options_mounts.ts";
import { AT_FDCWD, O_CLOEXEC_PATH } from "./files.ts";
import { type Argument, type Bytes, flags, type Named, type Step } from "./step.ts";
import { PEER_FLAGS, TAKE_TERMINAL, TERMINAL_FILE } from "./terminal.ts";

const FSOPEN_CLOEXEC: Named = { value: 1, name: "FSOPEN_CLOEXEC" };
const FSCONFIG_CMD_CREATE: Named = { value: 6, name: "FSCONFIG_CMD_CREATE" };
const FSMOUNT_CLOEXEC: Named = { value: 1, name: "FSMOUNT_CLOEXEC" };
const SEALED: Named = { value: 0xe, name: "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV|MOUNT_ATTR_NOEXEC" };
const F_EMPTY: Named = { value: 4, name: "MOVE_MOUNT_F_EMPTY_PATH" };
const T_EMPTY: Named = { value: 0x40, name: "MOVE_MOUNT_T_EMPTY_PATH" };
const BOTH_EMPTY: Named = { value: 0x44, name: "MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH" };
const CLONE_ONE: Named = { value: 0o2000001, name: "OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC" };
const CLONE_THIS: Named = { value: 0o2000001 | 0x1000, name: "OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH" };
const CLONE_ALL: Named = { value: 0o2000001 | 0x8000, name: "OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_RECURSIVE" };
const CLONE_ALL_THIS: Named = {
  value: 0o2000001 | 0x9000,
  name: "OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH|AT_RECURSIVE",
};
const EMPTY_PATH: Named = { value: 0x1000, name: "AT_EMPTY_PATH" };
const EMPTY_PATH_ALL: Named = { value: 0x9000, name: "AT_EMPTY_PATH|AT_RECURSIVE" };
const MNT_DETACHED: Named = { value: MNT_DETACH, name: "MNT_DETACH" };
const F_OK: Named = { value: 0, name: "F_OK" };
const ATTRIBUTES = [["readonly", 1, "RDONLY"], ["nosuid", 2, "NOSUID"], ["nodev", 4, "NODEV"], [
  "noexec",
  8,
  "NOEXEC",
]] as const;
/**
 * What is written is all in the upper layer, whatever the system's defaults for overlays are: no folder that was renamed
 * is a mark that says where it was (redirect_dir), nor a file one that its content is below (metacopy, which goes with it).
 * In a user namespace `userxattr` has that effect: https://docs.kernel.org/filesystems/overlayfs.html
 */
const WHOLE_COPIES = ["redirect_dir=nofollow", "index=off"] as const;
const ATTR_SIZE = 32;
const HOW_SIZE = 24;
const S_IFREG = 0o100000;

/** Finds what is inside, and never leaves it. */
const IN_ROOT = how(0o12000000, "O_RDONLY|O_CLOEXEC|O_PATH", 0x12, "RESOLVE_NO_MAGICLINKS|RESOLVE_IN_ROOT");
/** Finds a folder in which something is to be made: a link could lead to one that is the outside's. */
const NO_LINKS = how(
  0o12000000,
  "O_RDONLY|O_CLOEXEC|O_PATH",
  0x16,
  "RESOLVE_NO_MAGICLINKS|RESOLVE_NO_SYMLINKS|RESOLVE_IN_ROOT",
);
/** Opens a file that was just made. */
const TO_WRITE = how(0o2001001, "O_WRONLY|O_TRUNC|O_CLOEXEC", 4, "RESOLVE_NO_SYMLINKS");

const DEVICE_FLAGS = { readonly: true, nosuid: true, noexec: true } as const;
const DEVICES = ["null", "zero", "full", "random", "urandom", "tty"] as const;
const DEVICE_LINKS = [
  ["fd", "/proc/self/fd"],
  ["stdin", "/proc/self/fd/0"],
  ["stdout", "/proc/self/fd/1"],
  ["stderr", "/proc/self/fd/2"],
  ["ptmx", "pts/ptmx"],
] as const;

/** A file system that another option asks for: its target is made in the new root, too. */
export interface Furniture {
  readonly target: string;
  /** mount(2) at another place. */
  readonly mount: Step;
}

/**
 * Plans what is seen.
 *
 * @param furniture What is mounted before the mounts that were asked for.
 * @param hasUser Whether it is done in a user namespace, where the kernel allows less.
 * @param hasTerminal Whether the command has a terminal of its own.
 */
export function furnishView(
  view: ViewSettings,
  furniture: readonly Furniture[],
  hasUser: boolean,
  hasTerminal: boolean,
): readonly Step[] {
  const { root, mounts, ephemeral = 0 } = view;
  const plan = new ViewPlan(root, hasUser, hasTerminal, view.ephemeral === undefined ? "root" : "ephemeral");
  for (const { target, mount } of furniture) plan.addFileSystem(target, mount);
  for (const mount of mounts.slice(0, ephemeral)) plan.add(mount, "ephemeral");
  plan.sourcesAreInside = view.ephemeral !== undefined; // What is bound is written to, and that is not to be done outside.
  for (const mount of mounts.slice(ephemeral)) plan.add(mount, "mounts");
  return plan.finish();
}

type Descriptor = { readonly resultOf: Step };
type Details = Pick<Step, "tolerate" | "skip" | "again">;
/** openat2(2): something was renamed or mounted, anywhere, while ".." was followed in a scope. */
const RACE: Details = { again: "EAGAIN" };

class ViewPlan {
  readonly #steps: Step[] = [];
  readonly #covers: Covers;
  readonly #hasUser: boolean;
  readonly #hasTerminal: boolean;
  readonly #mask: Descriptor;
  readonly #stage: Descriptor;
  readonly #root: Descriptor;
  /** The folder that was last made something in: 2,000 mounts are often in one. */
  #parent: { readonly path: string; readonly fd: Descriptor } | undefined;
  /** Symbolic links that were made. */
  readonly #links = new Set<string>();
  /** What is on the stage beside the two roots. */
  #props = 0;
  #hasHidden = false;
  #isOnStage = true;
  readonly #rootOption: string;
  #option: string;
  /** Whether what is bound is looked up in the new root, and not outside. */
  sourcesAreInside = false;

  constructor(root: RootSettings, hasUser: boolean, hasTerminal: boolean, option: string) {
    this.#rootOption = this.#option = option;
    this.#covers = new Covers(root);
    this.#hasUser = hasUser;
    this.#hasTerminal = hasTerminal;
    this.#mask = this.#step("umask", [0], "give what is made the permissions it is to have");
    const what = "make the stage for the new root";
    const tmpfs = this.#step("fsopen", ["tmpfs", FSOPEN_CLOEXEC], what);
    this.#step("fsconfig", [tmpfs, FSCONFIG_CMD_CREATE, null, null, 0], what);
    this.#stage = this.#step("fsmount", [tmpfs, FSMOUNT_CLOEXEC, SEALED], what);
    this.#step("move_mount", [this.#stage, "", AT_FDCWD, "/", F_EMPTY], what);
    for (const name of ["old", "new"]) this.#step("mkdirat", [this.#stage, name, mode(0o700)], what);
    this.#step("fchdir", [this.#stage], what);
    this.#step("pivot_root", [".", "old"], "put the old root aside");
    this.#step("chroot", ["old"], "keep to the old root, for the sources of mounts");
    this.#mountRoot(root);
    this.#root = this.#step("openat", [AT_FDCWD, "new", O_CLOEXEC_PATH], "open the new root");
  }

  /**
   * The new root becomes the only one. What the child has opened at a path of the outside, /dev/null or its executable,
   * leads on to the mount that it was opened through, by /proc/self. So all of the old ones are made read-only: these are
   * the child's own, and what is bound inside is apart from them.
   */
  finish(): readonly Step[] {
    this.#option = this.#rootOption;
    const what = "make the old root read-only";
    const old = this.#step("openat", [this.#stage, "old", O_CLOEXEC_PATH], what);
    this.#setAttributes(old, EMPTY_PATH_ALL, { readonly: true }, what);
    this.#close(old, what);
    this.#step("fchdir", [this.#stage], "leave the old root");
    this.#step("chroot", ["."], "leave the old root");
    this.#step("fchdir", [this.#root], "enter the new root");
    this.#step("pivot_root", [".", "."], "make the new root the only one");
    this.#step("umount2", [".", MNT_DETACHED], "let go of the old root");
    this.#step("umask", [this.#mask], "restore the umask");
    return this.#steps;
  }

  addFileSystem(target: string, { args: [source, , type, attributes, data], what, option }: Step): void {
    const before = this.#option;
    this.#option = option!;
    this.#enterTarget(target, what);
    this.#step("mount", [source!, ".", type!, attributes!, data!], what);
    this.#option = before;
    this.#covers.add({ type: "tmpfs", target, readonly: false, noexec: false, data: null });
    if (type === "proc") this.#covers.add({ type: "proc", target, readonly: false, noexec: true, data: null });
    this.#uncache(target);
  }

  add(mount: MountSettings, option: string): void {
    this.#option = option;
    switch (mount.type) {
      case "bind":
        this.#bind(mount);
        break;
      case "dev":
        this.#dev(mount.target);
        break;
      case "overlay":
        this.#overlay(mount.target, mount.layers);
        break;
      case "symlink": {
        const what = `make the symbolic link "${mount.target}"`;
        this.#step("symlinkat", [mount.to, this.#parentOf(mount.target, what), nameOf(mount.target)], what);
        this.#links.add(mount.target);
        break;
      }
      case "dir":
        this.#dir(mount.target, mount.mode);
        break;
      case "file":
        this.#file(mount);
        break;
      case "remount":
        this.#remount(mount);
        break;
      case "hide":
        this.#hide(mount.target);
        break;
      default:
        this.#fileSystem(mount);
    }
    this.#covers.add(mount);
    if (mount.type !== "symlink" && mount.type !== "dir" && mount.type !== "remount") this.#uncache(mount.target);
  }

  #step(call: Step["call"], args: readonly Argument[], what: string, details?: Details): Descriptor {
    const step: Step = { call, args, what, option: this.#option, ...details };
    this.#steps.push(step);
    return { resultOf: step };
  }

  #close(fd: Descriptor, what: string, details?: Details): void {
    this.#step("close", [fd], what, details);
  }

  /** Leaves the steps out that `work` adds, after these errnos of the step that it begins with. */
  #unless(errnos: readonly string[], work: () => void): void {
    const from = this.#steps.length;
    work();
    const first = this.#steps[from]!;
    const left = this.#steps.length - from - 1;
    const tolerate = errnos.map((errno) => [errno, left] as const);
    Object.assign(first, { tolerate: [...first.tolerate ?? [], ...tolerate] });
  }

  #mountRoot(root: RootSettings): void {
    if (root === "empty") {
      const what = "mount tmpfs as the new root";
      this.#step("mount", ["tmpfs", "new", "tmpfs", flags(MS_NOSUID | MS_NODEV, MOUNT_FLAG_NAMES), "mode=755"], what);
    } else if ("folder" in root) {
      const what = root.folder === "/"
        ? "make a copy of all mounts as the new root"
        : `make "${root.folder}" the new root`;
      const tree = this.#step("open_tree", [AT_FDCWD, root.folder, CLONE_ALL], what);
      this.#step("move_mount", [tree, "", AT_FDCWD, "new", F_EMPTY], what);
      this.#close(tree, what);
    } else {
      this.#mountOverlay("new", root.overlay, "mount an overlay as the new root");
    }
  }

  /** Finds a place inside. */
  #open(path: string, what: string): Descriptor {
    return this.#step("openat2", [this.#root, path, IN_ROOT, HOW_SIZE], what, RACE);
  }

  /** The folder that something is to be made in, made if need be. */
  #parentOf(path: string, what: string): Descriptor {
    const parent = parentOf(path);
    if (parent === "/") return this.#root;
    if (this.#parent?.path === parent) return this.#parent.fd;
    const { path: cover } = this.#covers.of(path);
    const start = cover === "/" ? 1 : cover.length + 1;
    for (let end = parent.indexOf("/", start);; end = parent.indexOf("/", end + 1)) {
      const folder = end < 0 ? parent : parent.slice(0, end);
      if (folder.length > cover.length) this.#makeFolder(folder, what);
      if (end < 0) break;
    }
    if (this.#parent !== undefined) this.#close(this.#parent.fd, what);
    const fd = this.#openToMake(parent, what);
    this.#parent = { path: parent, fd };
    return fd;
  }

  #makeFolder(folder: string, what: string): void {
    const above = parentOf(folder);
    const fd = above === "/" ? this.#root : this.#openToMake(above, what);
    this.#step("mkdirat", [fd, nameOf(folder), mode(0o755)], what, { tolerate: [["EEXIST", 0]] });
    if (fd !== this.#root) this.#close(fd, what);
  }

  #openToMake(path: string, what: string): Descriptor {
    return this.#step("openat2", [this.#root, path, NO_LINKS, HOW_SIZE], what, RACE);
  }

  /** What was found below a path is covered by something else now. */
  #uncache(target: string): void {
    if (this.#parent === undefined || !`${this.#parent.path}/`.startsWith(`${target}/`)) return;
    this.#close(this.#parent.fd, `cover "${target}"`);
    this.#parent = undefined;
  }

  #makeTargetFolder(target: string, what: string): void {
    if (!this.#covers.of(target).makes || this.#covers.of(target).path === target) return;
    const parent = this.#parentOf(target, what);
    this.#step("mkdirat", [parent, nameOf(target), mode(0o755)], what, { tolerate: [["EEXIST", 0]] });
  }

  /** Makes a folder where that can be, and makes it the current one. */
  #enterTarget(target: string, what: string): void {
    this.#makeTargetFolder(target, what);
    this.#enter(this.#open(target, what), what);
  }

  #enter(fd: Descriptor, what: string): void {
    this.#step("fchdir", [fd], what);
    this.#close(fd, what);
    this.#isOnStage = false;
  }

  #enterStage(what: string): void {
    if (!this.#isOnStage) this.#step("fchdir", [this.#stage], what);
    this.#isOnStage = true;
  }

  #fileSystem({ type, target, readonly, noexec, data }: FileSystemSettings): void {
    const what = `mount ${type} at "${target}"`;
    this.#enterTarget(target, what);
    const attributes = MS_NOSUID | MS_NODEV | (noexec ? MS_NOEXEC : 0) | (readonly ? MS_RDONLY : 0);
    this.#step("mount", [type, ".", type, flags(attributes, MOUNT_FLAG_NAMES), data], what);
  }

  #bind(
    { source, target, recursive, flags, inside, ifMissing }: Extract<MountSettings, { type: "bind" }>,
  ): void {
    const isInside = inside || this.sourcesAreInside;
    const what = `bind "${source}"${flags.readonly ? " read-only" : ""}${source === target ? "" : ` at "${target}"`}`;
    if (ifMissing === "create") this.#makeSource(source, isInside);
    const cover = this.#covers.of(target);
    const parent = cover.makes && cover.path !== target ? this.#parentOf(target, what) : undefined;
    this.#unless(ifMissing === "skip" ? ["ENOENT", "ENOTDIR"] : [], () => {
      const tree = this.#source(source, recursive, isInside, what);
      if (parent !== undefined) this.#makeLike(tree, parent, nameOf(target), what);
      if (parent !== undefined && cover.isBare && !this.#links.has(target)) { // It is what was made just now, or before.
        this.#step("move_mount", [tree, "", parent, nameOf(target), F_EMPTY], what);
        if (Object.keys(flags).length > 0) this.#setAttributes(tree, EMPTY_PATH_ALL, flags, what);
      } else {this.#unless(ifMissing === "skip" ? ["ENOENT", "ENOTDIR"] : [], () => {
          const place = this.#open(target, what);
          this.#step("move_mount", [tree, "", place, "", BOTH_EMPTY], what);
          if (Object.keys(flags).length > 0) this.#setAttributes(tree, EMPTY_PATH_ALL, flags, what);
          this.#close(place, what);
        });}
      this.#close(tree, what);
    });
  }

  /**
   * Two steps. A mount that is attached nowhere cannot be changed before Linux 5.12, so it is done once it has its place:
   * nobody is inside yet.
   */
  #setAttributes(mount: Descriptor, depth: Named, flags: FlagSettings, what: string): void {
    const args = [mount, "", depth, attributesOf(flags), ATTR_SIZE];
    this.#step("mount_setattr", args, what, { tolerate: [["ENOSYS", 0]], skip: 1 });
    this.#step("remount_tree", [...args, this.#stage], what);
  }

  /** What is at a path, attached nowhere. */
  #source(path: string, recursive: boolean, isInside: boolean, what: string): Descriptor {
    if (!isInside) {
      return this.#step("open_tree", [AT_FDCWD, path, recursive ? CLONE_ALL : CLONE_ONE], what);
    }
    const place = this.#open(path, what);
    const tree = this.#step("open_tree", [place, "", recursive ? CLONE_ALL_THIS : CLONE_THIS], what);
    this.#close(place, what);
    return tree;
  }

  /** Makes the folder that is to be bound, which was asked for in so many words. */
  #makeSource(source: string, isInside: boolean): void {
    const where = isInside ? "" : " outside";
    for (let end = source.indexOf("/", 1);; end = source.indexOf("/", end + 1)) {
      const folder = end < 0 ? source : source.slice(0, end);
      const what = `make the folder "${folder}"${where}`;
      if (isInside) this.#makeFolder(folder, what);
      else this.#step("mkdirat", [AT_FDCWD, folder, mode(0o755)], what, { tolerate: [["EEXIST", 0]] });
      if (end < 0) return;
    }
  }

  /** Makes a folder or a file, as the source is one or the other: what is no folder has no ".". */
  #makeLike(source: Descriptor, parent: Descriptor, name: string, what: string): void {
    const there = [["EEXIST", 0]] as const;
    this.#step("faccessat", [source, ".", F_OK], what, { tolerate: [["ENOTDIR", 1], ["EACCES", 0]] });
    this.#step("mkdirat", [parent, name, mode(0o755)], what, { tolerate: [["EEXIST", 1]], skip: 1 });
    this.#step("mknodat", [parent, name, fileMode(0o644)], what, { tolerate: there });
  }

  #dev(target: string): void {
    const what = `make a small /dev at "${target}"`;
    this.#enterTarget(target, what);
    const attributes = flags(MS_NOSUID | MS_NODEV | MS_NOEXEC, MOUNT_FLAG_NAMES);
    this.#step("mount", ["tmpfs", ".", "tmpfs", attributes, "mode=755"], what); // With /dev/shm in it.
    const dev = this.#open(target, what);
    for (const name of DEVICES) {
      const device = `bind "/dev/${name}"`;
      const tree = this.#step("open_tree", [AT_FDCWD, `/dev/${name}`, CLONE_ONE], device);
      this.#step("mknodat", [dev, name, fileMode(0o666)], device);
      this.#step("move_mount", [tree, "", dev, name, F_EMPTY], device);
      // It may belong to the caller, and so to the command. What is written to a device is written to no file system.
      this.#setAttributes(tree, EMPTY_PATH, DEVICE_FLAGS, device);
      this.#close(tree, device);
    }
    for (const [name, to] of DEVICE_LINKS) this.#step("symlinkat", [to, dev, name], what);
    this.#step("mkdirat", [dev, "shm", mode(0o1777)], what);
    this.#step("mkdirat", [dev, "pts", mode(0o755)], what);
    this.#enter(this.#step("openat", [dev, "pts", O_CLOEXEC_PATH], what), what);
    const data = "newinstance,ptmxmode=0666,mode=620";
    const pts = flags(MS_NOSUID | MS_NOEXEC, MOUNT_FLAG_NAMES);
    this.#step("mount", ["devpts", ".", "devpts", pts, data], `mount devpts at "${target}/pts"`);
    if (this.#hasTerminal) this.#console(dev, target);
    this.#close(dev, what);
  }

  /**
   * The command's own terminal, which is of the outside's devpts, gets a name inside, and is opened by it, so that
   * ttyname(3) finds one. Without a file of it outside there is none.
   */
  #console(dev: Descriptor, target: string): void {
    const before = this.#option;
    this.#option = "tty";
    const what = `bind the terminal at "${target}/console"`;
    this.#unless(["ENOENT", "EACCES"], () => {
      const file = this.#step("openat", [AT_FDCWD, TERMINAL_FILE, PEER_FLAGS], what);
      // Of any other terminal than its own, the kernel refuses that.
      this.#unless(["EPERM"], () => {
        this.#step("ioctl", [file, ...TAKE_TERMINAL[1]!.args.slice(1)], "make sure that it is the terminal");
        const tree = this.#step("open_tree", [file, "", CLONE_THIS], what);
        this.#step("mknodat", [dev, "console", fileMode(0o600)], what);
        this.#step("move_mount", [tree, "", dev, "console", F_EMPTY], what);
        this.#close(tree, what);
        if (target !== "/dev") return;
        const console = this.#step("openat", [dev, "console", PEER_FLAGS], what);
        for (const fd of [0, 1, 2]) this.#step("dup3", [console, fd, 0], `connect "/dev/console"`);
        this.#close(console, what);
      });
      this.#close(file, what);
    });
    this.#option = before;
  }

  #overlay(target: string, layers: LayerSettings): void {
    const what = `mount an overlay at "${target}"`;
    this.#makeTargetFolder(target, what);
    this.#enterStage(what);
    const name = this.#prop();
    this.#step("mkdirat", [this.#stage, name, mode(0o700)], what);
    this.#mountOverlay(name, layers, what);
    const place = this.#open(target, what);
    this.#step("move_mount", [this.#stage, name, place, "", T_EMPTY], what);
    this.#close(place, what);
  }

  /** Mounts an overlay on the stage, which is the current folder. */
  #mountOverlay(name: string, { lower, upper, volatile = false }: LayerSettings, what: string): void {
    const parts = [`lowerdir=${lower.map(layerName).join(":")}`];
    if (upper === "tmpfs") {
      for (const [part, permissions] of [["upper", 0o755], ["work", 0o700]] as const) {
        const folder = this.#prop();
        this.#step("mkdirat", [this.#stage, folder, mode(permissions)], what);
        parts.push(`${part}dir=${folder}`);
      }
    } else if (upper !== undefined) {
      parts.push(`upperdir=${layerName(upper.path)}`, `workdir=${layerName(upper.work)}`);
    }
    if (this.#hasUser) parts.push("userxattr");
    if (volatile) parts.push(...this.#hasUser ? [] : WHOLE_COPIES, "volatile");
    this.#step(
      "mount",
      ["overlay", name, "overlay", flags(MS_NOSUID | MS_NODEV, MOUNT_FLAG_NAMES), parts.join(",")],
      what,
    );
  }

  #prop(): string {
    return `prop${this.#props++}`;
  }

  /** What is there already has to be a folder; it gets the permissions where these are given, and it is no outside's. */
  #dir(target: string, permissions: number | undefined): void {
    const what = `make the folder "${target}"`;
    const cover = this.#covers.of(target);
    const changes = cover.makes && permissions !== undefined;
    if (cover.makes && cover.path !== target) {
      const parent = this.#parentOf(target, what);
      // mkdirat(2) leaves out set-user-ID and set-group-ID bits.
      const isWhole = ((permissions ?? 0) & 0o6000) === 0;
      const made = mode((permissions ?? 0o755) & 0o1777);
      this.#step("mkdirat", [parent, nameOf(target), made], what, {
        tolerate: [["EEXIST", 0]],
        ...(isWhole ? { skip: 3 } : {}),
      });
    }
    const folder = changes ? this.#openToMake(target, what) : this.#open(target, what);
    if (changes) this.#step("fchmodat", [folder, ".", mode(permissions)], what);
    else this.#step("faccessat", [folder, ".", F_OK], what, { tolerate: [["EACCES", 0]] });
    this.#close(folder, what);
  }

  #file({ target, content, mode: permissions }: Extract<MountSettings, { type: "file" }>): void {
    const what = `write the file "${target}"`;
    const cover = this.#covers.of(target);
    const isNew = cover.makes && cover.path !== target;
    const folder = isNew ? this.#parentOf(target, what) : this.#stage;
    const name = isNew ? nameOf(target) : this.#prop();
    this.#step("mknodat", [folder, name, fileMode(0o600)], what, { tolerate: isNew ? [["EEXIST", 0]] : [] });
    const file = this.#step("openat2", [folder, name, TO_WRITE, HOW_SIZE], what);
    if (content.length > 0) {
      const size = content.length; // A write could be cut short, where the file system is full.
      this.#step("fallocate", [file, 0, 0, size], what);
      this.#step("write", [file, { bytes: content, name: `<${size} bytes>` }, size], what);
    }
    this.#step("fchmod", [file, mode(permissions)], what);
    this.#close(file, what);
    if (isNew) return;
    const tree = this.#step("open_tree", [this.#stage, name, CLONE_ONE], what);
    this.#moveTo(tree, this.#open(target, what), what);
  }

  #moveTo(tree: Descriptor, place: Descriptor, what: string): void {
    this.#step("move_mount", [tree, "", place, "", BOTH_EMPTY], what);
    this.#close(place, what);
    this.#close(tree, what);
  }

  #remount({ target, recursive, flags }: Extract<MountSettings, { type: "remount" }>): void {
    const what = `change the flags of "${target}"`;
    const place = this.#open(target, what);
    this.#setAttributes(place, recursive ? EMPTY_PATH_ALL : EMPTY_PATH, flags, what);
    this.#close(place, what);
  }

  #hide(target: string): void {
    const what = `hide "${target}"`;
    if (!this.#hasHidden) {
      this.#step("mkdirat", [this.#stage, "folder", mode(0o555)], what);
      this.#step("mknodat", [this.#stage, "file", fileMode(0o444)], what);
      this.#hasHidden = true;
    }
    this.#unless(["ENOENT", "ENOTDIR"], () => {
      const place = this.#open(target, what);
      // Five steps for a folder, after which the five for a file are left out.
      this.#step("faccessat", [place, ".", F_OK], what, { tolerate: [["ENOTDIR", 5], ["EACCES", 0]] });
      for (const [name, skip] of [["folder", 5], ["file", 0]] as const) {
        const tree = this.#step("open_tree", [this.#stage, name, CLONE_ONE], what);
        this.#step("move_mount", [tree, "", place, "", BOTH_EMPTY], what);
        this.#setAttributes(tree, EMPTY_PATH, { readonly: true }, what);
        this.#close(tree, what, skip === 0 ? undefined : { skip });
      }
      this.#close(place, what);
    });
  }
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** A path among the options of an overlay, where colons, commas and backslashes mean something. */
function layerName(path: string): string {
  return path.replaceAll(/[\\:,]/g, "\\$&");
}

function how(flags: number, flagNames: string, resolve: number, resolveNames: string): Bytes {
  const bytes = new Uint8Array(HOW_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, flags, true);
  view.setUint32(16, resolve, true);
  return { bytes, name: `{flags=${flagNames}, resolve=${resolveNames}}` };
}

const attributes = new Map<string, Bytes>();

/** struct mount_attr. The same object for the same flags. */
function attributesOf(flags: FlagSettings): Bytes {
  const bits = (value: boolean) => ATTRIBUTES.filter(([name]) => flags[name] === value);
  const named = (list: readonly (typeof ATTRIBUTES)[number][]) =>
    list.map(([, , name]) => `MOUNT_ATTR_${name}`).join("|") || "0";
  const [set, clear] = [bits(true), bits(false)];
  const name = `{attr_set=${named(set)}, attr_clr=${named(clear)}, propagation=0, userns_fd=0}`;
  const known = attributes.get(name);
  if (known !== undefined) return known;
  const bytes = new Uint8Array(ATTR_SIZE);
  const sum = (list: readonly (typeof ATTRIBUTES)[number][]) => list.reduce((all, [, bit]) => all | bit, 0);
  new DataView(bytes.buffer).setUint32(0, sum(set), true);
  new DataView(bytes.buffer).setUint32(8, sum(clear), true);
  const made: Bytes = { bytes, name };
  attributes.set(name, made);
  return made;
}

function mode(permissions: number): Named {
  return { value: permissions, name: `0${permissions.toString(8)}` };
}

function fileMode(permissions: number): Named {
  return { value: S_IFREG | permissions, name: `S_IFREG|0${permissions.toString(8)}` };
}
