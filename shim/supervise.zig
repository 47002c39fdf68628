//! The supervisor's life while the command runs: it forwards signals, keeps time, and takes part in job control.
//!
//! It waits for signals, and for bytes where the command has a terminal of its own: no thread, no handler, no timer but
//! the timeout of that wait.

const std = @import("std");
const linux = std.os.linux;
const kernel_linux = @import("kernel_linux.zig");
const Bundle = @import("bundle.zig").Bundle;
const Flags = @import("bundle.zig").Flags;
const plan_zig = @import("plan.zig");
const Relay = @import("relay.zig").Relay;
const descriptors = @import("descriptors.zig");
const signals = @import("signals.zig");
const Signal = signals.Signal;

/// How the command ended.
pub const Ending = struct { code: u32 = 0, signal: u32 = 0 };

/// What ends a process that does nothing about it, as far as it comes from outside: src/process/termination.ts.
const ending_signals = [_]linux.SIG{ .HUP, .INT, .QUIT, .USR1, .USR2, .ALRM, .TERM };

pub const Supervisor = struct {
    child: i32 = 0,
    flags: Flags,
    /// Whether the child is PID 1, so that the kernel keeps from it what it does not handle.
    is_first: bool,
    grace_ms: u32,
    status_fd: i32,
    cgroup_fd: i32,
    /// What was ignored when this began, as nohup(1) and a shell's `&` have it, and so is not for anybody.
    ignored: u64,
    kill_at: ?u64 = null,
    end_at: ?u64 = null,
    timed_out: bool = false,
    /// The signal that PID 1 was killed in place of.
    stands_for: u32 = 0,
    terminal: ?Terminal,
    /// Where the command has a terminal of its own.
    relay: ?Relay = null,

    /// Blocks all signals.
    pub fn begin(bundle: *const Bundle) Supervisor {
        if (bundle.flags.forward) signals.blockAll() else signals.blockAllBut(&ending_signals);
        // A Deno ignores SIGPIPE, and what is ignored is passed on.
        for ([_]linux.SIG{ .CHLD, .PIPE }) |signal| _ = signals.disposition(signal, &default);
        var ignored: u64 = 0;
        for (ending_signals ++ [_]linux.SIG{ .TSTP, .CONT }) |signal| {
            const action = signals.disposition(signal, null) orelse continue;
            if (action.handler == linux.SIG.IGN) ignored |= signals.bit(signal);
        }
        return .{
            .flags = bundle.flags,
            .is_first = false,
            .grace_ms = bundle.grace_ms,
            .status_fd = bundle.status_fd,
            .cgroup_fd = bundle.cgroup_fd,
            .ignored = ignored,
            .end_at = if (bundle.timeout_ms == 0) null else now() +| bundle.timeout_ms *| std.time.ns_per_ms,
            .terminal = if (bundle.flags.tty) null else .find(), // The relay sees to it.
        };
    }

    /// All zeros: SIG_DFL.
    const default: linux.k_sigaction = std.mem.zeroes(linux.k_sigaction);

    /// In the child, before it executes the command.
    pub fn restoreSignals(_: *const Supervisor) void {
        signals.unblockAll();
    }

    /// Who reads what the command writes must see the end of it when the command closes it, so nothing is held that the
    /// command may have, too.
    pub fn letGo(supervisor: *const Supervisor, pipe: i32) void {
        const own: [6]i32 = if (supervisor.relay) |*relay| relay.descriptors() else @splat(-1);
        // With a cgroup the end of the command is that of all that it has started, and there may be something to be said of it.
        const stderr: i32 = if (supervisor.cgroup_fd >= 0) 2 else -1;
        var needed = own ++ [_]i32{ stderr, pipe, supervisor.status_fd, supervisor.cgroup_fd, if (supervisor.terminal) |terminal| terminal.fd else -1 };
        std.sort.insertion(i32, &needed, {}, std.sort.asc(i32));
        var from: u32 = 0;
        for (needed) |fd| {
            if (fd < from) continue;
            if (fd > from) closeRange(from, @intCast(fd - 1));
            from = @intCast(fd + 1);
        }
        closeRange(from, std.math.maxInt(u32));
    }

    fn closeRange(first: u32, last: u32) void {
        _ = linux.syscall3(.close_range, first, last, 0);
    }

    /// Takes the status of a child that has failed, or was killed.
    pub fn reap(supervisor: *Supervisor) void {
        var info: linux.siginfo_t = undefined;
        while (linux.errno(linux.waitid(.PID, supervisor.child, &info, linux.W.EXITED | kernel_linux.__WALL, null)) == .INTR) {}
    }

    pub fn untilItEnds(supervisor: *Supervisor) Ending {
        const relay = if (supervisor.relay) |*relay| relay else return supervisor.wait();
        signals.blockAll();
        relay.enter();
        const ending = supervisor.wait();
        // Who was to be ended does not wait for a reader longer than for the command.
        const grace_ns = if (supervisor.kill_at == null) null else @as(u64, supervisor.grace_ms) *| std.time.ns_per_ms;
        relay.drain(grace_ns orelse if (supervisor.end_at) |at| at -| now() else null, supervisor.endingSignals());
        relay.leave();
        return ending;
    }

    fn wait(supervisor: *Supervisor) Ending {
        while (true) {
            const signal = supervisor.nextSignal() orelse {
                supervisor.keepTime();
                continue;
            };
            if (supervisor.relay) |*relay| switch (signal.number) {
                .WINCH => {
                    relay.resize();
                    continue;
                },
                .CONT => relay.enter(),
                .TSTP => {
                    // The command has a session of its own, where nothing can stop it by the terminal.
                    relay.leave();
                    signals.stopBy(.TSTP);
                    relay.enter();
                    continue;
                },
                .TTIN, .TTOU => continue,
                else => if (!supervisor.flags.forward and supervisor.endingSignals() & signals.bit(signal.number) != 0) {
                    relay.leave();
                    signals.dieBy(signal.number);
                },
            };
            switch (signal.number) {
                .CHLD => if (supervisor.look()) |ending| return ending,
                .TSTP => supervisor.suspendIt(signal),
                .TTIN, .TTOU => if (supervisor.isAlone()) supervisor.suspendIt(signal),
                else => supervisor.forward(signal),
            }
        }
    }

    fn nextSignal(supervisor: *Supervisor) ?Signal {
        const patience_ns = supervisor.patience();
        const relay = if (supervisor.relay) |*relay| relay else return signals.next(patience_ns);
        return switch (relay.carry(patience_ns, now())) {
            .none => null,
            .signal => signals.next(0),
            .unseen => .{ .number = .HUP, .code = 0 }, // As when a terminal is closed.
        };
    }

    /// Those that end a process, but for those that were ignored.
    fn endingSignals(supervisor: *const Supervisor) u64 {
        var all: u64 = 0;
        for (ending_signals) |signal| all |= signals.bit(signal);
        return all & ~supervisor.ignored;
    }

    /// Puts the terminal in order after a command that was killed.
    pub fn tidy(supervisor: *const Supervisor) void {
        if (supervisor.terminal) |*terminal| terminal.restore();
    }

    /// What has become of the child.
    fn look(supervisor: *Supervisor) ?Ending {
        while (true) {
            var info: linux.siginfo_t = std.mem.zeroes(linux.siginfo_t);
            const options = linux.W.EXITED | linux.W.STOPPED | linux.W.NOHANG | kernel_linux.__WALL;
            const waited = linux.waitid(.PID, supervisor.child, &info, options, null);
            if (linux.errno(waited) != .SUCCESS or info.fields.common.first.piduid.pid == 0) return null;
            const status: u32 = @bitCast(info.fields.common.second.sigchld.status);
            switch (info.code) {
                kernel_linux.CLD_EXITED => return .{ .code = status },
                CLD_STOPPED => switch (@as(linux.SIG, @enumFromInt(status))) {
                    // By the terminal, or in answer to it: the shell is to see that the job has stopped.
                    .TSTP, .TTIN, .TTOU => signals.stopBy(.TSTP), // SIGCONT is forwarded.
                    else => {},
                },
                else => {
                    const is_stand_in = supervisor.stands_for != 0 and status == @intFromEnum(linux.SIG.KILL);
                    return .{ .signal = if (is_stand_in) supervisor.stands_for else status };
                },
            }
        }
    }

    fn forward(supervisor: *Supervisor, signal: Signal) void {
        if (supervisor.ignored & signals.bit(signal.number) != 0) return;
        if (!signal.hasReached(supervisor.child)) supervisor.send(signal.number);
        supervisor.enforce(signal.number);
    }

    /// Sees to it that a signal does to the child what it is meant to do.
    fn enforce(supervisor: *Supervisor, number: linux.SIG) void {
        if (number == .TERM and supervisor.kill_at == null) supervisor.kill_at = now() +| @as(u64, supervisor.grace_ms) *| std.time.ns_per_ms;
        if (!supervisor.isAlone()) return;
        const ends = for (ending_signals) |one| {
            if (one == number) break true;
        } else false;
        // The kernel keeps from PID 1 what it does not handle. Anybody else it would have ended.
        if (ends and !isHandled(supervisor.child, number)) {
            if (supervisor.stands_for == 0) supervisor.stands_for = @intFromEnum(number);
            supervisor.send(.KILL);
        }
    }

    /// Whether the command itself is PID 1.
    fn isAlone(supervisor: *const Supervisor) bool {
        return supervisor.is_first and !supervisor.flags.init;
    }

    fn suspendIt(supervisor: *Supervisor, signal: Signal) void {
        if (supervisor.ignored & signals.bit(.TSTP) != 0) return;
        if (!signal.hasReached(supervisor.child)) supervisor.send(signal.number);
        if (!supervisor.is_first) return; // It stops, and we hear of it; or it has its own idea of the key.
        if (supervisor.isAlone()) {
            if (isHandled(supervisor.child, signal.number)) return;
            supervisor.send(.STOP);
        }
        signals.stopBy(.TSTP);
        supervisor.send(.CONT);
    }

    fn send(supervisor: *const Supervisor, signal: linux.SIG) void {
        _ = linux.kill(supervisor.child, signal);
    }

    fn patience(supervisor: *const Supervisor) ?u64 {
        const at = @min(supervisor.kill_at orelse never, supervisor.end_at orelse never);
        return if (at == never) null else at -| now();
    }

    fn keepTime(supervisor: *Supervisor) void {
        const time = now();
        if (supervisor.end_at) |at| if (time >= at) {
            supervisor.end_at = null;
            supervisor.timed_out = true;
            // Whatever is ignored, and whether it is stopped or not.
            supervisor.send(.TERM);
            supervisor.send(.CONT);
            supervisor.enforce(.TERM);
        };
        if (supervisor.kill_at) |at| if (time >= at) {
            supervisor.kill_at = never;
            supervisor.send(.KILL);
        };
    }
};

