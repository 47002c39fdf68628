//! Numbers of the launcher's own descriptors, apart from those that a command can be given.

const linux = @import("std").os.linux;

/// No command is given one from here on: `FD_MAX` of src/command_options.ts.
const first_own = 256;

/// Moves a descriptor to where a command that asks for one by its number, which nobody has opened, cannot get it. Where the
/// limit of descriptors is lower it is at least none of the three streams.
pub fn outOfTheWay(fd: i32) i32 {
    for ([_]i32{ first_own, 3 }) |lowest| {
        if (fd >= lowest) return fd;
        const copy = linux.fcntl(fd, linux.F.DUPFD_CLOEXEC, @intCast(lowest));
        if (linux.errno(copy) != .SUCCESS) continue;
        _ = linux.close(fd);
        return @intCast(copy);
    }
    return fd;
}
