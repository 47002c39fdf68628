// Whether supplementary groups can be changed in a user namespace.

import { assertEquals } from "@std/assert";
import { Namespace } from "../../mod.ts";
import { stdoutOf } from "../support/cli.ts";
import { isolatedTest } from "../support/leaks.ts";
import { runAs, USERS } from "../support/nobody.ts";

const SETGROUPS = ["cat", "/proc/self/setgroups"] as const;

for (const user of USERS) {
  isolatedTest(`privateUser.setgroups says whether groups can be changed, as ${user}`, async () => {
    const results = await runAs(user, [
      { options: { privateUser: true }, argv: SETGROUPS },
      { options: { privateUser: { uid: 0, gid: 0, setgroups: "deny" } }, argv: SETGROUPS },
      { options: { privateUser: { uid: 0, gid: 0, setgroups: "allow" } }, argv: SETGROUPS },
      {
        options: { privateUser: { uid: 0, gid: 0, setgroups: "deny" } },
        argv: ["id", "-g"],
        commandOptions: { gid: 0 },
      },
    ]);
    const isRoot = user === "root";
    assertEquals(results.map(({ code }) => code), [0, 0, isRoot ? 0 : -1, 0]);
    assertEquals(results.map(({ stdout }) => stdout), [
      isRoot ? "allow\n" : "deny\n",
      "deny\n",
      isRoot ? "allow\n" : "",
      "0\n",
    ]);
    // The kernel keeps the map of groups from who would have to give setgroups(2) up, and has not.
    assertEquals(results[2]!.error?.code, isRoot ? undefined : "EPERM");
  });

  Deno.test(`nsrun --setgroups implies a user namespace, as ${user}`, async () => {
    assertEquals(await stdoutOf(["--setgroups", "deny", ...SETGROUPS], { user }), "deny\n");
    assertEquals(
      await stdoutOf(["--setgroups", "deny", "-U=self", "id", "-u"], { user }),
      user === "root" ? "0\n" : "65534\n",
    );
  });
}

isolatedTest("setgroups can be denied in what is built", async () => {
  const path = Deno.makeTempFileSync();
  try {
    await new Namespace({ privateUser: { setgroups: "deny" } }).build("cat", {
      args: ["/proc/self/setgroups"],
      output: path,
      unsetEnv: ["HOME"],
    });
    const { stdout } = await new Deno.Command(path).output();
    assertEquals(new TextDecoder().decode(stdout), "deny\n");
  } finally {
    Deno.removeSync(path);
  }
});
