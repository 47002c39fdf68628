//! The layout of a plan: the one thing that the TypeScript side (src/plan/encode.ts) and this side share.
//!
//! A plan is a relocatable block of bytes:
//!
//!     Header | parent steps | child steps | relocations (u32 each) | slots | padding to 8 | data
//!
//! A step is one system call. Its arguments are immediates, addresses in the data area, or results of earlier steps.
//! All jumps are forward, and what is made again is so a limited number of times, so every plan ends. Relocations are the places in the data area that hold a pointer
//! (argv, envp, struct fields), written as an offset into that area until `open` turns them into addresses. Slots are the
//! places that are filled where the plan runs, in a plan that was made for whoever will run it.

const std = @import("std");
const assert = std.debug.assert;

pub const magic: u32 = 0x4c50_534e; // "NSPL", read as little-endian
pub const version: u16 = 2;

/// The result of a step that was never reached.
pub const not_run: i64 = std.math.minInt(i64);

/// `Header.pid_text` and `Header.words` of a plan that has no use for them.
pub const nowhere: u32 = std.math.maxInt(u32);

/// Room for a decimal pid and its NUL: pid_max is at most 2^22, seven digits.
pub const pid_text_size: u32 = 12;

/// What an argument's 64 bits mean; two bits each in `Step.kinds`, the first argument lowest.
pub const Kind = enum(u2) {
    /// The value itself.
    immediate = 0,
    /// An offset into the data area; the call gets the address.
    data = 1,
    /// The index of an earlier step of the same section; the call gets its result.
    result = 2,
    reserved = 3,
};

/// `Rule.skip` of an errno after which the same step is made again, at most `again_max` times: then it is a failure. For
/// calls that tell of a race somewhere else on the system, as openat2(2) does by EAGAIN.
pub const again: u16 = std.math.maxInt(u16);
pub const again_max: u32 = 128;

/// "When this errno comes back, it is no failure: go on, after leaving out that many steps."
pub const Rule = extern struct {
    /// 0 in unused rules.
    errno: u16,
    skip: u16,
};

pub const Step = extern struct {
    /// The system call's number on the plan's architecture.
    number: u32,
    /// `Kind` of the six arguments, and in the highest bit: the result is a file descriptor that is not needed after
    /// the section, which closes it whether it succeeds or fails. In the bit below: what the call returns, when it
    /// succeeds, is put into the data area as an i32, where the last argument says, which then is none of the call's.
    /// Below that: this is a clone(2) that makes a helper, which does the next `skip` steps, the last of which execute a
    /// program; what it ends with is the result.
    kinds: u16,
    /// How many of the following steps to leave out when this one succeeds.
    skip: u16,
    rules: [6]Rule,
    args: [6]u64,

    pub fn kind(step: *const Step, argument: u3) Kind {
        assert(argument < 6);
        return @enumFromInt(@as(u2, @truncate(step.kinds >> (@as(u4, argument) * 2))));
    }

    pub fn opensForSection(step: *const Step) bool {
        return step.kinds & 0x8000 != 0;
    }

    pub fn makesHelper(step: *const Step) bool {
        return step.kinds & 0x2000 != 0;
    }

    /// Where in the data area the result goes.
    pub fn stores(step: *const Step) ?u32 {
        return if (step.kinds & 0x4000 != 0) @intCast(step.args[5]) else null;
    }
};

pub const Header = extern struct {
    magic: u32,
    version: u16,
    /// The ELF machine that the call numbers belong to.
    architecture: u16,
    /// Of the whole plan, in bytes.
    size: u32,
    data_size: u32,
    parent_steps: u32,
    child_steps: u32,
    relocations: u32,
    /// Where in the data area the child's pid is written in decimal (it may be the tail of "/proc/"), or `nowhere`.
    pid_text: u32,
    /// Where in the data area the two words of the handshake are, or `nowhere`: see `Words`.
    words: u32,
    slots: u32,
    /// CLONE_NEW* of the child, and `own_memory`.
    clone_flags: u64,
};

/// Of `Header.clone_flags`: the child is not to share memory with its parent, because the kernel refuses a step then.
pub const own_memory: u64 = 1 << 32;

/// The words through which a child, before it execs, and its parent know of each other. The child's steps
/// reach them by futex(2), so the plan says where and when it waits.
pub const Words = extern struct {
    /// Holds the parent thread's tid; the kernel sets FUTEX_OWNER_DIED in it when that thread ends.
    parent: u32,
    /// 0 until the parent's steps are done, then 1.
    go: u32,
};

