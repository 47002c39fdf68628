//! The machine: executes the steps of a plan, one after the other, over a kernel. It knows nothing of namespaces.
//!
//! One source, several kernels: real system calls (kernel_linux.zig) in the shared library, the host's (kernel_host.zig)
//! in WebAssembly, a recording one in the tests below.

const std = @import("std");
const assert = std.debug.assert;
const Step = @import("plan.zig").Step;
const not_run = @import("plan.zig").not_run;
const again = @import("plan.zig").again;
const again_max = @import("plan.zig").again_max;

/// How the execution of some steps ended.
pub const Outcome = struct {
    /// Index of the step that failed, or the number of steps when all are done.
    step: u32,
    /// What the kernel answered to it; 0 when all are done.
    errno: u16,
};

/// Executes `steps` whose data area is at `data`. Each step's raw result goes to `results`, `not_run` for those left out.
/// `steps` must come from `plan.open`, which has checked every index used here.
pub fn execute(kernel: anytype, steps: []const Step, data: u64, results: []i64) Outcome {
    assert(results.len >= steps.len);
    for (results[0..steps.len]) |*result| result.* = not_run;
    return executeFrom(kernel, steps, 0, data, results);
}

fn executeFrom(kernel: anytype, steps: []const Step, first: u32, data: u64, results: []i64) Outcome {
    var index = first;
    while (index < steps.len) { // Each turn adds at least one.
        const step = &steps[index];
        const values = arguments(step, data, results[0..index]);
        if (step.makesHelper()) {
            const end = index + 1 + step.skip;
            var helper: Helper(@TypeOf(kernel)) = .{ .kernel = kernel, .steps = steps[0..end], .first = index + 1, .data = data, .results = results };
            results[index] = kernel.help(step.number, values, &helper);
            if (helper.outcome.errno != 0) return helper.outcome;
            const errno = errnoOf(results[index]) orelse {
                index = end;
                continue;
            };
            index += 1 + (tolerated(step, errno) orelse return .{ .step = index, .errno = errno });
            continue;
        }
        var result = kernel.call(step.number, values);
        var left: u32 = again_max;
        while (left > 0 and isForAgain(step, result)) : (left -= 1) result = kernel.call(step.number, values);
        results[index] = result;
        if (errnoOf(result) == null) if (step.stores()) |at| {
            const place: *align(1) i32 = @ptrFromInt(@as(usize, @intCast(data + at)));
            place.* = @truncate(result);
        };
        index += 1 + if (errnoOf(result)) |errno|
            tolerated(step, errno) orelse return .{ .step = index, .errno = errno }
        else
            step.skip;
    }
    assert(index == steps.len);
    return .{ .step = index, .errno = 0 };
}

/// A process that has the memory of who makes it until it executes its program: see `help` of the kernels.
fn Helper(comptime Kernel: type) type {
    return struct {
        kernel: Kernel,
        steps: []const Step,
        first: u32,
        data: u64,
        results: []i64,
        /// Stays what it is where a program was executed.
        outcome: Outcome = .{ .step = 0, .errno = 0 },

        pub fn main(address: usize) callconv(.c) u8 {
            const helper: *@This() = @ptrFromInt(address);
            helper.outcome = executeFrom(helper.kernel, helper.steps, helper.first, helper.data, helper.results);
            return 127; // Seen by nobody: the outcome says more.
        }
    };
}

/// Closes the descriptors that the steps opened for themselves, the last first. Nothing is done about a failing close:
/// Linux has let go of the descriptor all the same.
pub fn closeOpened(kernel: anytype, steps: []const Step, results: []const i64) void {
    var index = steps.len;
    while (index > 0) {
        index -= 1;
        if (steps[index].opensForSection() and results[index] >= 0) kernel.close(results[index]);
    }
}

fn arguments(step: *const Step, data: u64, earlier: []const i64) [6]u64 {
    var values: [6]u64 = undefined;
    for (&values, step.args, 0..) |*value, given, argument| value.* = switch (step.kind(@intCast(argument))) {
        .immediate => given,
        .data => data + given,
        .result => @bitCast(earlier[@intCast(given)]),
        .reserved => unreachable,
    };
    if (step.stores() != null) values[5] = 0;
    return values;
}

