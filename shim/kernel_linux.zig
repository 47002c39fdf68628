//! The real kernel: a system call by number, its raw result untouched.

const std = @import("std");
const linux = std.os.linux;
const remount = @import("remount.zig");

pub const Kernel = struct {
    /// A descriptor that stays open where all of a range are closed, as they are before Linux 5.11: the plan does not
    /// know that it is there.
    kept: ?u32 = null,

    pub fn call(kernel: Kernel, number: u32, args: [6]u64) i64 {
        if (number == @intFromEnum(linux.SYS.close_range) and args[2] == 0) {
            if (kernel.kept) |fd| if (fd >= args[0] and fd <= args[1]) return closeAround(fd, args);
        }
        if (number == remount.call_number) return remount.call(args);
        const result = linux.syscall6(@enumFromInt(number), args[0], args[1], args[2], args[3], args[4], args[5]);
        return @bitCast(@as(u64, result));
    }

    pub fn close(_: Kernel, fd: i64) void {
        _ = linux.close(@intCast(fd));
    }

    /// As vfork(2): this thread waits until the helper has executed its program, or has been refused something. Then for
    /// its end: 0 where its program ended with 0, -EPERM where it says that it could not, and else what clone or wait4 say.
    /// Signals are to be blocked, and stay so for the program: handlers would run in this memory. Never inlined: its
    /// stack is not for whoever needs none.
    pub noinline fn help(_: Kernel, _: u32, args: [6]u64, helper: anytype) i64 {
        var stack: [helper_stack_size]u8 align(16) = undefined;
        const cloned = linux.clone(@TypeOf(helper.*).main, @intFromPtr(&stack) + stack.len, @intCast(args[0]), @intFromPtr(helper), null, 0, null);
        if (linux.errno(cloned) != .SUCCESS) return @bitCast(@as(u64, cloned));
        var status: u32 = 0;
        while (true) {
            const waited = linux.wait4(@intCast(cloned), &status, __WALL, null);
            if (linux.errno(waited) == .INTR) continue;
            if (linux.errno(waited) != .SUCCESS) return @bitCast(@as(u64, waited));
            return if (status == 0) 0 else -@as(i64, @intFromEnum(linux.E.PERM));
        }
    }
};

/// For `Helper.main`, whose steps are few and do not recurse.
const helper_stack_size = 8 * 1024;

fn closeAround(fd: u32, args: [6]u64) i64 {
    const kernel: Kernel = .{};
    const number = @intFromEnum(linux.SYS.close_range);
    if (fd > args[0]) {
        const below = kernel.call(number, .{ args[0], fd - 1, 0, 0, 0, 0 });
        if (below != 0) return below;
    }
    return if (fd < args[1]) kernel.call(number, .{ fd + 1, args[1], 0, 0, 0, 0 }) else 0;
}

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

/// The effective capabilities of the calling thread: CAP_SYS_ADMIN and the like are bits of the first word. None where
/// capget(2) is refused.
pub fn effectiveCapabilities() [2]u32 {
    const version_3 = 0x2008_0522;
    const header = extern struct { version: u32, pid: i32 }{ .version = version_3, .pid = 0 };
    var sets: [2]extern struct { effective: u32, permitted: u32, inheritable: u32 } = undefined;
    const got = linux.syscall2(.capget, @intFromPtr(&header), @intFromPtr(&sets));
    return if (linux.errno(got) == .SUCCESS) .{ sets[0].effective, sets[1].effective } else .{ 0, 0 };
}

/// siginfo's code of a child that ended by itself.
pub const CLD_EXITED = 1;
/// wait(2): children of any kind of exit signal.
pub const __WALL = 0x4000_0000;
