//! The WebAssembly module: the machine over a kernel that the host plays. Its twin is src/machine/simulator.ts.
//!
//! One plan at a time: `reserve` gives room for it, the host copies it there, `open` checks it and makes its pointers
//! absolute. An address is 64 bits wide in a plan, as on Linux, and holds 32 here: an offset into this module's memory,
//! where the host reads what a call points at.

const std = @import("std");
const Kernel = @import("kernel_host.zig").Kernel;
const machine = @import("machine.zig");
const plan_zig = @import("plan.zig");

comptime {
    @export(&reserve, .{ .name = "reserve" });
    @export(&open, .{ .name = "open" });
    @export(&words, .{ .name = "words" });
    @export(&execute, .{ .name = "execute" });
    @export(&closeOpened, .{ .name = "closeOpened" });
}

/// Where the memory that nothing else uses begins: said by the linker.
extern const __heap_base: u8;

var bytes: []align(8) u8 = &.{};
var results: []i64 = &.{};
var plan: plan_zig.Plan = undefined;

/// Room for a plan of so many bytes and for the results of so many steps, which lie behind it, at the next multiple of 8.
/// The room of the plan before is given up. Null where there is no memory.
fn reserve(size: u32, step_count: u32) callconv(.c) ?[*]u8 {
    const start = std.mem.alignForward(usize, @intFromPtr(&__heap_base), 8);
    const results_at = std.mem.alignForward(usize, start + size, 8);
    const end = results_at + step_count * @sizeOf(i64);
    const has = @wasmMemorySize(0) * std.wasm.page_size;
    if (end > has) {
        const pages = std.math.divCeil(usize, end - has, std.wasm.page_size) catch unreachable;
        if (@wasmMemoryGrow(0, pages) < 0) return null;
    }
    bytes = @as([*]align(8) u8, @ptrFromInt(start))[0..size];
    results = @as([*]i64, @ptrFromInt(results_at))[0..step_count];
    return bytes.ptr;
}

/// Checks the plan that was copied there, and writes the child's pid where it wants that. Returns 0, or an error's number.
fn open(architecture: u32, pid: u32) callconv(.c) u32 {
    plan = plan_zig.open(bytes, @intCast(architecture)) catch |refusal| return @intFromError(refusal);
    plan_zig.writePid(&plan, pid);
    return 0;
}

/// Where the two words of the handshake are; null in a plan that has none.
fn words() callconv(.c) ?*volatile plan_zig.Words {
    return plan.words();
}

/// The parent's steps (0) or the child's (1).
fn section(which: u32) []const plan_zig.Step {
    return if (which == 0) plan.parent else plan.child;
}

/// Executes a section, whose results replace those of the one before. Returns the step that failed, and its errno in the
/// upper 32 bits.
fn execute(which: u32) callconv(.c) u64 {
    const outcome = machine.execute(Kernel{}, section(which), @intFromPtr(plan.data.ptr), results);
    return @as(u64, outcome.errno) << 32 | outcome.step;
}

/// Closes what the section that was just executed has opened for itself.
fn closeOpened(which: u32) callconv(.c) void {
    machine.closeOpened(Kernel{}, section(which), results);
}
