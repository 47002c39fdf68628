/**
 * What a program that runs commands has for good is there after this: the shim, Deno's signal handling, its child watcher.
 * Otherwise the first test that runs a command would be taken to leak them. Examples are run with `--preload` of this.
 *
 * @module
 */

import { Namespace } from "../../mod.ts";

new Namespace().command("/bin/true").outputSync();
await new Namespace().command("/bin/true").output();
await new Deno.Command("/bin/true").output();
