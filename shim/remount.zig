//! mount_setattr(2) for kernels before Linux 5.12, which change the flags of one mount at a time, by mount(2). The machine
//! takes it for one more system call.
//!
//! The mounts are those of /proc/thread-self/mountinfo that are below a path. Each is found as a descriptor first and is
//! changed through that, so no folder that is renamed meanwhile can lead to another mount; what is not where it should be
//! is a failure. But what another mount is over stays as it is: nothing leads there, and who may take away what is over it
//! may change flags as well (a user namespace may do neither).

const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;
const plan_zig = @import("plan.zig");

/// Its number: no kernel has that. The same as in src/abi/syscalls.ts.
pub const call_number: u32 = 0x4e53_0000;

/// The bits of struct mount_attr and of mount(2) are the same for these four.
const Flag = struct { name: []const u8, bit: u64 };
const flags_kept = [_]Flag{
    .{ .name = "ro", .bit = linux.MS.RDONLY },
    .{ .name = "nosuid", .bit = linux.MS.NOSUID },
    .{ .name = "nodev", .bit = linux.MS.NODEV },
    .{ .name = "noexec", .bit = linux.MS.NOEXEC },
    .{ .name = "nosymfollow", .bit = 256 },
};

comptime {
    assert(linux.MS.RDONLY == 1 and linux.MS.NOSUID == 2 and linux.MS.NODEV == 4 and linux.MS.NOEXEC == 8);
}

/// struct mount_attr.
pub const Attributes = extern struct { set: u64, clear: u64, propagation: u64, user_fd: u64 };

const AT_RECURSIVE = 0x8000;
const text_size_max = 16 << 20;
const path_size_max = 4096;
const race_max = 128;
/// Where the machine's plans have put the outside while they make a root.
const mountinfo_path = "old/proc/thread-self/mountinfo";

/// mount_setattr(`mount`, "", `depth`, `attributes`, …) where the folder `stage` is the root of the namespace, and the
/// process' root is the folder "old" in it. Minus an errno when it fails.
pub fn call(args: [6]u64) i64 {
    const mount: i32 = @truncate(@as(i64, @bitCast(args[0])));
    const attributes: *const Attributes = @ptrFromInt(@as(usize, @intCast(args[3])));
    const stage: i32 = @truncate(@as(i64, @bitCast(args[5])));
    if (attributes.propagation != 0 or (attributes.set | attributes.clear) & ~@as(u64, 0xf) != 0) return no(.INVAL);

    const size = text_size_max + path_size_max;
    const mapped = linux.mmap(null, size, .{ .READ = true, .WRITE = true }, .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true }, -1, 0);
    if (linux.errno(mapped) != .SUCCESS) return no(linux.errno(mapped));
    defer _ = linux.munmap(@ptrFromInt(mapped), size);
    const memory = @as([*]u8, @ptrFromInt(mapped))[0..size];

    const file = openMountinfo(stage);
    if (file < 0) return file;
    defer _ = linux.close(@intCast(file));
    const length = readAll(@intCast(file), memory[0..text_size_max]);
    if (length < 0) return length;
    const text = memory[0..@intCast(length)];
    const path = memory[text_size_max..][0..path_size_max];

    const id = mountId(mount) orelse return no(.INVAL);
    const top = find(text, id) orelse return no(.INVAL);
    const refused = remount(mount, top, attributes);
    if (refused != 0 or args[2] & AT_RECURSIVE == 0) return refused;
    var lines: Lines = .{ .rest = text };
    while (lines.next()) |line| {
        if (line.id == id or !line.isBelow(top.path)) continue;
        const result = remountAt(stage, line, lines.rest, top.path, path, attributes);
        if (result != 0) return result;
    }
    return 0;
}

/// Opened where the root of the namespace is the process' root: otherwise only what is below that would be in it.
fn openMountinfo(stage: i32) i64 {
    const folder = linux.open(".", .{ .PATH = true, .CLOEXEC = true }, 0);
    if (linux.errno(folder) != .SUCCESS) return no(linux.errno(folder));
    defer _ = linux.close(@intCast(folder));
    for ([_]usize{ linux.fchdir(stage), linux.chroot(".") }) |result| {
        if (linux.errno(result) != .SUCCESS) return no(linux.errno(result));
    }
    const file = linux.openat(stage, mountinfo_path, .{ .CLOEXEC = true }, 0);
    for ([_]usize{ linux.chroot("old"), linux.fchdir(@intCast(folder)), file }) |result| {
        if (linux.errno(result) != .SUCCESS) return no(linux.errno(result));
    }
    return @intCast(file);
}

