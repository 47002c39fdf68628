/**
 * Values as bytes, by the rules of the structured clone algorithm, with a path in the error where there is no way.
 *
 * Deno has no public serializer, and importing `node:v8` costs 5 ms of a start that takes 14.
 *
 * @module
 */

/** Turns values into bytes and back. */
export interface Codec {
  /**
   * Turns a value into bytes.
   *
   * @param value What can be cloned: see {@linkcode codec}.
   * @param name What the value is called in errors, such as `"the result"`.
   * @returns The bytes in several parts, in order. Nothing of them is shared with the value.
   * @throws {TypeError} When something in the value cannot be cloned.
   */
  encode(value: unknown, name: string): Uint8Array<ArrayBuffer>[];
  /**
   * Turns bytes back into a value.
   *
   * @param bytes All that {@linkcode Codec.encode} returned, in one.
   * @throws {TypeError} When they are something else.
   * @throws {RangeError} When they are cut short.
   */
  decode(bytes: Uint8Array<ArrayBuffer>): unknown;
}

/**
 * A codec. Its text is sent to the process inside and evaluated there: it needs nothing but the globals of Deno.
 *
 * It carries primitive values but symbols, plain objects, arrays, Map, Set, Date, RegExp, ArrayBuffer and all its views,
 * the wrapper objects, and errors; cycles and references to the same object stay what they are. Instances of other
 * classes become plain objects, as in `structuredClone()`. An error keeps its class where that is Deno's or the
 * language's own, else its name; its message, stack, cause and properties, save those that cannot be cloned.
 */
