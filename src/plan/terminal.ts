/**
 * Pseudo-terminals: see pty(7).
 *
 * @module
 */

import type { TerminalSettings } from "../command_options.ts";
import { AT_FDCWD, F_DUPFD_CLOEXEC } from "./files.ts";
import type { Bytes, Named, Step, TerminalFile } from "./step.ts";

const TIOCSCTTY = { value: 0x540e, name: "TIOCSCTTY" };
const TIOCSWINSZ = { value: 0x5414, name: "TIOCSWINSZ" };
const TIOCSPTLCK = { value: 0x4004_5431, name: "TIOCSPTLCK" };
/** Since Linux 4.13: the other side without a path, which could lead elsewhere. */
const TIOCGPTPEER = { value: 0x5441, name: "TIOCGPTPEER" };
const MASTER_FLAGS = { value: 0o2004402, name: "O_RDWR|O_NOCTTY|O_NONBLOCK|O_CLOEXEC" };
/** What the side of the command is opened with. */
export const PEER_FLAGS: Named = { value: 0o2000402, name: "O_RDWR|O_NOCTTY|O_CLOEXEC" };
const UNLOCKED: Bytes = { bytes: new Uint8Array(4), name: "[0]" };

const option = "tty";

/** The file of the command's terminal. */
export const TERMINAL_FILE: TerminalFile = { terminalFile: true };

/** Makes what is stdin by now the controlling terminal of a new session. */
export const TAKE_TERMINAL: readonly Step[] = [
  { call: "setsid", args: [], what: "begin a session", option },
  { call: "ioctl", args: [0, TIOCSCTTY, 0], what: "take the terminal", option },
];

/** The group stays. */
const SAME = { value: -1, name: "-1" };

/** Gives the terminal, which is stdin by now, to who is to use it: it is opened again by its name. */
export function giveTerminal(uid: number): Step {
  // Who may not do that goes on: only its name is then of no use.
  const tolerate = [["EPERM", 0], ["EINVAL", 0]] as const;
  return { call: "fchown", args: [0, uid, SAME], what: `give the terminal to user ${uid}`, option, tolerate };
}

/** Says how large a terminal is. */
export function resizeTerminal(fd: Step["args"][number], { rows, columns }: TerminalSettings): Step {
  const size = new Uint8Array(Uint16Array.of(rows, columns, 0, 0).buffer);
  const winsize: Bytes = { bytes: size, name: `{ws_row=${rows}, ws_col=${columns}}` };
  return { call: "ioctl", args: [fd, TIOCSWINSZ, winsize], what: `make the terminal ${rows} by ${columns}`, option };
}

/** Opens a terminal: the side that is read, the same once more to be written, and the side of the child, in this order. */
export function openTerminal(
  size: TerminalSettings,
): readonly [read: Step, write: Step, unlock: Step, peer: Step, resize: Step] {
  const what = "open a terminal";
  const read: Step = { call: "openat", args: [AT_FDCWD, "/dev/ptmx", MASTER_FLAGS], what, option };
  const fd = { resultOf: read };
  const write: Step = { call: "fcntl", args: [fd, F_DUPFD_CLOEXEC, 3], what, option };
  const unlock: Step = { call: "ioctl", args: [fd, TIOCSPTLCK, UNLOCKED], what: "unlock the terminal", option };
  const peer: Step = { call: "ioctl", args: [fd, TIOCGPTPEER, PEER_FLAGS], what, option };
  return [read, write, unlock, peer, resizeTerminal(fd, size)];
}
