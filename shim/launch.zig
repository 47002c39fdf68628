//! The launcher: a static executable that runs a plan without Deno, and stays as what supervises the command.
//!
//! It is four things. Behind it in its file stands a bundle (bundle.zig), and it
//!   - supervises a command in namespaces: the command line's process becomes it (execve, same PID);
//!   - is the stand-alone executable that `build` writes, which does the same;
//!   - is what a program becomes that calls reexec();
//!   - is PID 1 (init.zig), as the first process of the other three, or alone for the library.
//! And it is what ends and removes a cgroup (cgroup.zig).
//!
//!     supervisor                                  child, in its namespaces
//!     ──────────                                  ────────────────────────
//!     block all signals, ParentWatch
//!     clone(CLONE_NEW*) ────────────────────────▶ the plan's child steps
//!     the plan's parent steps, Words.go = 1 ────▶   (wait for Words.go, where there are maps to be written)
//!     read the pipe ◀──────────────────────────── execve closes it, or it says which step failed
//!     supervise.zig, until the child has ended
//!
//! Where the command is what the child becomes, and nothing is to be done for it meanwhile, the child works in the memory
//! of the supervisor, which waits (vfork(2)). PID 1 that stays must have memory of its own.

const std = @import("std");
const builtin = @import("builtin");
const linux = std.os.linux;
const assert = std.debug.assert;
const kernel_linux = @import("kernel_linux.zig");
const machine = @import("machine.zig");
const plan_zig = @import("plan.zig");
const bundle_zig = @import("bundle.zig");
const Bundle = bundle_zig.Bundle;
const handshake = @import("handshake.zig");
const ParentWatch = @import("parent_watch.zig").ParentWatch;
const Program = @import("program.zig").Program;
const outOfTheWay = @import("descriptors.zig").outOfTheWay;
const init = @import("init.zig");
const relay_zig = @import("relay.zig");
const cgroup = @import("cgroup.zig");
const clone3 = @import("clone3.zig");
const supervise = @import("supervise.zig");
const output = @import("output.zig");
const signals = @import("signals.zig");
const Report = @import("report.zig").Report;

pub const panic = std.debug.no_panic;

/// As env(1) and timeout(1) have it; the same as in src/cli/errors.ts.
const exit_failed = 125;
const exit_not_executable = 126;
const exit_not_found = 127;

/// Where src/launch/image.ts has the bundle mapped.
const bundle_base: u64 = 0x2000_0000;

extern const __ehdr_start: std.elf.Elf64.Ehdr;

comptime {
    if (!builtin.is_test) @export(&_start, .{ .name = "_start" });
}

pub fn _start() callconv(.naked) noreturn {
    asm volatile (switch (builtin.cpu.arch) {
            .x86_64 =>
            \\ xorl %%ebp, %%ebp
            \\ movq %%rsp, %%rdi
            \\ andq $-16, %%rsp
            \\ callq %[launch:P]
            ,
            .aarch64 =>
            \\ mov x29, #0
            \\ mov x30, #0
            \\ mov x0, sp
            \\ b %[launch]
            ,
            else => @compileError("no launcher for this architecture"),
        }
        :
        : [launch] "X" (&launch),
    );
}

/// Gets the stack as execve(2) leaves it: argc, argv, NULL, envp, NULL, and the auxiliary vector.
fn launch(stack: [*]const usize) callconv(.c) noreturn {
    const argc = stack[0];
    const argv: [*:null]const ?[*:0]const u8 = @ptrCast(stack + 1);
    const envp: [*:null]const ?[*:0]const u8 = @ptrCast(stack + argc + 2);
    output.begin(if (argc > 0) std.mem.span(argv[0].?) else "", std.mem.span(envp));
    const bundle = findBundle() catch |refusal| output.die(exit_failed, switch (refusal) {
        error.NotABundle => "this launcher has nothing to launch: it is a part of @sys-linux/namespace",
        error.WrongVersion, error.WrongArchitecture => "this file is of another version or architecture than its launcher",
        error.Truncated => truncated_text,
        error.Altered => "this file was altered: its checksum is not that of what it holds",
    });
    if (bundle.flags.init_only and argc == 3) cgroup.keep(std.mem.span(argv[1].?), argv[2].?);
    if (bundle.flags.init_only) init.alone(std.mem.span(argv), envp, bundle.flags);
    // Who runs a stand-alone executable decides where the command is looked for, and its environment.
    if (bundle.origin.size > 0 and isSecure(envp)) output.die(exit_failed, "this file must have no set-user-ID or set-group-ID bit, and no capabilities");
    if (bundle.name.size > 0) output.name = bundle.bytes("name");
    run(bundle, if (argc > 1) std.mem.span(argv)[1..] else &.{}, std.mem.span(envp));
}

