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
const threads = @import("threads.zig");

comptime {
    @export(&abi, .{ .name = "ns_abi" });
    @export(&run, .{ .name = "ns_run" });
    @export(&call, .{ .name = "ns_call" });
    @export(&context, .{ .name = "ns_context" });
    @export(&wait, .{ .name = "ns_wait" });
    @export(&epollControl, .{ .name = "ns_epoll_control" });
    @export(&epollWait, .{ .name = "ns_epoll_wait" });
    @export(&watch, .{ .name = "ns_watch" });
    @export(&watched, .{ .name = "ns_watched" });
    @export(&pipe, .{ .name = "ns_pipe" });
    @export(&transfer, .{ .name = "ns_transfer" });
    @export(&moveThreads, .{ .name = "ns_move_threads" });
}

/// The sizes of what both sides know the layout of; src/machine/library.ts compares them with its own.
const abi: extern struct {
    version: u32,
    architecture: u32,
    header_size: u32,
    step_size: u32,
    words_size: u32,
    report_size: u32,
    caller_size: u32,
    status_size: u32,
    event_size: u32,
} = .{
    .version = plan_zig.version,
    .architecture = kernel_linux.architecture,
    .header_size = @sizeOf(plan_zig.Header),
    .step_size = @sizeOf(plan_zig.Step),
    .words_size = @sizeOf(plan_zig.Words),
    .report_size = @sizeOf(spawn.Report),
    .caller_size = @sizeOf(Caller),
    .status_size = @sizeOf(Status),
    .event_size = @sizeOf(Event),
};

/// Executes a plan: in a child that is cloned for it (`in_child` 1, see spawn.zig), or its child steps in the calling
/// thread (0), which changes the plan in place. The child is born in the cgroup that the descriptor `cgroup` leads to, or
/// with -1 in the caller's. What came of it is in `report`.
fn run(in_child: u32, cgroup: i32, bytes: [*]align(8) u8, size: u32, report: *spawn.Report, results: [*]i64, results_len: u32) callconv(.c) i32 {
    if (in_child != 0) {
        spawn.spawn(bytes[0..size], cgroup, report, results[0..results_len]);
    } else {
        executeHere(bytes[0..size], report, results[0..results_len]);
    }
    return 0;
}

fn executeHere(bytes: []align(8) u8, report: *spawn.Report, results: []i64) void {
    report.* = .{ .pid = 0, .pidfd = -1, .stage = .none, .step = 0, .errno = 0 };
    const plan = plan_zig.open(bytes, kernel_linux.architecture) catch |refusal| {
        report.stage = .plan;
        report.errno = @intFromError(refusal);
        return;
    };
    if (plan.child.len > results.len) {
        report.stage = .plan;
        return;
    }
    const kernel: kernel_linux.Kernel = .{};
    const outcome = machine.execute(kernel, plan.child, @intFromPtr(plan.data.ptr), results);
    machine.closeOpened(kernel, plan.child, results);
    if (outcome.errno != 0) {
        report.stage = .child_step;
        report.step = outcome.step;
        report.errno = outcome.errno;
    }
}

/// A system call by number whose arguments are small integers: close, epoll_create1, pidfd_send_signal, kill, ….
fn call(number: u32, a: i32, b: i32, c: i32, d: i32) callconv(.c) i32 {
    const wide = [_]u64{ @bitCast(@as(i64, a)), @bitCast(@as(i64, b)), @bitCast(@as(i64, c)), @bitCast(@as(i64, d)) };
    const kernel: kernel_linux.Kernel = .{};
    return @intCast(kernel.call(number, .{ wide[0], wide[1], wide[2], wide[3], 0, 0 }));
}

/// What plans depend on.
const Caller = extern struct {
    uid: u32,
    gid: u32,
    /// The effective capabilities of the calling thread: CAP_SYS_ADMIN and the like are bits of the first word.
    capabilities: [2]u32,
};

/// Says who the caller is, and copies libc's environment (`list` is its `environ`) as NUL-terminated strings, one after
/// the other. Returns the environment's size in bytes, which is more than `capacity` where it did not fit, or -1 when it
/// is what the buffer holds already, `known` bytes of it.
fn context(list: *const ?[*:null]const ?[*:0]const u8, buffer: [*]u8, capacity: u32, known: u32, caller: *Caller) callconv(.c) i32 {
    whoCalls(caller);
    const none = [_:null]?[*:0]const u8{};
    const entries: [:null]const ?[*:0]const u8 = std.mem.span(list.* orelse &none);
    var size: u32 = 0;
    var same = true;
    for (entries) |entry| {
        const text = std.mem.span(entry.?);
        const end = size + @as(u32, @intCast(text.len)) + 1;
        if (end <= capacity) {
            const place = buffer[size..end];
            same = same and end <= known and std.mem.eql(u8, place, text[0 .. text.len + 1]);
            if (!same) @memcpy(place, text[0 .. text.len + 1]);
        }
        size = end;
    }
    return if (same and size == known) -1 else @intCast(size);
}

fn whoCalls(caller: *Caller) void {
    caller.* = .{ .uid = linux.geteuid(), .gid = linux.getegid(), .capabilities = kernel_linux.effectiveCapabilities() };
}

