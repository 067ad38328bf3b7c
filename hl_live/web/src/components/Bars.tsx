import { useState } from 'react'

import type { Format } from '../format'
import type { Slot } from '../period'
import { decimalsOf, roundUp } from '../scale'

interface BarsProps {
  slots: readonly Slot[]
  /** Of each slot, in words, such as "13:00" or "3 January". */
  names: readonly string[]
  /** What stands below it; empty where there is no room. */
  labels: readonly string[]
  format: Format
}

/** Energy by slot: what moved as a bar, what was only estimated hatched, and the period before behind it. */
export function Bars({ slots, names, labels, format }: BarsProps) {
  const [pointed, setPointed] = useState<number | null>(null)
  const most = Math.max(0.001, ...slots.flatMap((slot) => [Math.abs(slot.kwh ?? 0), Math.abs(slot.before ?? 0)]))
  // The highest bar is as high as the plot, whatever the next round number would be.
  const step = roundUp(most / 4)
  const lines = Array.from({ length: Math.floor(most / step + 1e-9) + 1 }, (_, n) => n * step)
  const digits = decimalsOf(lines)
  const share = (kwh: number | null) => `${(Math.abs(kwh ?? 0) / most) * 100}%`
  return (
    <div className="bars-frame">
      <p className="bars-point" aria-hidden="true">
        {pointed === null ? 'kWh' : `${names[pointed]}: ${inWords(slots[pointed]!, format)}`}
      </p>
      <div className="bars-plot" aria-hidden="true" onMouseLeave={() => setPointed(null)}>
        {lines.map((kwh) => (
          <span key={kwh} className="bars-line" style={{ bottom: share(kwh) }}>
            <span>{format.fixed(kwh, digits)}</span>
          </span>
        ))}
        <ol className="bars">
          {slots.map((slot, n) => (
            <li key={n} data-known={slot.kwh !== null || undefined} onMouseEnter={() => setPointed(n)}>
              <span className="bar-before" style={{ height: share(slot.before) }} />
              <span className="bar" data-provisional={slot.provisional || undefined} style={{ height: share(slot.kwh) }}>
                <span className="bar-gap" style={{ height: slot.kwh ? share(slot.gapKwh * (most / Math.abs(slot.kwh))) : '0' }} />
              </span>
              <span className="bar-label">{labels[n]}</span>
            </li>
          ))}
        </ol>
      </div>
      <details className="others">
        <summary>As a table</summary>
        <table>
          <thead>
            <tr>
              <th scope="col">Time</th>
              <th scope="col">kWh</th>
              <th scope="col">of it estimated</th>
              <th scope="col">period before</th>
            </tr>
          </thead>
          <tbody>
            {slots.map((slot, n) => (
              <tr key={n}>
                <th scope="row">{names[n]}</th>
                <td>{kwhOf(slot.kwh, format)}</td>
                <td>{slot.gapKwh > 0 ? kwhOf(slot.gapKwh, format) : ''}</td>
                <td>{kwhOf(slot.before, format)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </div>
  )
}

function kwhOf(kwh: number | null, format: Format): string {
  return kwh === null ? '–' : format.number(kwh, 'kWh')
}

function inWords(slot: Slot, format: Format): string {
  if (slot.kwh === null) return 'nothing known'
  const parts = [`${format.number(slot.kwh, 'kWh')} kWh`]
  if (slot.gapKwh > 0.05) parts.push(`${format.number(slot.gapKwh, 'kWh')} estimated`)
  if (slot.provisional) parts.push('so far')
  if (slot.before !== null) parts.push(`before: ${format.number(slot.before, 'kWh')}`)
  return parts.join(', ')
}
