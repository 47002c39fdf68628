//! Plans and bundles with random damage: whatever is in them, the decoders refuse it, or what comes of it stays within.
//! The same damage each time, 200,000 of each in the tests, and 10 million by `zig build fuzz`.

const std = @import("std");
const assert = std.debug.assert;
const machine = @import("machine.zig");
const plan_zig = @import("plan.zig");
const bundle_zig = @import("bundle.zig");
const Bundle = bundle_zig.Bundle;
const Program = @import("program.zig").Program;
const Random = std.Random;

const architecture = 62;
const data_size = 48;

/// A plan that has one of each.
const SamplePlan = extern struct {
    header: plan_zig.Header,
    steps: [6]plan_zig.Step,
    relocations: [2]u32,
    slots: [2]plan_zig.Slot,
    data: [data_size]u8 align(8),
};

fn samplePlan() SamplePlan {
    const no_rule: plan_zig.Rule = .{ .errno = 0, .skip = 0 };
    var sample: SamplePlan = .{
        .header = .{
            .magic = plan_zig.magic,
            .version = plan_zig.version,
            .architecture = architecture,
            .size = @sizeOf(SamplePlan),
            .data_size = data_size,
            .parent_steps = 2,
            .child_steps = 4,
            .relocations = 2,
            .pid_text = 20,
            .words = 32,
            .slots = 2,
            .clone_flags = 0,
        },
        .steps = @splat(.{ .number = 0, .kinds = 0, .skip = 0, .rules = @splat(no_rule), .args = @splat(0) }),
        .relocations = .{ 0, 8 },
        .slots = .{ .{ .kind = .uid, .at = 37 }, .{ .kind = .gid, .at = 16 } },
        .data = @splat(0),
    };
    for (&sample.steps, 0..) |*step, index| step.number = @intCast(100 + index);
    sample.steps[1].kinds = 0b0110;
    sample.steps[3].kinds = 0x8000 | 0b010110;
    sample.steps[3].args = .{ 0, 9, 0, 7, 0, 0 };
    sample.steps[2].skip = 1;
    sample.steps[5].kinds = 0x4000 | 0b01 << 10;
    sample.steps[5].args[5] = 40;
    sample.steps[4].kinds = 0x2000; // Its helper does the last.
    sample.steps[4].skip = 1;
    sample.steps[4].rules[2] = .{ .errno = 22, .skip = 1 };
    sample.data[0] = 24;
    return sample;
}

/// Changes some of it, most often where it matters: small numbers and extreme ones, in place of whole fields.
fn damage(random: Random, bytes: []u8) void {
    const extremes = [_]u64{ 0, 1, 2, 3, 4, 6, data_size, @sizeOf(SamplePlan), bundle_size, 0x7fff_ffff, 0xffff_ffff, std.math.maxInt(u64) };
    for (0..random.intRangeAtMost(usize, 1, 6)) |_| {
        const width: usize = @as(usize, 1) << random.int(u2);
        if (width > bytes.len) return;
        const at = std.mem.alignBackward(usize, random.uintLessThan(usize, bytes.len - width + 1), width);
        const value: u64 = switch (random.int(u2)) {
            0 => random.int(u64),
            1 => random.uintLessThan(u64, 4096),
            2 => extremes[random.uintLessThan(usize, extremes.len)],
            3 => std.mem.readVarInt(u64, bytes[at..][0..width], .little) ^ @as(u64, 1) << random.int(u6),
        };
        @memcpy(bytes[at..][0..width], std.mem.asBytes(&value)[0..width]);
    }
}