/// System calls return -1 to -4095 for a failure (the kernel's MAX_ERRNO), and nothing else in that range.
fn errnoOf(result: i64) ?u16 {
    return if (result < 0 and result >= -4095) @intCast(-result) else null;
}

/// How many steps to leave out after this errno, or null when it is a failure.
fn tolerated(step: *const Step, errno: u16) ?u16 {
    assert(errno != 0);
    for (step.rules) |rule| if (rule.errno == errno and rule.skip != again) return rule.skip;
    return null;
}

/// Whether the step is to be made again after this result.
fn isForAgain(step: *const Step, result: i64) bool {
    const errno = errnoOf(result) orelse return false;
    for (step.rules) |rule| if (rule.errno == errno and rule.skip == again) return true;
    return false;
}

// ── Tests ────────────────────────────────────────────────────────────────────────────────────────────────

const testing = std.testing;
const Sample = @import("plan.zig").Sample;

const Recorder = struct {
    answers: []const i64,
    calls: [8]struct { number: u32, args: [6]u64 } = undefined,
    count: u32 = 0,
    closed: i64 = 0,
    close_count: u32 = 0,

    fn call(recorder: *Recorder, number: u32, args: [6]u64) i64 {
        recorder.calls[recorder.count] = .{ .number = number, .args = args };
        defer recorder.count += 1;
        return recorder.answers[recorder.count];
    }

    fn help(recorder: *Recorder, number: u32, args: [6]u64, helper: anytype) i64 {
        const result = recorder.call(number, args);
        if (result > 0) _ = @TypeOf(helper.*).main(@intFromPtr(helper));
        return result;
    }

    fn close(recorder: *Recorder, fd: i64) void {
        recorder.closed = fd;
        recorder.close_count += 1;
    }
};

fn numbered(comptime count: u32) Sample(count) {
    var sample: Sample(count) = .{};
    for (&sample.child, 0..) |*step, index| step.number = 100 + @as(u32, @intCast(index));
    return sample;
}

test "execute() runs every step in order and keeps the results" {
    const sample = numbered(3);
    var recorder: Recorder = .{ .answers = &.{ 7, 0, -5000 } };
    var results: [3]i64 = undefined;
    const outcome = execute(&recorder, &sample.child, 0, &results);
    try testing.expectEqual(Outcome{ .step = 3, .errno = 0 }, outcome);
    try testing.expectEqual([3]i64{ 7, 0, -5000 }, results);
    for (0..3) |index| try testing.expectEqual(100 + index, recorder.calls[index].number);
}

test "execute() stops at the first failure and runs nothing after it" {
    const sample = numbered(3);
    var recorder: Recorder = .{ .answers = &.{ 0, -1 } };
    var results: [3]i64 = undefined;
    const outcome = execute(&recorder, &sample.child, 0, &results);
    try testing.expectEqual(Outcome{ .step = 1, .errno = 1 }, outcome);
    try testing.expectEqual(2, recorder.count);
    try testing.expectEqual(not_run, results[2]);
}

test "execute() resolves immediates, data addresses and results" {
    var sample = numbered(2);
    sample.child[1].kinds = 0b10_01_00;
    sample.child[1].args = .{ 5, 16, 0, 0, 0, 0 };
    var recorder: Recorder = .{ .answers = &.{ 42, 0 } };
    var results: [2]i64 = undefined;
    _ = execute(&recorder, &sample.child, 0x1000, &results);
    try testing.expectEqual([6]u64{ 5, 0x1010, 42, 0, 0, 0 }, recorder.calls[1].args);
}

test "execute() puts a result where the step says, and no errno" {
    var sample = numbered(2);
    for (&sample.child, [_]u64{ 4, 12 }) |*step, at| {
        step.kinds = 0x4000 | 1 << 10;
        step.args = .{ 5, 0, 0, 0, 0, at };
    }
    sample.child[1].rules[0] = .{ .errno = 22, .skip = 0 };
    var recorder: Recorder = .{ .answers = &.{ 0x1_0000_0007, -22 } };
    var results: [2]i64 = undefined;
    _ = execute(&recorder, &sample.child, @intFromPtr(&sample.data), &results);
    try testing.expectEqual([6]u64{ 5, 0, 0, 0, 0, 0 }, recorder.calls[0].args);
    try testing.expectEqualSlices(u8, &(.{0} ** 4 ++ .{7} ++ .{0} ** 11), sample.data[0..16]);
}

