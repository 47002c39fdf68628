/**
 * Who asks: the facts about the calling process that plans depend on.
 *
 * @module
 */

/** Capabilities that plans depend on: see capabilities(7). */
export type Capability = "CAP_SETGID" | "CAP_SETUID" | "CAP_SYS_ADMIN";

/** Their bit numbers, from linux/capability.h. */
const BITS: readonly (readonly [Capability, number])[] = [["CAP_SETGID", 6], ["CAP_SETUID", 7], ["CAP_SYS_ADMIN", 21]];

/** Whoever will run a plan that is made before that is known. */
export const ANYBODY = "anybody";

/** The calling process, as far as plans depend on it. */
export interface Caller {
  /** Its effective user id. */
  readonly uid: number | typeof ANYBODY;
  /** Its effective group id. */
  readonly gid: number | typeof ANYBODY;
  /** Which capabilities are effective. */
  readonly capabilities: ReadonlySet<Capability>;
}

/** The capabilities in the low word of an effective set, as capget(2) gives it. */
export function capabilitiesOf(effective: number): ReadonlySet<Capability> {
  return new Set(BITS.filter(([, bit]) => (effective & (1 << bit)) !== 0).map(([name]) => name));
}

/** A calling process whose ids are known. */
export interface KnownCaller extends Caller {
  readonly uid: number;
  readonly gid: number;
}