/// A kernel that answers at random, and knows which calls the steps have.
const Witness = struct {
    random: Random,
    steps: []const plan_zig.Step,
    data: []const u8,
    results: []const i64,
    next: usize = 0,
    calls: usize = 0,
    last: i64 = 0,

    pub fn call(witness: *Witness, number: u32, args: [6]u64) i64 {
        witness.calls += 1;
        // The same once more, after an errno that asks for it.
        if (witness.next > 0 and witness.isForAgain(&witness.steps[witness.next - 1]) and witness.isOf(&witness.steps[witness.next - 1], number, args)) witness.next -= 1;
        while (true) : (witness.next += 1) {
            assert(witness.next < witness.steps.len); // A call that no step left has.
            if (witness.isOf(&witness.steps[witness.next], number, args)) break;
        }
        witness.next += 1;
        witness.last = switch (witness.random.int(u2)) {
            0 => -@as(i64, witness.random.intRangeAtMost(u16, 1, 4095)),
            1 => -22,
            2 => witness.random.int(i32),
            3 => 0,
        };
        return witness.last;
    }

    pub fn help(witness: *Witness, number: u32, args: [6]u64, helper: anytype) i64 {
        const result = witness.call(number, args);
        if (result > 0) _ = @TypeOf(helper.*).main(@intFromPtr(helper));
        return if (result > 0) 0 else result;
    }

    fn isForAgain(witness: *const Witness, step: *const plan_zig.Step) bool {
        for (step.rules) |rule| if (rule.skip == plan_zig.again and rule.errno != 0 and witness.last == -@as(i64, rule.errno)) return true;
        return false;
    }

    fn isOf(witness: *const Witness, step: *const plan_zig.Step, number: u32, args: [6]u64) bool {
        if (step.number != number) return false;
        const is_last_passed = step.stores() == null;
        for (args, step.args, 0..) |got, given, index| if (index == 5 and !is_last_passed) {
            if (got != 0) return false;
        } else switch (step.kind(@intCast(index))) {
            .immediate => if (got != given) return false,
            .data => {
                if (got != @intFromPtr(witness.data.ptr) + given) return false;
                assert(got - @intFromPtr(witness.data.ptr) < witness.data.len);
            },
            .result => if (got != @as(u64, @bitCast(witness.results[@intCast(given)]))) return false,
            .reserved => unreachable,
        };
        return true;
    }

    pub fn close(_: *Witness, fd: i64) void {
        assert(fd >= 0);
    }
};

const guard_size = 64;
const guard: u8 = 0xa5;

/// Whether the plan was taken for one.
fn runPlan(random: Random, sample: *const SamplePlan) bool {
    var memory: [guard_size + @sizeOf(SamplePlan) + guard_size]u8 align(8) = @splat(guard);
    const cut = if (random.int(u4) == 0) random.uintLessThan(usize, @sizeOf(SamplePlan)) & ~@as(usize, 7) else 0;
    const bytes: []align(8) u8 = @alignCast(memory[guard_size..][0 .. @sizeOf(SamplePlan) - cut]);
    @memcpy(bytes, std.mem.asBytes(sample)[0..bytes.len]);
    @memset(memory[guard_size + bytes.len ..], guard);
    defer for (memory[0..guard_size]) |byte| assert(byte == guard);
    defer for (memory[guard_size + bytes.len ..]) |byte| assert(byte == guard);
    if (bytes.len > @sizeOf(plan_zig.Header)) damage(random, bytes);
    const plan = plan_zig.open(bytes, architecture) catch return false;

    // What is written is written to the data alone.
    const fixed = bytes[0 .. bytes.len - plan.data.len];
    const before = std.hash.Wyhash.hash(0, fixed);
    plan_zig.writePid(&plan, random.int(u32));
    plan_zig.fillSlots(&plan, .{ .uid = random.int(u32), .gid = random.int(u32), .folder = "/" });
    if (plan.words()) |words| words.go = 1;
    var results: [@sizeOf(SamplePlan) / @sizeOf(plan_zig.Step)]i64 = undefined;
    for ([_][]const plan_zig.Step{ plan.parent, plan.child }) |steps| {
        var witness: Witness = .{ .random = random, .steps = steps, .data = plan.data, .results = &results };
        const outcome = machine.execute(&witness, steps, @intFromPtr(plan.data.ptr), &results);
        machine.closeOpened(&witness, steps, results[0..steps.len]);
        assert(outcome.step <= steps.len and witness.calls <= steps.len * (plan_zig.again_max + 1));
    }
    assert(std.hash.Wyhash.hash(0, fixed) == before);
    return true;
}

const bundle_size = @sizeOf(Bundle) + 96 + @sizeOf(SamplePlan) + 8;