export function codec(): Codec {
  const UNDEFINED = 0, NULL = 1, FALSE = 2, TRUE = 3, INTEGER = 4, DOUBLE = 5, BIGINT = 6, STRING = 7, STRING16 = 8;
  const REFERENCE = 9, OBJECT = 10, ARRAY = 11, SPARSE = 12, MAP = 13, SET = 14, DATE = 15, REGEXP = 16;
  const BUFFER = 17, VIEW = 18, WRAPPER = 19, ERROR = 20, DOM_EXCEPTION = 21;
  /** What is smaller is copied into the bytes around it. */
  const OWN_PART_SIZE = 16 * 1024;
  /** What all buffers of a message together may grow to, in bytes: address space is taken for it at once. */
  const RESERVED_MAX = 2 ** 32;

  // deno-lint-ignore no-explicit-any -- constructors with nothing in common
  type Class = any;
  const views: Class[] = [
    DataView,
    Int8Array,
    Uint8Array,
    Uint8ClampedArray,
    Int16Array,
    Uint16Array,
    Int32Array,
    Uint32Array,
    Float32Array,
    Float64Array,
    BigInt64Array,
    BigUint64Array,
    Float16Array,
  ];
  let errorClasses: Map<string, Class> | undefined;
  const utf8 = new TextEncoder();

  function errorClass(name: string): Class | undefined {
    if (errorClasses === undefined) {
      const own = [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError, AggregateError];
      errorClasses = new Map(own.map((one) => [one.name, one as Class]));
      for (const [name, one] of Object.entries(Deno.errors)) errorClasses.set(name, one);
    }
    return errorClasses.get(name);
  }

  function encode(root: unknown, rootName: string): Uint8Array<ArrayBuffer>[] {
    let parts: Uint8Array<ArrayBuffer>[] = [];
    let bytes = new Uint8Array(1024);
    let view = new DataView(bytes.buffer);
    /** Where the next byte goes, and where the first one is that is in no part yet. */
    let at = 0, start = 0;
    const ids = new Map<object, number>();
    const path: (string | number)[] = [];

    function refuse(what: string): never {
      const place = path.map((key) =>
        typeof key === "number" ? `[${key}]` : /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(key) ? `.${key}` : key
      );
      throw new TypeError(`Cannot clone ${rootName}${place.join("")}: ${what}`);
    }

    function room(size: number): void {
      if (at + size <= bytes.length) return;
      const larger = new Uint8Array(Math.max(bytes.length * 2, at + size));
      larger.set(bytes.subarray(0, at));
      bytes = larger;
      view = new DataView(bytes.buffer);
    }

    function byte(value: number): void {
      room(1);
      bytes[at++] = value;
    }

    function count(value: number): void {
      room(8);
      while (value >= 128) {
        bytes[at++] = value % 128 + 128;
        value = Math.floor(value / 128);
      }
      bytes[at++] = value;
    }

    function double(value: number): void {
      room(8);
      view.setFloat64(at, value);
      at += 8;
    }

    function raw(data: Uint8Array): void {
      count(data.length);
      if (data.length < OWN_PART_SIZE) {
        room(data.length);
        bytes.set(data, at);
        at += data.length;
      } else {
        parts.push(bytes.subarray(start, at), data.slice() as Uint8Array<ArrayBuffer>);
        start = at;
      }
    }

    function string(value: string): void {
      if (value.isWellFormed()) {
        byte(STRING);
        return raw(utf8.encode(value));
      }
      byte(STRING16);
      const units = new Uint8Array(value.length * 2);
      for (let index = 0; index < value.length; index++) {
        const unit = value.charCodeAt(index);
        units[index * 2] = unit & 255;
        units[index * 2 + 1] = unit >> 8;
      }
      raw(units);
    }

    function child(key: string | number, value: unknown): void {
      path.push(key);
      write(value);
      path.pop();
    }

    function properties(object: object, keys: readonly string[]): void {
      count(keys.length);
      for (const key of keys) {
        string(key);
        child(Array.isArray(object) && String(Number(key)) === key ? Number(key) : key, Reflect.get(object, key));
      }
    }

    function write(value: unknown): void {
      switch (typeof value) {
        case "undefined":
          return byte(UNDEFINED);
        case "boolean":
          return byte(value ? TRUE : FALSE);
        case "number":
          if (!Object.is(value, value | 0)) {
            byte(DOUBLE);
            return double(value);
          }
          byte(INTEGER);
          return count(value < 0 ? -2 * value - 1 : 2 * value);
        case "bigint":
          byte(BIGINT);
          byte(value < 0n ? 1 : 0);
          return raw(utf8.encode((value < 0n ? -value : value).toString(16)));
        case "string":
          return string(value);
        case "function":
          return refuse(`a function${value.name === "" ? "" : ` ("${value.name}")`} cannot be cloned`);
        case "symbol":
          return refuse("a symbol cannot be cloned");
      }
      if (value === null) return byte(NULL);
      const object = value as object;
      const known = ids.get(object);
      if (known !== undefined) {
        byte(REFERENCE);
        return count(known);
      }
      ids.set(object, ids.size);
      writeObject(object);
    }

    function writeObject(object: object): void {
      if (Array.isArray(object)) return array(object);
      if (Error.isError(object)) return error(object as Error);
      const prototype = Object.getPrototypeOf(object);
      if (prototype === Object.prototype || prototype === null) return plain(object);
      if (object instanceof Map) {
        byte(MAP);
        const entries = [...object];
        count(entries.length);
        for (const [index, [key, value]] of entries.entries()) {
          child(` key ${index}`, key);
          child(` value ${index}`, value);
        }
      } else if (object instanceof Set) {
        byte(SET);
        const entries = [...object];
        count(entries.length);
        for (const [index, entry] of entries.entries()) child(` entry ${index}`, entry);
      } else if (object instanceof Date) {
        byte(DATE);
        double(object.getTime());
      } else if (object instanceof RegExp) {
        byte(REGEXP);
        string(object.source);
        string(object.flags);
      } else if (object instanceof ArrayBuffer) {
        if (object.detached) refuse("its ArrayBuffer is detached");
        byte(BUFFER);
        count(object.resizable ? object.maxByteLength + 1 : 0);
        raw(new Uint8Array(object));
      } else if (ArrayBuffer.isView(object)) {
        byte(VIEW);
        byte(views.findIndex((one) => object instanceof one));
        count(object.byteOffset);
        count(object instanceof DataView ? object.byteLength : (object as Uint8Array).length);
        write(object.buffer);
      } else if (
        object instanceof Number || object instanceof String || object instanceof Boolean || object instanceof BigInt
      ) {
        byte(WRAPPER);
        write(object.valueOf());
      } else if (Symbol.toStringTag in object) {
        refuse(`a ${object[Symbol.toStringTag]} cannot be cloned`);
      } else {
        plain(object);
      }
    }

    function plain(object: object): void {
      byte(OBJECT);
      properties(object, Object.keys(object));
    }

    function array(object: readonly unknown[]): void {
      const { length } = object;
      const keys = Object.keys(object);
      const isDense = keys.length >= length && (length === 0 || keys[length - 1] === String(length - 1));
      byte(isDense ? ARRAY : SPARSE);
      count(length);
      if (!isDense) return properties(object, keys);
      for (let index = 0; index < length; index++) child(index, object[index]);
      properties(object, keys.slice(length));
    }

    function error(object: Error): void {
      if (object instanceof DOMException) {
        byte(DOM_EXCEPTION);
        string(object.message);
        string(object.name);
        return string(String(object.stack));
      }
      byte(ERROR);
      let known: Class | undefined;
      for (let at = Object.getPrototypeOf(object); at !== null && known === undefined; at = Object.getPrototypeOf(at)) {
        const own: unknown = Object.hasOwn(at, "constructor") ? at.constructor : undefined;
        if (typeof own === "function" && errorClass(own.name) === own) known = own;
      }
      const own = object.constructor;
      const inherited: unknown = known?.prototype.name;
      const name = object.name === inherited && own !== known && typeof own === "function" ? own.name : object.name;
      string(known?.name ?? "Error");
      string(String(name));
      string(String(object.message));
      string(String(object.stack));
      const hidden = ["cause", "errors"].filter((key) => Object.hasOwn(object, key));
      const shown = Object.keys(object).filter((key) => !["name", "message", "stack", ...hidden].includes(key));
      for (const key of [...hidden, ...shown]) {
        const mark = { at, start, parts: parts.length, ids: ids.size, path: path.length };
        try {
          byte(shown.includes(key) ? 2 : 1);
          string(key);
          child(key, Reflect.get(object, key));
        } catch { // An error must not get lost because of something that hangs on to it.
          ({ at, start } = mark);
          parts = parts.slice(0, mark.parts);
          for (const [object, id] of ids) if (id >= mark.ids) ids.delete(object);
          path.length = mark.path;
        }
      }
      byte(0);
    }

    write(root);
    parts.push(bytes.subarray(start, at));
    return parts;
  }

  function decode(bytes: Uint8Array<ArrayBuffer>): unknown {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    const objects: unknown[] = [];
    let at = 0;
    let reserved = 0;

    function byte(): number {
      return view.getUint8(at++);
    }

    function count(): number {
      let value = 0, scale = 1;
      for (let next = byte();; next = byte()) {
        if (next < 128) return value + next * scale;
        value += (next - 128) * scale;
        scale *= 128;
      }
    }

    function double(): number {
      at += 8;
      return view.getFloat64(at - 8);
    }

    function raw(): Uint8Array<ArrayBuffer> {
      const size = count();
      if (size > bytes.length - at) throw new RangeError("Cannot decode a value: it is cut short");
      at += size;
      return bytes.subarray(at - size, at);
    }

    function string16(): string {
      const units = raw();
      let text = "";
      for (let index = 0; index < units.length; index += 2) {
        text += String.fromCharCode(units[index]! + units[index + 1]! * 256);
      }
      return text;
    }

    function keep<T>(object: T): T {
      objects.push(object);
      return object;
    }

    function define(object: object, key: string, value: unknown, enumerable = true): void {
      Object.defineProperty(object, key, { value, enumerable, configurable: true, writable: true });
    }

    function properties<T extends object>(object: T): T {
      for (let left = count(); left > 0; left--) define(object, read() as string, read());
      return object;
    }

    function error(): unknown {
      const [className, name, message, stack] = [read(), read(), read(), read()] as [string, string, string, string];
      const Class = errorClass(className) ?? Error;
      const made = keep(className === "AggregateError" ? new AggregateError([], message) : new Class(message));
      if (made.name !== name) define(made, "name", name, false);
      define(made, "stack", stack, false);
      for (let kind = byte(); kind !== 0; kind = byte()) define(made, read() as string, read(), kind === 2);
      return made;
    }

    function view_(): unknown {
      const id = objects.length;
      keep(undefined); // Its buffer comes after it.
      const [View, offset, length] = [views[byte()], count(), count()];
      const buffer = read();
      // Of a number, or of anything with a length, it would be a view of so much new memory.
      if (View === undefined || !(buffer instanceof ArrayBuffer)) {
        throw new TypeError("Cannot decode a value: it is a view of no buffer");
      }
      return objects[id] = new View(buffer, offset, length);
    }

    function read(): unknown {
      const tag = byte();
      switch (tag) {
        case UNDEFINED:
          return undefined;
        case NULL:
          return null;
        case FALSE:
          return false;
        case TRUE:
          return true;
        case INTEGER: {
          const value = count();
          return value % 2 === 1 ? -(value + 1) / 2 : value / 2;
        }
        case DOUBLE:
          return double();
        case BIGINT: {
          const sign = byte() === 1 ? -1n : 1n;
          return sign * BigInt(`0x${decoder.decode(raw())}`);
        }
        case STRING:
          return decoder.decode(raw());
        case STRING16:
          return string16();
        case REFERENCE: {
          const id = count();
          if (id >= objects.length) throw new TypeError("Cannot decode a value: it refers to what is not there");
          return objects[id];
        }
        case OBJECT:
          return properties(keep({}));
        case ARRAY: {
          const array: unknown[] = keep([]);
          for (let left = count(); left > 0; left--) array.push(read());
          return properties(array);
        }
        case SPARSE: {
          const array: unknown[] = keep([]);
          array.length = count();
          return properties(array);
        }
        case MAP: {
          const map = keep(new Map<unknown, unknown>());
          for (let left = count(); left > 0; left--) map.set(read(), read());
          return map;
        }
        case SET: {
          const set = keep(new Set<unknown>());
          for (let left = count(); left > 0; left--) set.add(read());
          return set;
        }
        case DATE:
          return keep(new Date(double()));
        case REGEXP:
          return keep(new RegExp(read() as string, read() as string));
        case BUFFER: {
          const most = count();
          const data = raw();
          if (most === 0) return keep(data.slice().buffer);
          reserved += most - 1;
          if (!(reserved <= RESERVED_MAX)) {
            throw new RangeError("Cannot decode a value: its buffers could grow to more than there is room for");
          }
          const buffer = keep(new ArrayBuffer(data.length, { maxByteLength: most - 1 }));
          new Uint8Array(buffer).set(data);
          return buffer;
        }
        case VIEW:
          return view_();
        case WRAPPER: {
          const id = objects.length;
          keep(undefined);
          return objects[id] = Object(read());
        }
        case ERROR:
          return error();
        case DOM_EXCEPTION: {
          const made = keep(new DOMException(read() as string, read() as string));
          define(made, "stack", read(), false);
          return made;
        }
        default:
          throw new TypeError(`Cannot decode a value: there is no kind ${tag}`);
      }
    }

    const value = read();
    if (at !== bytes.length) throw new TypeError("Cannot decode a value: there is more after it");
    return value;
  }

  return { encode, decode };
}
