/**
 * Resources that can be limited, in the order of their numbers, the same on x86_64 and aarch64.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/getrlimit.2.html | getrlimit(2)}
 * @module
 */

/** Their names, without RLIMIT_. */
export const RESOURCES = [
  "cpu",
  "fsize",
  "data",
  "stack",
  "core",
  "rss",
  "nproc",
  "nofile",
  "memlock",
  "as",
  "locks",
  "sigpending",
  "msgqueue",
  "nice",
  "rtprio",
  "rttime",
] as const;

/** A resource that can be limited. */
export type ResourceName = typeof RESOURCES[number];
