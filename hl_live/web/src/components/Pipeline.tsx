import type { Format } from '../format'
import { readMoment, type Moment } from '../history'
import { usePolled } from '../polling'
import type { DelayView, StageView } from '../types'

const REFRESH_MS = 2_000
/** What a reading may take to get there, ms. */
const BUDGET_MS: Record<string, number> = { device_to_row: 500, device_to_frame: 100 }
const PLACES: Record<string, string> = { device_to_row: 'Device to row', device_to_frame: 'Device to screen' }
/** Lag of more records than this is worth a look; of more than ten times as many, a worry. */
const MUCH_LAG = 100

/** A reading's way, with how much flows, how long it takes and what needs a person. */
export function Pipeline({ format }: { format: Format }) {
  const { value, previous, problem } = usePolled(readMoment, REFRESH_MS)
  if (value === null) return <p className="empty section">{problem ?? 'Looking…'}</p>
  const { pipeline, deadLetters } = value
  const open = deadLetters.filter(({ state }) => state === 'new' || state === 'failed_again')
  const wrong = pipeline.balances.filter(({ n_records }) => n_records !== 0)
  return (
    <>
      {problem !== null && <p className="problem">{problem}</p>}
      {pipeline.alerts.map((alert) => (
        <p key={`${alert.service} ${alert.stream} ${alert.code}`} className="alert" role="alert">
          <strong>{alert.service}</strong> {alert.text}
        </p>
      ))}
      <section className="section" aria-labelledby="way-heading">
        <h2 id="way-heading">A reading’s way</h2>
        <ol className="way">
          <Station name="Devices" text="MQTT" />
          {pipeline.stages.map((stage) => (
            <Stage key={stage.name} stage={stage} earlier={previous} now={value.at} format={format} />
          ))}
        </ol>
      </section>
      <div className="pair">
        <section className="section" aria-labelledby="delay-heading">
          <h2 id="delay-heading">Delay</h2>
          {Object.entries(PLACES).map(([measure, place]) => (
            <Delay key={measure} place={place} delay={pipeline.delay_ms[measure]} budget={BUDGET_MS[measure]!} format={format} />
          ))}
          <h3>Records waiting</h3>
          <dl className="lags">
            {Object.entries(pipeline.lag ?? {}).map(([group, lag]) => (
              <div key={group} data-much={lag > 10 * MUCH_LAG ? 'worry' : lag > MUCH_LAG || undefined}>
                <dt>{group}</dt>
                <dd>{format.number(lag, '')}</dd>
              </div>
            ))}
          </dl>
          {pipeline.lag === null && <p className="empty">Kafka does not tell at the moment.</p>}
        </section>
        <section className="section" aria-labelledby="letters-heading">
          <h2 id="letters-heading">Dead letters</h2>
          {open.length === 0 ? (
            <p className="empty">None that anybody has to look at.</p>
          ) : (
            <>
              <ul className="letters">
                {open.slice(0, 8).map((letter) => (
                  <li key={letter.id}>
                    <strong>{letter.stream}</strong> {letter.reason} <span>{letter.detail}</span>
                  </li>
                ))}
              </ul>
              <p>
                <code>hl dlq show {open[0]!.id}</code> shows one whole, <code>hl dlq replay --dry-run</code> what would be accepted now.
              </p>
            </>
          )}
          <h3>Accounts</h3>
          {wrong.length === 0 ? (
            <p className="empty">Everything that was received is accounted for.</p>
          ) : (
            <ul className="letters">
              {wrong.map(({ stream, stage, explanation }) => (
                <li key={`${stream} ${stage}`}>
                  <strong>
                    {stream}, {stage}
                  </strong>{' '}
                  {explanation}
                </li>
              ))}
            </ul>
          )}
        </section>
      </div>
    </>
  )
}

function Station({ name, text }: { name: string; text: string }) {
  return (
    <li>
      <h3>{name}</h3>
      <p className="quiet">{text}</p>
    </li>
  )
}

interface StageProps {
  stage: StageView
  earlier: Moment | null
  now: number
  format: Format
}

function Stage({ stage, earlier, now, format }: StageProps) {
  const before = earlier?.pipeline.stages.find(({ name }) => name === stage.name)
  const perSecond = before === undefined ? null : ((stage.received - before.received) / (now - earlier!.at)) * 1_000
  const others = (
    [
      ['dead letters', stage.dead_lettered],
      ['duplicates', stage.duplicates],
      ['corrections', stage.corrected],
      ['dropped', stage.dropped],
    ] as const
  ).filter(([, n]) => n > 0)
  return (
    <li data-stage={stage.name}>
      <h3>{stage.name.charAt(0).toUpperCase() + stage.name.slice(1)}</h3>
      <p className="figure-small" data-testid={`rate-${stage.name}`}>
        {perSecond === null ? '–' : format.number(Math.max(0, perSecond), 'A')} <small>per second</small>
      </p>
      <p className="quiet">{format.number(stage.received, '')} received</p>
      {others.map(([what, n]) => (
        <p key={what} className="quiet">
          {format.number(n, '')} {what}
        </p>
      ))}
    </li>
  )
}

interface DelayProps {
  place: string
  delay: DelayView | undefined
  budget: number
  format: Format
}

function Delay({ place, delay, budget, format }: DelayProps) {
  const p99 = delay?.p99 ?? null
  return (
    <div className="budget" data-over={(p99 !== null && p99 > budget) || undefined}>
      <p>
        {place}{' '}
        <span>
          {p99 === null ? 'nothing measured' : `p99 ${format.delay(p99)}, median ${format.delay(delay!.p50 ?? p99)}`} of {format.delay(budget)}
        </span>
      </p>
      <meter min={0} max={budget} value={Math.min(budget, p99 ?? 0)} aria-label={`${place}, 99th percentile`} />
    </div>
  )
}