/// What a slot is filled with.
pub const SlotKind = enum(u32) {
    /// The effective user id of who runs the plan, in decimal, right-aligned among blanks.
    uid = 0,
    /// The same for the group id.
    gid = 1,
    /// The path of the current folder, with a NUL.
    folder = 2,
    /// The path of the command's terminal: "/dev/pts/", its number, and a NUL.
    terminal = 3,
    _,

    fn size(kind: SlotKind) ?u32 {
        return switch (kind) {
            .uid, .gid => id_text_size,
            .folder => folder_size,
            .terminal => terminal_size,
            _ => null,
        };
    }
};

/// Room for a decimal u32.
pub const id_text_size: u32 = 10;
/// PATH_MAX, with its NUL.
pub const folder_size: u32 = 4096;
const terminal_prefix = "/dev/pts/";
const terminal_size: u32 = terminal_prefix.len + id_text_size + 1;

pub const Slot = extern struct {
    kind: SlotKind,
    /// In the data area.
    at: u32,
};

pub const Error = error{
    Truncated,
    NotAPlan,
    WrongVersion,
    WrongArchitecture,
    BadSize,
    BadOffset,
    BadKind,
    BadResult,
    BadSkip,
};

comptime {
    assert(@sizeOf(Rule) == 4);
    assert(@sizeOf(Step) == 80);
    assert(@sizeOf(Header) == 48);
    assert(@sizeOf(Words) == 8);
    assert(@sizeOf(Slot) == 8);
    assert(@offsetOf(Step, "args") == 32);
    assert(@offsetOf(Header, "clone_flags") == 40);
}

/// A plan that was checked: every offset, index and jump in it is within bounds.
pub const Plan = struct {
    header: Header,
    parent: []const Step,
    child: []const Step,
    slots: []const Slot,
    data: []align(8) u8,

    /// For clone(2).
    pub fn cloneFlags(plan: *const Plan) u32 {
        return @truncate(plan.header.clone_flags);
    }

    pub fn ownMemory(plan: *const Plan) bool {
        return plan.header.clone_flags & own_memory != 0;
    }

    /// The two words of the handshake, where the plan has them.
    pub fn words(plan: *const Plan) ?*volatile Words {
        if (plan.header.words == nowhere) return null;
        return @ptrCast(@alignCast(plan.data[plan.header.words..].ptr));
    }
};

/// Whether a plan that was not checked yet asks for `own_memory`.
pub fn wantsOwnMemory(bytes: []const u8) bool {
    if (bytes.len < @sizeOf(Header)) return false;
    const clone_flags = std.mem.readInt(u64, bytes[@offsetOf(Header, "clone_flags")..][0..8], .little);
    return clone_flags & own_memory != 0;
}

/// Checks a plan and makes its pointers absolute, in place: `bytes` must stay where it is while the plan is used.
pub fn open(bytes: []align(8) u8, architecture: u16) Error!Plan {
    if (bytes.len < @sizeOf(Header)) return error.Truncated;
    const header: *const Header = @ptrCast(bytes.ptr);
    if (header.magic != magic) return error.NotAPlan;
    if (header.version != version) return error.WrongVersion;
    if (header.architecture != architecture) return error.WrongArchitecture;
    if (header.size != bytes.len) return error.Truncated;

    const step_count = @as(u64, header.parent_steps) + header.child_steps;
    const relocations_at = @sizeOf(Header) + step_count * @sizeOf(Step);
    const slots_at = relocations_at + @as(u64, header.relocations) * @sizeOf(u32);
    const data_at = std.mem.alignForward(u64, slots_at + @as(u64, header.slots) * @sizeOf(Slot), 8);
    if (data_at + header.data_size != bytes.len) return error.BadSize;

    const steps_at: [*]const Step = @ptrCast(@alignCast(bytes.ptr + @sizeOf(Header)));
    const plan: Plan = .{
        .header = header.*,
        .parent = steps_at[0..header.parent_steps],
        .child = steps_at[header.parent_steps..][0..header.child_steps],
        .slots = @as([*]const Slot, @ptrCast(@alignCast(bytes.ptr + @as(usize, @intCast(slots_at)))))[0..header.slots],
        .data = @alignCast(bytes[@intCast(data_at)..]),
    };
    if (header.pid_text != nowhere) try checkRange(&plan, header.pid_text, pid_text_size, 1);
    if (header.words != nowhere) try checkRange(&plan, header.words, @sizeOf(Words), @alignOf(Words));
    try checkSteps(plan.parent, header.data_size);
    try checkSteps(plan.child, header.data_size);
    for (plan.slots) |slot| try checkRange(&plan, slot.at, slot.kind.size() orelse return error.BadKind, 1);

    const relocations: [*]const u32 = @ptrCast(@alignCast(bytes.ptr + @as(usize, @intCast(relocations_at))));
    for (relocations[0..header.relocations]) |at| try relocate(&plan, at);
    return plan;
}

