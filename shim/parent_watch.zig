//! Makes the kernel tell the child that its parent thread has ended, whatever ended it.
//!
//! A thread's robust futexes (get_robust_list(2)) are walked by the kernel when the thread ends, and
//! FUTEX_OWNER_DIED is set in each word that holds its tid. That happens before parent-death signals are sent: a child
//! that asks for that signal first and looks at the word then has missed nothing. getppid(2) could not tell it: in a new
//! pid namespace the parent is 0, alive or dead.
//!
//! The thread's own list (libc's) is set aside meanwhile: it holds mutexes for other processes to know of.

const std = @import("std");
const assert = std.debug.assert;
const linux = std.os.linux;

pub const ParentWatch = extern struct {
    head: Head = .{ .first = 0, .futex_offset = 0, .pending = 0 },
    /// The list's only entry, which leads back to its head.
    entry: usize = 0,
    set_aside: usize = 0,

    /// struct robust_list_head of linux/futex.h.
    const Head = extern struct { first: usize, futex_offset: isize, pending: usize };

    pub fn begin(watch: *ParentWatch, word: *volatile u32) void {
        word.* = @intCast(linux.gettid());
        watch.entry = @intFromPtr(&watch.head);
        watch.head.first = @intFromPtr(&watch.entry);
        watch.head.futex_offset = @bitCast(@intFromPtr(word) -% @intFromPtr(&watch.entry));
        var size: usize = 0;
        const got = linux.syscall3(.get_robust_list, 0, @intFromPtr(&watch.set_aside), @intFromPtr(&size));
        assert(linux.errno(got) == .SUCCESS);
        setRobustList(@intFromPtr(&watch.head));
    }

    pub fn end(watch: *const ParentWatch) void {
        setRobustList(watch.set_aside);
    }

    fn setRobustList(head: usize) void {
        const set = linux.syscall2(.set_robust_list, head, @sizeOf(Head));
        assert(linux.errno(set) == .SUCCESS);
    }
};
