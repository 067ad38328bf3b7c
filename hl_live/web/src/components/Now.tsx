import { useCallback } from 'react'

import type { Format } from '../format'
import type { Home } from '../home'
import { usePolled, useRevalidation } from '../polling'
import type { Stream } from '../stream'
import { readToday } from '../today'
import { Devices } from './Devices'
import { HeatPump } from './HeatPump'
import { Rooms } from './Rooms'
import { Totals } from './Totals'

interface NowProps {
  home: Home
  format: Format
}

/** Streams with a form of their own, if they are declared with the fields that it shows. */
const OWN_FORM: Record<string, string> = {
  energy: 'power_kw',
  heatpump: 'mode',
  temperature: 'temperature',
}
/** What the day has brought changes slowly; late readings are told by the feed. */
const REFRESH_MS = 60_000

/** Power above, heat pump and rooms below it, then whatever else the house has. */
export function Now({ home, format }: NowProps) {
  const now = home.now()
  const date = new Date(home.browserNow()).toDateString()
  const ask = useCallback(() => readToday(home, new Date(date)), [home, date])
  const { value: today, again } = usePolled(ask, REFRESH_MS)
  useRevalidation(home, { stream: 'energy', from: today?.from ?? 0, to: today?.to ?? 0 }, again)

  const find = (name: string) => home.streams.find((stream) => stream.name === name && hasOwnForm(stream))
  const energy = find('energy')
  const heatpump = find('heatpump')
  const temperature = find('temperature')
  const others = home.streams.filter((stream) => !hasOwnForm(stream))
  const isEmpty = home.streams.every((stream) => stream.loaded && stream.devices.size === 0)

  return (
    <main>
      {isEmpty && (
        <p className="hint">
          The house is quiet. To see a home at once, run <code>hl simulate</code>.
        </p>
      )}
      {energy && (
        <Devices stream={energy} title="Power" now={now} format={format} hero>
          <Totals stream={energy} today={today} now={now} format={format} />
        </Devices>
      )}
      {(heatpump ?? temperature) && (
        <div className="pair">
          {heatpump && <HeatPump stream={heatpump} today={today} now={now} format={format} />}
          {temperature && <Rooms stream={temperature} now={now} format={format} />}
        </div>
      )}
      {others.map((stream) => (
        <Devices key={stream.name} stream={stream} title={stream.declaration.title} now={now} format={format} />
      ))}
    </main>
  )
}

function hasOwnForm(stream: Stream): boolean {
  const field = OWN_FORM[stream.name]
  return field !== undefined && stream.declaration.fields.some(({ name }) => name === field)
}
