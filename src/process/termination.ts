/**
 * Ends children: on a signal to this process, and on request.
 *
 * @module
 */

import { signalNumber } from "../abi/signals.ts";
import { library } from "../machine/library.ts";
import { SignalListeners } from "../machine/signals.ts";

/** The signals that end a process unless it does something about them, as far as they come from outside. */
const SIGNALS = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGUSR1",
  "SIGUSR2",
  "SIGALRM",
  "SIGTERM",
] as const satisfies readonly Deno.Signal[];

const SIGKILL = signalNumber("SIGKILL");
const SIGTERM = signalNumber("SIGTERM");

/** A child that runs, and how it is to be ended. */
export class Termination {
  readonly #pidfd: number;
  readonly #graceMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ended = false;

  /** For a child that runs. */
  constructor(pidfd: number, graceMs: number) {
    this.#pidfd = pidfd;
    this.#graceMs = graceMs;
  }

  /** SIGTERM now, and SIGKILL after the grace: to PID 1 of a pid namespace, SIGTERM is nothing unless it handles it. */
  begin(): void {
    if (this.#ended || this.#timer !== undefined) return;
    library().signal(this.#pidfd, SIGTERM);
    this.#timer = setTimeout(() => this.signal(SIGKILL), this.#graceMs);
  }

  /** Sends a signal; says whether there was still somebody to get it. */
  signal(number: number): boolean {
    return !this.#ended && library().signal(this.#pidfd, number);
  }

  /** The child has ended and was reaped: nothing is sent any more. */
  end(): void {
    this.#ended = true;
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    library().close(this.#pidfd); // Not sooner: its number may be another child's by then.
  }
}

const guarded = new Set<Guard>();
const listeners = new SignalListeners(SIGNALS, () => {
  for (const guard of guarded) guard.endChild();
});

/**
 * Ends its child on a signal to this process. It is made before the child is, so that no signal falls between; one that
 * comes before {@linkcode Guard.child} is set is delivered to it afterwards, as JavaScript runs no listener meanwhile.
 */
export class Guard {
  #child: Termination | undefined;

  /** Begins to listen. */
  constructor() {
    this.listen();
  }

  /** Begins to listen again. */
  listen(): void {
    guarded.add(this);
    listeners.add();
  }

  /** Says which child it is for. */
  set child(child: Termination) {
    this.#child = child;
  }

  /** Ends the child. */
  endChild(): void {
    this.#child?.begin();
  }

  /** Stops listening: what comes from now on is for this process itself. */
  release(): void {
    guarded.delete(this);
    if (guarded.size === 0) listeners.remove();
  }
}
