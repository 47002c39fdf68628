/**
 * Listens for signals to this process, for as long as somebody needs to.
 *
 * @module
 */

/** Listeners for some signals that are added and removed together. */
export class SignalListeners {
  readonly #signals: readonly Deno.Signal[];
  readonly #listener: () => void;
  #added = false;

  /** `listener` is called for each of the signals, while it is there. */
  constructor(signals: readonly Deno.Signal[], listener: () => void) {
    this.#signals = signals;
    this.#listener = listener;
  }

  /** Adds the listeners, where they are not there. */
  add(): void {
    if (this.#added) return;
    this.#added = true;
    for (const signal of this.#signals) Deno.addSignalListener(signal, this.#listener);
  }

  /** Removes the listeners, where they are there: the signals then do again what they do without them. */
  remove(): void {
    if (!this.#added) return;
    this.#added = false;
    for (const signal of this.#signals) Deno.removeSignalListener(signal, this.#listener);
  }
}
