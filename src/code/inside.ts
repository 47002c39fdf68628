/**
 * What runs in the Deno inside: calls the code, and sends back what came of it.
 *
 * The texts of the functions here are evaluated in the process inside: they need nothing but their arguments and the
 * globals of Deno.
 *
 * @module
 */

import type { Codec } from "./codec.ts";

/** Code to be called. */
export interface CodeRequest {
  /** The function's text; undefined where the code is a module. */
  readonly text?: string | undefined;
  /** The module's URL; undefined where the code is a function. */
  readonly module?: string | undefined;
  /** What the code is called in stacks. */
  readonly name: string;
}

/** What the process inside is told first. */
export interface Request {
  /** The option that asked for a network of its own, where one did. */
  readonly privateNet?: string | undefined;
  /** Permissions that were for the channel alone. */
  readonly revoke: readonly Deno.PermissionDescriptor[];
  /** The code of {@linkcode runInside}. */
  readonly code?: CodeRequest;
}

/** Kind of a reply: its value is what the code returned. */
export const RETURNED = 0;
/** Kind of a reply: its value is what the code threw. */
export const THREW = 1;
/** The call that stands for the start of {@linkcode serveInside}. */
export const READY_ID = 0;

/** What it has to do it with. */
export interface Inside {
  readonly codec: Codec;
  /** A {@linkcode Request} as JSON: what Deno has itself is ready sooner. */
  readonly head: Uint8Array<ArrayBuffer>;
  /** The encoded list of arguments of {@linkcode runInside}. */
  readonly args: Uint8Array<ArrayBuffer>;
  /** The pipe that requests come from. */
  readonly input: Deno.FsFile;
  /** The pipe that replies go to. */
  readonly output: Deno.FsFile;
  /** Imports a module. */
  readonly load: (url: string) => Promise<Record<string, unknown>>;
  /** {@linkcode RETURNED} and {@linkcode THREW}: there are no variables around these functions where they run. */
  readonly kinds: readonly [number, number];
}

/** Code, and what it came to when it was first called. */
interface Code extends CodeRequest {
  value?: unknown;
}

/** What both ways to run code inside need. */
export interface Tools {
  /** Reads JSON. */
  json(bytes: Uint8Array<ArrayBuffer>): unknown;
  /** Takes what it is told first, and gives up the permissions that were for the channel alone, which is open. */
  begin(request: Request): void;
  /** Calls code, and makes the reply of what came of it. Never rejects. */
  outcome(id: number, code: Code, args: Uint8Array<ArrayBuffer>): Promise<{ isThrown: boolean; reply: Uint8Array[] }>;
  /** Makes a reply. */
  reply(id: number, kind: number, value: unknown, what: string): Uint8Array[];
}

/** What frames of this package are known by in a stack inside. */
export const INSIDE_SOURCE = "sys-linux-namespace:inside";

