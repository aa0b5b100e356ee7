import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

/** Where `npm run dev` finds the rest of the shop. */
const shop = process.env.SHOP ?? "http://127.0.0.1:8000";

export default defineConfig(({ command }) => ({
  base: command === "build" ? "/static/ui/" : "/",
  plugins: [react()],
  build: { target: "es2022", modulePreload: { polyfill: false }, assetsInlineLimit: 0 },
  server: {
    proxy: {
      "^/(api|admin|static|health)/": shop,
      "/ws/": { target: shop, ws: true },
    },
  },
  test: { environment: "happy-dom", setupFiles: "src/testing/setup.ts", restoreMocks: true },
}));
