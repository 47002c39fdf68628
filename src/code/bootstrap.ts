/**
 * The program that the Deno inside is started with: a `data:` URL, as there may be no file inside that it could be in.
 *
 * @module
 */

import { codec } from "./codec.ts";
import { INSIDE_SOURCE, insideTools, type Request, RETURNED, runInside, serveInside, THREW } from "./inside.ts";

/** Where the process inside finds what it is to do. */
export const REQUEST_PATH = "/proc/self/fd/3";
/** Where it writes what came of it. */
export const REPLY_PATH = "/proc/self/fd/4";

/**
 * Everything else comes over the channel: Deno parses a main module and all of its functions, 1 ms for 8 KB, but not
 * what is evaluated.
 */
const STUB = `
const input=Deno.openSync("${REQUEST_PATH}"),output=Deno.openSync("${REPLY_PATH}",{read:false,write:true});
const read=n=>{const b=new Uint8Array(n);for(let a=0,k;a<n;a+=k)if(!(k=input.readSync(b.subarray(a))))Deno.exit(1);return b};
const [t,h,a]=new Float64Array(read(24).buffer);
const text=new TextDecoder().decode(read(t)),head=read(h),args=read(a);
(0,eval)(text)({head,args,input,output,load:LOAD});
`.trim().replaceAll(";\n", ";");

/**
 * The URL of the main module.
 *
 * @param modules The URLs of modules that may be run. They are named in the program, so that Deno asks for no permission
 * to import them, as for the modules of any program.
 */
export function mainModule(modules: readonly string[]): string {
  const named = modules.map((url) => JSON.stringify(url)).map((url) => `${url}:()=>import(${url})`);
  const load = `(m=>u=>m[u]?m[u]():import(u))({__proto__:null,${named.join()}})`;
  return `data:text/javascript;sys-linux-namespace,${encodeURIComponent(STUB.replace("LOAD", () => load))}`;
}

/** How the process inside runs code: once, or whenever it is asked to. */
export type Way = "run" | "serve";

const texts = new Map<Way, Uint8Array<ArrayBuffer>>();
const utf8 = new TextEncoder();

/** What the main module evaluates, as bytes. */
function insideText(way: Way): Uint8Array<ArrayBuffer> {
  let text = texts.get(way);
  if (text === undefined) {
    const main = way === "run" ? runInside : serveInside;
    // The text of a function is JavaScript: the types are gone when it runs. Comments and indentation cost time there.
    text = utf8.encode(
      `(given => {
        const inside = { ...given, codec: (${codec})(), kinds: [${RETURNED}, ${THREW}] };
        (${main})(inside, (${insideTools})(inside));
      })`.replaceAll(/^ +(\/\/.*|\/\*.*?\*\/ *)?/gm, "") + `\n//# sourceURL=${INSIDE_SOURCE}`,
    );
    texts.set(way, text);
  }
  return text;
}

/** All that is sent to the process inside first, in order. */
export function firstMessage(
  way: Way,
  request: Request,
  args: readonly Uint8Array<ArrayBuffer>[],
): Uint8Array<ArrayBuffer>[] {
  const sections = [[insideText(way)], [utf8.encode(JSON.stringify(request))], args];
  const sizes = sections.map((parts) => parts.reduce((size, part) => size + part.length, 0));
  return [new Uint8Array(new Float64Array(sizes).buffer), ...sections.flat()];
}
