import { useEffect, useSyncExternalStore } from 'react'

import { Climate } from './components/Climate'
import { Devices } from './components/Devices'
import { Energy } from './components/Energy'
import { Footer } from './components/Footer'
import { Header } from './components/Header'
import { HeatPump } from './components/HeatPump'
import { Lost } from './components/Lost'
import { Pipeline } from './components/Pipeline'
import { Rooms } from './components/Rooms'
import { Views } from './components/Views'
import { Waiting } from './components/Waiting'
import type { Format } from './format'
import type { Home } from './home'
import type { Stream } from './stream'
import { useView } from './view'

interface AppProps {
  home: Home
  format: Format
}

/** Streams with a form of their own, if they are declared with the fields that it shows. */
const OWN_FORM: Record<string, string> = {
  energy: 'power_kw',
  heatpump: 'mode',
  temperature: 'temperature',
}

/** The page: power above, heat pump and rooms below it, then whatever else the house has. */
export function App({ home, format }: AppProps) {
  useSyncExternalStore(home.subscribe, () => home.version)
  const view = useView()
  const connection = home.connection
  const now = home.now()

  useEffect(() => {
    document.title = connection.kind === 'lost' ? 'Connection lost · Home now' : 'Home now'
  }, [connection.kind])

  const find = (name: string) => home.streams.find((stream) => stream.name === name && hasOwnForm(stream))
  const energy = find('energy')
  const heatpump = find('heatpump')
  const temperature = find('temperature')
  const others = home.streams.filter((stream) => !hasOwnForm(stream))

  const isEmpty = home.streams.every((stream) => stream.loaded && stream.devices.size === 0)

  return (
    <div className="page" data-connection={connection.kind}>
      <Header connection={connection} delay={home.delay} now={home.browserNow()} format={format} />
      {connection.kind === 'lost' && home.ready && (
        <Lost connection={connection} now={home.browserNow()} format={format} onRetry={home.retryNow} />
      )}
      <Views current={view} />
      {view === 'energy' ? (
        <main>
          <Energy now={home.browserNow()} locales={navigator.languages} format={format} />
        </main>
      ) : view === 'climate' ? (
        <main>
          <Climate now={home.browserNow()} locales={navigator.languages} format={format} />
        </main>
      ) : view === 'pipeline' ? (
        <main>
          <Pipeline format={format} />
        </main>
      ) : home.ready ? (
        <main>
          {isEmpty && (
            <p className="hint">
              The house is quiet. To see a home at once, run <code>hl simulate</code>.
            </p>
          )}
          {energy && <Devices stream={energy} title="Power" now={now} format={format} hero />}
          {(heatpump ?? temperature) && (
            <div className="pair">
              {heatpump && <HeatPump stream={heatpump} now={now} format={format} />}
              {temperature && <Rooms stream={temperature} now={now} format={format} />}
            </div>
          )}
          {others.map((stream) => (
            <Devices key={stream.name} stream={stream} title={stream.declaration.title} now={now} format={format} />
          ))}
        </main>
      ) : (
        <Waiting problem={home.problem} connection={connection} now={home.browserNow()} format={format} onRetry={home.retryNow} />
      )}
      <Footer />
    </div>
  )
}

function hasOwnForm(stream: Stream): boolean {
  const field = OWN_FORM[stream.name]
  return field !== undefined && stream.declaration.fields.some(({ name }) => name === field)
}
