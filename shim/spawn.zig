//! Clone, plan, exec: how a child is made without a copy of the parent's memory.
//!
//! fork(2) copies the parent's page tables: 20 ms for a Deno of 500 MB. Here the child shares the memory (CLONE_VM)
//! until it execs, on a stack of its own. vfork's suspension of the parent (CLONE_VFORK) would do for the memory,
//! but then nobody could write the child's uid map, which only a process of the outer user namespace may.
//! So the two go on side by side, and meet at these points:
//!
//!     parent thread (JavaScript's)            child (its own stack, the parent's memory)
//!     ────────────────────────────            ──────────────────────────────────────────
//!     block all signals
//!     have the kernel watch over it (ParentWatch)
//!     clone(CLONE_VM, …) ───────────────────▶ default dispositions
//!     the plan's parent steps                 the plan's child steps:
//!     (uid map, gid map)                        die with the parent: prctl, then look at Words.parent
//!     Words.go = 1, wake ───────────────────▶   wait for Words.go, where there is a uid map to wait for
//!     wait until `exec_pending` is 0            mounts, hostname, … empty signal mask
//!                          ◀────────────────    execve: the kernel clears exec_pending and wakes the parent
//!     restore list and signal mask            (on a failure: report the step and the errno, _exit, and the
//!     on a failure: reap                       kernel clears exec_pending just the same)
//!
//! What the child must not do, because the memory is shared: allocate, take locks, touch globals, return.
//! It is only system calls over a copy of the plan that no one else knows of. Several threads may be in here at once.
//!
//! A plan may ask for memory of the child's own (`plan.own_memory`): setns(2) into a time namespace takes it, the score for
//! the out-of-memory killer is the memory's, and a child that becomes another user must not have that of its parent, which
//! others of that user could then look into by /proc/<child>/mem. Then it is a fork after all, but for the mapping with the plan and what came of it, and nothing clears `exec_pending`: the
//! kernel marks it as it marks Words.parent, by the child's list of robust futexes (parent_watch.zig).

const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;
const CLONE = linux.CLONE;
const kernel_linux = @import("kernel_linux.zig");
const clone3 = @import("clone3.zig");
const machine = @import("machine.zig");
const plan_zig = @import("plan.zig");
const Plan = plan_zig.Plan;
const handshake = @import("handshake.zig");
const signals = @import("signals.zig");
const ParentWatch = @import("parent_watch.zig").ParentWatch;

/// Where a spawn failed. Known to src/machine/library.ts by these numbers.
pub const Stage = enum(u32) { none = 0, plan = 1, memory = 2, clone = 3, parent_step = 4, child_step = 5 };

/// What a spawn came to. Known to src/machine/library.ts by these offsets.
pub const Report = extern struct {
    /// The child's pid as the caller sees it.
    pid: i32,
    /// Refers to the child, close-on-exec; the caller closes it. -1 after a failure.
    pidfd: i32,
    stage: Stage,
    /// Of the parent's or the child's section, by `stage`.
    step: u32,
    /// Of the failure; 0 when there is none.
    errno: u32,
};

/// Deep enough for `childMain` and the machine, which do not recurse and hold no arrays but six arguments.
const stack_size = 16 * 1024;
const page_size = 4096;

/// In a mapping that one spawn has to itself: this, the results, the copy of the plan, and the child's stack above them.
const Shared = struct {
    plan: Plan,
    results: []i64,
    outcome: machine.Outcome,
    /// Until the child has left this program, by execve or by its end. 1 and then 0: CLONE_CHILD_CLEARTID. With memory of
    /// its own 1, its tid, and then FUTEX_OWNER_DIED.
    exec_pending: u32,
    watch: ParentWatch,
    /// The same by the child, with memory of its own.
    child_watch: ParentWatch,
    /// Signals whose disposition the child sets to the default.
    to_reset: u64,
    /// Descriptor of the cgroup that the child is born in, or -1.
    cgroup: i32,
    mapping: []align(page_size) u8,

    fn childResults(shared: *Shared) []i64 {
        return shared.results[shared.plan.parent.len..];
    }
};

comptime {
    assert(@sizeOf(Report) == 20);
    assert(@sizeOf(Shared) < 512);
}

