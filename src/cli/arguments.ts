/**
 * Command lines: what the words of one ask for.
 *
 * @module
 */

import { parseArgs } from "npm:deno-std@1.4.0/cli/parse_args.js";
import { nearest } from "../nearest.ts";
import type { NamespaceOptions } from "../options.ts";
import type { CommandOptions } from "../command_options.ts";
import { ephemeralValue, isMountOption, MOUNT_OPTIONS, mountValue, type MountWord, rootValue } from "./mounts.ts";
import { UsageError } from "./words.ts";
import { sandboxOptions } from "../sandbox.ts";
import {
  capabilitiesValue,
  CGROUP_OPTIONS,
  cgroupValue,
  descriptor,
  duration,
  environment,
  fromHere,
  landlockValue,
  limits,
  number,
  onMainExit,
  range,
  seccompValue,
  timeValue,
  tmpValue,
  userValue,
} from "./values.ts";

/** Options that are there or not. `term-child` alone can be negated. */
const FLAGS = [
  "private-mount",
  "private-pid",
  "no-proc",
  "init",
  "private-net",
  "private-ipc",
  "private-uts",
  "private-sysvsem",
  "private-cgroup",
  "cgroup",
  "sandbox",
  "term-child",
  "clear-env",
  "tty",
  "disable-user-namespaces",
  "no-new-privs",
  "new-privs",
  "new-session",
  "private-keyring",
  "debug",
  "verbose",
  "print-config",
  "help",
  "version",
] as const;
/** Options with a value, which is the next word or follows a "=". */
const VALUED = [
  "capabilities",
  "cap-keep",
  "cap-drop",
  "cap-add",
  "groups",
  "umask",
  "nice",
  "cpu-affinity",
  "oom-score-adj",
  ...CGROUP_OPTIONS,
  "config",
  "setgroups",
  "on-main-exit",
  "timeout",
  "status-fd",
  "hostname",
  "domainname",
  "root",
  "seccomp",
  "term-grace-ms",
  "cwd",
  "uid",
  "gid",
  "argv0",
] as const;
/** Options with a list, or with parts, which all go together where they are given more than once. */
const JOINED: ReadonlySet<string> = new Set([
  "cap-keep",
  "cap-drop",
  "cap-add",
  "groups",
  "cpu-affinity",
  "private-tmp",
  "private-time",
  "ephemeral",
]);
/** Options with a value that can be given more than once. */
const REPEATED = ["rlimit", "hugetlb-max", "landlock", "env", "unset-env", "inherit-fd", "uid-map", "gid-map"] as const;
/** Options whose value can be left out, so that it must follow a "=". */
const OPTIONAL = ["private-tmp", "private-user", "private-time", "ephemeral"] as const;

/** Options that are there by `--sandbox` or `--config`, and not with `no-` before them. */
const DENIABLE = [
  "private-mount",
  "private-tmp",
  "private-pid",
  "private-net",
  "private-ipc",
  "private-uts",
  "private-sysvsem",
  "private-cgroup",
  "private-time",
  "init",
  "cgroup",
  "seccomp",
  "disable-user-namespaces",
  "new-session",
  "private-keyring",
  "ephemeral",
] as const;

/** Those of unshare(1), where it has them. */
const LETTERS: ReadonlyMap<string, Name> = new Map([
  ["m", "private-mount"],
  ["t", "private-tmp"],
  ["p", "private-pid"],
  ["n", "private-net"],
  ["i", "private-ipc"],
  ["U", "private-user"],
  ["u", "private-uts"],
  ["C", "private-cgroup"],
  ["T", "private-time"],
  ["w", "cwd"],
  ["e", "env"],
  ["S", "uid"],
  ["G", "gid"],
  ["d", "debug"],
  ["v", "verbose"],
  ["h", "help"],
  ["V", "version"],
]);

type Name = (typeof FLAGS | typeof VALUED | typeof REPEATED | typeof OPTIONAL)[number];
type Flags =
  & Readonly<Record<typeof FLAGS[number], boolean>>
  & Readonly<Partial<Record<(typeof VALUED | typeof OPTIONAL)[number], string>>>
  & Readonly<Record<typeof REPEATED[number], string[]>>;

/** Options that a verb has beside the others, by their names. */
export interface OwnOptions {
  /** Those that are there or not. */
  readonly flags: readonly string[];
  /** Those with a value. */
  readonly valued: readonly string[];
  /** Letters of theirs. */
  readonly letters?: Readonly<Record<string, string>>;
}

