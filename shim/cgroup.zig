//! The end of a command's cgroup: whatever is in it is killed, and it is removed.
//!
//! That is done by a process of its own, the keeper, which is there before the cgroup is. The kernel sends it a signal when
//! the thread that has made it ends, kill -9 included (PR_SET_PDEATHSIG, which the plan that begins it asks for), and whoever
//! is done with the cgroup sends the same. So nothing stays, whoever is killed, unless the keeper is killed as well.

const std = @import("std");
const linux = std.os.linux;
const kernel_linux = @import("kernel_linux.zig");
const Bundle = @import("bundle.zig").Bundle;
const init = @import("init.zig");
const signals = @import("signals.zig");

/// The same as in src/plan/cgroup.ts. Not SIGTERM, which service managers send to all that they see.
const end_signal: linux.SIG = .USR1;
const rounds_max = 500;
const pause_ms = 10;

/// `folder` is the number of a descriptor of the folder that the cgroup is in. All signals are blocked.
pub fn keep(folder_text: [:0]const u8, name: [*:0]const u8) noreturn {
    const folder = std.fmt.parseInt(i32, folder_text, 10) catch linux.exit_group(127);
    _ = linux.prctl(@intFromEnum(linux.PR.SET_NAME), @intFromPtr("cgroup-keeper"), 0, 0, 0);
    signals.blockAll();
    init.closeAllBut(folder);
    while (true) {
        const signal = signals.next(null) orelse continue;
        if (signal.number == end_signal) break;
    }
    linux.exit_group(if (remove(folder, name)) 0 else 1);
}

/// Has the keeper end a launcher's cgroup, and waits for that.
pub fn end(bundle: *const Bundle) void {
    if (bundle.cgroup_keeper <= 0) return;
    kill(bundle.cgroup_fd); // The command may have killed the keeper.
    _ = linux.kill(bundle.cgroup_keeper, end_signal);
    var info: linux.siginfo_t = undefined;
    while (linux.errno(linux.waitid(.PID, bundle.cgroup_keeper, &info, linux.W.EXITED | kernel_linux.__WALL, null)) == .INTR) {}
}

/// Whether the kernel has killed a process in a launcher's cgroup for want of memory.
pub fn hasRunOutOfMemory(bundle: *const Bundle) bool {
    if (bundle.cgroup_fd < 0) return false;
    var buffer: [512]u8 = undefined;
    const events = readFile(bundle.cgroup_fd, "memory.events", &buffer) orelse return false;
    const count = "\noom_kill ";
    const at = std.mem.indexOf(u8, events, count) orelse return false;
    return events.len > at + count.len and events[at + count.len] != '0';
}

fn remove(folder: i32, name: [*:0]const u8) bool {
    for (0..rounds_max) |_| { // Somebody else may put processes into it until it is gone.
        const opened = linux.openat(folder, name, .{ .DIRECTORY = true, .CLOEXEC = true }, 0);
        if (linux.errno(opened) == .NOENT) return true;
        if (linux.errno(opened) == .SUCCESS) {
            const cgroup: i32 = @intCast(opened);
            defer _ = linux.close(cgroup);
            kill(cgroup);
            waitUntilEmpty(cgroup);
            removeBelow(cgroup);
        }
        switch (linux.errno(linux.unlinkat(folder, name, linux.AT.REMOVEDIR))) {
            .SUCCESS, .NOENT => return true,
            .BUSY => wait(&.{}),
            else => return false,
        }
    }
    return false;
}

fn kill(cgroup: i32) void {
    const opened = linux.openat(cgroup, "cgroup.kill", .{ .ACCMODE = .WRONLY, .CLOEXEC = true }, 0);
    if (linux.errno(opened) != .SUCCESS) return;
    _ = linux.write(@intCast(opened), "1", 1);
    _ = linux.close(@intCast(opened));
}

/// A process that is killed can take its time, as on a file system that does not answer.
fn waitUntilEmpty(cgroup: i32) void {
    const opened = linux.openat(cgroup, "cgroup.events", .{ .CLOEXEC = true }, 0);
    if (linux.errno(opened) != .SUCCESS) return;
    defer _ = linux.close(@intCast(opened));
    var buffer: [256]u8 = undefined;
    while (true) {
        const size = linux.pread(@intCast(opened), &buffer, buffer.len, 0);
        if (linux.errno(size) != .SUCCESS) return;
        if (std.mem.indexOf(u8, buffer[0..size], "populated 1") == null) return;
        var changed = [_]linux.pollfd{.{ .fd = @intCast(opened), .events = linux.POLL.PRI, .revents = 0 }};
        wait(&changed);
    }
}

fn wait(for_what: []linux.pollfd) void {
    const time: linux.timespec = .{ .sec = 0, .nsec = pause_ms * std.time.ns_per_ms };
    _ = linux.syscall5(.ppoll, @intFromPtr(for_what.ptr), for_what.len, @intFromPtr(&time), 0, 0);
}

const Name = [256:0]u8;

/// What the command has made below its own, leaf by leaf: none can be deeper than descriptors reach.
fn removeBelow(top: i32) void {
    var name: Name = undefined;
    while (firstFolder(top, &name)) { // Each turn removes one, or is the last.
        var at = top;
        defer if (at != top) {
            _ = linux.close(at);
        };
        while (true) {
            const opened = linux.openat(at, &name, .{ .DIRECTORY = true, .CLOEXEC = true }, 0);
            if (linux.errno(opened) != .SUCCESS) return;
            const inner: i32 = @intCast(opened);
            var next: Name = undefined;
            if (!firstFolder(inner, &next)) {
                _ = linux.close(inner);
                if (linux.errno(linux.unlinkat(at, &name, linux.AT.REMOVEDIR)) != .SUCCESS) return;
                break;
            }
            if (at != top) _ = linux.close(at);
            at = inner;
            name = next;
        }
    }
}

/// The name of a folder in a folder; false where there is none.
fn firstFolder(folder: i32, name: *Name) bool {
    const DT_DIR = 4;
    _ = linux.lseek(folder, 0, linux.SEEK.SET);
    var buffer: [2048]u8 align(8) = undefined;
    while (true) {
        const size = linux.getdents64(folder, &buffer, buffer.len);
        if (linux.errno(size) != .SUCCESS or size == 0) return false;
        var at: usize = 0;
        while (at < size) {
            const entry: *align(8) const linux.dirent64 = @ptrCast(@alignCast(buffer[at..].ptr));
            at += entry.reclen;
            const found = std.mem.span(@as([*:0]const u8, @ptrCast(&entry.name)));
            if (entry.type != DT_DIR or std.mem.eql(u8, found, ".") or std.mem.eql(u8, found, "..")) continue;
            @memcpy(name[0..found.len], found);
            name[found.len] = 0;
            return true;
        }
    }
}

fn readFile(folder: i32, name: [*:0]const u8, buffer: []u8) ?[]const u8 {
    const opened = linux.openat(folder, name, .{ .CLOEXEC = true }, 0);
    if (linux.errno(opened) != .SUCCESS) return null;
    defer _ = linux.close(@intCast(opened));
    const size = linux.read(@intCast(opened), buffer.ptr, buffer.len);
    return if (linux.errno(size) == .SUCCESS) buffer[0..size] else null;
}
