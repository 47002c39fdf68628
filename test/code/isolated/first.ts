import { registerTest } from "./side_by_side.ts";

registerTest("first", "second");
