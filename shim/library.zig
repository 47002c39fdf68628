//! The shared library's interface: its one export list, over functions that know nothing of C or of Deno.
//!
//! Every function returns 0 or a value, or minus an errno (an i32, because Deno makes a BigInt of anything wider), and
//! writes what else it has to say through its last pointers. Their twin is `symbols` in src/machine/library.ts.

const std = @import("std");
const linux = std.os.linux;
const kernel_linux = @import("kernel_linux.zig");
const raw = kernel_linux.raw;
const machine = @import("machine.zig");
const plan_zig = @import("plan.zig");
const spawn = @import("spawn.zig");

comptime {
    @export(&abi, .{ .name = "ns_abi" });
    @export(&spawnPlan, .{ .name = "ns_spawn" });
    @export(&executePlan, .{ .name = "ns_execute" });
    @export(&wait, .{ .name = "ns_wait" });
    @export(&signal, .{ .name = "ns_signal" });
    @export(&pipe, .{ .name = "ns_pipe" });
    @export(&read, .{ .name = "ns_read" });
    @export(&write, .{ .name = "ns_write" });
    @export(&close, .{ .name = "ns_close" });
    @export(&epollCreate, .{ .name = "ns_epoll_create" });
    @export(&eventCounter, .{ .name = "ns_event_counter" });
    @export(&epollControl, .{ .name = "ns_epoll_control" });
    @export(&epollWait, .{ .name = "ns_epoll_wait" });
    @export(&environment, .{ .name = "ns_environment" });
}

/// The sizes of what both sides know the layout of; src/machine/library.ts compares them with its own.
const Abi = extern struct {
    version: u32 = plan_zig.version,
    architecture: u32 = kernel_linux.architecture,
    header_size: u32 = @sizeOf(plan_zig.Header),
    step_size: u32 = @sizeOf(plan_zig.Step),
    words_size: u32 = @sizeOf(plan_zig.Words),
    report_size: u32 = @sizeOf(spawn.Report),
    status_size: u32 = @sizeOf(Status),
    event_size: u32 = @sizeOf(Event),
};

fn abi(out: *Abi) callconv(.c) i32 {
    out.* = .{};
    return 0;
}

/// Clones a child that executes the plan: see spawn.zig. What came of it is in `report`.
fn spawnPlan(bytes: [*]const u8, size: u32, report: *spawn.Report, results: [*]i64, results_len: u32) callconv(.c) i32 {
    spawn.spawn(bytes[0..size], report, results[0..results_len]);
    return 0;
}

/// Executes the plan's child steps in the calling thread, and copies its data area back: calls write there.
/// The plan is changed in place and can be executed once.
fn executePlan(bytes: [*]align(8) u8, size: u32, report: *spawn.Report, results: [*]i64, results_len: u32) callconv(.c) i32 {
    report.* = .{ .pid = 0, .pidfd = -1, .stage = .none, .step = 0, .errno = 0 };
    const plan = plan_zig.open(bytes[0..size], kernel_linux.architecture) catch |refusal| {
        report.stage = .plan;
        report.errno = @intFromError(refusal);
        return 0;
    };
    if (plan.child.len > results_len) {
        report.stage = .plan;
        return 0;
    }
    const outcome = machine.execute(kernel_linux.Kernel{}, plan.child, @intFromPtr(plan.data.ptr), results[0..results_len]);
    machine.closeOpened(kernel_linux.Kernel{}, plan.child, results[0..results_len]);
    if (outcome.errno != 0) {
        report.stage = .child_step;
        report.step = outcome.step;
        report.errno = outcome.errno;
    }
    return 0;
}

const Status = extern struct {
    /// 0 while the child runs.
    pid: i32,
    /// CLD_EXITED, CLD_KILLED or CLD_DUMPED.
    code: i32,
    /// The exit code, or the signal's number.
    status: i32,
};

/// waitid(2) on a pidfd. Reaps the child; with WNOHANG, `out.pid` is 0 while it runs.
fn wait(pidfd: i32, options: u32, out: *Status) callconv(.c) i32 {
    var info: linux.siginfo_t = std.mem.zeroes(linux.siginfo_t);
    while (true) { // Ended by anything but a signal that came in between.
        const waited = linux.waitid(.PIDFD, pidfd, &info, linux.W.EXITED | options, null);
        if (linux.errno(waited) == .INTR) continue;
        const child = info.fields.common.first.piduid;
        const status = info.fields.common.second.sigchld.status;
        out.* = .{ .pid = child.pid, .code = info.code, .status = status };
        return raw(waited);
    }
}

fn signal(pidfd: i32, number: i32) callconv(.c) i32 {
    const none: usize = 0;
    return raw(linux.syscall4(.pidfd_send_signal, @intCast(pidfd), @intCast(number), none, 0));
}

/// pipe2(2), close-on-exec, `ours` (0 to read, 1 to write) non-blocking. Both ends are above 2: a program whose own stdin
/// is closed would get 0 here, which the child cannot then put in its own place.
fn pipe(ours: u32, out: *[2]i32) callconv(.c) i32 {
    var low: [2]i32 = undefined;
    var low_count: u32 = 0;
    defer for (low[0..low_count]) |fd| {
        _ = linux.close(fd);
    };
    var ends: [2]i32 = undefined;
    const made = linux.pipe2(&ends, .{ .CLOEXEC = true });
    if (linux.errno(made) != .SUCCESS) return raw(made);
    for (&ends, 0..) |*end, index| {
        if (end.* > 2) continue;
        const moved = linux.fcntl(end.*, linux.F.DUPFD_CLOEXEC, 3);
        if (linux.errno(moved) != .SUCCESS) {
            for (ends) |open| _ = linux.close(open);
            return raw(moved);
        }
        low[low_count] = end.*;
        low_count += 1;
        ends[index] = @intCast(moved);
    }
    const nonblocking: linux.O = .{ .NONBLOCK = true };
    _ = linux.fcntl(ends[ours], linux.F.SETFL, @as(u32, @bitCast(nonblocking)));
    out.* = ends;
    return 0;
}