/// What getauxval(3) says of AT_SECURE: it is behind the environment.
fn isSecure(envp: [*:null]const ?[*:0]const u8) bool {
    const auxv: [*]const std.elf.Auxv = @ptrCast(@alignCast(envp + std.mem.span(envp).len + 1));
    var at: usize = 0;
    while (auxv[at].a_type != std.elf.AT_NULL) : (at += 1) {
        if (auxv[at].a_type == std.elf.AT_SECURE) return auxv[at].a_un.a_val != 0;
    }
    return false;
}

const truncated_text = "this file is truncated";

fn findBundle() bundle_zig.Error!*const Bundle {
    // What lies beyond the end of a file that was cut is mapped all the same, and cannot be read.
    const on_fault: linux.k_sigaction = .{ .handler = @ptrCast(&isTruncated), .flags = SA_RESTORER, .restorer = @ptrCast(&isTruncated), .mask = @splat(0) };
    _ = signals.sigaction(.BUS, &on_fault, null);
    const headers: [*]const std.elf.Elf64.Phdr = @ptrFromInt(@intFromPtr(&__ehdr_start) + __ehdr_start.phoff);
    for (headers[0..__ehdr_start.phnum]) |header| {
        if (header.type != .LOAD or header.vaddr < bundle_base) continue;
        const bytes: [*]align(8) const u8 = @ptrFromInt(header.vaddr);
        return bundle_zig.open(bytes[0..header.filesz], kernel_linux.architecture);
    }
    return error.NotABundle;
}

/// x86_64 delivers no signal without it; nothing ever returns through it.
const SA_RESTORER = 0x0400_0000;

fn isTruncated() callconv(.c) noreturn {
    output.die(exit_failed, truncated_text);
}

/// What is mapped for one run, shared with the child, which reads the words of the handshake in it.
const Shared = struct {
    plan: plan_zig.Plan,
    results: []i64,
    watch: ParentWatch,
    /// Of the child, which alone may look at them once it is init.
    namespaces: output.Namespaces,
};

/// A bundle that is run.
const Run = struct {
    bundle: *const Bundle,
    variant: u1,
    shared: *Shared,
    program: Program,
    /// The environment that the launcher has.
    inherited: [*]const ?[*:0]const u8,
    /// Where the command has a terminal of its own.
    relay: ?relay_zig.Relay,
};

fn run(bundle: *const Bundle, given: []const ?[*:0]const u8, inherited: []const ?[*:0]const u8) noreturn {
    if (bundle.status_fd >= 0 and linux.errno(linux.fcntl(bundle.status_fd, linux.F.GETFD, 0)) != .SUCCESS) {
        output.die(exit_failed, "the descriptor for the status is not open");
    }
    const relay: ?relay_zig.Relay = if (bundle.flags.tty) openTerminal(bundle, inherited) else null;
    const variant: u1 = @intFromBool(!isAdministrator());
    const plan_bytes = bundle.plan(variant);
    const step_count = plan_bytes.len / @sizeOf(plan_zig.Step); // No fewer than there are.
    const results_at = std.mem.alignForward(usize, @sizeOf(Shared), 8);
    const plan_at = results_at + step_count * @sizeOf(i64);
    const program_at = std.mem.alignForward(usize, plan_at + plan_bytes.len, 8);
    const mapping = map(program_at + Program.size(bundle, given, inherited));
    const shared: *Shared = @ptrCast(mapping.ptr);
    const copy: []align(8) u8 = @alignCast(mapping[plan_at..][0..plan_bytes.len]);
    @memcpy(copy, plan_bytes);
    shared.* = .{
        .plan = plan_zig.open(copy, kernel_linux.architecture) catch output.die(exit_failed, "this file holds a plan that is none"),
        .results = @as([*]i64, @ptrCast(@alignCast(mapping[results_at..].ptr)))[0..step_count],
        .watch = .{},
        .namespaces = @splat(0),
    };
    for (shared.results) |*result| result.* = plan_zig.not_run;
    fillSlots(&shared.plan, if (relay) |*own| own.pty.number else 0);
    const program: Program = .make(bundle, given, inherited, @alignCast(mapping[program_at..]));
    start(.{ .bundle = bundle, .variant = variant, .shared = shared, .program = program, .inherited = inherited.ptr, .relay = relay });
}

