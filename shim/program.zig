//! What the launcher executes in the end: argv, the environment, and the search in PATH, as execvp(3) does it. The same
//! as src/plan/exec.ts does in steps, for a PATH that is known only when it runs.

const std = @import("std");
const linux = std.os.linux;
const Bundle = @import("bundle.zig").Bundle;

const Strings = [*:null]?[*:0]const u8;

pub const Program = struct {
    /// A path, or a name to be looked for in PATH.
    command: [*:0]const u8,
    /// The place before its first is free, for the shell's name.
    argv: Strings,
    envp: [*:null]const ?[*:0]const u8,
    /// A descriptor of what is to be executed instead of what is found by its name.
    opened: ?i32 = null,

    /// Bytes that `make` needs at most.
    pub fn size(bundle: *const Bundle, given: []const ?[*:0]const u8, inherited: []const ?[*:0]const u8) usize {
        const strings = count(bundle.bytes("command")) + given.len + count(bundle.bytes("environment")) + inherited.len;
        return (strings + 3) * @sizeOf(usize);
    }

    /// `given` are the arguments at run time, `inherited` is the environment that the launcher has.
    pub fn make(bundle: *const Bundle, given: []const ?[*:0]const u8, inherited: []const ?[*:0]const u8, memory: []align(8) u8) Program {
        var places = @as([*]?[*:0]const u8, @ptrCast(memory.ptr))[1 .. memory.len / @sizeOf(usize)];
        var list: List = .{ .places = places };
        const replaced = bundle.flags.any_command and given.len > 0;
        if (!replaced) list.addBlock(bundle.bytes("command"));
        for (given) |argument| list.add(argument.?);
        const command = list.places[0].?;
        if (!replaced and bundle.argv0.size > 0) list.places[0] = @ptrCast(bundle.bytes("argv0").ptr);
        const argv = list.end();

        places = places[list.used..];
        list = .{ .places = places };
        const changes = bundle.bytes("environment");
        if (!bundle.flags.clear_environment) {
            for (inherited) |entry| if (!isSet(changes, entry.?)) list.add(entry.?);
        }
        var at: usize = 0;
        while (at < changes.len) : (at += std.mem.len(@as([*:0]const u8, @ptrCast(changes[at..].ptr))) + 1) {
            const entry: [*:0]const u8 = @ptrCast(changes[at..].ptr);
            if (std.mem.indexOfScalar(u8, std.mem.span(entry), '=') != null) list.add(entry);
        }
        return .{ .command = command, .argv = argv, .envp = list.end() };
    }

    /// Returns why it could not be executed.
    pub fn execute(program: *const Program) Refusal {
        if (program.opened) |fd| {
            const AT_EMPTY_PATH = 0x1000;
            const result = linux.syscall5(.execveat, @intCast(fd), @intFromPtr(""), @intFromPtr(program.argv), @intFromPtr(program.envp), AT_EMPTY_PATH);
            return .{ .errno = @intFromEnum(linux.errno(result)) };
        }
        const name = std.mem.span(program.command);
        if (name.len == 0 or std.mem.indexOfScalar(u8, name, '/') != null) {
            return .{ .errno = @intFromEnum(program.attempt(program.command)) };
        }
        var denied: ?u32 = null;
        var last: linux.E = .NOENT;
        var index: u32 = 0;
        var folders = std.mem.splitScalar(u8, program.path(), ':');
        while (folders.next()) |folder| : (index += 1) {
            var buffer: [4096]u8 = undefined;
            if (folder.len + name.len + 2 > buffer.len) continue;
            @memcpy(buffer[0..folder.len], folder);
            var at = folder.len;
            if (at > 0) { // POSIX: an empty entry of PATH is the current folder.
                buffer[at] = '/';
                at += 1;
            }
            @memcpy(buffer[at..][0 .. name.len + 1], name.ptr[0 .. name.len + 1]);
            last = program.attempt(@ptrCast(&buffer));
            switch (last) {
                .ACCES => denied = denied orelse index, // It says more than the next one, that is not there.
                .NOENT, .NOTDIR, .NODEV, .STALE => {},
                else => return .{ .folder = index, .errno = @intFromEnum(last) },
            }
        }
        if (denied) |folder| return .{ .folder = folder, .errno = @intFromEnum(linux.E.ACCES) };
        return .{ .folder = index -| 1, .errno = @intFromEnum(last) };
    }

    fn attempt(program: *const Program, file: [*:0]const u8) linux.E {
        const errno = linux.errno(linux.execve(file, @ptrCast(program.argv), @ptrCast(program.envp)));
        if (errno != .NOEXEC or isElf(file)) return errno;
        const shell = "/bin/sh";
        const before = @as([*]?[*:0]const u8, @ptrCast(program.argv)) - 1;
        const name = before[1];
        defer before[1] = name;
        before[0] = shell;
        before[1] = file;
        return linux.errno(linux.execve(shell, @ptrCast(before), @ptrCast(program.envp)));
    }

    fn path(program: *const Program) []const u8 {
        for (std.mem.span(program.envp)) |entry| {
            const text = std.mem.span(entry.?);
            if (std.mem.startsWith(u8, text, "PATH=")) return text[5..];
        }
        return "/bin:/usr/bin"; // confstr(3), _CS_PATH
    }
};

/// Why a program could not be executed, and in which folder of PATH that was.
pub const Refusal = struct { folder: u32 = 0, errno: u32 };

/// An executable of another machine is nothing for a shell.
fn isElf(file: [*:0]const u8) bool {
    const opened = linux.open(file, .{ .CLOEXEC = true }, 0);
    if (linux.errno(opened) != .SUCCESS) return false;
    defer _ = linux.close(@intCast(opened));
    var head: [4]u8 = undefined;
    const size = linux.read(@intCast(opened), &head, head.len);
    return linux.errno(size) == .SUCCESS and std.mem.eql(u8, head[0..size], std.elf.MAGIC);
}

const List = struct {
    places: []?[*:0]const u8,
    used: usize = 0,

    fn add(list: *List, string: [*:0]const u8) void {
        list.places[list.used] = string;
        list.used += 1;
    }

    fn addBlock(list: *List, block: []const u8) void {
        var at: usize = 0;
        while (at < block.len) {
            const string: [*:0]const u8 = @ptrCast(block[at..].ptr);
            list.add(string);
            at += std.mem.len(string) + 1;
        }
    }

    fn end(list: *List) Strings {
        list.places[list.used] = null;
        list.used += 1;
        return @ptrCast(list.places.ptr);
    }
};

fn count(block: []const u8) usize {
    return std.mem.count(u8, block, "\x00");
}

/// Whether a block of changes, `NAME=value` or `NAME` alone, has the variable of an entry.
fn isSet(block: []const u8, entry: [*:0]const u8) bool {
    const text = std.mem.span(entry);
    const name = text[0 .. std.mem.indexOfScalar(u8, text, '=') orelse return false];
    var at: usize = 0;
    while (at < block.len) {
        const change = block[at..][0..std.mem.indexOfScalar(u8, block[at..], 0).?];
        const end = std.mem.indexOfScalar(u8, change, '=') orelse change.len;
        if (std.mem.eql(u8, change[0..end], name)) return true;
        at += change.len + 1;
    }
    return false;
}
