/**
 * What code is given as: a function, whose text is sent, or the URL of a module.
 *
 * @module
 */

/** Any function. */
// deno-lint-ignore no-explicit-any -- nothing else takes every function
export type AnyFunction = (...args: any[]) => unknown;

/** Code that was looked at. */
export interface Source {
  /** The function's text. */
  readonly text: string | undefined;
  /** The module's URL. */
  readonly module: string | undefined;
  /** What it is called in stacks. */
  readonly name: string;
}

/**
 * Looks at code.
 *
 * @throws {TypeError} When it cannot run in another process.
 */
export function sourceOf(code: unknown): Source {
  if (typeof code === "function") return functionSource(code);
  if (code instanceof URL || typeof code === "string") {
    const url = URL.parse(code);
    if (url === null) throw new TypeError(`Cannot run "${code}": it is neither a function nor a URL`);
    if (url.protocol === "blob:") throw new TypeError(`Cannot run "${url}": a blob is in this process only`);
    return { text: undefined, module: url.href, name: url.href };
  }
  throw new TypeError(`Cannot run what is neither a function nor the URL of a module: got ${Deno.inspect(code)}`);
}

/**
 * The URLs of the option `modules`.
 *
 * @throws {TypeError} When it is no list of URLs.
 */
export function moduleUrls(modules: unknown = []): string[] {
  if (!Array.isArray(modules)) throw new TypeError(`Option "modules" must be a list: got ${Deno.inspect(modules)}`);
  return Array.from(modules, (module: unknown) => {
    const url = module instanceof URL ? module : URL.parse(String(module));
    if (url === null) throw new TypeError(`Option "modules" has an entry that is no URL: ${Deno.inspect(module)}`);
    return url.href;
  });
}

// deno-lint-ignore ban-types -- that is what typeof says it is
function functionSource(code: Function): Source {
  const text = Function.prototype.toString.call(code);
  const name = code.name === "" ? "anonymous" : String(code.name).replaceAll(/\s+/g, "_");
  if (/^class\b/.test(text)) throw new TypeError(`Cannot run the class "${name}": it is to be called with "new"`);
  if (/\{\s*\[native code\]\s*\}\s*$/.test(text)) {
    const kind = /^bound\b/.test(code.name) ? "a bound function" : "no JavaScript";
    throw new TypeError(
      `Cannot run the function "${code.name.trim()}": it is ${kind}, so there is no text to send; ` +
        `write a function around it, as in run((...args) => name(...args))`,
    );
  }
  return { text, module: undefined, name };
}
