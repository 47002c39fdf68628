//! What the launcher is given: a plan, the command, and the words for what can go wrong. src/launch/bundle.ts writes it.
//!
//! It stands behind the launcher in the same file, in a segment of its own: the kernel has mapped it before the first
//! instruction, so it is found without /proc, without a path, and without a system call.

const std = @import("std");
const assert = std.debug.assert;
const plan_zig = @import("plan.zig");

pub const magic: u32 = 0x4c42_534e; // "NSBL", read as little-endian
pub const version: u16 = 2;

/// The last bytes of a bundle: beyond the end of a file that was cut in its last page the kernel gives zeros.
pub const end_mark = [_]u8{ 0xff, 'E', 'N', 'D' };

/// Bytes of a bundle, from its start.
pub const Range = extern struct { at: u32, size: u32 };

pub const Flags = packed struct(u32) {
    /// The launcher is PID 1, and the command its child.
    init: bool,
    /// PID 1 waits for all that is left when the command has ended, instead of ending them.
    wait_for_all: bool,
    /// The launcher itself is what init is for a library: it has no plan, and its command line says what to run.
    init_only: bool,
    /// Arguments at run time replace the command, instead of being appended to it.
    any_command: bool,
    clear_environment: bool,
    /// Signals are forwarded, and SIGTERM is followed by SIGKILL.
    forward: bool,
    /// Each step is told on stderr.
    debug: bool,
    /// The command has a terminal of its own.
    tty: bool,
    unused: u24 = 0,
};

/// A plan for one sort of caller.
pub const Variant = extern struct {
    plan: Range,
    /// `Text` of clone(2), and then of each step.
    texts: Range,
    /// `Hint`s.
    hints: Range,
    /// The child's step that has opened what is to be executed, or `plan_zig.nowhere`.
    opened: u32,
    reserved: u32,
};

/// Offsets of strings that end with a NUL.
pub const Text = extern struct {
    /// "Cannot mount tmpfs …"
    message: u32,
    /// The call with its arguments.
    call: u32,
};

/// What is said below a message when it comes with this errno.
pub const Hint = extern struct {
    /// Index in `Variant.texts`.
    text: u32,
    errno: u32,
    /// Offset of a string that ends with a NUL.
    hint: u32,
};

pub const Bundle = extern struct {
    magic: u32,
    version: u16,
    /// The ELF machine.
    architecture: u16,
    size: u32,
    /// Of everything after this field.
    checksum: u32,
    flags: Flags,
    /// From SIGTERM to SIGKILL.
    grace_ms: u32,
    /// 0 where there is no limit.
    timeout_ms: u64,
    /// Where JSON lines are written, or -1.
    status_fd: i32,
    /// The size of the command's terminal where the launcher has none to go by; 0 where $LINES and $COLUMNS say it.
    tty_rows: u16,
    tty_columns: u16,
    /// What messages begin with; nothing where it is the name that the launcher was called by.
    name: Range,
    /// The command and its arguments, each with a NUL.
    command: Range,
    /// What the command is told that its name is; nothing where it is the command.
    argv0: Range,
    /// `NAME=value`, each with a NUL, over what is inherited.
    environment: Range,
    /// For a caller with CAP_SYS_ADMIN, and for any other.
    variants: [2]Variant,
    /// For each errno from 1 on, its name and what it means, each with a NUL.
    errnos: Range,
    /// What it was made from, as JSON, to be told to who asks.
    origin: Range,
    /// A command line that says more of a refusal than the launcher can; its empty argument is for which it is.
    diagnoser: Range,
    /// Descriptor of the cgroup that the command is born in, or -1; the launcher inherits it.
    cgroup_fd: i32,
    /// The launcher's child that removes that cgroup: see cgroup.zig.
    cgroup_keeper: i32,

    fn slice(bundle: *const Bundle, range: Range) []const u8 {
        return @as([*]const u8, @ptrCast(bundle))[range.at..][0..range.size];
    }

    pub fn bytes(bundle: *const Bundle, comptime field: []const u8) []const u8 {
        return bundle.slice(@field(bundle, field));
    }

    pub fn plan(bundle: *const Bundle, variant: u1) []const u8 {
        return bundle.slice(bundle.variants[variant].plan);
    }

    /// Of clone(2), 0, or of a step, counted from 1 through the parent's and then the child's.
    pub fn text(bundle: *const Bundle, variant: u1, index: u32) Text {
        const texts = bundle.variants[variant].texts;
        const count = texts.size / @sizeOf(Text);
        if (index >= count) return .{ .message = 0, .call = 0 };
        return @as([*]const Text, @ptrCast(@alignCast(bundle.slice(texts).ptr)))[index];
    }

    pub fn string(bundle: *const Bundle, at: u32) [:0]const u8 {
        if (at == 0 or at >= bundle.size - end_mark.len) return "";
        // What is before the end mark is a NUL.
        return std.mem.span(@as([*:0]const u8, @ptrCast(@as([*]const u8, @ptrCast(bundle)) + at)));
    }

    pub fn hint(bundle: *const Bundle, variant: u1, index: u32, errno: u32) [:0]const u8 {
        const hints = bundle.slice(bundle.variants[variant].hints);
        const list = @as([*]const Hint, @ptrCast(@alignCast(hints.ptr)))[0 .. hints.len / @sizeOf(Hint)];
        for (list) |entry| if (entry.text == index and entry.errno == errno) return bundle.string(entry.hint);
        return "";
    }
};