test "execute() goes on after a tolerated errno, leaving out what the rule says" {
    var sample = numbered(3);
    sample.child[0].rules[1] = .{ .errno = 38, .skip = 1 };
    var recorder: Recorder = .{ .answers = &.{ -38, 0 } };
    var results: [3]i64 = undefined;
    const outcome = execute(&recorder, &sample.child, 0, &results);
    try testing.expectEqual(Outcome{ .step = 3, .errno = 0 }, outcome);
    try testing.expectEqual(102, recorder.calls[1].number);
    try testing.expectEqual([3]i64{ -38, not_run, 0 }, results);
}

test "execute() makes a step again where a rule says so, and not for ever" {
    var sample = numbered(1);
    sample.child[0].rules[0] = .{ .errno = 11, .skip = again };
    var recorder: Recorder = .{ .answers = &.{ -11, -11, 7 } };
    var results: [1]i64 = undefined;
    try testing.expectEqual(Outcome{ .step = 1, .errno = 0 }, execute(&recorder, &sample.child, 0, &results));
    try testing.expectEqual(3, recorder.count);
    try testing.expectEqual(7, results[0]);

    const Refusing = struct {
        count: u32 = 0,
        fn call(kernel: *@This(), _: u32, _: [6]u64) i64 {
            kernel.count += 1;
            return -11;
        }
        fn help(_: *@This(), _: u32, _: [6]u64, _: anytype) i64 {
            unreachable;
        }
    };
    var refusing: Refusing = .{};
    try testing.expectEqual(Outcome{ .step = 0, .errno = 11 }, execute(&refusing, &sample.child, 0, &results));
    try testing.expectEqual(again_max + 1, refusing.count);
}

test "execute() leaves out the fallback of a step that succeeded" {
    var sample = numbered(3);
    sample.child[0].skip = 1;
    var recorder: Recorder = .{ .answers = &.{ 0, 0 } };
    var results: [3]i64 = undefined;
    _ = execute(&recorder, &sample.child, 0, &results);
    try testing.expectEqual(2, recorder.count);
    try testing.expectEqual(102, recorder.calls[1].number);
}

test "execute() leaves to a helper what is the helper's, and goes on behind it" {
    var sample = numbered(4);
    sample.child[0].kinds = 0x2000;
    sample.child[0].skip = 2;
    sample.child[0].rules[0] = .{ .errno = 11, .skip = 2 };
    var results: [4]i64 = undefined;
    // 0 is what the kernels say when the program has ended well; here nobody has run it.
    var recorder: Recorder = .{ .answers = &.{ 0, 7 } };
    try testing.expectEqual(Outcome{ .step = 4, .errno = 0 }, execute(&recorder, &sample.child, 0, &results));
    try testing.expectEqual([4]i64{ 0, not_run, not_run, 7 }, results);
    // What the helper is refused is what has failed, by its place in the section.
    recorder = .{ .answers = &.{ 5, 3, -2 } };
    try testing.expectEqual(Outcome{ .step = 2, .errno = 2 }, execute(&recorder, &sample.child, 0, &results));
    try testing.expectEqual([4]i64{ 5, 3, -2, not_run }, results);
    recorder = .{ .answers = &.{-1} };
    try testing.expectEqual(Outcome{ .step = 0, .errno = 1 }, execute(&recorder, &sample.child, 0, &results));
    recorder = .{ .answers = &.{ -11, 0 } };
    try testing.expectEqual(Outcome{ .step = 4, .errno = 0 }, execute(&recorder, &sample.child, 0, &results));
    try testing.expectEqual(2, recorder.count);
}

test "closeOpened() closes what was opened for the section, and nothing else" {
    var sample = numbered(4);
    for ([_]usize{ 0, 1, 3 }) |index| sample.child[index].kinds = 0x8000;
    var recorder: Recorder = .{ .answers = &.{ 7, -2 } };
    var results: [4]i64 = undefined;
    const outcome = execute(&recorder, &sample.child, 0, &results);
    try testing.expectEqual(Outcome{ .step = 1, .errno = 2 }, outcome);
    closeOpened(&recorder, &sample.child, &results);
    try testing.expectEqual(1, recorder.close_count);
    try testing.expectEqual(7, recorder.closed);
}