const NONE: OwnOptions = { flags: [], valued: [] };

/** As much of parseArgs as is used here; its package has no types. */
const parse: (args: readonly string[], options: {
  boolean: readonly string[];
  string: readonly string[];
  collect: readonly string[];
  negatable: readonly string[];
  default: Readonly<Record<string, boolean>>;
  unknown: (word: string) => never;
}) => Flags = parseArgs;

const DENIALS: ReadonlySet<string> = new Set(DENIABLE.map((name) => `no-${name}`));
const WITHOUT_VALUE: ReadonlySet<string> = new Set([...FLAGS, "no-term-child", ...DENIALS]);
const WITH_VALUE: ReadonlySet<string> = new Set([...VALUED, ...REPEATED, ...MOUNT_OPTIONS]);
const WITH_OPTIONAL_VALUE: ReadonlySet<string> = new Set(OPTIONAL);

/** Options of a namespace, and whether the others are those of a sandbox. */
export interface AskedOptions extends NamespaceOptions {
  readonly sandbox?: boolean | undefined;
}

/** What a command line asks for. */
export interface Invocation {
  readonly help: boolean;
  readonly version: boolean;
  readonly debug: boolean;
  /** Which namespaces are private, and what is in them. */
  readonly namespace: NamespaceOptions;
  /** The same, in the words that it was asked for. */
  readonly asked: AskedOptions;
  /** What is to be run; undefined where nothing is. */
  readonly command: string | undefined;
  /** How it is to be run. */
  readonly commandOptions: CommandOptions;
  /** Milliseconds that it may take. */
  readonly timeoutMs: number | undefined;
  /** Where JSON lines about it are written. */
  readonly statusFd: number | undefined;
  /** Whether only the options are to be told. */
  readonly printConfig: boolean;
  /** A file with options that are below these; undefined once they are here. */
  readonly config: string | undefined;
  /** The options that only the verb has. */
  readonly own: Readonly<Partial<Record<string, string>>>;
}

/**
 * Understands a command line: options, then the command with all that follows it. The command begins at the first word
 * that is no option, or after `--`.
 *
 * @param argv The words, without the program's own name.
 * @param own Options that only a verb has.
 * @returns What they ask for. Values are checked as far as the library will not do it.
 * @throws {UsageError} When they make no sense.
 */
export function parseCommandLine(argv: readonly string[], own: OwnOptions = NONE): Invocation {
  const { options, denied, mounts, command: [command, ...args] } = cut(argv, own);
  const flags = parse(options, {
    boolean: [...FLAGS, ...own.flags],
    string: [...VALUED, ...REPEATED, ...OPTIONAL, ...own.valued],
    collect: REPEATED,
    negatable: ["term-child"],
    default: { "term-child": true },
    unknown: (word) => refuseUnknown(word, own),
  });
  const { help, version, timeout, "status-fd": statusFd } = flags;
  const debug = flags.debug || flags.verbose;
  const asked = namespace(flags, denied, mounts);
  return {
    help,
    version,
    debug,
    asked,
    namespace: meant(asked),
    command,
    commandOptions: commandOptions(flags, args),
    timeoutMs: timeout === undefined ? undefined : duration(timeout, "--timeout"),
    statusFd: statusFd === undefined ? undefined : descriptor(statusFd, "--status-fd"),
    printConfig: flags["print-config"],
    config: flags.config,
    own: ownValues(flags, own),
  };
}

/**
 * {@linkcode parseCommandLine}, with the options of the file that the command line names, and a folder as the shell has
 * it.
 *
 * @throws {UsageError} When they make no sense, or the file cannot be read.
 * @throws {TypeError} When the file has an option that is not known.
 */
export async function understand(argv: readonly string[], own: OwnOptions = NONE): Promise<Invocation> {
  const invocation = parseCommandLine(argv, own);
  const { config } = invocation;
  const both = config === undefined ? invocation : (await import("./config.ts")).withConfig(invocation, config);
  return {
    ...both,
    namespace: meant(both.asked),
    commandOptions: fromHere(both.commandOptions),
    config: undefined,
  };
}

function meant({ sandbox, ...options }: AskedOptions): NamespaceOptions {
  return sandbox ? sandboxOptions(options) : options;
}