/// Makes a child that executes the plan's child steps, the last of which is an execve. Returns when the child has
/// executed it, or when it has failed and was reaped. `results` gets what each step returned, the parent's first.
/// `cgroup` is a descriptor of the cgroup that it is born in, or -1.
pub fn spawn(bytes: []const u8, cgroup: i32, report: *Report, results: []i64) void {
    report.* = .{ .pid = 0, .pidfd = -1, .stage = .none, .step = 0, .errno = 0 };
    const shared = map(bytes, results.len, report) orelse return;
    defer unmap(shared, results);
    shared.cgroup = cgroup;

    var before: linux.sigset_t = undefined;
    const every: linux.sigset_t = @splat(std.math.maxInt(std.meta.Child(linux.sigset_t)));
    _ = linux.sigprocmask(linux.SIG.SETMASK, &every, &before);
    defer _ = linux.sigprocmask(linux.SIG.SETMASK, &before, null);
    reapable();
    const words = shared.plan.words();
    if (words) |place| shared.watch.begin(&place.parent);
    defer if (words != null) shared.watch.end();

    const cloned = clone(shared, &report.pidfd);
    if (linux.errno(cloned) != .SUCCESS) return fail(report, .clone, 0, @intFromEnum(linux.errno(cloned)));
    report.pid = @intCast(cloned);

    if (handshake.runParentSteps(&shared.plan, report.pid, shared.results)) |refused| {
        fail(report, .parent_step, refused.step, refused.errno);
        const killed = linux.pidfd_send_signal(report.pidfd, .KILL, null, 0);
        assert(linux.errno(killed) == .SUCCESS);
    }
    if (shared.plan.ownMemory()) {
        untilMarked(&shared.exec_pending, report.pidfd);
    } else while (@atomicLoad(u32, &shared.exec_pending, .acquire) != 0) {
        futexWait(&shared.exec_pending, 1, null); // Signals are blocked; a wake without a cause only turns the loop.
    }
    if (report.stage == .none and shared.outcome.errno != 0) {
        fail(report, .child_step, shared.outcome.step, shared.outcome.errno);
    }
    if (report.stage != .none) reap(report);
}

/// Clones the child, by clone3(2) where there is one: since Linux 5.5 it resets the signal handlers in the child, which
/// otherwise takes 64 calls. Containers' seccomp filters may refuse it, with whatever errno; clone(2) then says why. A
/// child that is born in another cgroup, which clone(2) cannot have, is not to be born elsewhere.
fn clone(shared: *Shared, pidfd: *i32) usize {
    const sharing: u32 = if (shared.plan.ownMemory()) 0 else CLONE.VM | CLONE.CHILD_CLEARTID;
    const flags = sharing | CLONE.PIDFD | shared.plan.cloneFlags();
    const stack = shared.mapping[shared.mapping.len - stack_size ..];
    const in_cgroup = shared.cgroup >= 0;
    const arguments: clone3.Arguments = .{
        .flags = @as(u64, flags) | CLONE.CLEAR_SIGHAND | if (in_cgroup) clone3.INTO_CGROUP else 0,
        .pidfd = @intFromPtr(pidfd),
        .child_tid = @intFromPtr(&shared.exec_pending),
        .exit_signal = @intFromEnum(linux.SIG.CHLD),
        .stack = @intFromPtr(stack.ptr),
        .stack_size = stack.len,
        .cgroup = if (in_cgroup) @intCast(shared.cgroup) else 0,
    };
    shared.to_reset = ignoredSignals();
    const cloned = clone3.call(&arguments, childMain, @intFromPtr(shared));
    if (linux.errno(cloned) == .SUCCESS or in_cgroup) return cloned;

    shared.to_reset = every_signal;
    const stack_top = @intFromPtr(stack.ptr) + stack.len;
    const with_signal = flags | @intFromEnum(linux.SIG.CHLD);
    return linux.clone(childMain, stack_top, with_signal, @intFromPtr(shared), pidfd, 0, @ptrCast(&shared.exec_pending));
}

/// Bit n - 1 for signal n.
const every_signal: u64 = std.math.maxInt(u64);

var ignored: u64 = 0;
var ignored_is_known: bool = false;