fn read(fd: i32, buffer: [*]u8, size: u32) callconv(.c) i32 {
    return raw(linux.read(fd, buffer, size));
}

fn write(fd: i32, buffer: [*]const u8, size: u32) callconv(.c) i32 {
    return raw(linux.write(fd, buffer, size));
}

fn close(fd: i32) callconv(.c) i32 {
    return raw(linux.close(fd));
}

/// What epoll reports, without the packing that struct epoll_event has on x86_64 alone.
const Event = extern struct {
    events: u32,
    token: u32,
    /// How the child ended, for a token with `child_bit`.
    status: Status,
};

const events_max = 64;
/// Of a token: the descriptor is a child's pidfd, to be reaped when it is ready.
const child_bit: u32 = 0x8000_0000;

fn epollCreate() callconv(.c) i32 {
    return raw(linux.epoll_create1(linux.EPOLL.CLOEXEC));
}

/// A descriptor that is always ready to be written: added to an epoll, it ends a wait in another thread.
fn eventCounter() callconv(.c) i32 {
    return raw(linux.eventfd(0, linux.EFD.CLOEXEC | linux.EFD.NONBLOCK));
}

fn epollControl(epoll: i32, operation: u32, fd: i32, events: u32, token: u32) callconv(.c) i32 {
    const data = @as(u64, @intCast(fd)) << 32 | token;
    var event: linux.epoll_event = .{ .events = events, .data = .{ .u64 = data } };
    return raw(linux.epoll_ctl(epoll, operation, fd, &event));
}

/// Waits for at most 64 events and returns how many there are; 0 after `timeout` ms or after a signal. Children that
/// have ended are reaped here: this may be all that is left of a Worker that was terminated.
fn epollWait(epoll: i32, timeout: i32, out: [*]Event) callconv(.c) i32 {
    var events: [events_max]linux.epoll_event = undefined;
    const count = linux.epoll_wait(epoll, &events, events_max, timeout);
    if (linux.errno(count) == .INTR) return 0;
    if (linux.errno(count) != .SUCCESS) return raw(count);
    for (events[0..count], out[0..count]) |event, *place| {
        const token: u32 = @truncate(event.data.u64);
        place.* = .{ .events = event.events, .token = token, .status = std.mem.zeroes(Status) };
        if (token & child_bit != 0) {
            const pidfd: i32 = @intCast(event.data.u64 >> 32);
            const result = wait(pidfd, linux.W.NOHANG, &place.status);
            if (result < 0) place.status = .{ .pid = result, .code = 0, .status = 0 };
        }
    }
    return @intCast(count);
}

/// Copies libc's environment (`list` is its `environ`) as NUL-terminated strings, one after the other, and returns its
/// size in bytes, which is more than `capacity` where it did not fit.
fn environment(list: *const ?[*:null]const ?[*:0]const u8, buffer: [*]u8, capacity: u32) callconv(.c) i32 {
    const entries = std.mem.span(list.* orelse return 0);
    var size: u32 = 0;
    for (entries) |entry| {
        const text = std.mem.span(entry.?);
        const end = size + @as(u32, @intCast(text.len)) + 1;
        if (end <= capacity) @memcpy(buffer[size..end], text[0 .. text.len + 1]);
        size = end;
    }
    return @intCast(size);
}

test {
    _ = machine;
    _ = plan_zig;
}

test "pipe() gives ends above 2 even where 0 is free" {
    const saved = linux.dup(0);
    try std.testing.expectEqual(.SUCCESS, linux.errno(saved));
    _ = linux.close(0);
    defer {
        _ = linux.dup2(@intCast(saved), 0);
        _ = linux.close(@intCast(saved));
    }
    var ends: [2]i32 = undefined;
    try std.testing.expectEqual(0, pipe(0, &ends));
    defer for (ends) |end| {
        _ = linux.close(end);
    };
    for (ends) |end| try std.testing.expect(end > 2);
    try std.testing.expectEqual(1, write(ends[1], "x", 1));
    var byte: [1]u8 = undefined;
    try std.testing.expectEqual(1, read(ends[0], &byte, 1));
    try std.testing.expectEqual('x', byte[0]);
    try std.testing.expectEqual(-@as(i32, @intFromEnum(linux.E.AGAIN)), read(ends[0], &byte, 1));
    try std.testing.expectEqual(-@as(i32, @intFromEnum(linux.E.BADF)), close(9999));
}

test "environment() copies the strings and says how much room they need" {
    const strings = [_:null]?[*:0]const u8{ "A=1", "B=" };
    const list: ?[*:null]const ?[*:0]const u8 = &strings;
    const none: ?[*:null]const ?[*:0]const u8 = null;
    var buffer: [16]u8 = @splat(0xff);
    try std.testing.expectEqual(7, environment(&list, &buffer, 16));
    try std.testing.expectEqualStrings("A=1\x00B=\x00", buffer[0..7]);
    try std.testing.expectEqual(7, environment(&list, &buffer, 0));
    try std.testing.expectEqual(0, environment(&none, &buffer, 16));
}
