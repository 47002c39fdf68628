//! Numbers of the launcher's own descriptors, apart from those that a command can be given.

const linux = @import("std").os.linux;

/// No command is given one from here on: `ABOVE_GIVEN` of src/plan/files.ts.
const first_own = 256;

/// Moves a descriptor to where a command that asks for one by its number, which nobody has opened, cannot get it. Where the
/// limit of descriptors is lower it is at least none of the three streams.
pub fn outOfTheWay(fd: i32) i32 {
    if (fd >= first_own) return fd;
    const moved = copy(fd) orelse return fd;
    _ = linux.close(fd);
    return moved;
}

/// A copy of a descriptor, there.
pub fn copy(fd: i32) ?i32 {
    for ([_]usize{ first_own, 3 }) |lowest| {
        const result = linux.fcntl(fd, linux.F.DUPFD_CLOEXEC, lowest);
        if (linux.errno(result) == .SUCCESS) return @intCast(result);
    }
    return null;
}