/// Which signals this process ignores: what it was started with and what Rust's runtime does (SIGPIPE), asked for once.
fn ignoredSignals() u64 {
    if (@atomicLoad(bool, &ignored_is_known, .acquire)) return ignored;
    var found: u64 = 0;
    var action: linux.k_sigaction = undefined;
    for (1..linux.NSIG) |signal| {
        if (signals.sigaction(@enumFromInt(signal), null, &action) != 0) continue;
        if (action.handler == linux.SIG.IGN) found |= @as(u64, 1) << @intCast(signal - 1);
    }
    ignored = found;
    @atomicStore(bool, &ignored_is_known, true, .release);
    return found;
}

/// Copies the plan to memory of its own, which the garbage collector cannot move, and checks it there.
fn map(bytes: []const u8, results_len: usize, report: *Report) ?*Shared {
    const results_at = std.mem.alignForward(usize, @sizeOf(Shared), 64);
    const plan_at = results_at + results_len * @sizeOf(i64);
    const size = std.mem.alignForward(usize, plan_at + bytes.len, page_size) + stack_size;
    const mapping = takeMapping(size, plan_zig.wantsOwnMemory(bytes), report) orelse return null;
    const copy: []align(8) u8 = @alignCast(mapping[plan_at..][0..bytes.len]);
    @memcpy(copy, bytes);
    const shared: *Shared = @ptrCast(mapping.ptr);
    shared.* = .{
        .plan = undefined,
        .results = @as([*]i64, @ptrCast(@alignCast(mapping[results_at..].ptr)))[0..results_len],
        .outcome = .{ .step = 0, .errno = 0 },
        .exec_pending = 1,
        .watch = .{},
        .child_watch = .{},
        .to_reset = every_signal,
        .cgroup = -1,
        .mapping = mapping,
    };
    shared.plan = plan_zig.open(copy, kernel_linux.architecture) catch |refusal| {
        fail(report, .plan, 0, @intFromError(refusal));
        giveMapping(mapping);
        return null;
    };
    const step_count = shared.plan.parent.len + shared.plan.child.len;
    if (shared.plan.child.len == 0 or step_count > results_len) {
        fail(report, .plan, 0, 0);
        giveMapping(mapping);
        return null;
    }
    for (shared.results) |*result| result.* = plan_zig.not_run;
    return shared;
}

fn unmap(shared: *Shared, results: []i64) void {
    @memcpy(results, shared.results);
    if (shared.plan.ownMemory()) freeMapping(shared.mapping) else giveMapping(shared.mapping);
}

/// A mapping that waits for the next spawn: mapping, faulting in and unmapping costs more than all else in here.
var spare: ?[*]align(page_size) u8 = null;
const spare_size = 64 * 1024;

fn takeMapping(size: usize, own_memory: bool, report: *Report) ?[]align(page_size) u8 {
    if (size <= spare_size and !own_memory) {
        if (@atomicRmw(?[*]align(page_size) u8, &spare, .Xchg, null, .acquire)) |mapping| return mapping[0..spare_size];
    }
    const length = @max(size, spare_size);
    const address = linux.mmap(null, length, .{ .READ = true, .WRITE = true }, .{ .TYPE = if (own_memory) .SHARED else .PRIVATE, .ANONYMOUS = true }, -1, 0);
    if (linux.errno(address) != .SUCCESS) {
        fail(report, .memory, 0, @intFromEnum(linux.errno(address)));
        return null;
    }
    return @as([*]align(page_size) u8, @ptrFromInt(address))[0..length];
}

fn giveMapping(mapping: []align(page_size) u8) void {
    if (mapping.len == spare_size) {
        if (@cmpxchgStrong(?[*]align(page_size) u8, &spare, null, mapping.ptr, .release, .monotonic) == null) return;
    }
    freeMapping(mapping);
}

fn freeMapping(mapping: []align(page_size) u8) void {
    const result = linux.munmap(mapping.ptr, mapping.len);
    assert(linux.errno(result) == .SUCCESS);
}

fn fail(report: *Report, stage: Stage, step: u32, errno: u32) void {
    assert(stage != .none);
    report.stage = stage;
    report.step = step;
    report.errno = errno;
}