/** Makes what {@linkcode runInside} and {@linkcode serveInside} need. */
export function insideTools({ codec, load, kinds: [returned, threw] }: Inside): Tools {
  let privateNet: string | undefined;

  /** A function, or else a method: its text is one where an object literal is around it. */
  function evaluate(text: string, name: string): unknown {
    const end = `\n//# sourceURL=run:${name}`;
    try {
      return (0, eval)(`(${text}\n)${end}`);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      if (error.message.includes("import.meta")) {
        throw new SyntaxError(
          `Cannot run the function "${name}": import.meta is of the module around it; ` +
            `pass what it is for as an argument, as in run((url) => ..., import.meta.resolve("./x.ts"))`,
        );
      }
      try {
        const methods = (0, eval)(`({${text}\n})${end}`);
        return methods[Reflect.ownKeys(methods)[0]!];
      } catch {
        const reason = `its text is no expression by itself (${error.message})`;
        throw new SyntaxError(`Cannot run the function "${name}": ${reason}`);
      }
    }
  }

  async function defaultExport(url: string): Promise<unknown> {
    try {
      return (await load(url)).default;
    } catch (error) {
      const refused = error instanceof TypeError ? /^Requires \w+ access to [^,]*/.exec(error.message)?.[0] : undefined;
      if (refused === undefined) throw error;
      const hint = `allow that by option "permissions", or name it in option "modules" of a worker`;
      throw new Deno.errors.NotCapable(`Cannot import ${url}: ${refused}; ${hint}`);
    }
  }

  async function call(code: Code, args: Uint8Array<ArrayBuffer>): Promise<unknown> {
    const { text, module, name } = code;
    // Where that fails it is tried again at the next call.
    code.value ??= text === undefined ? await defaultExport(module!) : evaluate(text, name);
    const { value } = code;
    if (typeof value !== "function") {
      throw new TypeError(`Cannot run the module ${name}: its default export is no function`);
    }
    return await value(...codec.decode(args) as unknown[]);
  }

  /**
   * Takes out of a stack what is not the user's, and eval's way of writing places. A place in a function's text says
   * little by itself, so the first one is followed by the line that it is in.
   */
  function cleanStack(stack: string, { text, name }: Code): string {
    const source = `run:${name}`;
    const lines = stack.split("\n")
      .filter((line) => !/^ +at /.test(line) || !/sys-linux-namespace[:,]/.test(line))
      .map((line) => line.replace(", <anonymous>:", ":"));
    const first = lines.findIndex((line) => /^ +at /.test(line) && line.includes(`${source}:`));
    if (first < 0 || text === undefined || lines[first + 1]?.startsWith("      | ")) return lines.join("\n");
    const place = lines[first]!.slice(lines[first]!.lastIndexOf(source) + source.length);
    const shown = text.split("\n")[parseInt(place.slice(1)) - 1]?.trim() ?? "";
    if (shown !== "") lines.splice(first + 1, 0, `      | ${shown.length > 120 ? `${shown.slice(0, 119)}…` : shown}`);
    return lines.join("\n");
  }

  /** What somebody can do who took the function for a part of its module, or the network for the outer one. */
  function adviceOn(error: Error, { text, name }: Code): string | undefined {
    if (privateNet !== undefined && /^Import '|^Failed loading /.test(error.message)) {
      if (!error.message.includes("error sending request")) return undefined;
      return `the network inside is one of its own, for ${privateNet}, so a module can be had only from Deno's cache; ` +
        `import it outside first, or run without ${privateNet}`;
    }
    if (text === undefined) return undefined;
    const variable = error instanceof ReferenceError && /^(\S+) is not defined$/.exec(error.message)?.[1];
    const topFrame = String(error.stack).split("\n").find((line) => /^ +at /.test(line));
    if (variable && topFrame?.includes(`run:${name}`)) {
      return `"${variable}" is a variable around the function, which runs in another process; ` +
        `pass it as an argument, as in run((${variable}) => ..., ${variable}), or import it inside the function`;
    }
    // Of an import in a module that the function imports, the message says more.
    if (!/relative URL with a cannot-be-a-base base$|^Import ".*" not a dependency$/.test(error.message)) {
      return undefined;
    }
    return `the function has no file inside, nor the program's import map; pass the module's URL as an argument, ` +
      `as in run(async (url) => await import(url), import.meta.resolve("./x.ts"))`;
  }

  function improve(error: unknown, code: Code, seen = new Set<unknown>()): void {
    if (!Error.isError(error) || seen.has(error)) return;
    seen.add(error);
    const made = error as Error;
    try {
      made.stack = cleanStack(String(made.stack), code);
      const advice = adviceOn(made, code);
      if (advice !== undefined) {
        const before = made.message;
        made.message = `${before}${before.includes("\n") ? "\n" : ": "}${advice}`;
        made.stack = made.stack.replace(before, () => made.message);
      }
    } catch {
      // It is frozen: it goes as it is.
    }
    improve(made.cause, code, seen);
  }

  function reply(id: number, kind: number, value: unknown, what: string): Uint8Array[] {
    const parts = codec.encode(value, what);
    const size = parts.reduce((size, part) => size + part.length, 0);
    return [new Uint8Array(new Float64Array([id, kind, size]).buffer), ...parts];
  }

  return {
    json: (bytes) => JSON.parse(new TextDecoder().decode(bytes)),
    begin(request) {
      privateNet = request.privateNet;
      for (const permission of request.revoke) Deno.permissions.revokeSync(permission);
    },
    async outcome(id, code, args) {
      try {
        return { isThrown: false, reply: reply(id, returned, await call(code, args), "the result") };
      } catch (error) {
        improve(error, code);
        try {
          return { isThrown: true, reply: reply(id, threw, error, "what was thrown") };
        } catch (error) {
          improve(error, code);
          return { isThrown: true, reply: reply(id, threw, error, "what was thrown") };
        }
      }
    },
    reply,
  };
}

