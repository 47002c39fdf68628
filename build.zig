//! `zig build` makes the shared library for both architectures, bit for bit the same on every machine:
//! zig-out/libns-x86_64.so and zig-out/libns-aarch64.so. `zig build test` runs the shim's unit tests.

const std = @import("std");

pub fn build(b: *std.Build) void {
    for ([_]std.Target.Cpu.Arch{ .x86_64, .aarch64 }) |architecture| {
        const library = b.addLibrary(.{
            .name = b.fmt("ns-{t}", .{architecture}),
            .linkage = .dynamic,
            .root_module = b.createModule(.{
                .root_source_file = b.path("shim/library.zig"),
                // No ABI means no libc: the child between clone and exec could not use it, so nothing may.
                .target = b.resolveTargetQuery(.{ .cpu_arch = architecture, .os_tag = .linux, .abi = .none }),
                .optimize = .ReleaseSmall,
                .strip = true,
                .unwind_tables = .none,
                .stack_protector = false,
                .pic = true,
            }),
        });
        const install = b.addInstallFile(library.getEmittedBin(), b.fmt("libns-{t}.so", .{architecture}));
        b.getInstallStep().dependOn(&install.step);
    }

    const tests = b.addTest(.{ .root_module = b.createModule(.{
        .root_source_file = b.path("shim/library.zig"),
        .target = b.graph.host,
    }) });
    const run = b.addRunArtifact(tests);
    run.has_side_effects = true; // They make system calls: a cached pass says nothing about this machine.
    b.step("test", "Run the shim's unit tests").dependOn(&run.step);
}
