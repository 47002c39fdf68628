//! What the launcher says: messages on stderr, as src/cli/errors.ts words them, and JSON lines for a program to read.

const std = @import("std");
const linux = std.os.linux;
const Bundle = @import("bundle.zig").Bundle;
const plan_zig = @import("plan.zig");

/// What messages begin with.
pub var name: []const u8 = "nsrun";
var coloured = false;

/// Takes the name that the launcher was called by.
pub fn begin(called: []const u8, environment: []const ?[*:0]const u8) void {
    const at = if (std.mem.lastIndexOfScalar(u8, called, '/')) |slash| slash + 1 else 0;
    if (called.len > at) name = called[at..];
    var settings: linux.termios = undefined;
    if (linux.errno(linux.tcgetattr(2, &settings)) != .SUCCESS) return;
    coloured = for (environment) |entry| { // https://no-color.org
        const text = std.mem.span(entry.?);
        if (std.mem.startsWith(u8, text, "NO_COLOR=") and text.len > "NO_COLOR=".len) break false;
    } else true;
}

const Writer = struct {
    fd: i32,
    buffer: [4096]u8 = undefined,
    used: usize = 0,

    fn put(writer: *Writer, text: []const u8) void {
        var rest = text;
        while (rest.len > 0) {
            if (writer.used == writer.buffer.len) writer.flush();
            const count = @min(rest.len, writer.buffer.len - writer.used);
            @memcpy(writer.buffer[writer.used..][0..count], rest[0..count]);
            writer.used += count;
            rest = rest[count..];
        }
    }

    fn number(writer: *Writer, value: u32) void {
        var buffer: [plan_zig.id_text_size]u8 = undefined;
        writer.put(plan_zig.decimal(&buffer, value));
    }

    /// What a terminal could be misled by is replaced, as in src/quoted.ts.
    fn visible(writer: *Writer, text: []const u8) void {
        for (text) |byte| switch (byte) {
            '\t', '\n' => writer.put(&.{byte}),
            0...0x08, 0x0b...0x1f, 0x7f => writer.escaped(byte),
            else => writer.put(&.{byte}),
        };
    }

    fn escaped(writer: *Writer, byte: u8) void {
        writer.put(&.{ '\\', 'u', '0', '0', '0' + (byte >> 4), "0123456789abcdef"[byte & 15] });
    }

    /// A string as JSON has it.
    fn quoted(writer: *Writer, parts: []const []const u8) void {
        writer.put("\"");
        for (parts) |part| for (part) |byte| switch (byte) {
            '"', '\\' => writer.put(&.{ '\\', byte }),
            0...0x1f => writer.escaped(byte),
            else => writer.put(&.{byte}),
        };
        writer.put("\"");
    }

    fn flush(writer: *Writer) void {
        var at: usize = 0;
        while (at < writer.used) {
            const result = linux.write(writer.fd, writer.buffer[at..].ptr, writer.used - at);
            switch (linux.errno(result)) {
                .SUCCESS => at += result,
                .INTR => {},
                else => break, // Nobody reads it.
            }
        }
        writer.used = 0;
    }

    fn prefix(writer: *Writer) void {
        if (coloured) writer.put("\x1b[1;31m");
        writer.put(name);
        writer.put(":");
        if (coloured) writer.put("\x1b[0m");
        writer.put(" ");
    }
};

/// Says why, and ends.
pub fn die(status: u8, text: []const u8) noreturn {
    tell(text);
    linux.exit_group(status);
}

pub fn tell(text: []const u8) void {
    var writer: Writer = .{ .fd = 2 };
    writer.prefix();
    writer.put(text);
    writer.put("\n");
    writer.flush();
}

