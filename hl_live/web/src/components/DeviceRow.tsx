import { useId, type CSSProperties } from 'react'

import type { Device } from '../device'
import { fieldLabel, humanize, type Format } from '../format'
import type { Stream } from '../stream'
import type { FieldDeclaration, Value } from '../types'
import { Age } from './Age'
import { Curve } from './Curve'

interface DeviceRowProps {
  stream: Stream
  device: Device
  /** Of the device; tells React that it has changed. */
  version: number
  now: number
  format: Format
  hue: number
  /** The last of its section: it carries the time axis. */
  last: boolean
}

/** One device: its name, its main value in large figures, its curve, and its other values. */
export function DeviceRow({ stream, device, version, now, format, hue, last }: DeviceRowProps) {
  const nameId = useId()
  const main = stream.curveField
  const others = stream.declaration.fields.filter((field) => field.name !== main?.name)
  const data = device.latest?.data ?? {}
  const stale = device.isStale(now)
  const name = humanize(device.id)
  return (
    <article
      className="device"
      aria-labelledby={nameId}
      data-device={device.id}
      data-stale={stale || undefined}
      style={{ '--hue': `var(--device-${hue})` } as CSSProperties}
    >
      <div className="device-name">
        <h3 id={nameId}>{name}</h3>
        <Age device={device} now={now} format={format} />
      </div>
      {main !== null && (
        <p className="figure" data-testid="figure">
          <Quantity field={main} value={data[main.name] ?? null} format={format} />
        </p>
      )}
      {main !== null && device.series !== null && (
        <Curve
          series={device.series}
          version={version}
          now={now}
          breakMs={device.staleAfterMs}
          name={`${fieldLabel(main.name)} of ${name}`}
          unit={main.unit}
          format={format}
          withTime={last}
          stale={stale}
        />
      )}
      <dl className="details">
        {others.map((field) => (
          <div key={field.name}>
            <dt title={field.description}>{fieldLabel(field.name)}</dt>
            <dd>
              <Quantity field={field} value={data[field.name] ?? null} format={format} />
            </dd>
          </div>
        ))}
      </dl>
    </article>
  )
}

interface QuantityProps {
  field: Pick<FieldDeclaration, 'unit'>
  value: Value
  format: Format
}

/** A value and its unit; a dash where the device did not say. */
export function Quantity({ field, value, format }: QuantityProps) {
  if (value === null) return <span className="none">–</span>
  if (typeof value === 'boolean') return <span>{value ? 'yes' : 'no'}</span>
  if (typeof value === 'string') return <span>{humanize(value)}</span>
  return (
    <>
      <span className="number">{format.number(value, field.unit)}</span>
      {field.unit !== '' && <span className="unit">{` ${field.unit}`}</span>}
    </>
  )
}
