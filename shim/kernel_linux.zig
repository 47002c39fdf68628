//! The real kernel: a system call by number, its raw result untouched.

const std = @import("std");
const linux = std.os.linux;

pub const Kernel = struct {
    pub fn call(_: Kernel, number: u32, args: [6]u64) i64 {
        const result = linux.syscall6(@enumFromInt(number), args[0], args[1], args[2], args[3], args[4], args[5]);
        return @bitCast(@as(u64, result));
    }

    pub fn close(_: Kernel, fd: i64) void {
        _ = linux.close(@intCast(fd));
    }
};

/// The ELF machine of the plans that this build can run.
pub const architecture: u16 = @intFromEnum(switch (@import("builtin").cpu.arch) {
    .x86_64 => std.elf.EM.X86_64,
    .aarch64 => std.elf.EM.AARCH64,
    else => @compileError("no plans for this architecture"),
});

/// A raw result as a C function of ours gives it: the value, or minus the errno. Every caller's values fit.
pub fn raw(result: usize) i32 {
    return @intCast(@as(isize, @bitCast(result)));
}