/// Moves every other thread of this process: see threads.zig.
fn moveThreads(targets: [*]const threads.Target, count: u32, folder: i32) callconv(.c) i32 {
    return -@as(i32, @intCast(threads.moveOthers(targets[0..count], folder)));
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

/// pipe2(2), close-on-exec, `ours` (0 to read, 1 to write, 2 neither) non-blocking. Both ends are above 2: a program whose own stdin
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
    if (ours < 2) _ = linux.fcntl(ends[ours], linux.F.SETFL, @as(u32, @bitCast(nonblocking)));
    out.* = ends;
    return 0;
}

/// read(2) or write(2), by number.
fn transfer(number: u32, fd: i32, buffer: [*]u8, size: u32) callconv(.c) i32 {
    const kernel: kernel_linux.Kernel = .{};
    return @intCast(kernel.call(number, .{ @intCast(fd), @intFromPtr(buffer), size, 0, 0, 0 }));
}

/// What was waited for, without the packing that struct epoll_event has on x86_64 alone.
const Event = extern struct {
    token: u32,
    fd: i32,
    /// How the child ended, for a token with `child_bit`.
    status: Status,
};

const events_max = 64;
/// Of a token: the descriptor is a child's pidfd, to be reaped when it is ready.
const child_bit: u32 = 0x8000_0000;

fn epollControl(epoll: i32, operation: u32, fd: i32, events: u32, token: u32) callconv(.c) i32 {
    const data = @as(u64, @intCast(fd)) << 32 | token;
    var event: linux.epoll_event = .{ .events = events, .data = .{ .u64 = data } };
    return raw(linux.epoll_ctl(epoll, operation, fd, &event));
}

/// Waits for at most 64 events and returns how many there are; 0 after `timeout` ms or after a signal. Children that
/// have ended are reaped.
fn epollWait(epoll: i32, timeout: i32, out: *[events_max]Event) callconv(.c) i32 {
    var events: [events_max]linux.epoll_event = undefined;
    const count = linux.epoll_wait(epoll, &events, events_max, timeout);
    if (linux.errno(count) == .INTR) return 0;
    if (linux.errno(count) != .SUCCESS) return raw(count);
    for (events[0..count], out[0..count]) |event, *place| {
        const token: u32 = @truncate(event.data.u64);
        place.* = .{ .token = token, .fd = @intCast(event.data.u64 >> 32), .status = std.mem.zeroes(Status) };
        if (token & child_bit != 0) {
            const result = wait(place.fd, linux.W.NOHANG, &place.status);
            if (result < 0) place.status = .{ .pid = result, .code = 0, .status = 0 };
        }
    }
    return @intCast(count);
}

/// Where `watch` leaves its events. Not in memory of JavaScript's, which may be gone when they come.
var watched: [events_max]Event = undefined;

/// `epollWait` for a thread other than JavaScript's, one call at a time. `owner` is the thread that runs JavaScript: a
/// Worker's may be terminated meanwhile. Then its children are killed, and this is all that is left to reap them.
fn watch(epoll: i32, timeout: i32, owner: i32) callconv(.c) i32 {
    const count = epollWait(epoll, timeout, &watched);
    if (count <= 0 or !isGone(owner)) return count;
    var left = count;
    while (left > 0) { // Until nothing happens for a while: what was killed ends at once.
        for (watched[0..@intCast(left)]) |event| _ = linux.close(event.fd);
        left = epollWait(epoll, orphan_patience_ms, &watched);
    }
    _ = linux.close(epoll);
    return 0;
}

const orphan_patience_ms = 1000;

fn isGone(thread: i32) bool {
    const process = linux.getpid();
    return linux.errno(linux.syscall3(.tgkill, @intCast(process), @intCast(thread), 0)) == .SRCH;
}

test {
    _ = machine;
    _ = plan_zig;
    _ = threads;
    _ = @import("remount.zig");
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
    var byte: [1]u8 = .{'x'};
    try std.testing.expectEqual(1, transfer(@intFromEnum(linux.SYS.write), ends[1], &byte, 1));
    byte[0] = 0;
    const read = @intFromEnum(linux.SYS.read);
    try std.testing.expectEqual(1, transfer(read, ends[0], &byte, 1));
    try std.testing.expectEqual('x', byte[0]);
    try std.testing.expectEqual(-@as(i32, @intFromEnum(linux.E.AGAIN)), transfer(read, ends[0], &byte, 1));
    try std.testing.expectEqual(-@as(i32, @intFromEnum(linux.E.BADF)), call(@intFromEnum(linux.SYS.close), 9999, 0, 0, 0));
}

test "context() copies the environment once, and says how much room it needs" {
    const strings = [_:null]?[*:0]const u8{ "A=1", "B=" };
    const list: ?[*:null]const ?[*:0]const u8 = &strings;
    const none: ?[*:null]const ?[*:0]const u8 = null;
    var buffer: [16]u8 = @splat(0xff);
    var caller: Caller = undefined;
    try std.testing.expectEqual(7, context(&list, &buffer, 16, 0, &caller));
    try std.testing.expectEqualStrings("A=1\x00B=\x00", buffer[0..7]);
    try std.testing.expectEqual(-1, context(&list, &buffer, 16, 7, &caller));
    try std.testing.expectEqual(7, context(&list, &buffer, 16, 6, &caller));
    try std.testing.expectEqual(7, context(&list, &buffer, 0, 0, &caller));
    buffer[0] = 'X';
    try std.testing.expectEqual(7, context(&list, &buffer, 16, 7, &caller));
    try std.testing.expectEqual(-1, context(&none, &buffer, 16, 0, &caller));
    try std.testing.expectEqual(0, context(&none, &buffer, 16, 7, &caller));
    try std.testing.expectEqual(linux.geteuid(), caller.uid);
}
