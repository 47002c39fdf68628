/**
 * Signal names and numbers, the same on x86_64 and aarch64.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/signal.7.html | signal(7)}
 * @module
 */

/** In the order of their numbers, which begin at 1. */
const NAMES = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGILL",
  "SIGTRAP",
  "SIGABRT",
  "SIGBUS",
  "SIGFPE",
  "SIGKILL",
  "SIGUSR1",
  "SIGSEGV",
  "SIGUSR2",
  "SIGPIPE",
  "SIGALRM",
  "SIGTERM",
  "SIGSTKFLT",
  "SIGCHLD",
  "SIGCONT",
  "SIGSTOP",
  "SIGTSTP",
  "SIGTTIN",
  "SIGTTOU",
  "SIGURG",
  "SIGXCPU",
  "SIGXFSZ",
  "SIGVTALRM",
  "SIGPROF",
  "SIGWINCH",
  "SIGIO",
  "SIGPWR",
  "SIGSYS",
] as const satisfies readonly Deno.Signal[];

/** Other names of the same signals. */
const ALIASES: Readonly<Record<string, Deno.Signal>> = { SIGPOLL: "SIGIO", SIGUNUSED: "SIGSYS" };
/** The last real-time signal. */
const SIGNAL_MAX = 64;

/**
 * The number of a signal.
 *
 * @throws {TypeError} When there is no such signal.
 */
export function signalNumber(signal: Deno.Signal | number): number {
  if (typeof signal === "number") {
    if (Number.isInteger(signal) && signal >= 0 && signal <= SIGNAL_MAX) return signal;
  } else {
    const index = (NAMES as readonly string[]).indexOf(ALIASES[signal] ?? signal);
    if (index >= 0) return index + 1;
  }
  throw new TypeError(`Invalid signal: ${signal}`);
}

/** The name of a signal number; real-time signals have none that Deno knows, and are called `SIGRTMIN+n`. */
export function signalName(number: number): Deno.Signal {
  return NAMES[number - 1] ?? `SIGRTMIN+${number - 34}` as Deno.Signal;
}
