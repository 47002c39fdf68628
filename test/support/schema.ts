/**
 * The JSON schema of `nsrun --config`, made from the options' own types and docstrings: `deno task schema` writes it.
 *
 * @module
 */

import { CAPABILITIES } from "../../src/abi/capabilities.ts";
import { RESOURCES } from "../../src/abi/resources.ts";

/** Where it is. */
export const SCHEMA_FILE: URL = new URL("../../src/cli/config.schema.json", import.meta.url);

interface Type {
  readonly kind: string;
  // deno-lint-ignore no-explicit-any -- by its kind
  readonly value?: any;
}

/** An interface. */
interface Shape {
  readonly extends?: readonly Type[];
  readonly properties: readonly Property[];
}

interface Property {
  readonly name: string;
  readonly optional?: boolean;
  readonly jsDoc?: { readonly doc?: string };
  readonly tsType: Type;
}

type Schema = Record<string, unknown>;

/** Of a command line, what has no type of this package. */
const OTHERS: Schema = {
  $schema: { type: "string", description: "Where this schema is, for editors." },
  command: { type: "string", description: "What is to be run, unless the command line says." },
  args: { type: "array", items: { type: "string" }, description: "Its arguments, where the command is that above." },
  sandbox: { type: "boolean", description: "The other options are in place of those of --sandbox." },
  clearEnv: { type: "boolean", description: "It gets no variables but those of env." },
  cwd: { type: "string", description: "The folder it starts in." },
  uid: { type: "number", description: "Become this user before it starts." },
  gid: { type: "number", description: "The same for a group." },
  timeoutMs: { type: "number", exclusiveMinimum: 0, description: "Milliseconds that it may take." },
};
/** Types that are lists of names, and those that JSON has nothing for. */
const KNOWN: ReadonlyMap<string, Schema | undefined> = new Map<string, Schema | undefined>([
  ["CapabilityName", { enum: CAPABILITIES }],
  ["ResourceName", { enum: RESOURCES }],
  // Nobody is there to have the other end of a pipe, and the launcher gives a descriptor no other number.
  ["DescriptorOption", { const: "inherit" }],
  ["Uint8Array", undefined],
  ["bigint", undefined],
  ["undefined", undefined],
]);

/** Makes the schema, as the text that the file is to have. */
export async function makeSchema(): Promise<string> {
  const source = new URL("../../src/", import.meta.url);
  const files = [...Deno.readDirSync(source)].map(({ name }) => name).filter((name) => /^options.*\.ts$/.test(name))
    .sort();
  const paths = [...files, "command_options.ts"].map((name) => new URL(name, source).pathname);
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["doc", "--json", ...paths] }).output();
  const { nodes } = JSON.parse(new TextDecoder().decode(stdout));
  const interfaces = new Map<string, Shape>();
  const aliases = new Map<string, Type>();
  // deno-lint-ignore no-explicit-any -- by its kind
  for (const { name, declarations } of Object.values<any>(nodes).flatMap(({ symbols }) => symbols)) {
    const [{ kind, def }] = declarations;
    if (kind === "interface") interfaces.set(name, def);
    if (kind === "typeAlias") aliases.set(name, def.tsType);
  }
  const propertiesOf = (shape: Shape): readonly Property[] => [
    ...shape.properties,
    ...(shape.extends ?? []).flatMap(({ value }) => {
      const base = interfaces.get(value.typeName);
      return base === undefined ? [] : propertiesOf(base);
    }),
  ];
  const object = (properties: readonly Property[]): Schema =>
    Object.fromEntries(properties.map(({ name, jsDoc, tsType }) => [name, {
      ...schemaOf(tsType),
      ...(jsDoc?.doc === undefined ? {} : { description: plain(jsDoc.doc) }),
    }]));
  const shapeSchema = (properties: readonly Property[]): Schema => {
    const required = properties.filter(({ optional }) => !optional).map(({ name }) => name);
    return {
      type: "object",
      properties: object(properties),
      ...(required.length === 0 ? {} : { required }),
      additionalProperties: false,
    };
  };
  const nameOf = ({ kind, value }: Type): string | undefined =>
    kind === "typeRef" ? value.typeName : kind === "keyword" ? value : undefined;
  const schemaOf = (type: Type): Schema => {
    const { kind, value } = type;
    const known = KNOWN.get(nameOf(type) ?? "");
    if (known !== undefined) return known;
    switch (kind) {
      case "keyword":
        return { type: value };
      case "literal":
        return { const: value[value.kind] };
      case "array":
        return { type: "array", items: schemaOf(value) };
      case "typeOperator":
        return schemaOf(value.tsType);
      case "parenthesized":
        return schemaOf(value);
      case "union": {
        const members = (value as Type[]).filter((type) => {
          const name = nameOf(type);
          return name === undefined || !KNOWN.has(name) || KNOWN.get(name) !== undefined;
        }).map(schemaOf);
        return members.length === 1 ? members[0]! : { anyOf: members };
      }
      case "typeLiteral":
        return shapeSchema(value.properties);
      case "tuple":
        return { type: "array", prefixItems: value.map(schemaOf), items: false, minItems: value.length };
      case "mapped":
        return {
          type: "object",
          additionalProperties: schemaOf(value.tsType),
          propertyNames: schemaOf(value.typeParam.constraint),
        };
      case "typeRef": {
        const shape = interfaces.get(value.typeName);
        if (shape !== undefined) return shapeSchema(propertiesOf(shape));
        if (value.typeName === "Readonly") return schemaOf(value.typeParams[0]);
        if (value.typeName === "Record") {
          return { type: "object", additionalProperties: schemaOf(value.typeParams[1]) };
        }
        const alias = aliases.get(value.typeName);
        return alias === undefined ? {} : schemaOf(alias);
      }
      default:
        return {}; // Whatever it is, the options are checked again.
    }
  };
  const own = interfaces.get("CommandOptions")!;
  const schema = {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "nsrun --config",
    type: "object",
    properties: {
      ...OTHERS,
      ...object(own.properties),
      ...object(propertiesOf(interfaces.get("NamespaceOptions")!)),
    },
    additionalProperties: false,
  };
  return `${JSON.stringify(schema, null, 2)}\n`;
}

/** A docstring without its tags and examples. */
function plain(doc: string): string {
  return doc.split(/(?:^|\s)@(?:default|example|param|returns|see|throws)\b/)[0]!.replaceAll(
    /\{@linkcode (?:\w+\.)?(\w+)\}/g,
    "$1",
  ).replaceAll(/\s+/g, " ")
    .trim();
}

if (import.meta.main) Deno.writeTextFileSync(SCHEMA_FILE, await makeSchema());
