/**
 * A view of the whole file system that is written to without anything being changed: overlays over what there is.
 *
 * Where no user namespace is made there is one over each mount. In a user namespace, all mounts that were there are locked
 * together, and the kernel puts no overlay over a folder with another mount below it, which would uncover what that
 * covers. There the folders on the way to mounts are made anew, with all that is in them each an overlay or a bind.
 *
 * @module
 */

import { type MountOptions, type OverlayRoot, parentOf, pathIn } from "../options_mounts.ts";
import { SYSTEM_PROC } from "./mounts.ts";

/** A mount, as far as it is looked at. */
export interface MountPoint {
  readonly path: string;
  /** The type of its file system. */
  readonly type: string;
  readonly readonly: boolean;
  readonly noexec: boolean;
}

/** An entry of a folder. */
export interface Entry {
  readonly name: string;
  readonly type: "file" | "directory" | "symlink" | "other";
}

/** What there is: only a caller can tell. */
export interface Look {
  /** What is on another after it; none covers another. */
  readonly mounts: readonly MountPoint[];
  /** What is in a folder; undefined where that cannot be read. */
  entries(path: string): readonly Entry[] | undefined;
  /** Undefined where it cannot be seen, such as a file system whose server is gone. */
  isFolder(path: string): boolean | undefined;
  /** Where a symbolic link leads. */
  link(path: string): string;
  /** Whether the caller may make something in a folder. */
  isWritable(path: string): boolean;
  /** Whether a folder belongs to the caller. */
  isOwn(path: string): boolean;
}

/** What is asked for. */
export interface ViewRequest {
  /** The folder that what is written goes to. */
  readonly store: string;
  /** Whether it is seen in a user namespace. */
  readonly hasUser: boolean;
  /** What is seen without being written to. */
  readonly readonly: readonly string[];
  /** Folders that another option furnishes. */
  readonly furnished: readonly string[];
}

/** One overlay. */
export interface Layer {
  /** What is under it, and where it is seen. */
  readonly path: string;
  /** The folder of the store that what is written goes to. */
  readonly upper: string;
  /** One that the kernel needs for that, to be made for each mount: see {@linkcode workOf}. */
  readonly work?: string;
}

/** What has to be there before it is mounted. */
export interface Made {
  readonly type: "directory" | "file" | "symlink";
  readonly path: string;
  /** The folder whose owner and permissions it gets, where it has any. */
  readonly like?: string;
  /** Where a link leads. */
  readonly to?: string;
}

/** A view, planned. */
export interface Layout {
  readonly root: string | OverlayRoot;
  readonly mounts: readonly MountOptions[];
  /** What {@linkcode ViewPlanner.open} has added to them, what is above before what is below. */
  readonly places: readonly MountOptions[];
  /** What comes after both. */
  readonly last: readonly MountOptions[];
  readonly layers: readonly Layer[];
  /** Folders that are no overlay: what is put into them shows in the store. */
  readonly open: readonly Layer[];
  /** In this order, folders of the store first. */
  readonly made: readonly Made[];
}

/** File systems that can be under an overlay. All others are seen, and not written to. */
const LAYERED = new Set(
  ("9p bcachefs btrfs erofs ext2 ext3 ext4 f2fs iso9660 jfs nfs nfs4 overlay ramfs reiserfs rootfs squashfs tmpfs ubifs " +
    "virtiofs xfs zfs").split(" "),
);
/** Of these there is always a new one, or they are the kernel's own. */
const KERNELS = ["/dev", "/proc", "/sys"];

/** A mount with its number and that of the one that it is on. */
interface Listed extends MountPoint {
  readonly id: string;
  readonly parent: string;
}

/**
 * The mounts that can be seen, of the text of /proc/self/mountinfo: proc_pid_mountinfo(5). Their order there is that of
 * numbers, which is not always the one in which they were put on each other.
 */
