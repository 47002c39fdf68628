//! Moves every other thread of this process into namespaces that the calling thread is in already.
//!
//! Namespaces belong to threads, and no system call moves another one. So each thread is sent a real-time signal whose
//! handler makes it move itself. glibc's setuid() and Go's AllThreadsSyscall() do the like for credentials.
//!
//!     calling thread                          every other thread
//!     ──────────────                          ──────────────────
//!     read /proc/self/task
//!     tgkill to each that is not moved ─────▶ (in the handler) unshare(CLONE_FS), setns to each, fchdir
//!     wait until each has answered   ◀─────── answer
//!     read again, until there is none that has not moved: threads can be made meanwhile
//!
//! In the handler there are system calls only, on a table that is written before the signal is sent.

const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;

/// A namespace to go to.
pub const Target = extern struct {
    /// Of a file in /proc/<pid>/ns.
    fd: i32,
    /// CLONE_NEW* of its kind.
    kind: u32,
};

const State = enum(u32) { asked, moved, failed };

const Thread = struct {
    tid: i32,
    state: State,
    errno: u32,
};

const threads_max = 4096;
const targets_max = 8;
/// Threads that make threads that make threads …: each pass finds all that were there when it began.
const passes_max = 1000;
const answer_timeout_ms = 5000;

/// What the handler reads, and where it answers. One call at a time uses it, in each loaded instance of this library.
var job: struct {
    targets: [targets_max]Target,
    target_count: u32,
    folder: i32,
    threads: [threads_max]Thread,
    thread_count: u32,
    /// How many of those that were asked have not answered. The calling thread waits on it, and counts as one until it
    /// has asked all.
    pending: u32,
} = undefined;

/// Moves every thread but the calling one to the targets and to `folder`, as its own current folder, unless that is
/// negative: it must be given with a mount namespace, whose root a thread is put to otherwise. Returns 0, or the errno of
/// the first thread that could not: then all others that can have moved.
pub fn moveOthers(targets: []const Target, folder: i32) u32 {
    assert(targets.len <= targets_max);
    @memcpy(job.targets[0..targets.len], targets);
    job.target_count = @intCast(targets.len);
    job.folder = folder;
    job.thread_count = 0;

    const signal = unusedSignal() orelse return @intFromEnum(linux.E.BUSY);
    const action: linux.Sigaction = .{
        .handler = .{ .handler = onSignal },
        .mask = @splat(std.math.maxInt(std.meta.Child(linux.sigset_t))),
        .flags = linux.SA.RESTART | linux.SA.ONSTACK,
    };
    var before: linux.Sigaction = undefined;
    if (linux.errno(linux.sigaction(signal, &action, &before)) != .SUCCESS) return @intFromEnum(linux.E.BUSY);

    for (0..passes_max) |_| {
        @atomicStore(u32, &job.pending, 1, .release);
        var asked: u32 = 0;
        const refusal: linux.E = if (askNewThreads(signal, &asked)) .SUCCESS else |refusal| switch (refusal) {
            error.NoProc => .NOENT,
            error.TooManyThreads => .NFILE,
        };
        const failure = waitForAnswers() catch {
            // The signal is still to come somewhere, and without the handler it would end the process.
            @atomicStore(u32, &job.thread_count, 0, .release);
            return @intFromEnum(linux.E.TIMEDOUT);
        };
        if (asked > 0 and refusal == .SUCCESS) continue;
        _ = linux.sigaction(signal, &before, null);
        return if (failure != 0) failure else @intFromEnum(refusal);
    }
    _ = linux.sigaction(signal, &before, null);
    return @intFromEnum(linux.E.AGAIN);
}

/// From the last real-time signal down: glibc has the first two.
fn unusedSignal() ?linux.SIG {
    var number: u32 = linux.NSIG - 1;
    while (number > 34) : (number -= 1) {
        var action: linux.Sigaction = undefined;
        const signal: linux.SIG = @enumFromInt(number);
        if (linux.errno(linux.sigaction(signal, null, &action)) != .SUCCESS) continue;
        if (action.handler.handler == linux.SIG.DFL) return signal;
    }
    return null;
}

