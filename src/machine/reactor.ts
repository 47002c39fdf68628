/**
 * Waits for descriptors and children without blocking JavaScript.
 *
 * Descriptors: one epoll instance, watched from another thread by one call at a time, whatever their number.
 *
 * Children: SIGCHLD, which Deno hands to JavaScript without that detour through another thread (60 µs), and a slow timer,
 * which keeps the program alive and would find what no signal told. In a Worker they are watched like descriptors: when
 * a Worker is terminated its children are killed, and the thread that watches is all that is left to reap them.
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
const EPOLL_CTL_DEL = 2;

/** Waits have tokens from 1. */
const INTERRUPT_TOKEN = 0;

/** How often children are looked at even though no SIGCHLD came, in milliseconds. */
const CHILDREN_INTERVAL_MS = 1000;

/** How often a reactor that must not keep the program alive looks, in milliseconds. */
const UNREFERENCED_INTERVAL_MS = 20;

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

const isWorker = "WorkerGlobalScope" in globalThis;

/** Waits for descriptors, for one JavaScript realm. Its epoll instance is there only while something is waited for. */
class Reactor {
  readonly #children = new Children();
  #epoll: number | undefined;
  #waiters = new Map<number, Waiter>();
  #lastToken = 0;
  /** How many waits must keep the program alive. */
  #referenced = 0;
  #watching = false;
  #timer: number | undefined;

  /**
   * Resolves when a descriptor can be read (`EPOLLIN`) or written (`EPOLLOUT`), or has failed; to false when the wait
   * was given up by {@linkcode forget}.
   */
  async ready(fd: number, events: number, interest: Interest): Promise<boolean> {
    return await this.#add(fd, events, 0, interest) !== undefined;
  }

  /** Resolves when the child has ended, and was reaped. */
  async ended(pidfd: number, interest: Interest): Promise<Ending> {
    if (!isWorker) return await this.#children.ended(pidfd, interest);
    const event = await this.#add(pidfd, EPOLLIN, CHILD_TOKEN, interest);
    if (event?.ending === undefined) throw new Error("Cannot wait for a child: its descriptor was closed");
    return event.ending;
  }

  /** Takes what waiting needs, so that it cannot fail for the lack of it later. */
  open(): void {
    if (isWorker) this.#open();
    else this.#children.listen();
  }

  #open(): void {
    this.#epoll ??= library().epollCreate();
  }

  /** Lets go of what {@linkcode open} took, where nothing is waited for. */
  closeIfIdle(): void {
    if (isWorker) this.#adjust();
    else this.#children.listenWhileNeeded();
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
    this.#children.adjust();
    this.#referenced += referenced ? interest.waits : -interest.waits;
    this.#adjust();
  }

  #add(fd: number, events: number, kind: number, interest: Interest): Promise<Event | undefined> {
    const { promise, resolve } = Promise.withResolvers<Event | undefined>();
    this.#open();
    do this.#lastToken = this.#lastToken % (CHILD_TOKEN - 1) + 1; while (this.#waiters.has(this.#lastToken + kind));
    const token = this.#lastToken + kind;
    this.#waiters.set(token, { fd, interest, resolve });
    interest.waits++;
    if (interest.referenced) this.#referenced++;
    const result = library().epollControl(this.#epoll!, EPOLL_CTL_ADD, fd, events, token);
    if (result < 0) this.#settle(token, { token, ending: undefined }); // A read or write then says what is wrong.
    this.#adjust();
    return promise;
  }

  #settle(token: number, event: Event | undefined): void {
    const waiter = this.#waiters.get(token);
    if (waiter === undefined) return;
    this.#waiters.delete(token);
    library().epollControl(this.#epoll!, EPOLL_CTL_DEL, waiter.fd, 0, 0);
    waiter.interest.waits--;
    if (waiter.interest.referenced) this.#referenced--;
    waiter.resolve(event);
  }

  #dispatch(events: readonly Event[]): void {
    for (const event of events) this.#settle(event.token, event);
  }

  /** Makes what watches fit what is waited for. */
  #adjust(): void {
    if (this.#referenced > 0) {
      if (!this.#watching) this.#watch();
    } else if (this.#watching) {
      this.#interrupt();
    } else if (this.#waiters.size === 0) {
      this.#close();
    } else if (this.#timer === undefined) {
      this.#timer = setInterval(() => this.#look(), UNREFERENCED_INTERVAL_MS);
      Deno.unrefTimer(this.#timer);
    }
  }

  async #watch(): Promise<void> {
    this.#watching = true;
    this.#stopTimer();
    try {
      while (this.#referenced > 0) this.#dispatch(await library().pollElsewhere(this.#epoll!));
    } finally {
      this.#watching = false;
      this.#adjust();
    }
  }

  /** Ends the wait in the other thread, which would keep the program alive: a descriptor that is ready at once. */
  #interrupt(): void {
    if (this.#waiters.has(INTERRUPT_TOKEN)) return;
    const fd = library().eventCounter();
    const interest = new Interest();
    interest.referenced = false;
    interest.waits = 1;
    library().epollControl(this.#epoll!, EPOLL_CTL_ADD, fd, EPOLLOUT, INTERRUPT_TOKEN);
    this.#waiters.set(INTERRUPT_TOKEN, { fd, interest, resolve: () => library().close(fd) });
  }

  #look(): void {
    this.#dispatch(library().poll(this.#epoll!, 0));
    if (this.#waiters.size === 0) this.#adjust();
  }

  #stopTimer(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #close(): void {
    this.#stopTimer();
    if (this.#epoll !== undefined) library().close(this.#epoll);
    this.#epoll = undefined;
  }
}

/** The children that are waited for, where it is not in a Worker. */
class Children {
  readonly #waited = new Map<number, WaitedChild>();
  readonly #listeners = new SignalListeners(["SIGCHLD"], () => this.#reap());
  #timer: number | undefined;
  #timerIsReferenced = true;

  /** To be called before a child is made. */
  listen(): void {
    this.#listeners.add();
  }

  /** Undoes {@linkcode listen}, unless there are children. */
  listenWhileNeeded(): void {
    if (this.#waited.size === 0) this.#listeners.remove();
  }

  ended(pidfd: number, interest: Interest): Promise<Ending> {
    const { promise, resolve } = Promise.withResolvers<Ending>();
    this.#waited.set(pidfd, { interest, resolve });
    this.listen();
    this.adjust();
    return promise;
  }

  /** Makes the timer fit the children: there while there are some, and referenced while one of them is. */
  adjust(): void {
    if (this.#waited.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return this.listenWhileNeeded();
    }
    if (this.#timer === undefined) {
      this.#timer = setInterval(() => this.#reap(), CHILDREN_INTERVAL_MS);
      this.#timerIsReferenced = true;
    }
    const referenced = this.#isReferenced();
    if (referenced === this.#timerIsReferenced) return;
    this.#timerIsReferenced = referenced;
    if (referenced) Deno.refTimer(this.#timer);
    else Deno.unrefTimer(this.#timer);
  }

  #isReferenced(): boolean {
    for (const { interest } of this.#waited.values()) if (interest.referenced) return true;
    return false;
  }

  #reap(): void {
    for (const [pidfd, { resolve }] of this.#waited) {
      const ending = library().tryWait(pidfd);
      if (ending === undefined) continue;
      this.#waited.delete(pidfd);
      resolve(ending);
    }
    this.adjust();
  }
}

/** The reactor of this realm. */
export const reactor: Reactor = new Reactor();