fn start(job: Run) noreturn {
    const bundle = job.bundle;
    const plan = &job.shared.plan;
    var supervisor = supervise.Supervisor.begin(bundle); // Signals are blocked from here on.
    supervisor.relay = job.relay;
    var ends: [2]i32 = undefined;
    if (linux.errno(linux.pipe2(&ends, .{ .CLOEXEC = true })) != .SUCCESS) output.die(exit_failed, "there is no descriptor left for a pipe");
    for (&ends) |*end| end.* = outOfTheWay(end.*);
    if (plan.words()) |words| job.shared.watch.begin(&words.parent);

    const flags: u32 = plan.cloneFlags() | @intFromEnum(linux.SIG.CHLD);
    const child: Child = .{ .job = &job, .ends = ends, .supervisor = &supervisor };
    const is_brief = plan.parent.len == 0 and !bundle.flags.init and !plan.ownMemory();
    const cloned = if (bundle.cgroup_fd >= 0)
        clone3.forkInto(@intCast(bundle.cgroup_fd), flags)
    else if (is_brief)
        linux.clone(briefMain, @intFromPtr(&init.stack) + init.stack.len, flags | linux.CLONE.VM | linux.CLONE.VFORK, @intFromPtr(&child), null, 0, null)
    else
        linux.syscall5(.clone, flags, 0, 0, 0, 0);
    if (cloned == 0) childMain(&child);
    if (linux.errno(cloned) != .SUCCESS) {
        fail(job, .{ .stage = .clone, .step = 0, .errno = @intFromEnum(linux.errno(cloned)) });
    }
    _ = linux.close(ends[1]);
    supervisor.child = @intCast(cloned);
    supervisor.is_first = plan.header.clone_flags & linux.CLONE.NEWPID != 0;
    if (handshake.runParentSteps(plan, supervisor.child, job.shared.results)) |refused| {
        _ = linux.kill(supervisor.child, .KILL);
        supervisor.reap();
        fail(job, .{ .stage = .parent_step, .step = refused.step, .errno = refused.errno });
    }
    var report: Report = .nothing;
    report.read(ends[0]);
    if (bundle.flags.debug) tellSteps(job, supervisor.child);
    if (report.stage != .none) {
        supervisor.reap();
        fail(job, report);
    }
    if (plan.words() != null) job.shared.watch.end();
    output.started(bundle.status_fd, supervisor.child, supervisor.is_first, &job.shared.namespaces);
    supervisor.letGo(ends[0]);
    const ending = supervisor.untilItEnds();
    // What PID 1 has said of the command: its own exit code cannot tell a signal.
    var told: Report = .nothing;
    if (bundle.flags.init) told.read(ends[0]);
    const last: supervise.Ending = if (told.stage == .ended) .{ .signal = told.step, .code = told.errno } else ending;
    if (last.signal != 0) supervisor.tidy();
    const failed = last.signal != 0 or last.code != 0;
    if (failed and cgroup.hasRunOutOfMemory(bundle)) output.tell("the kernel has killed a process of the command's, which was over the memory limit of its cgroup");
    cgroup.end(bundle);
    output.ended(bundle.status_fd, last.code, last.signal);
    linux.exit_group(if (supervisor.timed_out) exit_timed_out else if (last.signal != 0) @intCast(128 + last.signal) else @intCast(last.code));
}

