/**
 * The program that the Deno inside is started with: a `data:` URL, as there may be no file inside that it could be in.
 *
 * @module
 */

import { codec } from "./codec.ts";
import { INSIDE_SOURCE, RETURNED, runInside, THREW } from "./inside.ts";

/** Where the process inside finds what it is to do. */
export const REQUEST_PATH = "/proc/self/fd/3";
/** Where it writes what came of it. */
export const REPLY_PATH = "/proc/self/fd/4";

/**
 * Everything else comes over the channel: Deno parses a main module and all of its functions, 1 ms for 8 KB, but not
 * what is evaluated.
 */
const STUB = `
const i=Deno.openSync("${REQUEST_PATH}"),o=Deno.openSync("${REPLY_PATH}",{read:false,write:true});
const read=n=>{const b=new Uint8Array(n);for(let a=0,k;a<n;a+=k)if(!(k=i.readSync(b.subarray(a))))Deno.exit(1);return b};
const write=b=>{for(let a=0;a<b.length;)a+=o.writeSync(b.subarray(a))};
const [t,h,a]=new Float64Array(read(24).buffer);
const text=new TextDecoder().decode(read(t)),head=read(h),args=read(a);i.close();
(0,eval)(text)({head,args,write,load:LOAD});
`.trim().replaceAll(";\n", ";");

/**
 * The URL of the main module.
 *
 * @param module The URL of the module to be run. It is named in the program, so that Deno asks for no permission to
 * import it, as for the modules of any program.
 */
export function mainModule(module: string | undefined): string {
  const load = module === undefined ? "undefined" : `()=>import(${JSON.stringify(module)})`;
  return `data:text/javascript;sys-linux-namespace,${encodeURIComponent(STUB.replace("LOAD", () => load))}`;
}

let text: Uint8Array<ArrayBuffer> | undefined;

/** What the main module evaluates, as bytes. */
function insideText(): Uint8Array<ArrayBuffer> {
  // The text of a function is JavaScript: the types are gone when it runs. Comments and indentation cost time there.
  return text ??= new TextEncoder().encode(
    `(inside => (${runInside})({ ...inside, codec: (${codec})(), kinds: [${RETURNED}, ${THREW}] }))`
      .replaceAll(/^ +(\/\/.*|\/\*.*?\*\/ *)?/gm, "") + `\n//# sourceURL=${INSIDE_SOURCE}`,
  );
}

/** All that is sent to the process inside, in order. */
export function message(
  head: readonly Uint8Array<ArrayBuffer>[],
  args: readonly Uint8Array<ArrayBuffer>[],
): Uint8Array<ArrayBuffer>[] {
  const sections = [[insideText()], head, args];
  const sizes = sections.map((parts) => parts.reduce((size, part) => size + part.length, 0));
  return [new Uint8Array(new Float64Array(sizes).buffer), ...sections.flat()];
}