/**
 * Cuts a command line where the command begins, and writes each option as `--name` or `--name=value`. To parseArgs
 * that is not ambiguous: left to itself it takes `true` in `--private-pid true` and `ps` in `--private-tmp ps` for
 * the option's value, reads `-eA=B` as `-e B`, and drops a `--` among the arguments of the command.
 */
function cut(argv: readonly string[], own: OwnOptions): Cut {
  const options: string[] = [];
  const denied: string[] = [];
  const mounts: MountWord[] = [];
  /** Where those with a value are that can be given once. */
  const places = new Map<string, number>();
  const add = (option: string): void => {
    const [, name, value] = /^--([a-z-0-9]+)=(.*)$/s.exec(option) ?? [];
    const isSingle = name !== undefined && !(REPEATED as readonly string[]).includes(name);
    const place = isSingle ? places.get(name) : undefined;
    if (place === undefined) {
      if (isSingle) places.set(name, options.length);
      options.push(option);
    } else if (JOINED.has(name!)) {
      options[place] = `--${name}=${[options[place]!.slice(`--${name}=`.length), value].filter(Boolean).join(",")}`;
    } else throw new UsageError(`--${name} is given twice`);
  };
  let at = 0;
  while (at < argv.length) {
    const word = argv[at]!;
    if (!word.startsWith("-") || word === "-") break;
    at++;
    if (word === "--") break;
    for (const option of word.startsWith("--") ? [word] : spellOut(word, own)) {
      const name = option.slice(2);
      const [, mount, joined] = /^--([a-z-]+)(?:=(.*))?$/s.exec(option) ?? [];
      if (mount !== undefined && isMountOption(mount)) {
        mounts.push([mount, joined ?? following(argv[at++], option)]);
        continue;
      }
      if (DENIALS.has(name)) {
        denied.push(name.slice("no-".length));
        continue;
      }
      const valueFollows = WITH_VALUE.has(name) || own.valued.includes(name);
      add(valueFollows ? `${option}=${following(argv[at++], option)}` : completed(option, own));
    }
  }
  return { options, denied, mounts, command: argv.slice(at) };
}

/** A command line that was cut. */
interface Cut {
  readonly options: readonly string[];
  /** Options that are not to be there, whatever else says so. */
  readonly denied: readonly string[];
  /** Options of mounts, in their order among each other, which parseArgs would lose. */
  readonly mounts: readonly MountWord[];
  readonly command: readonly string[];
}

/** `-pthe` as long options; what follows a letter that can have a value is its value. */
function spellOut(word: string, own: OwnOptions): readonly string[] {
  const options: string[] = [];
  const letters = [...word.slice(1)];
  for (const [index, letter] of letters.entries()) {
    const name = own.letters?.[letter] ?? LETTERS.get(letter) ?? refuseUnknown(`-${letter}`, own);
    const rest = letters.slice(index + 1).join("");
    const hasValue = WITH_VALUE.has(name) || own.valued.includes(name);
    if (rest !== "" && (hasValue || WITH_OPTIONAL_VALUE.has(name) || rest.startsWith("="))) {
      return [...options, `--${name}=${rest.replace(/^=/, "")}`];
    }
    options.push(`--${name}`);
  }
  return options;
}

function following(value: string | undefined, option: string): string {
  if (value === undefined) throw new UsageError(`${option} needs a value`);
  return value;
}

/** Says of an option with an optional value that it has none, and refuses values where there can be none. */
function completed(option: string, own: OwnOptions): string {
  const name = option.slice(2);
  if (WITH_OPTIONAL_VALUE.has(name)) return `${option}=`;
  const at = option.indexOf("=");
  const given = option.slice(2, at);
  if (at > 0 && (WITHOUT_VALUE.has(given) || own.flags.includes(given))) {
    throw new UsageError(`${option.slice(0, at)} takes no value: got ${JSON.stringify(option.slice(at + 1))}`);
  }
  return option;
}

