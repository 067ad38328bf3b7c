import react from '@vitejs/plugin-react'
import { defineConfig } from 'vitest/config'

// Where `npm run dev` finds the live service.
const LIVE = 'http://127.0.0.1:8000'

export default defineConfig({
  base: '/',
  plugins: [react()],
  build: {
    outDir: 'dist',
    // Inlined data: URLs would need a wider content security policy than 'self'.
    assetsInlineLimit: 0,
    // The polyfill is an inline script, and every browser that runs the rest knows module preload.
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: {
      '/api': LIVE,
      '/ws': { target: LIVE, ws: true },
    },
  },
  test: { include: ['src/**/*.test.ts'] },
})
