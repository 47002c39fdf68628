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

/**
 * What of /proc tells of the whole system: names of keys, and where things are in the kernel and in memory. Most of it is
 * for root alone, which the command is where the caller is.
 */
const HIDDEN = [
  "dynamic_debug",
  "keys",
  "kpagecgroup",
  "kpagecount",
  "kpageflags",
  "pagetypeinfo",
  "slabinfo",
  "timer_list",
  "vmallocinfo",
];

function readonly(source: string, inside?: boolean): MountOptions {
  return { type: "bind", source, inside, readonly: true, nosuid: true, nodev: true, ifMissing: "skip" };
}

function hide(target: string): MountOptions {
  return { type: "hide", target };
}

/** Covers what is the system's own in a /proc: with itself, as the caller's may not have all of it. */
function protect(proc: string): MountOptions[] {
  return [
    ...SYSTEM_PROC.map((name) => readonly(`${proc}/${name}`, true)),
    ...HIDDEN.map((name) => hide(`${proc}/${name}`)),
  ];
}

/** What there is of the outside, and what is made. */
function view(): MountOptions[] {
  return [
    ...SYSTEM.map((source) => readonly(source)),
    ...SETTINGS.map((name) => readonly(`/etc/${name}`)),
    { type: "file", target: "/etc/passwd", content: PASSWD },
    { type: "file", target: "/etc/group", content: GROUP },
    { type: "tmpfs", target: HOME, mode: 0o700 },
  ];
}

/**
 * The same place by the other name that it has where /bin is a link to /usr/bin, and so on: in the preset's view each of
 * the two is a mount of its own.
 */
function otherNames(target: string): readonly string[] {
  const path = `/${target.split("/").filter((part) => part !== "" && part !== ".").join("/")}`;
  const [usr, ...others] = SYSTEM;
  if (path === usr) return others;
  const isBelow = path.startsWith(`${usr}/`);
  const other = isBelow ? path.slice(usr!.length) : `${usr}${path}`;
  return others.some((folder) => `${isBelow ? other : path}/`.startsWith(`${folder}/`)) ? [other] : [];
}

/** A mount that was asked for, and what goes with it. Whatever it is, it is checked later. */
function withCovers(mount: MountOptions, hasView: boolean): MountOptions[] {
  if (mount?.type === "proc") return [mount, ...protect(String(mount.target ?? "/proc"))];
  if (mount?.type === "hide" && hasView) return [mount, ...otherNames(String(mount.target)).map(hide)];
  return [mount];
}

/** The options of a sandbox: those given, and the preset's where none is. */
export function sandboxOptions(options: NamespaceOptions = {}): NamespaceOptions {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const { root = "empty", mounts = [], privatePid = true, init = privatePid, noProc = false, env }: NamespaceOptions =
    given;
  const isEmpty = root === "empty";
  // Without one of its own, a root that is a folder can have the outside's; in others it would be made.
  const hasProc = (privatePid && !noProc) || (typeof root === "string" && !isEmpty);
  const asked = Array.isArray(mounts) ? Array.from(mounts, (mount) => withCovers(mount, isEmpty)).flat() : mounts;
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
    // Root inside could undo the first, and leave programs with capabilities, and devices, in what is bound.
    ...given.privateUser === undefined
      ? { disableUserNamespaces: true }
      : { capabilities: { drop: ["CAP_MKNOD", "CAP_SETFCAP"] } },
    ...given,
    root,
    ...isEmpty ? { env: { ...ENVIRONMENT, ...env } } : {},
    mounts: !Array.isArray(asked) ? asked : [
      ...hasProc ? protect("/proc") : [],
      ...isEmpty ? [...view(), { type: "dev" } as const] : [],
      ...asked,
      ...isEmpty ? [{ type: "remount", target: "/", readonly: true, recursive: false } as const] : [],
    ],
  };
}
