import { useId, type CSSProperties } from 'react'

import type { Device } from '../device'
import { humanize, type Format } from '../format'
import { rangeAround, share } from '../scale'
import type { Stream } from '../stream'
import { Age } from './Age'
import { Quantity } from './DeviceRow'
import { Section } from './Section'

interface HeatPumpProps {
  stream: Stream
  now: number
  format: Format
}

/** What each heat pump does: its mode, how far it is from its target, compressor and power. */
export function HeatPump({ stream, now, format }: HeatPumpProps) {
  return (
    <Section
      stream={stream}
      title={stream.declaration.title || 'Heat pump'}
      className="heatpump"
      thing="heat pump"
      now={now}
      format={format}
    >
      {stream.shown.map((device) => (
        <Pump key={device.id} device={device} named={stream.shown.length > 1} now={now} format={format} />
      ))}
    </Section>
  )
}

interface PumpProps {
  device: Device
  /** Whether there are several, so that each needs its name. */
  named: boolean
  now: number
  format: Format
}

function Pump({ device, named, now, format }: PumpProps) {
  const nameId = useId()
  const data = device.latest?.data ?? {}
  const mode = typeof data.mode === 'string' ? data.mode : ''
  const running = data.compressor_running === true
  return (
    <article
      className="pump"
      aria-labelledby={nameId}
      data-device={device.id}
      data-mode={mode}
      data-stale={device.isStale(now) || undefined}
    >
      <h3 id={nameId} className={named ? '' : 'visually-hidden'}>
        {humanize(device.id)}
      </h3>
      <Age device={device} now={now} format={format} />
      <div className="pump-head">
        <p className="pump-mode">{mode === '' ? '–' : humanize(mode)}</p>
        <p className="pump-power">
          <Quantity field={{ unit: 'kW' }} value={data.power_consumption_kw ?? null} format={format} />
        </p>
      </div>
      <p className="compressor" data-running={running || undefined}>
        <span className="rotor" aria-hidden="true" />
        Compressor {running ? 'running' : 'resting'}
      </p>
      <Towards actual={numberOf(data.actual_temp)} target={numberOf(data.target_temp)} format={format} />
    </article>
  )
}

interface TowardsProps {
  actual: number | null
  target: number | null
  format: Format
}

/** Actual and target temperature on one scale. */
function Towards({ actual, target, format }: TowardsProps) {
  const known = [actual, target].filter((value) => value !== null)
  const [low, high] = rangeAround(known, 5, 15)
  const at = (value: number) => ({ '--at': share(value, low, high) }) as CSSProperties
  return (
    <div className="towards">
      <dl className="towards-values">
        <div>
          <dt>Actual</dt>
          <dd>
            <Quantity field={{ unit: '°C' }} value={actual} format={format} />
          </dd>
        </div>
        <div>
          <dt>Target</dt>
          <dd>
            <Quantity field={{ unit: '°C' }} value={target} format={format} />
          </dd>
        </div>
      </dl>
      {known.length > 0 && (
        <div className="towards-scale" aria-hidden="true">
          {actual !== null && <span className="towards-actual" style={at(actual)} />}
          {target !== null && <span className="towards-target" style={at(target)} />}
          <span className="towards-end">{format.number(low, '')}°</span>
          <span className="towards-end">{format.number(high, '')}°</span>
        </div>
      )}
    </div>
  )
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' ? value : null
}
