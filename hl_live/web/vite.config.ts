import react from '@vitejs/plugin-react'
import type { Plugin } from 'vite'
import { defineConfig } from 'vitest/config'

// Where `npm run dev` finds the live service.
const LIVE = 'http://127.0.0.1:8000'

/** Runs src/first.ts at once: as a mere part of the page's script it would wait until all of that has been read. */
const firstAtOnce: Plugin = {
  name: 'first-at-once',
  transformIndexHtml: {
    order: 'post',
    handler(_html, { bundle }) {
      const first = Object.values(bundle ?? {}).find((file) => file.name === 'first')
      if (first === undefined) return []
      const attrs = { type: 'module', async: true, crossorigin: true, src: `/${first.fileName}` }
      return [{ tag: 'script', attrs, injectTo: 'head-prepend' }]
    },
  },
}

export default defineConfig({
  base: '/',
  plugins: [react(), firstAtOnce],
  build: {
    outDir: 'dist',
    // Inlined data: URLs would need a wider content security policy than 'self'.
    assetsInlineLimit: 0,
    // The polyfill is an inline script, and every browser that runs the rest knows module preload.
    modulePreload: { polyfill: false },
    rolldownOptions: { input: { index: 'index.html', first: 'src/first.ts' } },
  },
  server: {
    proxy: {
      '/api': LIVE,
      '/ws': { target: LIVE, ws: true },
    },
  },
  test: { include: ['src/**/*.test.ts'] },
})