/** What others, bwrap(1) and unshare(1) before all, call it, and how it is said here. */
const ELSEWHERE: ReadonlyMap<string, string> = new Map([
  ["--setenv", "--env NAME=VALUE"],
  ["--unsetenv", "--unset-env NAME"],
  ["--clearenv", "--clear-env"],
  ["--chdir", "--cwd DIR"],
  ["--dev-bind", "--bind SRC:DST"],
  ["--bind-try", "--bind SRC:DST:if-missing=skip"],
  ["--ro-bind-try", "--ro-bind SRC:DST:if-missing=skip"],
  ["--dev-bind-try", "--bind SRC:DST:if-missing=skip"],
  ["--remount-ro", "--remount DST:ro"],
  ["--tmp-overlay", "--overlay DST:lower=DIR,upper=tmpfs"],
  ["--ro-overlay", "--overlay DST:lower=DIR,lower=DIR"],
  ["--overlay-src", "lower=DIR among the parts of --overlay"],
  ["--bind-data", "--file DST:TEXT"],
  ["--ro-bind-data", "--file DST:TEXT"],
  ["--perms", "mode=755 among the parts of a mount"],
  ["--size", "size=16m among the parts of a mount"],
  ["--unshare-all", "--sandbox, or -pniuC"],
  ["--share-net", "--no-private-net"],
  ["--unshare-pid", "--private-pid"],
  ["--unshare-net", "--private-net"],
  ["--unshare-ipc", "--private-ipc"],
  ["--unshare-uts", "--private-uts"],
  ["--unshare-user", "--private-user"],
  ["--unshare-user-try", "nothing, one is made where it is needed"],
  ["--unshare-cgroup", "--private-cgroup"],
  ["--unshare-cgroup-try", "--private-cgroup"],
  ["--disable-userns", "--disable-user-namespaces"],
  ["--as-pid-1", "nothing, it is so with --private-pid and without --init"],
  ["--add-seccomp-fd", "--seccomp FILE"],
  ["--json-status-fd", "--status-fd N"],
  ["--info-fd", "--status-fd N"],
  ["--args", "--config FILE"],
  ["--mount", "--private-mount"],
  ["--pid", "--private-pid"],
  ["--net", "--private-net"],
  ["--ipc", "--private-ipc"],
  ["--uts", "--private-uts"],
  ["--user", "--private-user=self"],
  ["--time", "--private-time"],
  ["--monotonic", "--private-time=monotonic=SECONDS"],
  ["--boottime", "--private-time=boottime=SECONDS"],
  ["--map-root-user", "--private-user"],
  ["-r", "--private-user"],
  ["-c", "--private-user=self"],
  ["--map-user", "--private-user=uid=ID"],
  ["--map-group", "--private-user=gid=ID"],
  ["--map-users", "--uid-map IN:OUT:N"],
  ["--map-groups", "--gid-map IN:OUT:N"],
  ["--keep-caps", "--cap-add CAP_NAME,…"],
  ["--setuid", "--uid ID"],
  ["--setgid", "--gid ID"],
  ["--wd", "--cwd DIR"],
  ["-R", "--root DIR"],
  ["--propagation", "nothing, mounts are always private"],
  ["--mount-proc", "--private-pid, which has it"],
  ["--fork", "nothing, it is always so"],
  ["-f", "nothing, it is always so"],
  ["--forward-signals", "nothing, it is so without --no-term-child"],
  ["--die-with-parent", "nothing, it is always so"],
  ["--kill-child", "nothing, it is always so"],
  ["--map-auto", "--uid-map auto --gid-map auto"],
  ["--map-current-user", "--private-user=self"],
]);

function refuseUnknown(word: string, own: OwnOptions): never {
  const option = word.replace(/=.*$/s, "");
  const names = [...WITHOUT_VALUE, ...WITH_VALUE, ...WITH_OPTIONAL_VALUE, ...own.flags, ...own.valued];
  const guess = option.startsWith("--") ? nearest(option, names.map((name) => `--${name}`)) : undefined;
  const here = ELSEWHERE.get(option);
  const hint = here !== undefined
    ? `here it is ${here}`
    : guess === undefined
    ? "see nsrun --help"
    : `did you mean "${guess}"?`;
  throw new UsageError(`Unknown option "${option}": ${hint}`);
}

