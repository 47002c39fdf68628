//! clone3(2) with a stack of its own for the child, which std has for clone(2) alone.

const std = @import("std");
const builtin = @import("builtin");

/// The child is born in the cgroup that `Arguments.cgroup` leads to. Since Linux 5.7.
pub const INTO_CGROUP: u64 = 0x2_0000_0000;

/// struct clone_args of linux/sched.h.
pub const Arguments = extern struct {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64 = 0,
    exit_signal: u64,
    /// The lowest byte of the child's stack.
    stack: u64,
    stack_size: u64,
    tls: u64 = 0,
    set_tid: u64 = 0,
    set_tid_size: u64 = 0,
    cgroup: u64 = 0,
};

comptime {
    std.debug.assert(@sizeOf(Arguments) == 88); // CLONE_ARGS_SIZE_VER2
}

/// Makes a child in a cgroup as fork(2) does, with a copy of the memory: 0 in the child. `flags` are as for clone(2).
pub fn forkInto(cgroup: u64, flags: u32) usize {
    const signal_mask = 0xff;
    const arguments: Arguments = .{
        .flags = flags & ~@as(u64, signal_mask) | INTO_CGROUP,
        .pidfd = 0,
        .child_tid = 0,
        .exit_signal = flags & signal_mask,
        .stack = 0,
        .stack_size = 0,
        .cgroup = cgroup,
    };
    return std.os.linux.syscall2(.clone3, @intFromPtr(&arguments), @sizeOf(Arguments));
}

/// Makes a child that begins in `function`, which does not return. The result is the kernel's, as seen by the parent.
pub fn call(arguments: *const Arguments, function: *const fn (usize) callconv(.c) u8, argument: usize) usize {
    const size = @sizeOf(Arguments);
    const number = @intFromEnum(std.os.linux.SYS.clone3);
    return switch (builtin.cpu.arch) {
        // The child comes out of the call with nothing on its stack, and with the registers of the parent.
        .x86_64 => asm volatile (
            \\ syscall
            \\ testq %%rax, %%rax
            \\ jnz 1f
            \\ xorl %%ebp, %%ebp
            \\ movq %%r12, %%rdi
            \\ callq *%%r13
            \\ ud2
            \\1:
            : [result] "={rax}" (-> usize),
            : [number] "{rax}" (number),
              [arguments] "{rdi}" (arguments),
              [size] "{rsi}" (@as(usize, size)),
              [argument] "{r12}" (argument),
              [function] "{r13}" (function),
            : .{ .rcx = true, .r11 = true, .memory = true }),
        .aarch64 => asm volatile (
            \\ svc #0
            \\ cbnz x0, 1f
            \\ mov x29, xzr
            \\ mov x30, xzr
            \\ mov x0, x20
            \\ blr x21
            \\ brk #1
            \\1:
            : [result] "={x0}" (-> usize),
            : [number] "{x8}" (number),
              [arguments] "{x0}" (arguments),
              [size] "{x1}" (@as(usize, size)),
              [argument] "{x20}" (argument),
              [function] "{x21}" (function),
            : .{ .memory = true }),
        else => @compileError("no clone3 for this architecture"),
    };
}
