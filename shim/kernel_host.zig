//! The host's kernel: calls go to whoever has loaded the module. Addresses are those of the module's own memory.

const imported = struct {
    extern "kernel" fn call(number: u32, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) i64;
    extern "kernel" fn close(fd: i64) void;
    /// The helper's part is over. Whether it has executed its program.
    extern "kernel" fn helped() i32;
};

pub const Kernel = struct {
    pub fn call(_: Kernel, number: u32, args: [6]u64) i64 {
        return imported.call(number, args[0], args[1], args[2], args[3], args[4], args[5]);
    }

    pub fn close(_: Kernel, fd: i64) void {
        imported.close(fd);
    }

    /// The call says who calls from now on, until `helped`.
    pub fn help(kernel: Kernel, number: u32, args: [6]u64, helper: anytype) i64 {
        const result = kernel.call(number, args);
        if (result < 0) return result;
        _ = @TypeOf(helper.*).main(@intFromPtr(helper));
        if (imported.helped() != 0) helper.outcome = .{ .step = 0, .errno = 0 };
        return 0;
    }
};
