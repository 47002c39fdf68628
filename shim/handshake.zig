//! What a parent does for its child while that waits: the plan's parent steps. See spawn.zig, and launch.zig.

const linux = @import("std").os.linux;
const kernel_linux = @import("kernel_linux.zig");
const machine = @import("machine.zig");
const plan_zig = @import("plan.zig");

/// What only a process outside of the child's user namespace may do; then the child goes on. What was refused, where
/// something was: then the child still waits.
pub fn runParentSteps(plan: *const plan_zig.Plan, child: i32, results: []i64) ?machine.Outcome {
    if (plan.parent.len == 0) return null;
    plan_zig.writePid(plan, @intCast(child));
    const kernel: kernel_linux.Kernel = .{};
    const outcome = machine.execute(kernel, plan.parent, @intFromPtr(plan.data.ptr), results);
    machine.closeOpened(kernel, plan.parent, results);
    if (outcome.errno != 0) return outcome;
    const words = plan.words() orelse return null;
    @atomicStore(u32, @volatileCast(&words.go), 1, .release);
    _ = linux.futex_3arg(@volatileCast(&words.go), .{ .cmd = .WAKE, .private = false }, 1);
    return null;
}
