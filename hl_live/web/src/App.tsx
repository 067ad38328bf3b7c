import { useEffect, useSyncExternalStore } from 'react'

import { Footer } from './components/Footer'
import { Header } from './components/Header'
import { Lost } from './components/Lost'
import { Now } from './components/Now'
import { Views } from './components/Views'
import { Waiting } from './components/Waiting'
import type { Format } from './format'
import type { Home } from './home'
import { useLater } from './later'
import { useView } from './view'

interface AppProps {
  home: Home
  format: Format
}

const loadOthers = () => import('./components/others')

/** The page: how fresh everything is, and one of its views. */
export function App({ home, format }: AppProps) {
  useSyncExternalStore(home.subscribe, () => home.version)
  const view = useView()
  const connection = home.connection
  const others = useLater(loadOthers, view !== 'now' || home.streams.some(({ loaded }) => loaded))

  useEffect(() => {
    document.title = connection.kind === 'lost' ? 'Connection lost · Home now' : 'Home now'
  }, [connection.kind])

  return (
    <div className="page" data-connection={connection.kind}>
      <Header connection={connection} delay={home.delay} now={home.browserNow()} format={format} />
      {connection.kind === 'lost' && home.ready && (
        <Lost connection={connection} now={home.browserNow()} format={format} onRetry={home.retryNow} />
      )}
      <Views current={view} />
      {view !== 'now' ? (
        <main>
          {others === null ? (
            <p className="empty section">Looking…</p>
          ) : view === 'energy' ? (
            <others.Energy home={home} now={home.browserNow()} locales={navigator.languages} format={format} />
          ) : view === 'climate' ? (
            <others.Climate now={home.browserNow()} locales={navigator.languages} format={format} />
          ) : (
            <others.Pipeline format={format} />
          )}
        </main>
      ) : home.ready ? (
        <Now home={home} format={format} />
      ) : (
        <Waiting problem={home.problem} connection={connection} now={home.browserNow()} format={format} onRetry={home.retryNow} />
      )}
      <Footer />
    </div>
  )
}
