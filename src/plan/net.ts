/**
 * The loopback of a new network namespace, which begins there but is down.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/netdevice.7.html | netdevice(7)}
 * @module
 */

import type { Step } from "./step.ts";

const AF_INET = { value: 2, name: "AF_INET" };
const SOCK_DGRAM_CLOEXEC = { value: 0o2000002, name: "SOCK_DGRAM|SOCK_CLOEXEC" };
const IPPROTO_IP = { value: 0, name: "IPPROTO_IP" };
const SIOCSIFFLAGS = { value: 0x8914, name: "SIOCSIFFLAGS" };

/** struct ifreq: 16 bytes of name, then a short of flags (IFF_UP is 1), in 40 bytes. */
const LOOPBACK_UP = {
  bytes: Uint8Array.from({ length: 40 }, (_, index) => index < 2 ? "lo".charCodeAt(index) : index === 16 ? 1 : 0),
  name: `{ifr_name="lo", ifr_flags=IFF_UP}`,
};

/** Brings the loopback up; the kernel then gives it 127.0.0.1 and ::1. */
export function loopbackUp(): readonly Step[] {
  const what = "bring the loopback up";
  const option = "privateNet";
  const socket: Step = { call: "socket", args: [AF_INET, SOCK_DGRAM_CLOEXEC, IPPROTO_IP], what, option, opens: true };
  return [socket, { call: "ioctl", args: [{ resultOf: socket }, SIOCSIFFLAGS, LOOPBACK_UP], what, option }];
}
