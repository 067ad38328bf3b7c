/** The real browser behind the interfaces of the store. */

import { realClock } from './clock'
import { pageApi } from './first'
import { Home, type Screen } from './home'
import { openSocket } from './token'

const screen: Screen = {
  nextFrame: (run) => requestAnimationFrame(run),
  afterPaint(run) {
    // A message posted from a frame's callback is delivered once that frame has been painted.
    const { port1, port2 } = new MessageChannel()
    port1.addEventListener('message', () => {
      port1.close()
      run()
    })
    port1.start()
    port2.postMessage(null)
  },
  visible: () => document.visibilityState === 'visible',
}

/** The page's state on this browser, connected to the service that served the page. */
export function startHome(): Home {
  const home = new Home({
    api: pageApi,
    clock: realClock,
    random: Math.random,
    screen,
    openSocket() {
      const url = new URL('/api/v1/feed', location.href)
      url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:'
      return openSocket(url)
    },
  })
  document.addEventListener('visibilitychange', () => {
    if (screen.visible()) home.wake()
    else home.sleep()
  })
  addEventListener('online', () => home.wake())
  home.start()
  return home
}
