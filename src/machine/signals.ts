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
  #added = false;
  #removal: number | undefined;

  /** `listener` is called for each of the signals, while the listeners are there. */
  constructor(signals: readonly Deno.Signal[], listener: () => void) {
    this.#entries = signals.map((
      signal,
    ) => [signal, () => this.#removal === undefined ? listener() : this.#tooLate(signal)]);
  }

  /** Adds the listeners, where they are not there. */
  add(): void {
    clearTimeout(this.#removal);
    this.#removal = undefined;
    if (this.#added) return;
    this.#added = true;
    for (const [signal, listener] of this.#entries) Deno.addSignalListener(signal, listener);
  }

  /** Removes the listeners once JavaScript has nothing else to do: one child after the other needs them only once. */
  remove(): void {
    if (this.#added) this.#removal ??= setTimeout(() => this.#removeNow(), 0);
  }

  #removeNow(): void {
    clearTimeout(this.#removal);
    this.#removal = undefined;
    this.#added = false;
    for (const [signal, listener] of this.#entries) Deno.removeSignalListener(signal, listener);
  }

  /** Nobody needs the listeners any more, so the signal is to do what it does without them. */
  #tooLate(signal: Deno.Signal): void {
    this.#removeNow();
    if (signal !== "SIGCHLD") library().raise(signalNumber(signal));
  }
}