const exit_timed_out = 124;

/// What a child is given.
const Child = struct { job: *const Run, ends: [2]i32, supervisor: *const supervise.Supervisor };

fn briefMain(address: usize) callconv(.c) u8 {
    childMain(@ptrFromInt(address));
}

fn childMain(child: *const Child) noreturn {
    const job = child.job;
    const ends = child.ends;
    _ = linux.close(ends[0]);
    if (job.relay) |*relay| relay.connect();
    const bundle = job.bundle;
    const plan = &job.shared.plan;
    const results = job.shared.results[plan.parent.len..];
    const outcome = machine.execute(kernel_linux.Kernel{ .kept = @intCast(ends[1]) }, plan.child, @intFromPtr(plan.data.ptr), results);
    if (outcome.errno != 0) {
        Report.write(&.{ .stage = .child_step, .step = outcome.step, .errno = outcome.errno }, ends[1]);
        linux.exit_group(exit_failed);
    }
    if (bundle.status_fd >= 0) output.findNamespaces(&job.shared.namespaces);
    var program = job.program;
    const opened = bundle.variants[job.variant].opened;
    if (opened != plan_zig.nowhere) program.opened = @intCast(keptOpen(plan, results, opened));
    if (bundle.flags.init) init.main(program, ends[1], bundle.flags);
    child.supervisor.restoreSignals();
    const refusal = program.execute();
    Report.write(&.{ .stage = .execution, .step = refusal.folder, .errno = refusal.errno }, ends[1]);
    linux.exit_group(exit_failed);
}

/// Where a descriptor is that a step has opened: before Linux 5.11 a later one puts it where nothing closes it.
fn keptOpen(plan: *const plan_zig.Plan, results: []const i64, opened: u32) i64 {
    var fd = results[opened];
    for (plan.child, results[0..plan.child.len]) |step, result| {
        if (step.number != @intFromEnum(linux.SYS.dup3) or step.kind(0) != .result or step.args[0] != opened) continue;
        if (result >= 0) fd = result;
    }
    return fd;
}

/// Says what failed, and ends.
fn fail(job: Run, report: Report) noreturn {
    const bundle = job.bundle;
    const index: u32 = switch (report.stage) {
        .parent_step => 1 + report.step,
        .child_step => @intCast(1 + job.shared.plan.parent.len + report.step),
        else => 0,
    };
    const text = bundle.text(job.variant, index);
    const is_execution = report.stage == .execution;
    const failure: output.Failure = .{
        .message = if (is_execution) .{ "Cannot execute \"", std.mem.span(job.program.command), "\"" } else .{ bundle.string(text.message), "", "" },
        .call = if (is_execution) "execve" else bundle.string(text.call),
        .errno = report.errno,
        .hint = if (is_execution) "" else bundle.hint(job.variant, index, report.errno),
    };
    failure.tellProgram(bundle);
    cgroup.end(bundle);
    if (bundle.diagnoser.size > 0) diagnose(job, report);
    failure.tellPeople(bundle);
    if (!is_execution) linux.exit_group(exit_failed);
    linux.exit_group(if (report.errno == @intFromEnum(linux.E.NOENT)) exit_not_found else exit_not_executable);
}

