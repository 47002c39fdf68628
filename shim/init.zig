//! PID 1: the command is its child, and it reaps every orphan of the namespace, forwards signals, and ends as the
//! command has ended. When it ends, the kernel kills what is left.

const std = @import("std");
const linux = std.os.linux;
const kernel_linux = @import("kernel_linux.zig");
const Flags = @import("bundle.zig").Flags;
const Program = @import("program.zig").Program;
const Refusal = @import("program.zig").Refusal;
const Report = @import("report.zig").Report;
const signals = @import("signals.zig");

const PR_SET_DUMPABLE = @intFromEnum(linux.PR.SET_DUMPABLE);
const PR_SET_NAME = @intFromEnum(linux.PR.SET_NAME);

/// As the first process of the launcher's. `pipe` leads to who made it.
pub fn main(program: Program, pipe: i32, flags: Flags) noreturn {
    signals.blockAll();
    _ = linux.prctl(PR_SET_NAME, @intFromPtr("init"), 0, 0, 0);
    // Nobody inside may trace it or open its executable, unless they have CAP_SYS_PTRACE where it was executed.
    _ = linux.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    const started = start(&program);
    if (started.refusal.errno != 0) {
        Report.write(&.{ .stage = .execution, .step = started.refusal.folder, .errno = started.refusal.errno }, pipe);
        linux.exit_group(127);
    }
    Report.write(&.nothing, pipe);
    // Who reads what the command writes must see the end of it, whoever else is here.
    closeAllBut(pipe);
    const ended = untilItEnds(started.child, flags.wait_for_all);
    Report.write(&ended, pipe);
    linux.exit_group(if (ended.step != 0) @intCast(128 + ended.step) else @intCast(ended.errno));
}

/// For the library, which executes the launcher as PID 1. argv: a name, the pipe's number, "kill" or "wait", the number
/// of what is to be executed or "-" where it is to be found by its name, the command, and its argv.
pub fn alone(argv: []const ?[*:0]const u8, envp: [*:null]const ?[*:0]const u8, given: Flags) noreturn {
    if (argv.len < 6) linux.exit_group(127); // By whoever found it in /proc/1/exe.
    var flags = given;
    flags.wait_for_all = std.mem.span(argv[2].?)[0] == 'w';
    const pipe = descriptor(argv[1].?) orelse linux.exit_group(127);
    const opened = descriptor(argv[3].?);
    // What is before the command's argv is not needed any more: `Program` wants one place there.
    const program: Program = .{ .command = argv[4].?, .argv = @ptrCast(@constCast(argv[5..].ptr)), .envp = envp, .opened = opened };
    main(program, pipe, flags);
}

/// A descriptor that the command is not to have.
fn descriptor(text: [*:0]const u8) ?i32 {
    const fd = std.fmt.parseInt(i32, std.mem.span(text), 10) catch return null;
    _ = linux.fcntl(fd, linux.F.SETFD, linux.FD_CLOEXEC);
    return fd;
}

const Start = struct { program: *const Program, refusal: Refusal = .{ .errno = 0 }, child: i32 = 0 };

/// For a child in the memory of its parent, which waits until it is gone from there.
pub var stack: [16 * 1024]u8 align(16) = undefined;

/// vfork(2): it returns when the child has executed the command, or has failed to.
fn start(program: *const Program) Start {
    var result: Start = .{ .program = program };
    const flags = linux.CLONE.VM | linux.CLONE.VFORK | @as(u32, @intFromEnum(linux.SIG.CHLD));
    const cloned = linux.clone(childMain, @intFromPtr(&stack) + stack.len, flags, @intFromPtr(&result), null, 0, null);
    switch (linux.errno(cloned)) {
        .SUCCESS => result.child = @intCast(cloned),
        else => |errno| result.refusal.errno = @intFromEnum(errno),
    }
    return result;
}

fn childMain(address: usize) callconv(.c) u8 {
    const result: *Start = @ptrFromInt(address);
    signals.unblockAll();
    result.refusal = result.program.execute();
    linux.exit_group(127);
}

pub fn closeAllBut(fd: i32) void {
    const last: usize = std.math.maxInt(u32);
    const at: usize = @intCast(fd);
    if (at > 0) _ = linux.syscall3(.close_range, 0, at - 1, 0);
    _ = linux.syscall3(.close_range, at + 1, last, 0);
}

fn untilItEnds(command: i32, wait_for_all: bool) Report {
    var ended: Report = .nothing;
    while (true) {
        const signal = signals.next(null) orelse continue;
        if (signal.number != .CHLD) {
            if (ended.stage == .none and !signal.hasReached(command)) _ = linux.kill(command, signal.number);
            continue;
        }
        while (true) {
            var info: linux.siginfo_t = std.mem.zeroes(linux.siginfo_t);
            const waited = linux.waitid(.ALL, 0, &info, linux.W.EXITED | linux.W.NOHANG | kernel_linux.__WALL, null);
            if (linux.errno(waited) == .CHILD and ended.stage != .none) return ended;
            const pid = info.fields.common.first.piduid.pid;
            if (linux.errno(waited) != .SUCCESS or pid == 0) break;
            if (pid != command) continue;
            const status: u32 = @bitCast(info.fields.common.second.sigchld.status);
            const exited = info.code == kernel_linux.CLD_EXITED;
            ended = .{ .stage = .ended, .step = if (exited) 0 else status, .errno = if (exited) status else 0 };
            if (!wait_for_all) return ended;
        }
    }
}
