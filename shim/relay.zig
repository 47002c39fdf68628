//! The command's own terminal, and the way between it and the streams that the launcher was given: what is typed there
//! is typed here, what is shown here is written there, and both are of one size. The user's terminal is raw meanwhile, so
//! that every key goes through.
//!
//! The command's side is held open as well: the master never reports a hangup then, whatever the command closes and opens
//! again, and what was written last is there until it is read.

const std = @import("std");
const linux = std.os.linux;
const descriptors = @import("descriptors.zig");
const outOfTheWay = descriptors.outOfTheWay;
const signals = @import("signals.zig");

pub const Size = std.posix.winsize;

const T = linux.T;
const TIOCSPTLCK = 0x4004_5431;
const TIOCGPTN = 0x8004_5430;
/// Since Linux 4.13: the other side without a path, which could lead elsewhere.
const TIOCGPTPEER = 0x5441;

/// A terminal, both sides of it.
pub const Pty = struct {
    master: i32,
    peer: i32,
    /// Of its file in /dev/pts.
    number: u32,

    fn open(refusal: *u32) ?Pty {
        const flags: linux.O = .{ .ACCMODE = .RDWR, .NOCTTY = true, .NONBLOCK = true, .CLOEXEC = true };
        const opened = linux.open("/dev/ptmx", flags, 0);
        if (!isOk(opened)) return refused(refusal, opened);
        var pty: Pty = .{ .master = outOfTheWay(@intCast(opened)), .peer = -1, .number = 0 };
        var locked: i32 = 0;
        const peer_flags: u32 = @bitCast(linux.O{ .ACCMODE = .RDWR, .NOCTTY = true, .CLOEXEC = true });
        const results = [_]usize{
            linux.ioctl(pty.master, TIOCSPTLCK, @intFromPtr(&locked)),
            linux.ioctl(pty.master, TIOCGPTN, @intFromPtr(&pty.number)),
            linux.ioctl(pty.master, TIOCGPTPEER, peer_flags),
        };
        for (results) |result| if (!isOk(result)) return refused(refusal, result);
        pty.peer = outOfTheWay(@intCast(results[2]));
        return pty;
    }

    fn refused(refusal: *u32, result: usize) ?Pty {
        refusal.* = @intFromEnum(linux.errno(result));
        return null;
    }
};

/// Bytes on their way.
fn Buffer(comptime size: usize) type {
    return struct {
        bytes: [size]u8 = undefined,
        from: usize = 0,
        to: usize = 0,

        const Self = @This();

        fn isEmpty(buffer: *const Self) bool {
            return buffer.from == buffer.to;
        }

        /// Fills an empty one.
        fn read(buffer: *Self, fd: i32) linux.E {
            const result = linux.read(fd, &buffer.bytes, size);
            if (linux.errno(result) != .SUCCESS) return linux.errno(result);
            buffer.from = 0;
            buffer.to = result;
            return .SUCCESS;
        }

        /// No more at once than a pipe takes whole where it takes any: nobody may be kept waiting in a write.
        fn write(buffer: *Self, fd: i32) linux.E {
            const rest = buffer.bytes[buffer.from..buffer.to];
            const result = linux.write(fd, rest.ptr, @min(rest.len, PIPE_BUF));
            if (linux.errno(result) == .SUCCESS) buffer.from += result;
            return linux.errno(result);
        }

        fn clear(buffer: *Self) void {
            buffer.from = buffer.to;
        }
    };
}

const PIPE_BUF = 4096;
const never = std.math.maxInt(u64);
/// More than a terminal holds: 64 KiB, and 4 KiB that can be read.
const held_max = 128 * 1024;

var typed: Buffer(4096) = .{};
var shown: Buffer(16 * 1024) = .{};

/// How often the end of input is typed again at most, and how long it takes until that is looked at the first time.
const end_again_max = 5;
const end_again_ns = 200 * std.time.ns_per_ms;