/// What was refused.
pub const Failure = struct {
    message: [3][]const u8,
    call: []const u8,
    errno: u32,
    hint: []const u8,

    pub fn tellPeople(failure: *const Failure, bundle: *const Bundle) void {
        const code, const meaning = errnoTexts(bundle, failure.errno);
        var writer: Writer = .{ .fd = 2 };
        writer.prefix();
        for (failure.message) |part| writer.visible(part);
        const end: []const u8 = if (failure.hint.len > 0) "\n" else "";
        for ([_][]const u8{ ": ", meaning, " (", code, ")\n", failure.hint, end }) |part| writer.put(part);
        writer.flush();
    }

    pub fn tellProgram(failure: *const Failure, bundle: *const Bundle) void {
        if (bundle.status_fd < 0) return;
        var writer: Writer = .{ .fd = bundle.status_fd };
        writer.put("{\"event\":\"failed\",\"message\":");
        writer.quoted(&failure.message);
        writer.put(",\"step\":");
        writer.quoted(&.{failure.call});
        writer.put(",\"code\":");
        writer.quoted(&.{errnoTexts(bundle, failure.errno)[0]});
        writer.put(",\"errno\":");
        writer.number(failure.errno);
        writer.put("}\n");
        writer.flush();
    }
};

/// A call and what it returned, as src/plan/describe.ts has it.
pub fn step(bundle: *const Bundle, call: []const u8, result: i64) void {
    var writer: Writer = .{ .fd = 2 };
    for ([_][]const u8{ name, ": ", call, " = " }) |part| writer.put(part);
    if (result < 0 and result >= -4095) {
        writer.put("-1 ");
        writer.put(errnoTexts(bundle, @intCast(-result))[0]);
    } else {
        writer.number(@intCast(result));
    }
    writer.put("\n");
    writer.flush();
}

/// Names in /proc/self/ns: namespaces(7).
const kinds = [_][:0]const u8{ "cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts" };

/// The inode of each namespace; 0 where it could not be found.
pub const Namespaces = [kinds.len]u32;

/// Finds those of the calling process, or of its children where it cannot be in them itself.
pub fn findNamespaces(found: *Namespaces) void {
    inline for (found, kinds) |*inode, kind| {
        const is_entered_by_children = comptime std.mem.eql(u8, kind, "pid") or std.mem.eql(u8, kind, "time");
        inode.* = namespaceInode("/proc/self/ns/" ++ kind ++ if (is_entered_by_children) "_for_children" else "");
    }
}

/// The number in "mnt:[4026531841]".
fn namespaceInode(path: [*:0]const u8) u32 {
    var target: [64]u8 = undefined;
    const size = linux.readlink(path, &target, target.len);
    if (linux.errno(size) != .SUCCESS) return 0;
    const from = std.mem.indexOfScalar(u8, target[0..size], '[') orelse return 0;
    return std.fmt.parseInt(u32, target[from + 1 .. size - 1], 10) catch 0;
}

pub fn started(fd: i32, pid: i32, is_first: bool, namespaces: *const Namespaces) void {
    if (fd < 0) return;
    var writer: Writer = .{ .fd = fd };
    writer.put("{\"event\":\"started\",\"pid\":");
    writer.number(@intCast(pid));
    writer.put(",\"innerPid\":");
    writer.number(if (is_first) 1 else @intCast(pid));
    writer.put(",\"namespaces\":{");
    var separator: []const u8 = "";
    for (namespaces, kinds) |inode, kind| {
        if (inode == 0) continue;
        writer.put(separator);
        writer.quoted(&.{kind});
        writer.put(":");
        writer.number(inode);
        separator = ",";
    }
    writer.put("}}\n");
    writer.flush();
}

pub fn ended(fd: i32, code: u32, signal: u32) void {
    if (fd < 0) return;
    var writer: Writer = .{ .fd = fd };
    writer.put("{\"event\":\"exited\",");
    writer.put(if (signal != 0) "\"signal\":" else "\"code\":");
    writer.number(if (signal != 0) signal else code);
    writer.put("}\n");
    writer.flush();
}

/// Name and meaning.
fn errnoTexts(bundle: *const Bundle, errno: u32) struct { []const u8, []const u8 } {
    var strings = std.mem.splitScalar(u8, bundle.bytes("errnos"), 0);
    for (1..errno) |_| {
        _ = strings.next();
        _ = strings.next();
    }
    return .{ strings.next() orelse "", strings.next() orelse "" };
}
