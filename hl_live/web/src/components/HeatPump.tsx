import { useId, type CSSProperties } from 'react'

import { copOf, type PumpDay } from '../climate'
import type { Device } from '../device'
import { humanize, type Format } from '../format'
import { rangeAround, share } from '../scale'
import type { Stream } from '../stream'
import type { Today } from '../today'
import { Age } from './Age'
import { Quantity } from './DeviceRow'
import { Section } from './Section'

interface HeatPumpProps {
  stream: Stream
  today: Today | null
  now: number
  format: Format
}

/** What each heat pump does: its mode, how far it is from its target, compressor and power. */
export function HeatPump({ stream, today, now, format }: HeatPumpProps) {
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
        <Pump key={device.id} device={device} day={today?.pumps.get(device.id) ?? null} named={stream.shown.length > 1} now={now} format={format} />
      ))}
    </Section>
  )
}

interface PumpProps {
  device: Device
  /** What it has done today; null while that is not known. */
  day: PumpDay | null
  /** Whether there are several, so that each needs its name. */
  named: boolean
  now: number
  format: Format
}

function Pump({ device, day, named, now, format }: PumpProps) {
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
      <Day day={day} cop={running ? copOf(data.heat_output_kw, data.power_consumption_kw) : null} tells={data.heat_output_kw != null} format={format} />
    </article>
  )
}

interface DayProps {
  day: PumpDay | null
  /** Right now; null while it rests, or where it does not tell its heat. */
  cop: number | null
  /** Whether it tells the heat that it delivers. */
  tells: boolean
  format: Format
}

/** What it has done today, and how well. */
function Day({ day, cop, tells, format }: DayProps) {
  const cops = [...(cop === null ? [] : [`now ${format.number(cop, 'COP')}`]), ...(day?.cop == null ? [] : [`today ${format.number(day.cop, 'COP')}`])]
  return (
    <dl className="details pump-day">
      <Fact name="Ran today" value={day?.hours ?? null} unit="h" format={format} />
      <Fact name="Starts today" value={day?.starts ?? null} unit="" format={format} />
      <Fact name="Drew today" value={day?.kwh ?? null} unit="kWh" format={format} />
      <div>
        <dt title="Coefficient of performance: heat delivered for each kWh drawn">COP</dt>
        <dd data-testid="cop">
          {cops.length > 0 ? cops.join(', ') : <span className="none">{tells ? '–' : 'it does not tell its heat'}</span>}
        </dd>
      </div>
    </dl>
  )
}

function Fact({ name, value, unit, format }: { name: string; value: number | null; unit: string; format: Format }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <Quantity field={{ unit }} value={value} format={format} />
      </dd>
    </div>
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