/// A bundle that has one of each.
fn sampleBundle(buffer: *align(8) [bundle_size]u8) void {
    const area_at = @sizeOf(Bundle);
    const plan_at = area_at + 88;
    buffer.* = @splat(0);
    const bundle: *Bundle = @ptrCast(buffer);
    const variant: bundle_zig.Variant = .{
        .plan = .{ .at = plan_at, .size = @sizeOf(SamplePlan) },
        .texts = .{ .at = area_at + 40, .size = 2 * @sizeOf(bundle_zig.Text) },
        .hints = .{ .at = area_at + 56, .size = 2 * @sizeOf(bundle_zig.Hint) },
        .opened = plan_zig.nowhere,
        .reserved = 0,
    };
    bundle.* = std.mem.zeroInit(Bundle, .{
        .magic = bundle_zig.magic,
        .version = bundle_zig.version,
        .architecture = architecture,
        .size = bundle_size,
        .name = bundle_zig.Range{ .at = area_at, .size = 5 },
        .command = bundle_zig.Range{ .at = area_at, .size = 12 },
        .argv0 = bundle_zig.Range{ .at = area_at + 6, .size = 6 },
        .environment = bundle_zig.Range{ .at = area_at + 12, .size = 8 },
        .errnos = bundle_zig.Range{ .at = area_at + 20, .size = 20 },
        .variants = [2]bundle_zig.Variant{ variant, variant },
    });
    @memcpy(buffer[area_at..][0..40], "first\x00other\x00A=1\x00B=2\x00EPERM\x00not permitted\x00");
    @memcpy(buffer[plan_at..][0..@sizeOf(SamplePlan)], std.mem.asBytes(&samplePlan()));
    buffer[bundle_size - bundle_zig.end_mark.len ..].* = bundle_zig.end_mark;
}

/// Whether the bundle was taken for one.
fn runBundle(random: Random, sample: *const [bundle_size]u8) bool {
    var bytes: [bundle_size]u8 align(8) = sample.*;
    damage(random, if (random.boolean()) bytes[0..@sizeOf(Bundle)] else &bytes);
    const header: *Bundle = @ptrCast(&bytes);
    if (random.int(u4) != 0) header.checksum = bundle_zig.checksum(&bytes);
    const bundle = bundle_zig.open(&bytes, architecture) catch return false;

    inline for (.{ "name", "command", "argv0", "environment", "errnos", "origin", "diagnoser" }) |field| isWithin(&bytes, bundle.bytes(field));
    for ([_]u1{ 0, 1 }) |variant| {
        isWithin(&bytes, bundle.plan(variant));
        const text = bundle.text(variant, random.int(u8) & 3);
        isWithin(&bytes, bundle.string(text.message));
        isWithin(&bytes, bundle.string(text.call));
        isWithin(&bytes, bundle.hint(variant, random.int(u8) & 3, random.int(u8) & 3));
    }
    isWithin(&bytes, bundle.string(random.int(u32)));
    if (bundle.flags.init_only) return true;
    var memory: [2 * bundle_size + 16]usize = undefined; // Command and environment may be all of it, each NUL a string.
    const given = [_]?[*:0]const u8{"given"};
    const inherited = [_]?[*:0]const u8{ "A=0", "PATH=/bin" };
    const size = Program.size(bundle, &given, &inherited);
    assert(size <= @sizeOf(@TypeOf(memory)));
    const program: Program = .make(bundle, &given, &inherited, std.mem.sliceAsBytes(&memory)[0..size]);
    assert(std.mem.len(program.argv) >= 1);
    return true;
}

fn isWithin(all: []const u8, part: []const u8) void {
    if (part.len == 0) return;
    assert(@intFromPtr(part.ptr) >= @intFromPtr(all.ptr));
    assert(@intFromPtr(part.ptr) + part.len <= @intFromPtr(all.ptr) + all.len);
}

/// How many of so many were taken.
const Taken = struct { plans: usize = 0, bundles: usize = 0 };

fn fuzz(rounds: usize) Taken {
    var generator: Random.DefaultPrng = .init(0x5eed);
    const random = generator.random();
    const plan = samplePlan();
    var bundle: [bundle_size]u8 align(8) = undefined;
    sampleBundle(&bundle);
    var taken: Taken = .{};
    for (0..rounds) |_| {
        taken.plans += @intFromBool(runPlan(random, &plan));
        taken.bundles += @intFromBool(runBundle(random, &bundle));
    }
    return taken;
}

pub fn main() void {
    const rounds = 10_000_000;
    const taken = fuzz(rounds);
    std.debug.print("Of {d} plans {d} were run, of as many bundles {d} were read.\n", .{ rounds, taken.plans, taken.bundles });
}

test "no damage to a plan or a bundle leads astray" {
    const taken = fuzz(200_000);
    // Not all was refused at the door, and not nothing.
    try std.testing.expect(taken.plans > 10_000 and taken.plans < 190_000);
    try std.testing.expect(taken.bundles > 10_000 and taken.bundles < 190_000);
}
