import { useCallback, useMemo, useState } from 'react'

import type { Format } from '../format'
import type { Home } from '../home'
import { readEnergy, type EnergyHistory } from '../history'
import { periodOf, sumUp, type Per, type Period, type Slot } from '../period'
import { usePolled, useRevalidation } from '../polling'
import { Bars } from './Bars'

const CHOICES: Record<Per, { name: string; whole: string; before: string }> = {
  hour: { name: 'Hours', whole: 'day', before: 'the day before' },
  day: { name: 'Days', whole: 'month', before: 'the month before' },
  month: { name: 'Months', whole: 'year', before: 'the year before' },
}
/** The feed tells what has changed; this is for when it cannot. */
const REFRESH_MS = 60_000

interface EnergyProps {
  home: Home
  /** The browser's clock, ms. */
  now: number
  locales: readonly string[]
  format: Format
}

/** A day by hours, a month by days or a year by months, beside the one before, with what it costs. */
export function Energy({ home, now, locales, format }: EnergyProps) {
  const [per, setPer] = useState<Per>('hour')
  const [back, setBack] = useState(0)
  const today = new Date(now).toDateString()
  const period = useMemo(() => periodOf(per, back, new Date(today)), [per, back, today])
  const before = useMemo(() => periodOf(per, back + 1, new Date(today)), [per, back, today])
  const ask = useCallback(async () => ({ period, history: await readEnergy(period, before) }), [period, before])
  const { value, problem, again } = usePolled(ask, REFRESH_MS)
  // What was asked for before is not shown under another heading.
  const history = value?.period === period ? value.history : null
  useRevalidation(home, { stream: 'energy', from: history?.from ?? 0, to: history?.to ?? 0 }, again)
  const words = CHOICES[per]
  return (
    <section className="section" aria-labelledby="energy-heading" data-loaded={history !== null || undefined}>
      <div className="toolbar">
        <h2 id="energy-heading">{titleOf(period, locales)}</h2>
        <div className="choices" role="group" aria-label="Bars">
          {(Object.keys(CHOICES) as Per[]).map((choice) => (
            <button key={choice} aria-pressed={choice === per} onClick={() => (setPer(choice), setBack(0))}>
              {CHOICES[choice].name}
            </button>
          ))}
        </div>
        <div className="choices" role="group" aria-label={`Which ${words.whole}`}>
          <button onClick={() => setBack(back + 1)} aria-label={`The ${words.whole} before`}>
            ‹
          </button>
          <button onClick={() => setBack(back - 1)} disabled={back === 0} aria-label={`The ${words.whole} after`}>
            ›
          </button>
        </div>
      </div>
      {problem !== null && <p className="problem">{problem}</p>}
      {history === null ? (
        problem === null && <p className="empty">Looking…</p>
      ) : history.slots.every((slot) => slot.kwh === null && slot.before === null) ? (
        <p className="empty">
          No meter has told anything of this {words.whole}, nor of {words.before}.
        </p>
      ) : (
        <>
          <Sums history={history} before={words.before} locales={locales} format={format} />
          <Bars
            slots={history.slots}
            names={history.slots.map((slot, n) => nameOf(per, slot, n, locales))}
            labels={history.slots.map((_, n) => labelOf(per, n, locales))}
            format={format}
          />
          <p className="legend">
            <span data-mark="now" /> this {words.whole} <span data-mark="before" /> {words.before}{' '}
            <span data-mark="gap" /> estimated: no reading came meanwhile
          </p>
        </>
      )}
    </section>
  )
}

function Sums({ history, before, locales, format }: { history: EnergyHistory; before: string; locales: readonly string[]; format: Format }) {
  const totals = sumUp(history.slots)
  return (
    <dl className="sums">
      <div>
        <dt>Energy</dt>
        <dd data-testid="energy-total">{format.number(totals.kwh, 'kWh')} kWh</dd>
      </div>
      {totals.change !== null && (
        <div>
          <dt title="Hours, days or months that are over and known of both">Against {before}</dt>
          <dd>{new Intl.NumberFormat([...locales], { style: 'percent', signDisplay: 'exceptZero' }).format(totals.change).replace('-', '−')}</dd>
        </div>
      )}
      {history.cost !== null && (
        <div>
          <dt>Cost</dt>
          <dd data-testid="energy-cost">
            {format.money(history.cost.amount, history.cost.currency)}
          </dd>
        </div>
      )}
      {totals.gapKwh > 0.05 && (
        <div>
          <dt>Of it estimated</dt>
          <dd>{format.number(totals.gapKwh, 'kWh')} kWh</dd>
        </div>
      )}
    </dl>
  )
}

function titleOf({ per, start }: Period, locales: readonly string[]): string {
  const date = new Date(`${start}T12:00`)
  const styles: Record<Per, Intl.DateTimeFormatOptions> = {
    hour: { weekday: 'long', day: 'numeric', month: 'long' },
    day: { month: 'long', year: 'numeric' },
    month: { year: 'numeric' },
  }
  return new Intl.DateTimeFormat([...locales], styles[per]).format(date)
}

function nameOf(per: Per, slot: Slot, n: number, locales: readonly string[]): string {
  if (per === 'hour') {
    const at = slot.start === null ? new Date(2026, 0, 1, n) : new Date(slot.start)
    return new Intl.DateTimeFormat([...locales], { timeStyle: 'short' }).format(at)
  }
  return per === 'day' ? String(n + 1) : monthOf(n, 'long', locales)
}

/** As many as a phone has room for. */
function labelOf(per: Per, n: number, locales: readonly string[]): string {
  if (per === 'hour') return n % 6 === 0 ? String(n) : ''
  if (per === 'day') return n % 7 === 0 ? String(n + 1) : ''
  return monthOf(n, 'narrow', locales)
}

function monthOf(n: number, month: 'long' | 'narrow', locales: readonly string[]): string {
  return new Intl.DateTimeFormat([...locales], { month }).format(new Date(2026, n, 15))
}
