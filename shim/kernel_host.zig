//! The host's kernel: calls go to whoever has loaded the module. Addresses are those of the module's own memory.

const imported = struct {
    extern "kernel" fn call(number: u32, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) i64;
    extern "kernel" fn close(fd: i64) void;
};

pub const Kernel = struct {
    pub fn call(_: Kernel, number: u32, args: [6]u64) i64 {
        return imported.call(number, args[0], args[1], args[2], args[3], args[4], args[5]);
    }

    pub fn close(_: Kernel, fd: i64) void {
        imported.close(fd);
    }
};