/// Takes the status of a child that failed, and closes what refers to it.
fn reap(report: *Report) void {
    if (report.pidfd < 0) return; // It was never cloned.
    var info: linux.siginfo_t = undefined;
    const waited = linux.waitid(.PIDFD, report.pidfd, &info, linux.W.EXITED | kernel_linux.__WALL, null);
    assert(linux.errno(waited) == .SUCCESS or linux.errno(waited) == .CHILD);
    _ = linux.close(report.pidfd);
    report.pidfd = -1;
}

/// A process that inherited an ignored SIGCHLD has its children reaped by the kernel, and their status lost.
fn reapable() void {
    var action: linux.k_sigaction = undefined;
    if (signals.sigaction(.CHLD, null, &action) != 0) return;
    if (action.handler != linux.SIG.IGN) return;
    action.handler = linux.SIG.DFL;
    _ = signals.sigaction(.CHLD, &action, null);
}

// ── In the child, in memory that the parent is using ─────────────────────────────────────────────────────

fn childMain(address: usize) callconv(.c) u8 {
    defer comptime unreachable; // It ends in execve or in exit_group.
    const shared: *Shared = @ptrFromInt(address);
    if (shared.plan.ownMemory()) {
        shared.child_watch.begin(&shared.exec_pending);
        _ = @atomicRmw(u32, &shared.exec_pending, .Or, FUTEX_WAITERS, .release);
    }
    defaultDispositions(shared.to_reset);
    const plan = &shared.plan;
    shared.outcome = machine.execute(kernel_linux.Kernel{}, plan.child, @intFromPtr(plan.data.ptr), shared.childResults());
    // A plan whose steps all succeeded has not replaced this program by another: that is what its last one is for.
    if (shared.outcome.errno == 0) shared.outcome.errno = @intFromEnum(linux.E.NOEXEC);
    linux.exit_group(127); // Seen by nobody but `reap`: the outcome says more.
}

/// The parent's handlers must not run here, and what it ignores (Rust's runtime: SIGPIPE) would stay ignored after
/// execve. All signals are blocked until a step of the plan says otherwise, just before the execve.
fn defaultDispositions(to_reset: u64) void {
    var action: linux.k_sigaction = std.mem.zeroes(linux.k_sigaction);
    action.handler = linux.SIG.DFL;
    var left = to_reset;
    while (left != 0) : (left &= left - 1) {
        const signal: u32 = @as(u32, @ctz(left)) + 1;
        _ = signals.sigaction(@enumFromInt(signal), &action, null); // EINVAL for KILL and STOP.
    }
}

/// Not FUTEX_PRIVATE: the kernel's own wake, when it clears the child's tid, is on a shared futex.
fn futexWait(word: *const u32, expected: u32, timeout: ?*const linux.timespec) void {
    _ = linux.futex_4arg(word, .{ .cmd = .WAIT, .private = false }, expected, timeout);
}

const FUTEX_WAITERS = 0x8000_0000;
const FUTEX_OWNER_DIED = 0x4000_0000;
const CLD_STOPPED = 5;

/// The kernel marks the word, unless the child is ended before it could ask for that. Others of the user that it has become
/// may stop it meanwhile, and are not to stop its parent by that: then it is killed.
fn untilMarked(word: *const u32, pidfd: i32) void {
    const patience: linux.timespec = .{ .sec = 0, .nsec = 20 * std.time.ns_per_ms };
    while (true) {
        const value = @atomicLoad(u32, word, .acquire);
        if (value & FUTEX_OWNER_DIED != 0) return;
        futexWait(word, value, &patience);
        var info: linux.siginfo_t = std.mem.zeroes(linux.siginfo_t);
        const states = linux.W.EXITED | linux.W.STOPPED | linux.W.NOHANG | linux.W.NOWAIT | kernel_linux.__WALL;
        const waited = linux.waitid(.PIDFD, pidfd, &info, states, null);
        if (linux.errno(waited) != .SUCCESS) return;
        if (info.fields.common.first.piduid.pid == 0) continue;
        if (info.code != CLD_STOPPED) return;
        _ = linux.pidfd_send_signal(pidfd, .KILL, null, 0);
    }
}
