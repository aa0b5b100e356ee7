import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

import { compress } from "./compress.ts";

/** Where `npm run dev` finds the rest of the shop. */
const shop = process.env.SHOP ?? "http://127.0.0.1:8000";

/** What is built runs on Preact, by its package for what is written for React: less than half of the script, and sooner. */
const preact = [
  { find: "react-dom/client", replacement: "preact/compat/client" },
  { find: /^react(-dom)?$/, replacement: "preact/compat" },
  { find: "react/jsx-runtime", replacement: "preact/jsx-runtime" },
];

export default defineConfig(({ command }) => ({
  base: command === "build" ? "/static/ui/" : "/",
  resolve: { alias: command === "build" ? preact : [] },
  plugins: [react(), compress()],
  build: { target: "es2022", modulePreload: { polyfill: false }, assetsInlineLimit: 0 },
  server: {
    proxy: {
      "^/(api|admin|static|health)/": shop,
      "/ws/": { target: shop, ws: true },
    },
  },
  test: { environment: "happy-dom", setupFiles: "src/testing/setup.ts", restoreMocks: true },
}));
