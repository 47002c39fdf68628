/**
 * Hostname and domainname: see uts_namespaces(7).
 *
 * @module
 */

import type { Settings } from "../options.ts";
import type { Step } from "./step.ts";

const CALLS = { hostname: "sethostname", domainname: "setdomainname" } as const;

/** Sets the names that are given. They are ASCII, so their length is their size. */
export function setNames(names: Pick<Settings, "hostname" | "domainname">): readonly Step[] {
  return (["hostname", "domainname"] as const).flatMap((option) => {
    const name = names[option];
    if (name === undefined) return [];
    return [{ call: CALLS[option], args: [name, name.length], what: `set the ${option} to "${name}"`, option }];
  });
}
