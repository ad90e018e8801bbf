import { defineConfig } from "prisma/config";

// validate and generate connect to nothing.
export default defineConfig({ schema: "schema.prisma" });
