/**
 * Why the kernel does not rule files and ports: see landlock(7).
 *
 * @module
 */

import type { Facts } from "./facts.ts";
import type { Refusal } from "./limits.ts";

/** The cause of a refusal by landlock_create_ruleset(2) and those after it. */
export function landlockCause({ step, code }: Refusal, facts: Facts): string | undefined {
  const release = facts.text("/proc/sys/kernel/osrelease")?.trim();
  const has = release === undefined ? "" : `, and this is Linux ${release}`;
  switch (code) {
    case "ENOSYS":
      return `This kernel has no Landlock: it takes Linux 5.13 with CONFIG_SECURITY_LANDLOCK${has}. Let "ifMissing" of \
landlock be "skip" to do without it.`;
    case "EOPNOTSUPP":
      return `Landlock is switched off: boot with lsm=landlock,… before the modules that /sys/kernel/security/lsm lists. Or \
let "ifMissing" of landlock be "skip" to do without it.`;
    case "EINVAL":
    case "E2BIG":
      if (step.call === "landlock_restrict_self") {
        return code === "E2BIG" ? "A process can have 16 layers of Landlock's rules, and it has them." : undefined;
      }
      return step.call !== "landlock_create_ruleset"
        ? undefined
        : `This kernel's Landlock cannot rule all of that: files take Linux 6.2, TCP takes 6.7${has}. Rule less, or let \
"ifMissing" of landlock be "skip" to do without it.`;
    default:
      return undefined;
  }
}

/** What was to be executed may not be, by rules of the same plan. */
export function ruledOut({ step, code, section }: Refusal): string | undefined {
  const rules = section.slice(0, section.indexOf(step)).some(({ call }) => call === "landlock_restrict_self");
  if (code !== "EACCES" || !rules) return undefined;
  return `The rules of landlock name what can be executed: the command must be below one of the paths of "execute", and so \
must what it is loaded by, as a rule "/usr", "/bin" and "/lib".`;
}
