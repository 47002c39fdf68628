/**
 * The preset of `Namespace.sandbox()`.
 *
 * @module
 */

import type { NamespaceOptions } from "./options.ts";
import type { MountOptions } from "./options_mounts.ts";
import { SYSTEM_PROC } from "./plan/mounts.ts";

/** Where programs and their libraries are. */
const SYSTEM = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/** What programs look up, without secrets in it. */
const SETTINGS = [
  "alternatives",
  "ca-certificates",
  "hosts",
  "ld.so.cache",
  "localtime",
  "nsswitch.conf",
  "os-release",
  "pki/tls/certs",
  "protocols",
  "resolv.conf",
  "services",
  "ssl/certs",
];

const ID = 1000;
const HOME = "/home/sandbox";
const PASSWD = `root:x:0:0:root:/root:/bin/sh
sandbox:x:${ID}:${ID}:sandbox:${HOME}:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
`;
const GROUP = `root:x:0:\nsandbox:x:${ID}:\nnogroup:x:65534:\n`;

/** What programs ask for themselves before they look into /etc/passwd. */
const ENVIRONMENT = { HOME, USER: "sandbox", LOGNAME: "sandbox" } as const;

/** Files of /proc that tell of the whole system: names of keys, and where timers are in the kernel. */
const HIDDEN = ["keys", "timer_list"];

/** What there is of the outside, and what is made. */
function view(hasProc: boolean): MountOptions[] {
  const readonly = (source: string): MountOptions => {
    return { type: "bind", source, readonly: true, nosuid: true, nodev: true, ifMissing: "skip" };
  };
  return [
    ...SYSTEM.map(readonly),
    ...hasProc ? SYSTEM_PROC.map((name) => readonly(`/proc/${name}`)) : [],
    ...hasProc ? HIDDEN.map((name): MountOptions => ({ type: "hide", target: `/proc/${name}` })) : [],
    ...SETTINGS.map((name) => readonly(`/etc/${name}`)),
    { type: "file", target: "/etc/passwd", content: PASSWD },
    { type: "file", target: "/etc/group", content: GROUP },
    { type: "tmpfs", target: HOME, mode: 0o700 },
  ];
}

/** The options of a sandbox: those given, and the preset's where none is. */
export function sandboxOptions(options: NamespaceOptions = {}): NamespaceOptions {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const { root = "empty", mounts = [], privatePid = true, init = privatePid, noProc = false, env }: NamespaceOptions =
    given;
  return {
    privateTmp: true,
    privatePid: true,
    init,
    privateNet: true,
    privateIpc: true,
    privateUts: true,
    privateCgroup: true,
    privateUser: { uid: ID, gid: ID },
    noNewPrivs: true,
    newSession: true,
    privateKeyring: true,
    seccomp: "default",
    // Whoever is root inside could undo it.
    ...given.privateUser === undefined ? { disableUserNamespaces: true } : {},
    ...given,
    root,
    ...root === "empty" ? { env: { ...ENVIRONMENT, ...env } } : {},
    mounts: root !== "empty" ? mounts : [
      ...view(privatePid && !noProc),
      { type: "dev" },
      ...mounts,
      { type: "remount", target: "/", readonly: true, recursive: false },
    ],
  };
}
