/**
 * Listens for signals to this process, for as long as somebody needs to.
 *
 * @module
 */

import { signalNumber } from "../abi/signals.ts";
import { library } from "./library.ts";

/** Listeners for some signals that are added and removed together. */
export class SignalListeners {
  readonly #entries: readonly (readonly [signal: Deno.Signal, listener: () => void])[];
  readonly #atIdle: (callback: () => void) => void;
  /** The same function each time, so that there is one removal however often it was asked for. */
  readonly #removal = (): void => this.#removeUnneeded();
  #added = false;
  #needed = false;

  /**
   * Makes the listeners, without adding them.
   *
   * @param signals What to listen for.
   * @param listener Called for each of the signals, while it is needed.
   * @param atIdle Calls back when there is time for the removal: to add and remove listeners costs 30 µs, and one child
   * after the other needs them only once.
   */
  constructor(signals: readonly Deno.Signal[], listener: () => void, atIdle: (callback: () => void) => void) {
    this.#entries = signals.map((signal) => [signal, () => this.#needed ? listener() : this.#tooLate(signal)]);
    this.#atIdle = atIdle;
  }

  /** Adds the listeners, where they are not there. */
  add(): void {
    this.#needed = true;
    if (this.#added) return;
    this.#added = true;
    for (const [signal, listener] of this.#entries) Deno.addSignalListener(signal, listener);
  }

  /** Removes the listeners, unless they are needed again before there is time for that. */
  remove(): void {
    if (!this.#needed) return;
    this.#needed = false;
    this.#atIdle(this.#removal);
  }

  #removeUnneeded(): void {
    if (this.#needed || !this.#added) return;
    this.#added = false;
    for (const [signal, listener] of this.#entries) Deno.removeSignalListener(signal, listener);
  }

  /** Nobody needs the listeners any more, so the signal is to do what it does without them. */
  #tooLate(signal: Deno.Signal): void {
    this.#removeUnneeded();
    if (signal !== "SIGCHLD") library().raise(signalNumber(signal));
  }
}
