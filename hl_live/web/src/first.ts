/**
 * Asks for what the first view shows, before the browser has read the page's own script, which is far larger.
 * vite.config.ts makes it a script of its own; the page takes the answers from here.
 */

import { httpApi, type Api, type Newest } from './api'

let streams: ReturnType<Api['streams']> | null = httpApi.streams()
const newest = new Map<string, Promise<Newest>>()

streams.then(
  (declared) => {
    for (const { name } of declared) {
      const asked = httpApi.latest(name)
      newest.set(name, asked)
      // Whoever takes it hears of a failure; nobody has to.
      asked.catch(() => {})
    }
  },
  () => {},
)

/** The service; what was asked for at the begin is not asked for twice. */
export const pageApi: Api = {
  ...httpApi,
  streams() {
    const asked = streams ?? httpApi.streams()
    streams = null
    return asked
  },
  latest(stream) {
    const asked = newest.get(stream) ?? httpApi.latest(stream)
    newest.delete(stream)
    return asked
  },
}
