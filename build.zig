//! `zig build` makes the shared library and the launcher for both architectures, bit for bit the same on every machine:
//! zig-out/libns-x86_64.so, zig-out/launch-x86_64, and the same for aarch64; and the simulator. `zig build test` runs the shim's unit tests.

const std = @import("std");

const launcher_files = [_][]const u8{
    "plan", "machine", "kernel_linux", "handshake", "parent_watch", "bundle", "program", "report", "signals", "init", "supervise", "relay", "output", "cgroup", "clone3",
};

pub fn build(b: *std.Build) void {
    for ([_]std.Target.Cpu.Arch{ .x86_64, .aarch64 }) |architecture| {
        const name = b.fmt("libns-{t}.so", .{architecture});
        // By the command line, because std.Build has no way to say NODELETE: Deno unloads a Worker's libraries with the
        // Worker, and a thread may be in here.
        const compile = b.addSystemCommand(&.{
            b.graph.zig_exe,     "build-lib",
            "-dynamic",          "-OReleaseSmall",
            "-fstrip",           "-fPIC",
            "-fno-unwind-tables", "-fno-stack-protector",
            "-z",                "nodelete",
            // No ABI means no libc: the child between clone and exec could not use it, so nothing may.
            "-target",
        });
        compile.addArg(b.fmt("{t}-linux-none", .{architecture}));
        compile.addPrefixedFileArg("-Mroot=", b.path("shim/library.zig"));
        const library = compile.addPrefixedOutputFileArg("-femit-bin=", name);
        for ([_][]const u8{ "plan", "machine", "kernel_linux", "handshake", "parent_watch", "signals", "spawn", "clone3", "threads" }) |file| {
            compile.addFileInput(b.path(b.fmt("shim/{s}.zig", .{file})));
        }
        b.getInstallStep().dependOn(&b.addInstallFile(library, name).step);

        const launcher_name = b.fmt("launch-{t}", .{architecture});
        // At a fixed address, so that there is nothing to be relocated before it can run.
        const compile_launcher = b.addSystemCommand(&.{
            b.graph.zig_exe,     "build-exe",
            "-OReleaseSmall",    "-fstrip",
            "-fno-PIE",          "-fno-unwind-tables",
            "-fno-stack-protector", "-z",
            // There is nothing that is written before it runs, so one mapping less.
            "norelro",              "-target",
        });
        compile_launcher.addArg(b.fmt("{t}-linux-none", .{architecture}));
        compile_launcher.addPrefixedFileArg("-Mroot=", b.path("shim/launch.zig"));
        const launcher = compile_launcher.addPrefixedOutputFileArg("-femit-bin=", launcher_name);
        for (launcher_files) |file| compile_launcher.addFileInput(b.path(b.fmt("shim/{s}.zig", .{file})));
        b.getInstallStep().dependOn(&b.addInstallFile(launcher, launcher_name).step);
    }

    // The machine over a kernel that the host plays, in WebAssembly: zig-out/simulator.wasm.
    const simulator = b.addExecutable(.{ .name = "simulator", .root_module = b.createModule(.{
        .root_source_file = b.path("shim/simulator.zig"),
        .target = b.resolveTargetQuery(.{ .cpu_arch = .wasm32, .os_tag = .freestanding }),
        .optimize = .ReleaseSmall,
        .strip = true,
    }) });
    simulator.entry = .disabled;
    simulator.rdynamic = true; // Its exports.
    simulator.stack_size = 16 * 1024;
    b.getInstallStep().dependOn(&b.addInstallFile(simulator.getEmittedBin(), "simulator.wasm").step);

    const step = b.step("test", "Run the shim's unit tests");
    for ([_][]const u8{ "library", "bundle" }) |root| {
        const tests = b.addTest(.{ .root_module = b.createModule(.{
            .root_source_file = b.path(b.fmt("shim/{s}.zig", .{root})),
            .target = b.graph.host,
        }) });
        const run = b.addRunArtifact(tests);
        run.has_side_effects = true; // They make system calls: a cached pass says nothing about this machine.
        step.dependOn(&run.step);
    }

    const fuzz = b.createModule(.{
        .root_source_file = b.path("shim/fuzz.zig"),
        .target = b.graph.host,
        .optimize = .ReleaseSafe,
    });
    step.dependOn(&b.addRunArtifact(b.addTest(.{ .root_module = fuzz })).step);
    const run_fuzz = b.addRunArtifact(b.addExecutable(.{ .name = "fuzz", .root_module = fuzz }));
    run_fuzz.has_side_effects = true;
    b.step("fuzz", "Run 10 million damaged plans and bundles").dependOn(&run_fuzz.step);
}
