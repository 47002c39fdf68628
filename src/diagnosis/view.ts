/**
 * What can be wrong where a root or mounts of its own are put together.
 *
 * @module
 */

import type { Step } from "../plan/step.ts";
import type { Facts } from "./facts.ts";
import type { Refusal } from "./limits.ts";

/** The likely cause of a refusal, where it is known. */
export function viewCause({ step, code }: Refusal, facts: Facts): string | undefined {
  if (code === "EPERM" && step.what.startsWith("change")) return LOCKED;
  if (step.call === "remount_tree") return remountCause(step, code);
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return missing(step, code, facts);
    case "EEXIST":
      return step.call === "symlinkat" ? `Something else is there already. Have it at another place.` : undefined;
    case "ELOOP":
      return step.call === "openat2"
        ? `There is a symbolic link on the way to ${
          placeOf(step)
        }. Nothing is made behind one, since it may lead to a folder \
of the outside: name the folder itself.`
        : undefined;
    case "EINVAL":
      return invalid(step);
    case "ENOTSUP":
    case "EOPNOTSUPP":
      return step.call === "fallocate" ? `The file system there cannot reserve room for a file.` : undefined;
    case "ENOSPC":
      return step.call === "fallocate"
        ? `The content is larger than the tmpfs that it is to be in: give that one a larger "size".`
        : undefined;
    case "ENODEV":
      return step.call === "fsopen" ? `This kernel has no tmpfs: it was built without CONFIG_TMPFS.` : undefined;
    default:
      return undefined;
  }
}

/** See mount_namespaces(7), on restrictions. */
const LOCKED =
  `In a user namespace the kernel locks the flags of mounts that come from outside: they can be added, and \
not taken away. Leave them, or run it as root without a user namespace.`;

function missing(step: Step, code: string, facts: Facts): string | undefined {
  if (code === "ENOTDIR" && step.call !== "openat2" && step.call !== "open_tree") return noFolder(step);
  const path = step.args[1];
  if (typeof path !== "string" || path === "") return undefined;
  if (step.call === "open_tree") {
    const skip = step.what.startsWith(`bind "`) ? `, or say ifMissing: "skip" where it may be left out` : "";
    return facts.allows(path, "exist") ? undefined : `There is no "${path}" outside. Correct the path${skip}.`;
  }
  if (step.call !== "openat2") return undefined;
  return code === "ENOTDIR"
    ? `Something on the way to "${path}" is a file inside.`
    : `There is no "${path}" inside, and it is not made where the outside has a folder. Make it there, or mount a tmpfs \
above it.`;
}

/** What is no folder. */
function noFolder({ what }: Step): string | undefined {
  const place = /"([^"]*)"$/.exec(what)?.[1];
  return place === undefined
    ? undefined
    : `There is something else than a folder at "${place}" inside. Name another place.`;
}

/** Why mounts cannot be changed one by one, as before Linux 5.12. */
function remountCause(step: Step, code: string): string | undefined {
  switch (code) {
    case "ENOENT":
      return `The mounts are looked up in /proc, and there is no "/proc/thread-self/mountinfo" outside. Mount it there, or \
use Linux 5.12 or newer.`;
    case "EACCES":
      return `Something is mounted below it in a folder that this user cannot enter, and would stay as it is. Let \
"recursive" be false, bind less, or use Linux 5.12 or newer.`;
    case "EBUSY":
      return `Something that is mounted below it was somewhere else meanwhile. Try again, or use Linux 5.12 or newer.`;
    case "EINVAL":
      return invalid(step);
    default:
      return undefined;
  }
}

function invalid(step: Step): string | undefined {
  if (step.call === "pivot_root" || step.call === "move_mount" && step.args[3] === "/") {
    return `/ is no mount that could be left: this process is in a chroot, or in an initial ramfs. Run it outside of that.`;
  }
  switch (step.call) {
    case "open_tree":
      return `The source is in a mount that cannot be copied: it is unbindable; or others are mounted below it, which a user \
namespace may not uncover: then do not say recursive: false.`;
    case "move_mount":
      return step.args[3] === "new"
        ? `A root is a folder, and that is none. Name one.`
        : `One of the two is a folder, and the other is not: a folder can be mounted on a folder only, and a file on what is \
no folder. Name another place.`;
    case "mount_setattr":
    case "remount_tree":
      return `${
        step.what.startsWith("change") ? "The target is not a mount, or flags" : "Flags"
      } are not known here. Bind the folder onto itself first.`;
    default:
      return undefined;
  }
}

/** A layer of an overlay, as it was given. */
interface Layer {
  readonly name: string;
  /** A folder outside; undefined where it is on a tmpfs of its own. */
  readonly path: string | undefined;
}

/** The layers in what mount(2) was given, where colons, commas and backslashes of paths are escaped. */
function layersOf(data: string): readonly Layer[] {
  return [...data.matchAll(/(lower|upper|work)dir=((?:[^\\,]|\\.)*)/gs)].flatMap(([, name, paths]) =>
    (paths!.match(/(?:[^\\:]|\\.)+/gs) ?? []).map((text): Layer => {
      const path = text.replaceAll(/\\(.)/gs, "$1");
      return { name: name!, path: path.startsWith("/") ? path : undefined };
    })
  );
}

/** What is said of a layer that is not there, or no folder. */
function wrongLayer(layers: readonly Layer[], facts: Facts): string | undefined {
  for (const { name, path } of layers) {
    if (path === undefined) continue;
    const is = !facts.allows(path, "exist") ? "not there" : facts.head(path) !== undefined ? "no folder" : undefined;
    if (is !== undefined) return `The ${name} layer, "${path}", is ${is} outside. Correct the path.`;
  }
  return undefined;
}

/** Why an overlay is refused: overlayfs says more in the kernel's log alone. */
export function overlayCause(code: string, data: string, facts: Facts): string | undefined {
  const given = layersOf(data);
  const layers = `The layers are ${
    given.map(({ name, path }) => `${name} ${path === undefined ? "a tmpfs" : `"${path}"`}`).join(", ")
  }.`;
  switch (code) {
    case "ENOENT":
    case "ENOTDIR":
      return wrongLayer(given, facts) ?? `A layer of the overlay is not there, or is no folder. ${layers}`;
    case "ELOOP":
      return `Layers of the overlay are inside of each other, or the same. ${layers}`;
    case "EINVAL":
      return wrongLayer(given, facts) ??
        `The kernel can make no overlay of these layers: upper and work must be on one file system, which has extended attributes and is no overlay itself, and overlays can be nested two deep. In a user namespace it takes Linux 5.11, and 6.6 for an upper layer on a tmpfs. ${layers}`;
    case "EBUSY":
      return `The upper or work folder is in use by another overlay. ${layers}`;
    case "EPERM": {
      const release = facts.text("/proc/sys/kernel/osrelease")?.trim() ?? "";
      const [, major, minor] = /^(\d+)\.(\d+)/.exec(release)?.map(Number) ?? [];
      const isOld = major! < 5 || major === 5 && minor! < 11;
      return isOld && data.includes("userxattr")
        ? `This kernel (Linux ${release}) makes no overlay in a user namespace: that takes 5.11. Be root, without one.`
        : undefined;
    }
    default:
      return undefined;
  }
}

function placeOf({ args: [, path] }: Step): string {
  return typeof path === "string" ? `"${path}"` : "it";
}