fn readAll(file: i32, buffer: []u8) i64 {
    var length: usize = 0;
    while (length < buffer.len) {
        const count = linux.read(file, buffer.ptr + length, buffer.len - length);
        if (linux.errno(count) != .SUCCESS) return no(linux.errno(count));
        if (count == 0) return @intCast(length);
        length += count;
    }
    return no(.NOMEM);
}

fn remountAt(stage: i32, line: Line, later: []const u8, top: []const u8, buffer: []u8, attributes: *const Attributes) i64 {
    const path = line.decode(buffer) orelse return no(.NAMETOOLONG);
    const opened = openInside(stage, path);
    switch (linux.errno(opened)) {
        .SUCCESS => {},
        .NOENT, .NOTDIR => return if (line.isCovered(later, top)) 0 else no(.BUSY),
        else => |errno| return no(errno),
    }
    const fd: i32 = @intCast(opened);
    defer _ = linux.close(fd);
    if (mountId(fd) != line.id) return if (line.isCovered(later, top)) 0 else no(.BUSY);
    return remount(fd, line, attributes);
}

fn openInside(stage: i32, path: [*:0]const u8) usize {
    // O_PATH|O_CLOEXEC|O_NOFOLLOW; RESOLVE_NO_MAGICLINKS|RESOLVE_NO_SYMLINKS|RESOLVE_IN_ROOT.
    const flags: linux.O = .{ .PATH = true, .CLOEXEC = true, .NOFOLLOW = true };
    const how = [3]u64{ @as(u32, @bitCast(flags)), 0, 0x16 };
    for (0..race_max) |_| {
        const opened = linux.syscall4(.openat2, @as(usize, @bitCast(@as(isize, stage))), @intFromPtr(path), @intFromPtr(&how), @sizeOf(@TypeOf(how)));
        if (linux.errno(opened) != .AGAIN) return opened;
    }
    return @bitCast(-@as(isize, @intFromEnum(linux.E.AGAIN)));
}

/// What the kernel does not let go of in a user namespace (mount_namespaces(7)) has to be said again.
fn remount(fd: i32, line: Line, attributes: *const Attributes) i64 {
    const folder = "/proc/thread-self/fd/";
    var path: [folder.len + plan_zig.id_text_size + 1]u8 = undefined;
    path[0..folder.len].* = folder.*;
    var digits: [plan_zig.id_text_size]u8 = undefined;
    const name = plan_zig.decimal(&digits, @intCast(fd));
    for (name, path[folder.len..][0..name.len]) |digit, *place| place.* = digit;
    path[folder.len + name.len] = 0;
    const flags = line.flags() & ~attributes.clear | attributes.set;
    const result = linux.mount(null, path[0 .. folder.len + name.len :0], null, @intCast(linux.MS.REMOUNT | linux.MS.BIND | flags), 0);
    return no(linux.errno(result));
}

fn mountId(fd: i32) ?u64 {
    const AT_EMPTY_PATH = 0x1000;
    const STATX_MNT_ID = 0x1000;
    var words: [32]u64 align(8) = @splat(0); // struct statx is of 256 bytes; stx_mnt_id is at 144.
    const result = linux.syscall5(.statx, @as(usize, @bitCast(@as(isize, fd))), @intFromPtr(""), AT_EMPTY_PATH, STATX_MNT_ID, @intFromPtr(&words));
    if (linux.errno(result) != .SUCCESS or words[0] & STATX_MNT_ID == 0) return null;
    return words[18];
}

fn no(errno: linux.E) i64 {
    return -@as(i64, @intFromEnum(errno));
}