export function visibleMounts(mountinfo: string): readonly MountPoint[] {
  const listed = mountinfo.split("\n").flatMap((line): Listed[] => {
    const fields = line.split(" ");
    const separator = fields.indexOf("-");
    if (separator < 0) return [];
    const [id, parent, , , escaped, options] = fields as [string, string, string, string, string, string];
    const path = escaped.replaceAll(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8)));
    const flags = options.split(",");
    const readonly = [...flags, ...fields[separator + 3]?.split(",") ?? []].includes("ro");
    return [{ id, parent, path, type: fields[separator + 1]!, readonly, noexec: flags.includes("noexec") }];
  });
  const ids = new Set(listed.map(({ id }) => id));
  const below = Map.groupBy(listed, ({ id, parent }) => ids.has(parent) && parent !== id ? parent : "");
  const shown: MountPoint[] = [];
  const show = (mounts: readonly Listed[] = []): void => {
    const paths = new Set(mounts.map(({ path }) => path));
    for (const { id, parent: _, ...mount } of mounts) {
      if (foldersAround(mount.path).some((folder) => paths.has(folder))) continue; // Another is on the way to it.
      const on = below.get(id) ?? [];
      const cover = on.find(({ path }) => path === mount.path);
      if (cover === undefined) shown.push(mount);
      show(cover === undefined ? on : [cover]);
    }
  };
  show(below.get(""));
  return shown;
}

/** The folders on the way to a path. */
function foldersAround(path: string): readonly string[] {
  const folders: string[] = [];
  for (let at = path; at !== "/";) folders.push(at = parentOf(at));
  return folders;
}

/** The work folder of one mount. */
export function workOf(work: string, mount: number): string {
  return `${work}${mount}`;
}

/** Whether a path is a folder or below it. */
export function isIn(path: string, folder: string): boolean {
  return path === folder || folder === "/" || path.startsWith(`${folder}/`);
}

/** Whether a mount can have this path: bytes that are no UTF-8 show as U+FFFD. What cannot is left out of a view. */
export function isNameable(path: string): boolean {
  return !path.includes("\uFFFD");
}

/** The longest path that another is in. */
export function deepest<T extends { readonly path: string }>(places: readonly T[], path: string): T | undefined {
  const around = places.filter((place) => isIn(path, place.path));
  return around.reduce<T | undefined>((best, place) => {
    return best === undefined || place.path.length > best.path.length ? place : best;
  }, undefined);
}

/** Plans a view, and what is to be added to it when more of it turns out to be written to. */
export class ViewPlanner {
  readonly #look: Look;
  readonly #request: ViewRequest;
  readonly #mounts: MountOptions[] = [];
  readonly #places: (MountOptions & { target: string })[] = [];
  readonly #layers: Layer[] = [];
  readonly #open: Layer[] = [];
  readonly #made: Made[] = [];
  readonly #bound: string[] = [];
  #count = 0;

  constructor(look: Look, request: ViewRequest) {
    this.#look = look;
    this.#request = request;
  }

  /** Plans the view. */
  plan(): Layout {
    return this.#request.hasUser ? this.#inUserNamespace() : this.#overEachMount();
  }