/** A flag that is not given is `undefined` and not `false`, which would contradict options that imply it. */
function namespace(flags: Flags, denied: readonly string[], mounts: readonly MountWord[]): AskedOptions {
  const { "private-tmp": tmp, "private-time": time, "term-grace-ms": grace } = flags;
  const given = (name: typeof FLAGS[number]): true | undefined => flags[name] || undefined;
  if (flags["new-privs"] && flags["no-new-privs"]) {
    throw new UsageError("--new-privs and --no-new-privs contradict each other");
  }
  const options: AskedOptions = {
    sandbox: given("sandbox"),
    privateMount: given("private-mount"),
    privateTmp: tmp === undefined ? undefined : tmpValue(tmp),
    privatePid: given("private-pid"),
    noProc: given("no-proc"),
    init: given("init"),
    onMainExit: onMainExit(flags["on-main-exit"]),
    privateNet: given("private-net"),
    privateIpc: given("private-ipc"),
    privateUser: userValue(flags["private-user"], flags["uid-map"], flags["gid-map"], flags.setgroups),
    privateUts: given("private-uts"),
    hostname: flags.hostname,
    domainname: flags.domainname,
    privateSysvsem: given("private-sysvsem"),
    privateCgroup: given("private-cgroup"),
    privateTime: time === undefined ? undefined : timeValue(time),
    termChild: flags["term-child"],
    termGraceMs: grace === undefined ? undefined : number(grace, "--term-grace-ms"),
    cgroup: cgroupValue(flags.cgroup, flags, flags["hugetlb-max"]),
    landlock: flags.landlock.length === 0 ? undefined : landlockValue(flags.landlock),
    seccomp: flags.seccomp === undefined ? undefined : seccompValue(flags.seccomp),
    ephemeral: flags.ephemeral === undefined ? undefined : ephemeralValue(flags.ephemeral),
    root: flags.root === undefined ? undefined : rootValue(flags.root),
    disableUserNamespaces: given("disable-user-namespaces"),
    noNewPrivs: flags["new-privs"] ? false : given("no-new-privs"),
    capabilities: capabilitiesValue(flags.capabilities, {
      keep: flags["cap-keep"],
      drop: flags["cap-drop"],
      add: flags["cap-add"],
    }),
    groups: flags.groups === undefined
      ? undefined
      : flags.groups.split(",").filter((group) => group !== "").map((group) => number(group, "--groups")),
    rlimits: flags.rlimit.length === 0 ? undefined : limits(flags.rlimit),
    umask: flags.umask,
    newSession: given("new-session"),
    privateKeyring: given("private-keyring"),
    nice: flags.nice === undefined ? undefined : number(flags.nice, "--nice"),
    cpuAffinity: flags["cpu-affinity"]?.split(",").flatMap((cpus) => range(cpus, "--cpu-affinity")),
    oomScoreAdj: flags["oom-score-adj"] === undefined ? undefined : number(flags["oom-score-adj"], "--oom-score-adj"),
    mounts: mounts.length === 0 ? undefined : mounts.map(mountValue),
  };
  return { ...options, ...Object.fromEntries(denied.map((name) => [denial(name, options, flags), false])) };
}

/** The name that the library has for an option that is not to be there. */
function denial(name: string, options: AskedOptions, flags: Flags): string {
  const option = name.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
  if ((options as Readonly<Record<string, unknown>>)[option] === undefined) return option;
  const isImplied = name === "cgroup" && !flags.cgroup;
  const given = isImplied ? CGROUP_OPTIONS.find((one) => flags[one] !== undefined) ?? "hugetlb-max" : name;
  throw new UsageError(`--${given} and --no-${name} contradict each other`);
}

function ownValues(flags: Flags, { flags: names, valued }: OwnOptions): Invocation["own"] {
  const given = flags as unknown as Readonly<Record<string, string | boolean | undefined>>;
  const all = [...names, ...valued].map((name) => [name, given[name]] as const);
  return Object.fromEntries(
    all.flatMap(([name, value]) => value === undefined || value === false ? [] : [[name, String(value)]]),
  );
}

function commandOptions(flags: Flags, args: string[]): CommandOptions {
  const { cwd, uid, gid, argv0 } = flags;
  return {
    args,
    env: environment(flags.env),
    ...(flags["unset-env"].length === 0 ? {} : { unsetEnv: flags["unset-env"] }),
    clearEnv: flags["clear-env"],
    ...(flags.tty ? { tty: true } : {}),
    ...(flags["inherit-fd"].length === 0 ? {} : {
      fds: Object.fromEntries(flags["inherit-fd"].map((fd) => [descriptor(fd, "--inherit-fd"), "inherit" as const])),
    }),
    ...(cwd === undefined ? {} : { cwd }),
    ...(uid === undefined ? {} : { uid: number(uid, "--uid") }),
    ...(gid === undefined ? {} : { gid: number(gid, "--gid") }),
    ...(argv0 === undefined ? {} : { argv0 }),
  };
}
