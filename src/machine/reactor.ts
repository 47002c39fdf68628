/**
 * Waits for descriptors and children without blocking JavaScript.
 *
 * Descriptors: one epoll instance, watched from another thread by one call at a time, whatever their number. While it is
 * watched the program is kept alive.
 *
 * Children: SIGCHLD, which Deno hands to JavaScript without the detour through another thread (50 µs). Only in a Worker
 * they are watched like descriptors: when a Worker is terminated its children are killed, and the thread that watches is
 * all that is left to reap them.
 *
 * There are no timers here but for what is unreferenced: the first one costs a program of Deno's 3 ms.
 *
 * @module
 */

import { CHILD_TOKEN, type Ending, type Event, library } from "./library.ts";
import { SignalListeners } from "./signals.ts";

/** epoll_ctl(2): there is something to read, or an end of file. */
export const EPOLLIN = 1;
/** epoll_ctl(2): there is room to write. */
export const EPOLLOUT = 4;
/** epoll_ctl(2): begin to watch a descriptor. */
export const EPOLL_CTL_ADD = 1;
/** epoll_ctl(2): end it, which is to be done before the descriptor is closed. */
export const EPOLL_CTL_DEL = 2;

/** Waits have tokens from 1. */
const INTERRUPT_TOKEN = 0;
/** After how many microtasks without a wait that needs it the watch is ended. */
const INTERRUPT_TURNS = 10;
/** How often children are looked at even though no SIGCHLD came, in milliseconds. */
const CHILDREN_INTERVAL_MS = 1000;
/** How often a reactor that must not keep the program alive looks at its descriptors, in milliseconds. */
const UNREFERENCED_INTERVAL_MS = 20;

const isWorker = "WorkerGlobalScope" in globalThis;

/** Who waits. Its waits keep the program alive exactly while it is referenced. */
export class Interest {
  /** Changed by `Reactor.reference`. */
  referenced = true;
  /** How many waits there are now. */
  waits = 0;
}

interface Waiter {
  readonly fd: number;
  readonly interest: Interest;
  readonly resolve: (event: Event | undefined) => void;
}

interface WaitedChild {
  readonly interest: Interest;
  readonly resolve: (ending: Ending) => void;
}

/** Waits for descriptors and children, for one JavaScript realm. It holds nothing while nothing is waited for. */
class Reactor {
  #epoll: number | undefined;
  readonly #waiters = new Map<number, Waiter>();
  /** By their pidfds; not those of a Worker, which are among the waiters. */
  readonly #children = new Map<number, WaitedChild>();
  #lastToken = 0;
  /** How many waits must keep the program alive. */
  #referenced = 0;
  #watching = false;
  #interrupting = false;
  #timer: ReturnType<typeof setInterval> | undefined;
  readonly #sigchld = new SignalListeners(["SIGCHLD"], () => this.#reap(), (remove) => remove());
  #idleCallbacks = new Set<() => void>();

  /**
   * Resolves when a descriptor can be read (`EPOLLIN`) or written (`EPOLLOUT`), has failed, or it is worth trying; to
   * false when the wait was given up by {@linkcode forget}.
   */
  async ready(fd: number, events: number, interest: Interest): Promise<boolean> {
    return await this.#add(fd, events, 0, interest) !== undefined;
  }

  /** Resolves when the child has ended and was reaped. Its pidfd is then closed, and must not be used again. */
  ended(pidfd: number, interest: Interest): Promise<Ending> {
    if (isWorker) return this.#endedInWorker(pidfd);
    const { promise, resolve } = Promise.withResolvers<Ending>();
    this.#children.set(pidfd, { interest, resolve });
    this.#count(interest, 1);
    this.#adjust();
    return promise;
  }