comptime {
    assert(@sizeOf(Bundle) == 168);
    assert(@sizeOf(Variant) == 32);
    assert(@sizeOf(Hint) == 12);
}

pub const Error = error{ NotABundle, WrongVersion, WrongArchitecture, Truncated, Altered };

/// Checks a bundle: that it is one, whole, unchanged, and that every range lies within.
pub fn open(given: []align(8) const u8, architecture: u16) Error!*const Bundle {
    if (given.len < @sizeOf(Bundle)) return error.Truncated;
    const bundle: *const Bundle = @ptrCast(given.ptr);
    if (bundle.magic != magic) return error.NotABundle;
    if (bundle.version != version) return error.WrongVersion;
    if (bundle.architecture != architecture) return error.WrongArchitecture;
    if (bundle.size != given.len or bundle.size % 4 != 0) return error.Truncated;
    if (bundle.checksum != checksum(given)) return error.Altered;
    if (!std.mem.endsWith(u8, given, &end_mark)) return error.Truncated;
    // From here on it is what was written, by whoever that was: what follows is against mistakes of ours.
    if (given[given.len - end_mark.len - 1] != 0) return error.Altered;
    inline for (.{ "name", "command", "argv0", "environment", "errnos", "origin", "diagnoser" }) |field| try check(@field(bundle, field), given.len);
    inline for (.{ "command", "argv0", "environment", "errnos", "diagnoser" }) |field| {
        const block = bundle.bytes(field);
        if (block.len > 0 and block[block.len - 1] != 0) return error.Altered;
    }
    if (bundle.command.size == 0 and !bundle.flags.init_only) return error.Altered;
    for (bundle.variants) |variant| {
        inline for (.{ "plan", "texts", "hints" }) |field| {
            try check(@field(variant, field), given.len);
            if (@field(variant, field).at % 8 != 0) return error.Altered;
        }
    }
    return bundle;
}

fn check(range: Range, size: usize) Error!void {
    if (@as(u64, range.at) + range.size > size) return error.Altered;
}

/// Of the words after the field that holds it. Each step can be undone, so no change of one word goes unnoticed; to
/// forge it is easy, as whoever can write the file can write the launcher in it.
pub fn checksum(bytes: []align(8) const u8) u32 {
    const words = std.mem.bytesAsSlice(u32, bytes[@offsetOf(Bundle, "checksum") + 4 ..]);
    var sum: u32 = 0x811c_9dc5;
    for (words) |word| sum = (std.math.rotl(u32, sum, 5) ^ word) *% 0x0100_0193;
    return sum;
}

test "open() refuses what is no whole bundle" {
    const testing = std.testing;
    var buffer: [@sizeOf(Bundle) + 8]u8 align(8) = @splat(0);
    const bundle: *Bundle = @ptrCast(&buffer);
    bundle.* = std.mem.zeroes(Bundle);
    try testing.expectError(error.NotABundle, open(&buffer, 62));
    bundle.magic = magic;
    bundle.version = 9;
    try testing.expectError(error.WrongVersion, open(&buffer, 62));
    bundle.version = version;
    try testing.expectError(error.WrongArchitecture, open(&buffer, 62));
    bundle.architecture = 62;
    bundle.size = 8;
    try testing.expectError(error.Truncated, open(&buffer, 62));
    bundle.size = buffer.len;
    bundle.flags.init_only = true;
    try testing.expectError(error.Altered, open(&buffer, 62));
    bundle.checksum = checksum(&buffer);
    try testing.expectError(error.Truncated, open(&buffer, 62));
    buffer[buffer.len - end_mark.len ..].* = end_mark;
    bundle.checksum = checksum(&buffer);
    _ = try open(&buffer, 62);
    for (@offsetOf(Bundle, "flags")..buffer.len) |at| {
        buffer[at] ^= 0x10;
        try testing.expectError(error.Altered, open(&buffer, 62));
        buffer[at] ^= 0x10;
    }
    bundle.command = .{ .at = 168, .size = 5 };
    bundle.checksum = checksum(&buffer);
    try testing.expectError(error.Altered, open(&buffer, 62));
}
