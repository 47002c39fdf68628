/**
 * What this kernel has, as it answers: for tests of what an older one cannot have.
 *
 * @module
 */

import { perform } from "../../src/machine/facts.ts";

const ENOSYS = 38;
const LANDLOCK_CREATE_RULESET_VERSION = 1;

/** What a kernel may be without, and a look whether this one is. */
const FEATURES = {
  /** Since Linux 6.3. */
  "vm.memfd_noexec": () => {
    try {
      return Deno.statSync("/proc/sys/vm/memfd_noexec").isFile;
    } catch {
      return false;
    }
  },
  /** Since Linux 5.11. */
  "overlays in user namespaces": () => mountsInside("mount -t overlay -o lowerdir=/etc:/usr,userxattr overlay /mnt"),
  /** Since Linux 6.6. */
  "user.* attributes on tmpfs": () =>
    mountsInside(
      "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w && " +
        "mount -t overlay -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w,userxattr overlay /mnt && rm -r /mnt/ssl /mnt/group",
    ),
  /** Since Linux 5.12, and with it mounts whose ids are mapped. */
  "mount_setattr": () =>
    perform({ call: "mount_setattr", args: [-1, "", 0, null, 0], what: "ask for mount_setattr" }) !== -ENOSYS,
  /** Since Linux 6.2. */
  "Landlock for all of files": () => landlockAbi() >= 3,
  /** Since Linux 6.7. */
  "Landlock for TCP": () => landlockAbi() >= 4,
} as const satisfies Record<string, () => boolean>;

/** The first of these that this kernel is without; undefined where it has all. */
export function lacking(...features: readonly (keyof typeof FEATURES)[]): string | undefined {
  return features.find((feature) => !FEATURES[feature]());
}

function landlockAbi(): number {
  const args = [null, 0, LANDLOCK_CREATE_RULESET_VERSION];
  return perform({ call: "landlock_create_ruleset", args, what: "ask for Landlock" });
}

/** Whether root can do it in a user and mount namespace of its own. */
function mountsInside(script: string): boolean {
  const args = ["--user", "--map-root-user", "--mount", "sh", "-ec", script];
  return new Deno.Command("unshare", { args, stdout: "null", stderr: "null" }).outputSync().success;
}
