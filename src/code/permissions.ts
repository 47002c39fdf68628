/**
 * Permissions as flags of `deno run`.
 *
 * @module
 */

import { REPLY_PATH, REQUEST_PATH } from "./bootstrap.ts";

/** What code may do inside: as `deno.permissions` of a Worker. */
export type CodePermissions = "inherit" | "none" | Deno.PermissionOptionsObject;

const NAMES = ["read", "write", "net", "env", "run", "sys", "ffi", "import"] as const;
type Name = typeof NAMES[number];

/** Flags for a child, and what of them is for the channel alone. */
export interface PermissionFlags {
  readonly flags: readonly string[];
  /** To be revoked before the code runs. */
  readonly revoke: readonly Deno.PermissionDescriptor[];
}

/**
 * Permissions as flags, with those that the channel needs.
 *
 * @param permissions What was asked for.
 * @param importsRemote Whether the code is itself a remote module.
 * @throws {TypeError} When they are no permissions.
 */
export function permissionFlags(permissions: CodePermissions, importsRemote: boolean): PermissionFlags {
  const granted = new Map<Name, true | readonly string[]>();
  if (permissions === "inherit") {
    for (const name of NAMES) if (isGranted(name)) granted.set(name, true);
  } else if (permissions !== "none") {
    for (const [name, value] of Object.entries(checkObject(permissions))) {
      const grant = grantOf(name as Name, value);
      if (grant !== undefined) granted.set(name as Name, grant);
    }
  }
  // It is more than the sum of all: some files in /proc and /dev need it.
  if (NAMES.every((name) => granted.get(name) === true)) return { flags: ["--allow-all"], revoke: [] };
  const revoke = [
    ...addPath(granted, "read", REQUEST_PATH),
    ...addPath(granted, "write", REPLY_PATH),
  ];
  const flags = [...granted].map(([name, grant]) =>
    grant === true ? `--allow-${name}` : `--allow-${name}=${grant.join(",")}`
  );
  // Without it Deno lets everybody import from some hosts.
  if (permissions !== "inherit" && !granted.has("import") && !importsRemote) flags.push("--deny-import");
  return { flags, revoke };
}

/** Whether this process has all of a permission. A part of it cannot be read, so it cannot be passed on. */
function isGranted(name: Name): boolean {
  const { state, partial } = Deno.permissions.querySync({ name } as Deno.PermissionDescriptor);
  return state === "granted" && !partial;
}

function checkObject(permissions: unknown): Record<string, unknown> {
  if (typeof permissions !== "object" || permissions === null || Array.isArray(permissions)) {
    throw new TypeError(
      `Option "permissions" must be "inherit", "none" or an object: got ${Deno.inspect(permissions)}`,
    );
  }
  for (const name of Object.keys(permissions)) {
    if (!NAMES.includes(name as Name)) throw new TypeError(`Option "permissions" has no "${name}"`);
  }
  return permissions as Record<string, unknown>;
}

function grantOf(name: Name, value: unknown): true | readonly string[] | undefined {
  if (value === undefined || value === false) return undefined;
  if (value === true) return true;
  if (value === "inherit") return isGranted(name) ? true : undefined;
  if (!Array.isArray(value)) {
    throw new TypeError(
      `Option "permissions.${name}" must be a boolean, "inherit" or a list: got ${Deno.inspect(value)}`,
    );
  }
  const entries = Array.from(value, (entry: unknown) => {
    const text = entry instanceof URL && entry.protocol === "file:"
      ? decodeURIComponent(entry.pathname)
      : String(entry);
    if (text === "" || /[\0,]/.test(text)) { // Deno splits lists at commas, and there is no way around that.
      throw new TypeError(`Option "permissions.${name}" has an entry that cannot be: ${JSON.stringify(text)}`);
    }
    return text;
  });
  return entries.length === 0 ? undefined : entries;
}

/** Allows a path where it is not allowed; returns what is to be revoked later. */
function addPath(
  granted: Map<Name, true | readonly string[]>,
  name: "read" | "write",
  path: string,
): Deno.PermissionDescriptor[] {
  const grant = granted.get(name) ?? [];
  // To revoke a path would revoke the folders that it is in, too.
  if (grant === true || grant.some((entry) => covers(entry, path))) return [];
  granted.set(name, [...grant, path]);
  return [{ name, path }];
}

function covers(entry: string, path: string): boolean {
  if (!entry.startsWith("/")) return entry.split("/").every((part) => part === "." || part === ".." || part === "");
  const { pathname } = new URL(`file://${encodeURI(entry)}`);
  return path === pathname || path.startsWith(pathname.endsWith("/") ? pathname : `${pathname}/`);
}