fn checkRange(plan: *const Plan, at: u32, size: u32, alignment: u32) Error!void {
    assert(size > 0);
    if (@as(u64, at) + size > plan.data.len) return error.BadOffset;
    if (at % alignment != 0) return error.BadOffset;
}

fn checkSteps(steps: []const Step, data_size: u32) Error!void {
    var helper_end: usize = 0;
    for (steps, 0..) |*step, index| {
        const is_helpers = index < helper_end;
        const left = (if (is_helpers) helper_end else steps.len) - index - 1;
        // Its descriptors are not the section's, and it makes no helper of its own.
        if (is_helpers and (step.opensForSection() or step.makesHelper())) return error.BadKind;
        if (step.makesHelper()) {
            if (step.kinds & 0xc000 != 0) return error.BadKind; // Its result is neither a descriptor nor to be stored.
            if (step.skip == 0) return error.BadSkip;
            helper_end = index + 1 + @as(usize, step.skip);
        }
        if (step.skip > left) return error.BadSkip;
        for (step.rules) |rule| if (rule.errno != 0 and rule.skip > left and rule.skip != again) return error.BadSkip;
        for (step.args, 0..) |value, argument| switch (step.kind(@intCast(argument))) {
            .immediate => {},
            .data => if (value >= data_size) return error.BadOffset,
            .result => if (value >= index) return error.BadResult,
            .reserved => return error.BadKind,
        };
        if (step.kinds & 0x4000 == 0) continue;
        if (step.kind(5) != .data) return error.BadKind;
        if (step.args[5] + @sizeOf(i32) > data_size) return error.BadOffset;
    }
}

/// Turns one pointer from an offset into an address. Each place once: a second time, it would no longer hold an offset.
fn relocate(plan: *const Plan, at: u32) Error!void {
    try checkRange(plan, at, @sizeOf(u64), 8);
    const place: *u64 = @ptrCast(@alignCast(plan.data[at..].ptr));
    if (place.* >= plan.data.len) return error.BadOffset;
    place.* += @intFromPtr(plan.data.ptr);
}

/// Writes `pid` in decimal, with a NUL, where the plan wants it.
pub fn writePid(plan: *const Plan, pid: u32) void {
    if (plan.header.pid_text == nowhere) return;
    const room = plan.data[plan.header.pid_text..][0..pid_text_size];
    var buffer: [id_text_size]u8 = undefined;
    const digits = decimal(&buffer, pid);
    @memcpy(room[0..digits.len], digits);
    room[digits.len] = 0;
}

/// Who runs a plan.
pub const Who = struct {
    uid: u32,
    gid: u32,
    /// With its NUL, which is at most `folder_size` bytes.
    folder: [:0]const u8,
    /// The number of the command's terminal, where it has one.
    terminal: u32 = 0,
};

/// Fills the plan's slots.
pub fn fillSlots(plan: *const Plan, who: Who) void {
    for (plan.slots) |slot| switch (slot.kind) {
        .uid, .gid => {
            const room = plan.data[slot.at..][0..id_text_size];
            var buffer: [id_text_size]u8 = undefined;
            const digits = decimal(&buffer, if (slot.kind == .uid) who.uid else who.gid);
            @memset(room, ' ');
            @memcpy(room[id_text_size - digits.len ..], digits);
        },
        .folder => {
            assert(who.folder.len < folder_size);
            @memcpy(plan.data[slot.at..][0 .. who.folder.len + 1], who.folder.ptr[0 .. who.folder.len + 1]);
        },
        .terminal => {
            const room = plan.data[slot.at..][0..terminal_size];
            var buffer: [id_text_size]u8 = undefined;
            const digits = decimal(&buffer, who.terminal);
            @memcpy(room[0..terminal_prefix.len], terminal_prefix);
            @memcpy(room[terminal_prefix.len..][0..digits.len], digits);
            room[terminal_prefix.len + digits.len] = 0;
        },
        _ => unreachable, // `open` has refused it.
    };
}

