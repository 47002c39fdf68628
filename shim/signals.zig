//! Signals that are waited for, not handled: all are blocked, and taken one by one.

const std = @import("std");
const linux = std.os.linux;

const Set = linux.sigset_t;
const every: Set = @splat(std.math.maxInt(std.meta.Child(Set)));

pub fn blockAll() void {
    set(&every);
}

pub fn unblockAll() void {
    const none: Set = @splat(0);
    set(&none);
}

/// Blocks all but some, which then do what they do by default.
pub fn blockAllBut(some: []const linux.SIG) void {
    var blocked: u64 = std.math.maxInt(u64);
    for (some) |signal| blocked &= ~bit(signal);
    const mask: *const Set = @ptrCast(&blocked);
    comptime std.debug.assert(@sizeOf(Set) == @sizeOf(u64));
    set(mask);
}

fn set(mask: *const Set) void {
    _ = linux.sigprocmask(linux.SIG.SETMASK, mask, null);
}

pub fn bit(signal: linux.SIG) u64 {
    return @as(u64, 1) << @intCast(@intFromEnum(signal) - 1);
}

pub const Signal = struct {
    number: linux.SIG,
    code: i32,

    /// Whether another process has got it as well, because the kernel sent it to the terminal's whole foreground process
    /// group.
    pub fn hasReached(signal: Signal, pid: i32) bool {
        const SI_KERNEL = 0x80;
        if (signal.code != SI_KERNEL) return false;
        switch (signal.number) {
            // When a terminal hangs up, the leader of its session alone is told.
            .HUP => if (linux.getsid(0) == linux.getpid()) return false,
            .INT, .QUIT, .TSTP, .WINCH, .TTIN, .TTOU => {},
            else => return false,
        }
        return linux.getpgid(pid) == linux.getpgid(0);
    }
};

/// The next signal; null when none has come for so many nanoseconds, or what came is not to be told.
pub fn next(timeout_ns: ?u64) ?Signal {
    var info: linux.siginfo_t = std.mem.zeroes(linux.siginfo_t);
    const nanoseconds = timeout_ns orelse 0;
    const timeout: linux.timespec = .{ .sec = @intCast(nanoseconds / std.time.ns_per_s), .nsec = @intCast(nanoseconds % std.time.ns_per_s) };
    const given: usize = if (timeout_ns == null) 0 else @intFromPtr(&timeout);
    const result = linux.syscall4(.rt_sigtimedwait, @intFromPtr(&every), @intFromPtr(&info), given, @sizeOf(Set));
    if (linux.errno(result) != .SUCCESS) return null;
    // SIGPIPE, SIGXFSZ: what this process has brought upon itself is nobody else's business.
    if (info.code == SI_USER and info.fields.common.first.piduid.pid == linux.getpid()) return null;
    return .{ .number = @enumFromInt(result), .code = info.code };
}

const SI_USER = 0;

/// Stops this process by SIGTSTP, as a key on the terminal does, or SIGTTIN: its parent sees it, and the kernel does not
/// do it where nobody could let it go on (an orphaned process group).
pub fn stopBy(signal: linux.SIG) void {
    _ = linux.kill(linux.getpid(), signal);
    const mask: Set = @splat(bit(signal));
    _ = linux.sigprocmask(linux.SIG.UNBLOCK, &mask, null); // Here it stops.
    _ = linux.sigprocmask(linux.SIG.BLOCK, &mask, null);
}

/// Ends this process, as a signal does that it has taken and that was not blocked before.
pub fn dieBy(signal: linux.SIG) void {
    _ = linux.kill(linux.getpid(), signal);
    const mask: Set = @splat(bit(signal));
    _ = linux.sigprocmask(linux.SIG.UNBLOCK, &mask, null);
}

/// What a signal does; null where that cannot be known.
pub fn disposition(signal: linux.SIG, new: ?*const linux.k_sigaction) ?linux.k_sigaction {
    var old: linux.k_sigaction = undefined;
    return if (linux.errno(sigaction(signal, new, &old)) == .SUCCESS) old else null;
}

/// The system call: std has it only together with libc's view of it.
pub fn sigaction(signal: linux.SIG, new: ?*const linux.k_sigaction, old: ?*linux.k_sigaction) usize {
    return linux.syscall4(.rt_sigaction, @intFromEnum(signal), @intFromPtr(new), @intFromPtr(old), @sizeOf(Set));
}