pub const Relay = struct {
    pty: Pty,
    /// What is typed; -1 when that has ended.
    input: i32,
    /// Where it is shown; -1 when nobody looks any more.
    output: i32,
    /// Whose size it follows; -1 where there is none.
    sized: i32 = -1,
    /// Becomes readable when there is a signal.
    signalled: i32 = -1,
    /// The user's terminal, where stdin is one, and what it was like.
    terminal: i32 = -1,
    before: linux.termios = undefined,
    is_raw: bool = false,
    /// Somebody else has the user's terminal.
    is_paused: bool = false,
    /// What was typed last.
    last: u8 = '\n',
    end_again: u8 = end_again_max,
    /// When the end of input is typed again.
    end_at: ?u64 = null,

    /// `fallback`: the size where no stream is a terminal. Returns the errno where there is no terminal to be had.
    pub fn begin(fallback: Size) union(enum) { relay: Relay, errno: u32 } {
        var refusal: u32 = 0;
        const pty = Pty.open(&refusal) orelse return .{ .errno = refusal };
        var relay: Relay = .{ .pty = pty, .input = take(0), .output = take(1) };
        if (relay.input < 0) { // Nothing is typed.
            const opened = linux.open("/dev/null", .{ .CLOEXEC = true }, 0);
            if (isOk(opened)) relay.input = outOfTheWay(@intCast(opened));
        }
        if (isOk(linux.tcgetattr(0, &relay.before))) {
            relay.terminal = relay.input;
            _ = linux.tcsetattr(pty.peer, .NOW, &relay.before);
        } else if (settingsOf(pty.peer)) |own| {
            var silent = own;
            silent.lflag.ECHO = false; // Nobody types it who wants to see it.
            _ = linux.tcsetattr(pty.peer, .NOW, &silent);
        }
        for (0..3) |fd| {
            if (relay.sized < 0 and settingsOf(@intCast(fd)) != null) relay.sized = duplicate(@intCast(fd));
        }
        var size = fallback;
        _ = linux.ioctl(pty.master, T.IOCSWINSZ, @intFromPtr(&size));
        relay.resize();
        var every: linux.sigset_t = @splat(std.math.maxInt(std.meta.Child(linux.sigset_t)));
        const opened = linux.signalfd(-1, &every, linux.SFD.CLOEXEC | linux.SFD.NONBLOCK);
        if (isOk(opened)) relay.signalled = outOfTheWay(@intCast(opened));
        return .{ .relay = relay };
    }

    /// In the child: the terminal is its stdin, stdout and stderr, and nothing leads to any other.
    pub fn connect(relay: *const Relay) void {
        for (0..3) |fd| _ = linux.dup3(relay.pty.peer, @intCast(fd), 0);
        for (relay.descriptors()) |fd| _ = linux.close(fd);
    }

    /// The descriptors that it needs.
    pub fn descriptors(relay: *const Relay) [6]i32 {
        return .{ relay.pty.master, relay.pty.peer, relay.input, relay.output, relay.sized, relay.signalled };
    }

    /// Takes the size of the user's terminal.
    pub fn resize(relay: *const Relay) void {
        var size: Size = undefined;
        if (!isOk(linux.ioctl(relay.sized, T.IOCGWINSZ, @intFromPtr(&size)))) return;
        if (size.row > 0 and size.col > 0) _ = linux.ioctl(relay.pty.master, T.IOCSWINSZ, @intFromPtr(&size));
    }

    /// Takes the user's terminal for the command: at the start, and whenever this process goes on.
    pub fn enter(relay: *Relay) void {
        if (relay.terminal < 0) return;
        // As with any process that reads a terminal from the background: the shell says so, and `fg` lets it go on.
        if (!relay.isForeground()) signals.stopBy(.TTIN);
        relay.is_paused = !relay.isForeground();
        if (relay.is_paused) return;
        var raw = relay.before;
        raw.iflag.IGNBRK = false;
        raw.iflag.BRKINT = false;
        raw.iflag.PARMRK = false;
        raw.iflag.ISTRIP = false;
        raw.iflag.INLCR = false;
        raw.iflag.IGNCR = false;
        raw.iflag.ICRNL = false;
        raw.iflag.IXON = false;
        raw.oflag.OPOST = false;
        raw.lflag.ECHO = false;
        raw.lflag.ECHONL = false;
        raw.lflag.ICANON = false;
        raw.lflag.ISIG = false;
        raw.lflag.IEXTEN = false;
        raw.cc[@intFromEnum(linux.V.MIN)] = 1;
        raw.cc[@intFromEnum(linux.V.TIME)] = 0;
        _ = linux.tcsetattr(relay.terminal, .NOW, &raw);
        relay.is_raw = true;
        relay.resize();
    }

    /// Gives the user's terminal back as it was.
    pub fn leave(relay: *Relay) void {
        if (!relay.is_raw) return;
        relay.is_raw = false;
        if (relay.isForeground()) _ = linux.tcsetattr(relay.terminal, .NOW, &relay.before);
    }

    /// Whether this process may use the user's terminal: nobody else does.
    fn isForeground(relay: *const Relay) bool {
        var group: i32 = 0;
        if (!isOk(linux.tcgetpgrp(relay.terminal, &group))) return true; // There is no job control on it.
        return group == linux.getpgid(0) or linux.errno(linux.kill(-group, @enumFromInt(0))) == .SRCH;
    }

    pub const Event = enum { none, signal, unseen };

    /// Waits for something to happen, for so many nanoseconds at most, and carries what there is.
    pub fn carry(relay: *Relay, timeout_ns: ?u64, now: u64) Event {
        const typing = relay.input >= 0 and typed.isEmpty() and !relay.is_paused;
        var polled = [_]linux.pollfd{
            .{ .fd = relay.signalled, .events = linux.POLL.IN, .revents = 0 },
            wanted(relay.pty.master, shown.isEmpty(), !typed.isEmpty()),
            wanted(relay.input, typing, false),
            wanted(relay.output, false, !shown.isEmpty()),
        };
        wait(&polled, if (relay.end_at) |at| @min(at -| now, timeout_ns orelse never) else timeout_ns);
        if (relay.end_at) |at| if (now >= at) relay.typeEndAgain(now);
        if (polled[2].revents != 0) relay.readInput(now);
        if (!typed.isEmpty()) relay.typeIt();
        if (polled[1].revents & linux.POLL.IN != 0) _ = shown.read(relay.pty.master);
        // What has just been read waits for the next round: where there is no room, a write would wait.
        const has_room = polled[3].revents != 0 or relay.output < 0;
        if (has_room and !shown.isEmpty() and !relay.show()) return .unseen;
        return if (polled[0].revents != 0) .signal else .none;
    }

    fn readInput(relay: *Relay, now: u64) void {
        switch (typed.read(relay.input)) {
            .SUCCESS => if (!typed.isEmpty()) return,
            .AGAIN, .INTR => return,
            .IO => if (relay.terminal >= 0 and !relay.isForeground()) {
                relay.is_paused = true; // Until this process is let go on.
                return;
            },
            else => {},
        }
        if (relay.terminal < 0) { // A terminal that has hung up has a signal for that.
            _ = linux.close(relay.input);
            relay.typeEnd();
            relay.end_at = now + end_again_ns;
        }
        relay.input = -1;
    }

    /// The end of input: the first that is typed within a line ends that line only.
    fn typeEnd(relay: *Relay) void {
        const settings = settingsOf(relay.pty.peer) orelse return;
        const end = settings.cc[@intFromEnum(linux.V.EOF)];
        typed.bytes[0..2].* = .{ end, end };
        typed.from = 0;
        typed.to = if (settings.lflag.ICANON and relay.last != '\n') 2 else 1;
    }

    /// An end that was typed while lines were edited is none for a program that edits them itself, and reads it later.
    fn typeEndAgain(relay: *Relay, now: u64) void {
        relay.end_at = if (relay.end_again == 0) null else now + std.time.ns_per_s;
        const settings = settingsOf(relay.pty.peer) orelse return;
        var unread: i32 = 0;
        _ = linux.ioctl(relay.pty.peer, T.FIONREAD, @intFromPtr(&unread));
        if (settings.lflag.ICANON or unread > 0 or !typed.isEmpty()) return;
        relay.end_again -|= 1;
        relay.typeEnd();
    }

    fn typeIt(relay: *Relay) void {
        const from = typed.from;
        if (typed.write(relay.pty.master) == .SUCCESS and typed.from > from) relay.last = typed.bytes[typed.from - 1];
    }

    /// Says whether there is anybody who looks, where that was so before.
    fn show(relay: *Relay) bool {
        if (relay.output >= 0) {
            switch (shown.write(relay.output)) {
                .SUCCESS, .AGAIN, .INTR => return true,
                else => {},
            }
            _ = linux.close(relay.output);
        }
        const was_seen = relay.output >= 0;
        relay.output = -1;
        shown.clear();
        return !was_seen;
    }

    /// Shows what the command has written before it has ended, and not what others, who have its terminal open still, go
    /// on to write. Ends when that is done, or a signal comes that `ends` it, or the time is up.
    pub fn drain(relay: *Relay, timeout_ns: ?u64, ends: u64) void {
        typed.clear();
        var left: usize = held_max;
        while (true) {
            if (shown.isEmpty()) {
                if (left == 0 or shown.read(relay.pty.master) != .SUCCESS or shown.isEmpty()) return;
                left -|= shown.to;
            }
            if (relay.output >= 0) {
                var polled = [_]linux.pollfd{
                    .{ .fd = relay.signalled, .events = linux.POLL.IN, .revents = 0 },
                    wanted(relay.output, false, true),
                };
                wait(&polled, timeout_ns);
                if (polled[0].revents != 0) {
                    if (signals.next(0)) |signal| if (ends & signals.bit(signal.number) != 0) return;
                } else if (polled[1].revents == 0) return;
                if (polled[1].revents == 0) continue;
            }
            _ = relay.show();
        }
    }
};