/// A mount: see proc_pid_mountinfo(5).
const Line = struct {
    id: u64,
    /// As it is written: blanks and the like are octal numbers.
    path: []const u8,
    options: []const u8,

    fn flags(line: Line) u64 {
        var all: u64 = 0;
        var rest = line.options;
        while (rest.len > 0) {
            const name = until(&rest, ',');
            for (flags_kept) |flag| if (isSame(flag.name, name)) {
                all |= flag.bit;
            };
        }
        return all;
    }

    fn isBelow(line: Line, path: []const u8) bool {
        if (line.path.len < path.len or !isSame(line.path[0..path.len], path)) return false;
        return line.path.len == path.len or line.path[path.len] == '/';
    }

    /// Whether something that was mounted later, in the same tree, is over it. A mount comes before those on it.
    fn isCovered(line: Line, later: []const u8, top: []const u8) bool {
        var lines: Lines = .{ .rest = later };
        while (lines.next()) |other| {
            if (other.isBelow(top) and line.isBelow(other.path)) return true;
        }
        return false;
    }

    fn decode(line: Line, buffer: []u8) ?[*:0]const u8 {
        var at: usize = 0;
        var size: usize = 0;
        while (at < line.path.len) : (size += 1) {
            if (size + 1 >= buffer.len) return null;
            buffer[size] = line.path[at];
            at += 1;
            if (buffer[size] != '\\' or at + 3 > line.path.len) continue;
            buffer[size] = @truncate(number(line.path[at..][0..3], 8) orelse return null);
            at += 3;
        }
        buffer[size] = 0;
        return @ptrCast(buffer.ptr);
    }
};

const Lines = struct {
    rest: []const u8,

    /// What is no such line is left out.
    fn next(lines: *Lines) ?Line {
        while (lines.rest.len > 0) {
            var line = until(&lines.rest, '\n');
            const id = number(until(&line, ' '), 10) orelse continue;
            for (0..3) |_| _ = until(&line, ' '); // The parent, the device, the root.
            const path = until(&line, ' ');
            const options = until(&line, ' ');
            if (path.len > 0) return .{ .id = id, .path = path, .options = options };
        }
        return null;
    }
};

/// What is before the next `end`, which is taken off `rest` with that.
fn until(rest: *[]const u8, end: u8) []const u8 {
    const text = rest.*;
    var size: usize = 0;
    while (size < text.len and text[size] != end) size += 1;
    rest.* = text[@min(size + 1, text.len)..];
    return text[0..size];
}

fn number(digits: []const u8, base: u8) ?u64 {
    var value: u64 = 0;
    for (digits) |digit| {
        if (digit < '0' or digit >= '0' + base) return null;
        value = value *% base +% (digit - '0');
    }
    return if (digits.len > 0) value else null;
}

fn isSame(one: []const u8, other: []const u8) bool {
    if (one.len != other.len) return false;
    for (one, other) |a, b| if (a != b) return false;
    return true;
}

fn find(text: []const u8, id: u64) ?Line {
    var lines: Lines = .{ .rest = text };
    while (lines.next()) |line| if (line.id == id) return line;
    return null;
}

// ── Tests ────────────────────────────────────────────────────────────────────────────────────────────────

const testing = std.testing;

const sample =
    \\29 1 0:23 / / rw,relatime - overlay overlay rw
    \\40 29 8:1 /a /new/a\040b rw,nosuid,relatime shared:1 - ext4 /dev/vda ro
    \\41 40 0:5 / /new/a\040b/sub ro,nodev,noexec,nosymfollow - tmpfs tmpfs rw
    \\42 29 0:6 / /new/a\040bc rw - tmpfs tmpfs rw
    \\43 41 0:7 / /new/a\040b/sub rw - tmpfs tmpfs rw
    \\
;

test "the flags of a mount are its own, and not those of its file system" {
    try testing.expectEqual(linux.MS.NOSUID, find(sample, 40).?.flags());
    try testing.expectEqual(linux.MS.RDONLY | linux.MS.NODEV | linux.MS.NOEXEC | 256, find(sample, 41).?.flags());
    try testing.expectEqual(null, find(sample, 44));
}

test "what is below a path has it and a slash at its beginning" {
    const top = find(sample, 40).?;
    for ([_]u64{ 29, 40, 41, 42, 43 }, [_]bool{ false, true, true, false, true }) |id, below| {
        try testing.expectEqual(below, find(sample, id).?.isBelow(top.path));
    }
}

test "what is mounted later at the same place covers a mount" {
    const top = find(sample, 40).?;
    var lines: Lines = .{ .rest = sample };
    while (lines.next()) |line| {
        try testing.expectEqual(line.id == 41, line.isBelow(top.path) and line.isCovered(lines.rest, top.path));
    }
}

test "octal numbers in a path are characters" {
    var buffer: [16]u8 = undefined;
    try testing.expectEqualStrings("/new/a b/sub", std.mem.span(find(sample, 43).?.decode(&buffer).?));
    try testing.expectEqual(null, find(sample, 43).?.decode(buffer[0..8]));
}