  /**
   * Has a folder be written to that may be in one of somebody else's: in a user namespace, the kernel cannot copy that.
   *
   * @returns What is to be made for it.
   */
  open(folder: string): readonly Made[] {
    const layer = deepest(this.#layers, folder);
    if (!this.#request.hasUser || layer === undefined || this.#isElsewhere(folder)) return [];
    let place = folder; // Or the uppermost of the caller's around it: what is a mount can be neither renamed nor removed.
    let at = folder;
    while (at !== layer.path && this.#look.isOwn(at)) [place, at] = [at, parentOf(at)];
    if (at === layer.path) return [];
    const count = this.#made.length;
    this.#places.push(...this.#overlayAt(place));
    this.#places.sort((a, b) => a.target.length - b.target.length);
    return this.#made.slice(count);
  }

  #overEachMount(): Layout {
    const root = this.#look.mounts.find(({ path }) => path === "/");
    const isLayered = root !== undefined && this.#isLayered("/", root);
    const rootOptions: string | OverlayRoot = isLayered ? { overlay: this.#layer("/") } : "host";
    if (!isLayered) this.#mounts.push({ type: "remount", target: "/", readonly: true, recursive: false });
    for (const mount of this.#look.mounts) {
      const { path } = mount;
      if (path === "/" || this.#isElsewhere(path) || this.#bound.some((other) => isIn(path, other))) continue;
      if (!isNameable(path)) continue;
      const isFolder = this.#look.isFolder(path);
      if (isFolder === undefined) continue;
      if (isFolder && this.#isLayered(path, mount)) this.#overlay(path);
      else this.#bindReadonly(path);
    }
    for (const path of this.#request.readonly) {
      if (!this.#bound.some((other) => isIn(path, other))) this.#bindReadonly(path);
    }
    return this.#finish(rootOptions);
  }

  #inUserNamespace(): Layout {
    const { store } = this.#request;
    const folder = `${store}/root`;
    this.#made.push({ type: "directory", path: folder, like: "/" });
    this.#fill("/", folder);
    if (!this.#look.isWritable("/")) {
      const writable = this.#open.filter(({ path }) => this.#look.isWritable(path));
      this.#mounts.unshift( // Before what is in them.
        { type: "remount", target: "/", readonly: true, recursive: false },
        ...writable.map(({ path, upper }): MountOptions => ({ type: "bind", source: upper, target: path })),
      );
    }
    return this.#finish(folder);
  }

  /** Makes a folder anew that has mounts below it. */
  #fill(path: string, folder: string): void {
    this.#open.push({ path, upper: folder });
    for (const { name, type } of this.#look.entries(path) ?? []) {
      if (!isNameable(name)) continue;
      const [entry, made] = [pathIn(path, name), `${folder}/${name}`];
      if (type === "symlink") {
        this.#made.push({ type, path: made, to: this.#look.link(entry) });
        continue;
      }
      const isFolder = type === "directory";
      this.#made.push(isFolder ? { type, path: made, like: entry } : { type: "file", path: made });
      if (this.#isElsewhere(entry)) continue;
      if (isFolder) this.#place(entry, made);
      else this.#bindReadonly(entry);
    }
  }

  #place(path: string, made: string): void {
    const { mounts } = this.#look;
    const own = deepest(mounts, path); // None where the root is no mount, as in a chroot.
    const isFixed = own === undefined || !this.#isLayered(path, own);
    const isOnWay = [...mounts.map((mount) => mount.path), ...this.#request.readonly].some((other) =>
      other !== path && isIn(other, path)
    );
    if (isFixed || isOnWay && this.#look.entries(path) === undefined) this.#bindReadonly(path);
    else if (isOnWay) this.#fill(path, made);
    else this.#overlay(path);
  }

  #isLayered(path: string, mount: MountPoint): boolean {
    return !mount.readonly && LAYERED.has(mount.type) && !this.#request.readonly.some((fixed) => isIn(path, fixed));
  }

  #isElsewhere(path: string): boolean {
    return [...KERNELS, ...this.#request.furnished].some((folder) => isIn(path, folder));
  }

  #overlay(path: string): void {
    this.#mounts.push(...this.#overlayAt(path));
  }

  /** As little can be executed there as in what is under it. */
  #overlayAt(path: string): readonly (MountOptions & { target: string })[] {
    const isNoexec = deepest(this.#look.mounts, path)?.noexec === true;
    return [
      { type: "overlay", target: path, ...this.#layer(path) },
      ...isNoexec ? [{ type: "remount", target: path, noexec: true, recursive: false } as const] : [],
    ];
  }

  #bindReadonly(path: string): void {
    this.#bound.push(path);
    this.#mounts.push({ type: "bind", source: path, target: path, readonly: true });
  }

  #layer(path: string): { lower: string[]; upper: string; work: string } {
    const folder = `${this.#request.store}/${this.#count++}`;
    const [upper, work] = [`${folder}/upper`, `${folder}/work`];
    this.#made.push(
      { type: "directory", path: folder },
      { type: "directory", path: upper, like: path },
    );
    this.#layers.push({ path, upper, work });
    return { lower: [path], upper, work };
  }

  #finish(root: string | OverlayRoot): Layout {
    const { store, furnished } = this.#request;
    const fixed = (path: string): MountOptions => {
      return { type: "bind", source: path, target: path, readonly: true, ifMissing: "skip" };
    };
    if (!furnished.includes("/proc")) this.#mounts.push({ type: "bind", source: "/proc", target: "/proc" });
    this.#mounts.push(...SYSTEM_PROC.map((name) => fixed(`/proc/${name}`)), fixed("/sys"), {
      type: "dev",
      target: "/dev",
    });
    return {
      root,
      mounts: this.#mounts,
      places: this.#places,
      last: [{ type: "hide", target: store }],
      layers: this.#layers,
      open: this.#open,
      made: this.#made,
    };
  }
}
