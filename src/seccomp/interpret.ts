/**
 * What a program of seccomp(2) says of a call, without making it.
 *
 * @see `Documentation/networking/filter.rst` of Linux
 * @module
 */

import type { Architecture } from "../abi/syscalls.ts";
import { AUDIT_ARCH, INSTRUCTION_SIZE } from "./compile.ts";

const DATA_SIZE = 64;

/**
 * Runs a program on a call.
 *
 * @param program Records of `struct sock_filter`.
 * @param args Up to six; those left out are 0.
 * @returns What it returns; undefined where it is no program that the kernel would take.
 */
export function interpret(
  program: Uint8Array,
  architecture: Architecture,
  number: number,
  args: readonly bigint[],
): number | undefined {
  const data = new DataView(new ArrayBuffer(DATA_SIZE));
  data.setUint32(0, number, true);
  data.setUint32(4, AUDIT_ARCH[architecture], true);
  for (const [index, value] of args.entries()) data.setBigUint64(16 + index * 8, value, true);
  return run(program, data);
}

/** Jumps are forward only, so it ends. */
function run(program: Uint8Array, data: DataView): number | undefined {
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const memory = new Uint32Array(16);
  let [a, x] = [0, 0];
  for (let at = 0; at + INSTRUCTION_SIZE <= program.length; at += INSTRUCTION_SIZE) {
    const [code, operand] = [view.getUint16(at, true), view.getUint32(at + 4, true)];
    const [kind, operation, other] = [code & 7, code & 0xf0, (code & 8) === 0 ? operand : x];
    if (code === 0x20) { // BPF_LD | BPF_W | BPF_ABS
      if (operand % 4 !== 0 || operand >= DATA_SIZE) return undefined;
      a = data.getUint32(operand, true);
    } else if (code === 0x80) a = DATA_SIZE; // BPF_LD | BPF_W | BPF_LEN
    else if (code === 0x81) x = DATA_SIZE;
    else if (code === 0x00) a = operand;
    else if (code === 0x01) x = operand;
    else if (code === 0x60) a = memory[operand & 15]!;
    else if (code === 0x61) x = memory[operand & 15]!;
    else if (code === 0x02) memory[operand & 15] = a;
    else if (code === 0x03) memory[operand & 15] = x;
    else if (code === 0x07) x = a; // BPF_MISC | BPF_TAX
    else if (code === 0x87) a = x;
    else if (code === 0x06) return operand; // BPF_RET | BPF_K
    else if (code === 0x16) return a;
    else if (kind === 4) {
      const result = calculate(operation, a, other);
      if (result === undefined) return undefined;
      a = result;
    } else if (code === 0x05) at += operand * INSTRUCTION_SIZE; // BPF_JMP | BPF_JA
    else if (kind === 5) {
      const holds = compare(operation, a, other);
      if (holds === undefined) return undefined;
      at += program[at + (holds ? 2 : 3)]! * INSTRUCTION_SIZE;
    } else return undefined;
  }
  return undefined;
}

function compare(operation: number, a: number, b: number): boolean | undefined {
  switch (operation) {
    case 0x10:
      return a === b;
    case 0x20:
      return a > b;
    case 0x30:
      return a >= b;
    case 0x40:
      return (a & b) !== 0;
    default:
      return undefined;
  }
}

function calculate(operation: number, a: number, b: number): number | undefined {
  switch (operation) {
    case 0x00:
      return (a + b) >>> 0;
    case 0x10:
      return (a - b) >>> 0;
    case 0x20:
      return Math.imul(a, b) >>> 0;
    case 0x30:
      return b === 0 ? 0 : Math.floor(a / b);
    case 0x40:
      return (a | b) >>> 0;
    case 0x50:
      return (a & b) >>> 0;
    case 0x60:
      return b > 31 ? 0 : (a << b) >>> 0;
    case 0x70:
      return b > 31 ? 0 : a >>> b;
    case 0x80:
      return -a >>> 0;
    case 0xa0:
      return (a ^ b) >>> 0;
    default:
      return undefined;
  }
}