  /** Unreferenced or not, it is watched: what else would reap it when the Worker is terminated? */
  async #endedInWorker(pidfd: number): Promise<Ending> {
    const event = await this.#add(pidfd, EPOLLIN, CHILD_TOKEN, new Interest());
    library().close(pidfd);
    if (event?.ending === undefined) throw new Error("Cannot wait for a child: its descriptor was closed");
    return event.ending;
  }

  /** Takes what waiting needs, so that it cannot fail for the lack of it later. To be called before a child is made. */
  open(): void {
    this.#epoll ??= library().epollCreate();
    if (!isWorker) this.#sigchld.add();
  }

  /** Lets go of what {@linkcode open} took, where nothing is waited for. */
  closeIfIdle(): void {
    this.#adjust();
  }

  /** Calls back when nothing is waited for and JavaScript has had its turn; not while one child follows the other. */
  atIdle(callback: () => void): void {
    this.#idleCallbacks.add(callback);
    this.#adjust();
  }

  /** Gives up the waits for a descriptor, before it is closed. */
  forget(fd: number): void {
    for (const [token, waiter] of this.#waiters) {
      if (waiter.fd === fd) this.#settle(token, undefined);
    }
    this.#adjust();
  }

  /** Says whether the waits of an interest, now and later, keep the program alive. */
  reference(interest: Interest, referenced: boolean): void {
    if (interest.referenced === referenced) return;
    interest.referenced = referenced;
    this.#referenced += referenced ? interest.waits : -interest.waits;
    this.#adjust();
  }

  #count(interest: Interest, waits: 1 | -1): void {
    interest.waits += waits;
    if (interest.referenced) this.#referenced += waits;
  }

  #add(fd: number, events: number, kind: number, interest: Interest): Promise<Event | undefined> {
    const { promise, resolve } = Promise.withResolvers<Event | undefined>();
    this.#epoll ??= library().epollCreate();
    do this.#lastToken = this.#lastToken % (CHILD_TOKEN - 1) + 1; while (this.#waiters.has(this.#lastToken + kind));
    const token = this.#lastToken + kind;
    this.#waiters.set(token, { fd, interest, resolve });
    this.#count(interest, 1);
    const added = library().epollControl(this.#epoll, EPOLL_CTL_ADD, fd, events, token);
    if (!added) this.#settle(token, { token, ending: undefined }); // A read or write then says what is wrong.
    this.#adjust();
    return promise;
  }

  #settle(token: number, event: Event | undefined): void {
    const waiter = this.#waiters.get(token);
    if (waiter === undefined) return;
    this.#waiters.delete(token);
    library().epollControl(this.#epoll!, EPOLL_CTL_DEL, waiter.fd, 0, 0);
    this.#count(waiter.interest, -1);
    waiter.resolve(event);
  }

  #dispatch(events: readonly Event[]): void {
    for (const event of events) this.#settle(event.token, event);
  }

  /** Takes the endings of all children that have ended: one SIGCHLD can stand for several. */
  #reap(): void {
    for (const [pidfd, { interest, resolve }] of this.#children) {
      const ending = library().tryWait(pidfd);
      if (ending === undefined) continue;
      this.#children.delete(pidfd);
      library().close(pidfd);
      this.#count(interest, -1);
      resolve(ending);
      if (interest.waits > 0) this.#wakeAll(interest);
    }
    this.#adjust();
  }

  /** When a child has ended its pipes are likely to be at their end as well. */
  #wakeAll(interest: Interest): void {
    for (const [token, waiter] of this.#waiters) {
      if (waiter.interest === interest) this.#settle(token, { token, ending: undefined });
    }
  }

  /** Makes what watches fit what is waited for. */
  #adjust(): void {
    if (this.#watching) {
      if (this.#referenced === 0 && !this.#interrupting) this.#interruptUnlessNeeded();
    } else if (this.#referenced > 0) {
      this.#watch();
    } else if (this.#waiters.size > 0) {
      this.#lookNowAndThen();
    } else if (this.#children.size === 0) {
      this.#close();
    }
  }

  async #watch(): Promise<void> {
    this.#watching = true;
    this.#stopTimer();
    try {
      while (this.#referenced > 0) {
        const timeout = isWorker ? -1 : CHILDREN_INTERVAL_MS;
        this.#dispatch(await library().watch(this.#epoll!, timeout));
        if (!isWorker) this.#reap();
      }
    } finally {
      this.#watching = false;
      this.#adjust();
    }
  }

  /**
   * Ends the wait in the other thread, which would keep the program alive. Not at once: where one child follows the
   * other, the next is there a few microtasks later.
   */
  async #interruptUnlessNeeded(): Promise<void> {
    this.#interrupting = true;
    for (let turn = 0; turn < INTERRUPT_TURNS; turn++) await undefined;
    this.#interrupting = false;
    if (this.#referenced > 0 || !this.#watching || this.#waiters.has(INTERRUPT_TOKEN)) return;
    const fd = library().eventCounter(); // It is ready to be written at once.
    const interest = new Interest();
    interest.referenced = false;
    interest.waits = 1;
    this.#waiters.set(INTERRUPT_TOKEN, { fd, interest, resolve: () => library().close(fd) });
    library().epollControl(this.#epoll!, EPOLL_CTL_ADD, fd, EPOLLOUT, INTERRUPT_TOKEN);
  }

  /** What is not to keep the program alive is looked at by a timer that does not. Children have SIGCHLD. */
  #lookNowAndThen(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setInterval(() => {
      this.#dispatch(library().poll(this.#epoll!, 0));
      this.#adjust();
    }, UNREFERENCED_INTERVAL_MS);
    Deno.unrefTimer(this.#timer as unknown as number); // Its type may be Node's, where that is imported.
  }

  #stopTimer(): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #close(): void {
    this.#stopTimer();
    if (this.#epoll !== undefined) library().close(this.#epoll);
    this.#epoll = undefined;
    this.#sigchld.remove();
    const callbacks = this.#idleCallbacks;
    this.#idleCallbacks = new Set();
    for (const callback of callbacks) callback();
  }
}

/** The reactor of this realm. */
export const reactor: Reactor = new Reactor();
