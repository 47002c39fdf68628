/**
 * What runs in the Deno inside: calls the code, and sends back what came of it.
 *
 * @module
 */

import type { Codec } from "./codec.ts";

/** What the process inside is told. */
export interface Request {
  /** The function's text; undefined where the code is a module. */
  readonly text?: string | undefined;
  /** What the code is called in stacks. */
  readonly name: string;
  /** The option that asked for a network of its own, where one did. */
  readonly privateNet?: string | undefined;
  /** Permissions that were for the channel alone. */
  readonly revoke: readonly Deno.PermissionDescriptor[];
}

/** Kind of a reply: its value is what the code returned. */
export const RETURNED = 0;
/** Kind of a reply: its value is what the code threw. */
export const THREW = 1;

/** What it has to do it with. */
export interface Inside {
  readonly codec: Codec;
  /** A {@linkcode Request} as JSON: what Deno has itself is ready sooner. */
  readonly head: Uint8Array<ArrayBuffer>;
  /** The encoded list of arguments. */
  readonly args: Uint8Array<ArrayBuffer>;
  /** Imports the module, where the code is one. */
  readonly load: (() => Promise<Record<string, unknown>>) | undefined;
  /** {@linkcode RETURNED} and {@linkcode THREW}: there are no variables around this function where it runs. */
  readonly kinds: readonly [number, number];
  /** Writes all of it. */
  readonly write: (bytes: Uint8Array) => void;
}

/** What frames of this package are known by in a stack inside. */
export const INSIDE_SOURCE = "sys-linux-namespace:inside";

/** Runs the code. Its text is evaluated in the process inside: it needs nothing but its argument and the globals of Deno. */
export async function runInside({ codec, head, args, load, kinds, write }: Inside): Promise<void> {
  const { text, name, privateNet, revoke } = JSON.parse(new TextDecoder().decode(head)) as Request;
  const { exit } = Deno;
  const source = `run:${name}`;

  /** A function, or else a method: its text is one where an object literal is around it. */
  function evaluate(text: string): unknown {
    const end = `\n//# sourceURL=${source}`;
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

  async function call(): Promise<unknown> {
    const code = load === undefined ? evaluate(text!) : (await load()).default;
    if (typeof code !== "function") {
      throw new TypeError(`Cannot run the module ${name}: its default export is no function`);
    }
    return await code(...codec.decode(args) as unknown[]);
  }

  /**
   * Takes out of a stack what is not the user's, and eval's way of writing places. A place in a function's text says
   * little by itself, so the first one is followed by the line that it is in.
   */
  function cleanStack(stack: string): string {
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
  function adviceOn(error: Error): string | undefined {
    if (privateNet !== undefined && /^Import '|^Failed loading /.test(error.message)) {
      if (!error.message.includes("error sending request")) return undefined;
      return `the network inside is one of its own, for ${privateNet}, so a module can be had only from Deno's cache; ` +
        `import it outside first, or run without ${privateNet}`;
    }
    if (text === undefined) return undefined;
    const variable = error instanceof ReferenceError && /^(\S+) is not defined$/.exec(error.message)?.[1];
    const topFrame = String(error.stack).split("\n").find((line) => /^ +at /.test(line));
    if (variable && topFrame?.includes(source)) {
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

  function improve(error: unknown, seen = new Set<unknown>()): void {
    if (!Error.isError(error) || seen.has(error)) return;
    seen.add(error);
    const made = error as Error;
    try {
      made.stack = cleanStack(String(made.stack));
      const advice = adviceOn(made);
      if (advice !== undefined) {
        const before = made.message;
        made.message = `${before}${before.includes("\n") ? "\n" : ": "}${advice}`;
        made.stack = made.stack.replace(before, () => made.message);
      }
    } catch {
      // It is frozen: it goes as it is.
    }
    improve(made.cause, seen);
  }

  const [returned, threw] = kinds;

  function send(kind: number, value: unknown, what: string): void {
    const parts = codec.encode(value, what);
    const size = parts.reduce((size, part) => size + part.length, 0);
    write(new Uint8Array(new Float64Array([kind, size]).buffer));
    for (const part of parts) write(part);
  }

  let exitCode = 0;
  try {
    for (const permission of revoke) Deno.permissions.revokeSync(permission);
    const value = await call();
    send(returned, value, "the result");
  } catch (error) {
    exitCode = 1;
    improve(error);
    try {
      send(threw, error, "what was thrown");
    } catch (error) {
      improve(error);
      send(threw, error, "what was thrown");
    }
  }
  exit(exitCode);
}
