//! What a child of the launcher says through a pipe: how its start went, and, as PID 1, how the command ended.

const std = @import("std");
const linux = std.os.linux;

pub const Stage = enum(u32) {
    /// It has started.
    none = 0,
    clone = 1,
    parent_step = 2,
    child_step = 3,
    /// execve(2) of the command, or the fork before it. `step` is the folder of PATH.
    execution = 4,
    /// `step` is the signal that ended the command, or 0; `errno` its exit code.
    ended = 5,
};

/// The library reads it, too: src/process/init.ts.
pub const Report = extern struct {
    stage: Stage,
    step: u32,
    errno: u32,

    pub const nothing: Report = .{ .stage = .none, .step = 0, .errno = 0 };

    pub fn write(report: *const Report, fd: i32) void {
        _ = linux.write(fd, @ptrCast(report), @sizeOf(Report)); // Less than PIPE_BUF: all of it, or nobody reads.
    }

    /// Waits for one. Where the other end was closed without a word, by execve, it stays as it is.
    pub fn read(report: *Report, fd: i32) void {
        while (true) {
            const result = linux.read(fd, @ptrCast(report), @sizeOf(Report));
            if (linux.errno(result) != .INTR) return;
        }
    }
};
