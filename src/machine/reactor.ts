/**
 * Waits for descriptors and children without blocking JavaScript.
 *
 * Descriptors: one epoll instance, watched from another thread by one call at a time, whatever their number. While it is
 * watched the program is kept alive.
 *
 * Children: SIGCHLD, which Deno hands to JavaScript without the detour through another thread (50 µs), and a slow timer,
 * which keeps the program alive and would find what no signal told. Only in a Worker they are watched like descriptors:
 * when a Worker is terminated its children are killed, and the thread that watches is all that is left to reap them.
 *
 * When the last wait has resolved nothing is left to be done later but some microtasks, so Deno's test sanitizers have
 * nothing to find. The microtasks are there for programs that start one child after the other: they keep what each needs.
 *
 * @module
 */

import { makeEpoll, makeEventCounter } from "./descriptors.ts";
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
/** For how many microtasks a reactor without waits keeps what it has. */
const CLOSE_TURNS = 20;
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

type Timer = ReturnType<typeof setInterval>;

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
  /** What the other thread does at this moment, while it waits. */
  #away: Promise<readonly Event[]> | undefined;
  /** Looks at unreferenced waits. */
  #timer: Timer | undefined;
  /** Looks at children, and keeps the program alive while one of them is referenced. */
  #childrenTimer: Timer | undefined;
  /** How many children must keep the program alive. */
  #referencedChildren = 0;
  readonly #sigchld = new SignalListeners(["SIGCHLD"], () => this.#reap());
  #isClosing = false;

  /**
   * What keeps the program alive while there are children. The first timer of a program costs Deno 3 ms; a watch leaves
   * something to be done after the last child has ended, which the test sanitizers would find.
   */
  keepAliveBy: "timer" | "watch" = "timer";

  /**
   * Resolves when a descriptor can be read (`EPOLLIN`) or written (`EPOLLOUT`), has failed, or it is worth trying; to
   * false when the wait was given up by {@linkcode forget}.
   */
  async ready(fd: number, events: number, interest: Interest): Promise<boolean> {
    return await this.#add(fd, events, 0, interest) !== undefined;
  }

  /** Resolves when the child has ended and was reaped. Its pidfd is still to be closed. */
  ended(pidfd: number, interest: Interest): Promise<Ending> {
    if (isWorker) return this.#endedInWorker(pidfd);
    const { promise, resolve } = Promise.withResolvers<Ending>();
    this.#children.set(pidfd, { interest, resolve });
    if (interest.referenced) this.#referencedChildren++;
    this.#adjust();
    return promise;
  }

  /** Unreferenced or not, it is watched: what else would reap it when the Worker is terminated? */
  async #endedInWorker(pidfd: number): Promise<Ending> {
    const event = await this.#add(pidfd, EPOLLIN, CHILD_TOKEN, new Interest());
    if (event?.ending === undefined) throw new Error("Cannot wait for a child: its descriptor was closed");
    return event.ending;
  }

  /**
   * Takes what waiting needs, so that it cannot fail for the lack of it later. To be called before a child is made.
   *
   * @param descriptors Whether there will be other waits than for the child.
   */
  open(descriptors: boolean): void {
    if (descriptors || isWorker || this.keepAliveBy === "watch") this.#epoll ??= makeEpoll();
    if (!isWorker) this.#sigchld.add();
  }

  /** Lets go at once of what {@linkcode open} took, where nothing is waited for. */
  closeIfIdle(): void {
    if (!this.#watching && this.#waiters.size === 0 && this.#children.size === 0) this.#close();
  }

  /** Gives up the waits for a descriptor, before it is closed. */
  forget(fd: number): void {
    for (const [token, waiter] of this.#waiters) {
      if (waiter.fd === fd) this.#settle(token, undefined);
    }
    this.#adjust();
  }

  /** Resolves when the other thread waits for nothing that was given up, which the test sanitizers would find. */
  async returned(): Promise<void> {
    while (this.#away !== undefined && !this.#needsWatch()) await this.#away;
  }

  /** Says whether the waits of an interest, now and later, keep the program alive. */
  reference(interest: Interest, referenced: boolean): void {
    if (interest.referenced === referenced) return;
    interest.referenced = referenced;
    this.#referenced += referenced ? interest.waits : -interest.waits;
    for (const child of this.#children.values()) {
      if (child.interest === interest) this.#referencedChildren += referenced ? 1 : -1;
    }
    this.#adjust();
  }

  #count(interest: Interest, waits: 1 | -1): void {
    interest.waits += waits;
    if (interest.referenced) this.#referenced += waits;
  }

  #add(fd: number, events: number, kind: number, interest: Interest): Promise<Event | undefined> {
    const { promise, resolve } = Promise.withResolvers<Event | undefined>();
    this.#epoll ??= makeEpoll();
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
      if (interest.referenced) this.#referencedChildren--;
      resolve(ending);
    }
    this.#adjust();
  }

  /** Whether something must be watched for the program to stay alive. */
  #needsWatch(): boolean {
    return this.#referenced > 0 || (this.keepAliveBy === "watch" && this.#referencedChildren > 0);
  }

  /** Makes what watches and what keeps the program alive fit what is waited for. */
  #adjust(): void {
    this.#adjustChildrenTimer();
    if (this.#watching) {
      if (this.#away !== undefined && !this.#needsWatch()) this.#interrupt();
    } else if (this.#needsWatch()) {
      this.#watch();
    } else if (this.#waiters.size > 0) {
      this.#lookNowAndThen();
    } else if (this.#children.size === 0 && !this.#isClosing) {
      this.#closeSoon();
    }
  }

  #adjustChildrenTimer(): void {
    if (this.#referencedChildren > 0 && this.keepAliveBy === "timer") {
      this.#childrenTimer ??= setInterval(() => this.#reap(), CHILDREN_INTERVAL_MS);
    } else if (this.#children.size > 0) {
      this.#stopChildrenTimer();
    }
  }

  #stopChildrenTimer(): void {
    if (this.#childrenTimer === undefined) return;
    clearInterval(this.#childrenTimer);
    this.#childrenTimer = undefined;
  }

  async #watch(): Promise<void> {
    this.#watching = true;
    this.#stopTimer();
    try {
      while (this.#needsWatch()) {
        const timeout = isWorker ? -1 : CHILDREN_INTERVAL_MS;
        this.#away = library().watch(this.#epoll!, timeout);
        const events = await this.#away;
        this.#away = undefined;
        this.#dispatch(events);
        if (!isWorker) this.#reap();
      }
    } finally {
      this.#watching = false;
      // It may have come back by something else; then there is nothing left to be interrupted.
      this.#settle(INTERRUPT_TOKEN, undefined);
      this.#adjust();
    }
  }

  /** Ends the wait in the other thread, which would keep the program alive: a descriptor that is ready at once. */
  #interrupt(): void {
    if (this.#waiters.has(INTERRUPT_TOKEN)) return;
    const fd = makeEventCounter();
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

  async #closeSoon(): Promise<void> {
    this.#isClosing = true;
    for (let turn = 0; turn < CLOSE_TURNS; turn++) await undefined;
    this.#isClosing = false;
    this.closeIfIdle();
  }

  #close(): void {
    this.#stopTimer();
    this.#stopChildrenTimer();
    if (this.#epoll !== undefined) library().close(this.#epoll);
    this.#epoll = undefined;
    this.#sigchld.remove();
  }
}

/** The reactor of this realm. */
export const reactor: Reactor = new Reactor();