/// A number in decimal, at the end of the buffer.
pub fn decimal(buffer: *[id_text_size]u8, number: u32) []const u8 {
    var at: usize = buffer.len;
    var rest = number;
    while (true) {
        at -= 1;
        buffer[at] = '0' + @as(u8, @intCast(rest % 10));
        rest /= 10;
        if (rest == 0) return buffer[at..];
    }
}

// ── Tests ────────────────────────────────────────────────────────────────────────────────────────────────

const testing = std.testing;

/// A plan of `steps` child steps over 32 bytes of data with one relocation, for the tests here and in machine.zig.
pub fn Sample(comptime steps: u32) type {
    return extern struct {
        header: Header = .{
            .magic = magic,
            .version = version,
            .architecture = 62,
            .size = @sizeOf(@This()),
            .data_size = 32,
            .parent_steps = 0,
            .child_steps = steps,
            .relocations = 1,
            .pid_text = 16,
            .words = nowhere,
            .slots = 0,
            .clone_flags = 0,
        },
        child: [steps]Step = @splat(.{ .number = 39, .kinds = 0, .skip = 0, .rules = @splat(.{ .errno = 0, .skip = 0 }), .args = @splat(0) }),
        relocations: [2]u32 = .{ 8, 0 },
        data: [32]u8 align(8) = @splat(0),
    };
}

fn openSample(sample: anytype) Error!Plan {
    return open(@alignCast(std.mem.asBytes(sample)), 62);
}

test "open() accepts a plan and relocates its pointers" {
    var sample: Sample(2) align(8) = .{};
    sample.data[8] = 24;
    const plan = try openSample(&sample);
    try testing.expectEqual(2, plan.child.len);
    try testing.expectEqual(0, plan.parent.len);
    const pointer: *const u64 = @ptrCast(@alignCast(&sample.data[8]));
    try testing.expectEqual(@intFromPtr(&sample.data[24]), pointer.*);
}

test "open() refuses what is not a whole plan of this version and architecture" {
    var sample: Sample(1) align(8) = .{};
    const bytes: []align(8) u8 = @alignCast(std.mem.asBytes(&sample));
    try testing.expectError(error.Truncated, open(bytes[0..8], 62));
    try testing.expectError(error.Truncated, open(bytes[0 .. bytes.len - 8], 62));
    try testing.expectError(error.WrongArchitecture, open(bytes, 183));
    sample.header.version = 9;
    try testing.expectError(error.WrongVersion, openSample(&sample));
    sample.header.magic = 0;
    try testing.expectError(error.NotAPlan, openSample(&sample));
}

