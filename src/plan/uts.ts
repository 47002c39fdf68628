/**
 * Hostname and domainname: see uts_namespaces(7).
 *
 * @module
 */

import type { Step } from "./step.ts";

/** Sets the names that are given. They are ASCII, so their length is their size. */
export function setNames(hostname: string | undefined, domainname: string | undefined): readonly Step[] {
  const steps: Step[] = [];
  if (hostname !== undefined) {
    steps.push({
      call: "sethostname",
      args: [hostname, hostname.length],
      what: `set the hostname to "${hostname}"`,
      option: "hostname",
    });
  }
  if (domainname !== undefined) {
    steps.push({
      call: "setdomainname",
      args: [domainname, domainname.length],
      what: `set the domainname to "${domainname}"`,
      option: "domainname",
    });
  }
  return steps;
}