/// Becomes a program that says the same with its cause. Where that cannot be, the errno has to do.
fn diagnose(job: Run, report: Report) void {
    var which: [3 * plan_zig.id_text_size + 3]u8 = undefined;
    var at: usize = 0;
    for ([_]u32{ @intFromEnum(report.stage), report.step, report.errno }, [_]u8{ ':', ':', 0 }) |number, end| {
        var digits: [plan_zig.id_text_size]u8 = undefined;
        const text = plan_zig.decimal(&digits, number);
        @memcpy(which[at..][0..text.len], text);
        which[at + text.len] = end;
        at += text.len + 1;
    }
    const strings = job.bundle.bytes("diagnoser");
    const mapping = map((std.mem.count(u8, strings, "\x00") + 1) * @sizeOf(usize)); // Zeros, so it ends with a null.
    const argv: [*]?[*:0]const u8 = @ptrCast(@alignCast(mapping.ptr));
    var rest = strings;
    var count: usize = 0;
    var is_told = false;
    while (rest.len > 0) : (count += 1) {
        const string: [*:0]const u8 = @ptrCast(rest.ptr);
        const size = std.mem.len(string);
        argv[count] = if (size > 0 or is_told) string else @ptrCast(&which);
        is_told = is_told or size == 0;
        rest = rest[size + 1 ..];
    }
    signals.unblockAll();
    _ = linux.execve(argv[0].?, @ptrCast(argv), @ptrCast(job.inherited));
}

/// As Namespace.debug does: every call that was made, and what it returned.
fn tellSteps(job: Run, child: i32) void {
    const bundle = job.bundle;
    output.step(bundle, bundle.string(bundle.text(job.variant, 0).call), child);
    const plan = &job.shared.plan;
    for (job.shared.results[0 .. plan.parent.len + plan.child.len], 1..) |result, index| {
        if (result == plan_zig.not_run) continue;
        output.step(bundle, bundle.string(bundle.text(job.variant, @intCast(index)).call), result);
    }
}

fn openTerminal(bundle: *const Bundle, environment: []const ?[*:0]const u8) relay_zig.Relay {
    var size: relay_zig.Size = .{ .row = bundle.tty_rows, .col = bundle.tty_columns, .xpixel = 0, .ypixel = 0 };
    if (size.row == 0) size.row = numberOf(environment, "LINES=") orelse 24;
    if (size.col == 0) size.col = numberOf(environment, "COLUMNS=") orelse 80;
    return switch (relay_zig.Relay.begin(size)) {
        .relay => |relay| relay,
        .errno => |errno| {
            const failure: output.Failure = .{ .message = .{ "Cannot open a terminal by \"/dev/ptmx\"", "", "" }, .call = "openat(AT_FDCWD, \"/dev/ptmx\")", .errno = errno, .hint = "" };
            failure.tellProgram(bundle);
            failure.tellPeople(bundle);
            linux.exit_group(exit_failed);
        },
    };
}

fn numberOf(environment: []const ?[*:0]const u8, name: []const u8) ?u16 {
    for (environment) |entry| {
        const text = std.mem.span(entry.?);
        if (!std.mem.startsWith(u8, text, name)) continue;
        const number = std.fmt.parseInt(u16, text[name.len..], 10) catch return null;
        return if (number > 0) number else null;
    }
    return null;
}

/// Fills in who runs this, and where.
fn fillSlots(plan: *const plan_zig.Plan, terminal: u32) void {
    if (plan.slots.len == 0) return;
    var buffer: [plan_zig.folder_size]u8 = undefined;
    const size = linux.getcwd(&buffer, buffer.len);
    // "(unreachable)…" where the folder is outside of the root.
    const known = linux.errno(size) == .SUCCESS and size > 1 and buffer[0] == '/';
    const folder: [:0]const u8 = if (known) buffer[0 .. size - 1 :0] else "/";
    plan_zig.fillSlots(plan, .{ .uid = linux.geteuid(), .gid = linux.getegid(), .folder = folder, .terminal = terminal });
}

fn isAdministrator() bool {
    const CAP_SYS_ADMIN = 21;
    return kernel_linux.effectiveCapabilities()[0] & (1 << CAP_SYS_ADMIN) != 0;
}

fn map(size: usize) []align(4096) u8 {
    const address = linux.mmap(null, size, .{ .READ = true, .WRITE = true }, .{ .TYPE = .SHARED, .ANONYMOUS = true }, -1, 0);
    if (linux.errno(address) != .SUCCESS) output.die(exit_failed, "there is no memory left");
    return @as([*]align(4096) u8, @ptrFromInt(address))[0..size];
}

test {
    _ = bundle_zig;
}