test "open() refuses every reach out of bounds" {
    const Case = struct { change: *const fn (*Sample(2)) void, expected: Error };
    const cases = [_]Case{
        .{ .expected = error.BadSize, .change = struct {
            fn f(s: *Sample(2)) void {
                s.header.child_steps = 0xffff_ffff;
            }
        }.f },
        .{ .expected = error.BadSize, .change = struct {
            fn f(s: *Sample(2)) void {
                s.header.relocations = 0xffff_ffff;
            }
        }.f },
        .{ .expected = error.BadOffset, .change = struct {
            fn f(s: *Sample(2)) void {
                s.header.pid_text = 30;
            }
        }.f },
        .{ .expected = error.BadOffset, .change = struct {
            fn f(s: *Sample(2)) void {
                s.header.words = 2;
            }
        }.f },
        .{ .expected = error.BadOffset, .change = struct {
            fn f(s: *Sample(2)) void {
                s.relocations[0] = 28;
            }
        }.f },
        .{ .expected = error.BadOffset, .change = struct {
            fn f(s: *Sample(2)) void {
                s.data[8] = 200;
            }
        }.f },
        .{ .expected = error.BadOffset, .change = struct {
            fn f(s: *Sample(2)) void {
                s.child[0].kinds = 1;
                s.child[0].args[0] = 32;
            }
        }.f },
        .{ .expected = error.BadKind, .change = struct {
            fn f(s: *Sample(2)) void {
                s.child[1].kinds = 3 << 10;
            }
        }.f },
        .{ .expected = error.BadResult, .change = struct {
            fn f(s: *Sample(2)) void {
                s.child[1].kinds = 2;
                s.child[1].args[0] = 1;
            }
        }.f },
        .{ .expected = error.BadKind, .change = struct {
            fn f(s: *Sample(2)) void {
                s.child[0].kinds = 0x4000;
            }
        }.f },
        .{ .expected = error.BadOffset, .change = struct {
            fn f(s: *Sample(2)) void {
                s.child[0].kinds = 0x4000 | 1 << 10;
                s.child[0].args[5] = 29;
            }
        }.f },
        .{ .expected = error.BadSkip, .change = struct {
            fn f(s: *Sample(2)) void {
                s.child[0].kinds = 0x2000;
            }
        }.f },
        .{ .expected = error.BadKind, .change = struct {
            fn f(s: *Sample(2)) void {
                s.child[0].kinds = 0x2000;
                s.child[0].skip = 1;
                s.child[1].kinds = 0x8000;
            }
        }.f },
        .{ .expected = error.BadSkip, .change = struct {
            fn f(s: *Sample(2)) void {
                s.child[0].skip = 2;
            }
        }.f },
        .{ .expected = error.BadSkip, .change = struct {
            fn f(s: *Sample(2)) void {
                s.child[1].rules[5] = .{ .errno = 38, .skip = 1 };
            }
        }.f },
    };
    for (cases) |case| {
        var sample: Sample(2) align(8) = .{};
        case.change(&sample);
        try testing.expectError(case.expected, openSample(&sample));
    }
}

test "open() survives every single-byte change of a plan" {
    for (0..@sizeOf(Sample(2))) |at| {
        for ([_]u8{ 0x01, 0x80, 0xff }) |bits| {
            var sample: Sample(2) align(8) = .{};
            std.mem.asBytes(&sample)[at] ^= bits;
            const plan = openSample(&sample) catch continue;
            try testing.expect(plan.data.len <= 40); // One relocation less may leave its four bytes, and padding, to the data.
        }
    }
}

test "fillSlots() writes ids among blanks, the folder and the terminal with their NULs" {
    const Slotted = extern struct {
        header: Header,
        relocations: [0]u32 = .{},
        slots: [3]Slot = .{ .{ .kind = .uid, .at = 1 }, .{ .kind = .gid, .at = 12 }, .{ .kind = .folder, .at = 32 } },
        data: [32 + folder_size]u8 align(8) = @splat(0xff),
    };
    var sample: Slotted align(8) = .{ .header = (Sample(1){}).header };
    sample.header.size = @sizeOf(Slotted);
    sample.header.child_steps = 0;
    sample.header.relocations = 0;
    sample.header.slots = 3;
    sample.header.data_size = sample.data.len;
    const plan = try openSample(&sample);
    fillSlots(&plan, .{ .uid = 0, .gid = 4294967295, .folder = "/home" });
    try testing.expectEqualStrings("\xff         0\xff4294967295\xff", sample.data[0..23]);
    try testing.expectEqualStrings("/home\x00\xff", sample.data[32..39]);
    sample.slots[2].at = 33;
    try testing.expectError(error.BadOffset, openSample(&sample));
    sample.slots[2].kind = .terminal;
    fillSlots(&try openSample(&sample), .{ .uid = 0, .gid = 0, .folder = "/", .terminal = 17 });
    try testing.expectEqualStrings("/dev/pts/17", std.mem.sliceTo(sample.data[33..], 0));
    sample.slots[2].kind = @enumFromInt(4);
    try testing.expectError(error.BadKind, openSample(&sample));
}

test "writePid() writes decimal digits and a NUL" {
    for ([_]u32{ 1, 10, 4194304, 1234567890 }) |pid| {
        var sample: Sample(1) align(8) = .{};
        @memset(&sample.data, 0xff);
        @memset(sample.data[8..16], 0);
        const plan = try openSample(&sample);
        writePid(&plan, pid);
        var expected: [16]u8 = undefined;
        const text = try std.fmt.bufPrintZ(&expected, "{d}", .{pid});
        try testing.expectEqualStrings(text, std.mem.span(@as([*:0]const u8, @ptrCast(&sample.data[16]))));
    }
}