/// What is not asked for must not be polled at all: an error or a hangup is told whether it is asked for or not.
fn wanted(fd: i32, read: bool, write: bool) linux.pollfd {
    const events: i16 = (if (read) @as(i16, linux.POLL.IN) else 0) | (if (write) @as(i16, linux.POLL.OUT) else 0);
    return .{ .fd = if (events == 0) -1 else fd, .events = events, .revents = 0 };
}

fn wait(polled: []linux.pollfd, timeout_ns: ?u64) void {
    var timeout: linux.timespec = undefined;
    if (timeout_ns) |ns| timeout = .{ .sec = @intCast(ns / std.time.ns_per_s), .nsec = @intCast(ns % std.time.ns_per_s) };
    _ = linux.ppoll(polled.ptr, polled.len, if (timeout_ns == null) null else &timeout, null);
}

/// A stream of the launcher's. A terminal is opened once more, so that it does not block: the open file that others have,
/// too, is left as it is. Where that cannot be, what poll(2) says has to do.
fn take(fd: i32) i32 {
    if (settingsOf(fd) != null) {
        var path = "/proc/self/fd/0".*;
        path[path.len - 1] += @intCast(fd);
        const flags: linux.O = .{ .ACCMODE = if (fd == 0) .RDONLY else .WRONLY, .NOCTTY = true, .NONBLOCK = true, .CLOEXEC = true };
        const opened = linux.open(&path, flags, 0);
        if (isOk(opened)) return outOfTheWay(@intCast(opened));
    }
    return duplicate(fd);
}

fn duplicate(fd: i32) i32 {
    return descriptors.copy(fd) orelse -1;
}

/// Null where it is no terminal.
fn settingsOf(fd: i32) ?linux.termios {
    var found: linux.termios = undefined;
    return if (isOk(linux.tcgetattr(fd, &found))) found else null;
}

fn isOk(result: usize) bool {
    return linux.errno(result) == .SUCCESS;
}