/// Sends the signal to each thread that was not asked before, and counts them.
fn askNewThreads(signal: linux.SIG, asked: *u32) error{ NoProc, TooManyThreads }!void {
    const process = linux.getpid();
    const own = linux.gettid();
    const opened = linux.openat(linux.AT.FDCWD, "/proc/self/task", .{ .DIRECTORY = true, .CLOEXEC = true }, 0);
    if (linux.errno(opened) != .SUCCESS) return error.NoProc;
    const fd: i32 = @intCast(opened);
    defer _ = linux.close(fd);

    var buffer: [4096]u8 align(8) = undefined;
    while (true) {
        const size = linux.getdents64(fd, &buffer, buffer.len);
        if (linux.errno(size) != .SUCCESS) return error.NoProc;
        if (size == 0) return;
        var at: usize = 0;
        while (at < size) {
            const entry: *align(1) const linux.dirent64 = @ptrCast(&buffer[at]);
            const tid = parseTid(buffer[at + @offsetOf(linux.dirent64, "name") .. at + entry.reclen]);
            at += entry.reclen;
            if (tid == null or tid.? == own or find(tid.?) != null) continue;
            if (job.thread_count == threads_max) return error.TooManyThreads;
            job.threads[job.thread_count] = .{ .tid = tid.?, .state = .asked, .errno = 0 };
            @atomicStore(u32, &job.thread_count, job.thread_count + 1, .release);
            _ = @atomicRmw(u32, &job.pending, .Add, 1, .release);
            _ = linux.tgkill(process, tid.?, signal); // Where it has ended, `waitForAnswers` sees that.
            asked.* += 1;
        }
    }
}

/// The name of a folder in /proc/self/task as a number; null for "." and "..".
fn parseTid(name: []const u8) ?i32 {
    var tid: i32 = 0;
    for (name) |character| switch (character) {
        '0'...'9' => tid = tid * 10 + (character - '0'),
        0 => break,
        else => return null,
    };
    return if (tid == 0) null else tid;
}

fn find(tid: i32) ?*Thread {
    const count = @atomicLoad(u32, &job.thread_count, .acquire);
    for (job.threads[0..count]) |*thread| if (thread.tid == tid) return thread;
    return null;
}

/// Waits until each thread that was asked has answered or ended; the errno of the first that could not move.
fn waitForAnswers() error{TimedOut}!u32 {
    const interval: linux.timespec = .{ .sec = 0, .nsec = std.time.ns_per_ms };
    _ = @atomicRmw(u32, &job.pending, .Sub, 1, .acq_rel);
    for (0..answer_timeout_ms) |_| {
        const seen = @atomicLoad(u32, &job.pending, .acquire);
        var missing = false;
        var failure: u32 = 0;
        for (job.threads[0..job.thread_count]) |*thread| switch (@atomicLoad(State, &thread.state, .acquire)) {
            .moved => {},
            .failed => failure = if (failure == 0) thread.errno else failure,
            .asked => missing = missing or isThere(thread.tid),
        };
        if (!missing) return failure;
        _ = linux.futex_4arg(&job.pending, .{ .cmd = .WAIT, .private = true }, seen, &interval);
    }
    return error.TimedOut;
}

fn isThere(tid: i32) bool {
    const nothing: usize = 0;
    const process: usize = @intCast(linux.getpid());
    return linux.errno(linux.syscall3(.tgkill, process, @intCast(tid), nothing)) == .SUCCESS;
}

// ── In every other thread, in the middle of anything ─────────────────────────────────────────────────────

fn onSignal(_: linux.SIG) callconv(.c) void {
    const thread = find(linux.gettid()) orelse return; // Somebody else's signal.
    if (@atomicLoad(State, &thread.state, .acquire) != .asked) return;
    const errno = move();
    thread.errno = errno;
    @atomicStore(State, &thread.state, if (errno == 0) .moved else .failed, .release);
    if (@atomicRmw(u32, &job.pending, .Sub, 1, .acq_rel) != 1) return;
    _ = linux.futex_3arg(&job.pending, .{ .cmd = .WAKE, .private = true }, 1);
}

fn move() u32 {
    if (job.folder >= 0) {
        // setns(2): a thread that shares its root and current folder with others may not change its mount namespace.
        const alone = linux.errno(linux.unshare(linux.CLONE.FS));
        if (alone != .SUCCESS) return @intFromEnum(alone);
    }
    for (job.targets[0..job.target_count]) |target| {
        const entered = linux.errno(linux.setns(target.fd, target.kind));
        if (entered != .SUCCESS) return @intFromEnum(entered);
    }
    if (job.folder < 0) return 0;
    return @intFromEnum(linux.errno(linux.fchdir(job.folder)));
}

test "parseTid() reads numbers and nothing else" {
    try std.testing.expectEqual(1234, parseTid("1234\x00\x00\x00"));
    try std.testing.expectEqual(7, parseTid("7"));
    try std.testing.expectEqual(null, parseTid(".\x00"));
    try std.testing.expectEqual(null, parseTid("..\x00"));
    try std.testing.expectEqual(null, parseTid("\x00"));
}