/** Runs code once, and ends the process. */
export async function runInside({ head, args, input, output }: Inside, tools: Tools): Promise<void> {
  const { exit } = Deno;
  input.close();
  const request = tools.json(head) as Request;
  tools.begin(request);
  const { isThrown, reply } = await tools.outcome(0, request.code!, args);
  for (const part of reply) {
    for (let at = 0; at < part.length;) at += output.writeSync(part.subarray(at));
  }
  exit(isThrown ? 1 : 0);
}

/** Runs code whenever it is asked to, several at once, until nobody is there who could ask. */
export async function serveInside({ head, input, output, kinds }: Inside, tools: Tools): Promise<void> {
  /** What a pipe takes as a whole: pipe(7). For what is smaller another thread would be a detour. */
  const PIPE_BUF = 4096;
  const { exit } = Deno;
  const codes: Code[] = [];
  const unsent: Uint8Array[] = [];
  let isSending = false;
  const buffer = new Uint8Array(16 * PIPE_BUF);
  /** What was read and is not taken yet is in there, from `start` to `end`. */
  let start = 0, end = 0;

  async function send(parts: readonly Uint8Array[]): Promise<void> {
    let size = 0;
    for (const part of parts) size += part.length;
    if (size <= PIPE_BUF) {
      const whole = new Uint8Array(size);
      let at = 0;
      for (const part of parts) {
        whole.set(part, at);
        at += part.length;
      }
      unsent.push(whole);
    } else {
      unsent.push(...parts);
    }
    if (isSending) return;
    isSending = true;
    for (let part = unsent.shift(); part !== undefined; part = unsent.shift()) {
      for (let at = 0; at < part.length;) {
        const rest = part.subarray(at);
        at += rest.length <= PIPE_BUF ? output.writeSync(rest) : await output.write(rest);
      }
    }
    isSending = false;
  }

  async function read(size: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size;) {
      if (start < end) {
        const part = buffer.subarray(start, Math.min(start + size - at, end));
        bytes.set(part, at);
        start += part.length;
        at += part.length;
      } else if (size - at >= buffer.length) {
        at += await input.read(bytes.subarray(at)) ?? exit(0);
      } else {
        start = 0;
        end = await input.read(buffer) ?? exit(0);
      }
    }
    return bytes;
  }

  tools.begin(tools.json(head) as Request);
  send(tools.reply(0, kinds[0], undefined, "nothing"));
  while (true) {
    const header = new Float64Array((await read(32)).buffer);
    const [id, slot, codeSize, argsSize] = header as unknown as [number, number, number, number];
    if (codeSize > 0) codes[slot] = tools.json(await read(codeSize)) as Code;
    const args = await read(argsSize);
    tools.outcome(id, codes[slot]!, args).then(({ reply }) => send(reply));
  }
}