const never = std.math.maxInt(u64);
const CLD_STOPPED = 5;

fn now() u64 {
    var time: linux.timespec = undefined;
    _ = linux.clock_gettime(.MONOTONIC, &time);
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}

/// Whether a process catches, ignores or waits for a signal: proc_pid_status(5).
fn isHandled(pid: i32, signal: linux.SIG) bool {
    var path: [32]u8 = undefined;
    var digits: [plan_zig.id_text_size]u8 = undefined;
    var at: usize = 0;
    for ([_][]const u8{ "/proc/", plan_zig.decimal(&digits, @intCast(pid)), "/status\x00" }) |part| {
        @memcpy(path[at..][0..part.len], part);
        at += part.len;
    }
    const opened = linux.open(@ptrCast(&path), .{ .CLOEXEC = true }, 0);
    if (linux.errno(opened) != .SUCCESS) return true;
    defer _ = linux.close(@intCast(opened));
    var buffer: [4096]u8 = undefined;
    const size = linux.read(@intCast(opened), &buffer, buffer.len);
    if (linux.errno(size) != .SUCCESS) return true;
    for ([_][]const u8{ "\nSigBlk:\t", "\nSigIgn:\t", "\nSigCgt:\t" }) |field| {
        const found = std.mem.indexOf(u8, buffer[0..size], field) orelse return true;
        const text = buffer[found + field.len ..][0..16];
        const mask = std.fmt.parseInt(u64, text, 16) catch return true;
        if (mask & signals.bit(signal) != 0) return true;
    }
    return false;
}

/// The terminal that the command may leave in a state of its own making when it is killed.
const Terminal = struct {
    fd: i32,
    settings: linux.termios,

    fn find() ?Terminal {
        var settings: linux.termios = undefined;
        if (linux.errno(linux.tcgetattr(0, &settings)) != .SUCCESS) return null;
        return .{ .fd = descriptors.copy(0) orelse return null, .settings = settings };
    }

    fn restore(terminal: *const Terminal) void {
        var foreground: i32 = 0;
        if (linux.errno(linux.tcgetpgrp(terminal.fd, &foreground)) != .SUCCESS) return;
        // Somebody else may be using it by now.
        const is_ours = foreground == linux.getpgid(0);
        if (!is_ours and linux.errno(linux.kill(-foreground, @enumFromInt(0))) != .SRCH) return;
        _ = linux.tcsetattr(terminal.fd, .DRAIN, &terminal.settings);
    }
};
