import type { Format } from '../format'
import type { Stream } from '../stream'
import type { Today } from '../today'
import { Quantity } from './DeviceRow'

interface TotalsProps {
  stream: Stream
  today: Today | null
  /** The service's clock, ms. */
  now: number
  format: Format
}

/** All meters together: their power now, and what the day has brought and cost. */
export function Totals({ stream, today, now, format }: TotalsProps) {
  const power = powerOf(stream, now)
  return (
    <dl className="sums totals">
      {stream.shown.length > 1 && (
        <div>
          <dt>{power.n < stream.shown.length ? `${power.n} of ${stream.shown.length} meters` : 'All meters'}</dt>
          <dd data-testid="power-total">
            <Quantity field={{ unit: 'kW' }} value={power.kw} format={format} />
          </dd>
        </div>
      )}
      <div>
        <dt>Today</dt>
        <dd data-testid="energy-today">
          <Quantity field={{ unit: 'kWh' }} value={today?.kwh ?? null} format={format} />
        </dd>
      </div>
      <div>
        <dt>Cost today</dt>
        <dd data-testid="cost-today">
          {today?.cost != null ? format.money(today.cost.amount, today.cost.currency) : today === null ? <span className="none">–</span> : <NoPrice />}
        </dd>
      </div>
    </dl>
  )
}

function NoPrice() {
  return (
    <span className="no-price">
      no price yet: <code>hl tariff set</code>
    </span>
  )
}

/** The sum over the meters that are not silent, and how many these are. */
function powerOf(stream: Stream, now: number): { kw: number | null; n: number } {
  const values = stream.shown
    .filter((device) => !device.isStale(now))
    .map((device) => device.latest?.data[stream.curveField?.name ?? ''])
    .filter((value) => typeof value === 'number')
  return { kw: values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0), n: values.length }
}
