import { assert, assertEquals, assertMatch } from "@std/assert";
import { diagnose, type Diagnosis } from "../src/diagnose.ts";
import { lacking } from "./support/kernel.ts";
import { launcherFd } from "../src/process/init.ts";
import { isolatedTest } from "./support/leaks.ts";
import { programArgv, runArgv, type User } from "./support/program.ts";
import { USERS } from "./support/nobody.ts";

launcherFd(); // It is kept: no test is to be blamed for that.

const CODE = `
  const { diagnose } = await import("./src/diagnose.ts");
  console.log(JSON.stringify(await diagnose()));`;

/** What is found by another Deno, after a script that ends in exec "$@". */
async function diagnosisOf(user: User, script = 'exec "$@"', code = CODE): Promise<Diagnosis> {
  const program = programArgv(code, { user });
  const { stdout, stderr } = await runArgv(["unshare", "-m", "sh", "-ec", script, "sh", ...program]);
  if (stdout === "") throw new Error(stderr);
  return JSON.parse(stdout);
}

isolatedTest("diagnose() tries every namespace, and leaves nothing", async () => {
  const { works, checks, features, system } = await diagnose();
  assertEquals([works, checks.filter((check) => !check.works)], [true, []]);
  assertEquals(checks.length, 11);
  assert(checks.every(({ how }) => how === "tried"));
  assertEquals(system.kernel, Deno.osRelease());
  assertEquals([system.uid, system.privileged], [0, true]);
  for (const check of features) assertEquals(check.works, check.remedy === undefined, check.name);
});

for (const user of USERS) {
  isolatedTest(`diagnose() needs --allow-ffi alone, as ${user}`, async () => {
    const { works, checks, features, system } = await diagnosisOf(user);
    assertEquals([works, checks.filter((check) => !check.works)], [true, []]);
    const isRoot = user === "root";
    assertEquals([system.uid, system.privileged], [isRoot ? 0 : 65534, isRoot]);
    const feature = (name: string) => features.find((check) => check.name.startsWith(name))!;
    const hasOverlays = lacking("overlays in user namespaces") === undefined;
    assertEquals([feature("overlayfs").works, feature("clone3").works], [hasOverlays, true]);
    const canMapMounts = isRoot && lacking("mount_setattr") === undefined;
    assertEquals([feature("idmapped").works, feature("ranges").works], [canMapMounts, isRoot]);
    if (!isRoot) assertMatch(feature("ranges").remedy ?? "", /usermod --add-subuids|newuidmap/);
  });

  isolatedTest(`diagnose() tells what is in the way, each with its remedy, as ${user}`, async () => {
    const { works, checks } = await diagnosisOf(user, `mount --bind /dev/null /proc/cmdline; exec "$@"`);
    const failed = checks.filter((check) => !check.works);
    const [own, all] = ["pid namespace with its own /proc", "all of these but cgroup and time at once"];
    assertEquals(works, false);
    assertEquals(failed.map(({ name }) => name), user === "root" ? [all] : [own, all]);
    for (const { detail, remedy } of failed) {
      assertMatch(detail ?? "", /^Cannot mount proc at "\/proc" for privatePid: Operation not permitted \(EPERM\)$/);
      assertMatch(remedy ?? "", /"\/proc\/cmdline" is covered.*noProc/);
    }
  });
}

isolatedTest("diagnose() knows one namespace that is not allowed from the others", async () => {
  const script =
    `shift 4; exec setpriv --reuid=65534 --regid=65534 --clear-groups unshare --user --map-root-user sh -ec '
    echo 0 > /proc/sys/user/max_net_namespaces; exec "$@"' sh "$@"`;
  const { checks, system } = await diagnosisOf("nobody", script);
  assertEquals(system.limits["user.max_net_namespaces"], 0);
  const failed = checks.filter((check) => !check.works);
  assertEquals(failed.map(({ name }) => name), [
    "network namespace with a loopback",
    "all of these but cgroup and time at once",
  ]);
  for (const { remedy } of failed) assertMatch(remedy ?? "", /sysctl -w user.max_net_namespaces/);
});
