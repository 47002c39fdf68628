import { registerTest } from "./side_by_side.ts";

registerTest("second", "first");
