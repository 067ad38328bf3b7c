import type { Format } from '../format'
import { readMoment, type Moment } from '../history'
import { usePolled } from '../polling'
import type { DelayView, StageView } from '../types'
import { DeadLetters } from './DeadLetters'

const REFRESH_MS = 2_000
/** Where delays since the device end at each stage, and what a person calls it. */
const ENDS: Record<string, Record<string, string>> = {
  bridge: { mqtt: 'MQTT', kafka: 'Kafka' },
  sink: { row: 'row' },
  live: { frame: 'screen' },
}
const TEXTS: Record<string, string> = { bridge: 'MQTT to Kafka', sink: 'Kafka to PostgreSQL', live: 'Kafka to screens' }
/** Lag of more records than this is worth a look; of more than ten times as many, a worry. */
const MUCH_LAG = 100

/** A reading's way, with how much flows, how long it takes and what needs a person. */
export function Pipeline({ format }: { format: Format }) {
  const { value, previous, problem } = usePolled(readMoment, REFRESH_MS)
  if (value === null) return <p className="empty section">{problem ?? 'Looking…'}</p>
  const { pipeline } = value
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
            <Stage
              key={stage.name}
              stage={stage}
              delays={pipeline.delay_ms}
              earlier={previous}
              now={value.at}
              format={format}
            />
          ))}
        </ol>
      </section>
      <div className="pair">
        <div>
          <section className="section" aria-labelledby="waiting-heading">
            <h2 id="waiting-heading">Records waiting</h2>
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
          <section className="section" aria-labelledby="accounts-heading">
            <h2 id="accounts-heading">Accounts</h2>
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
        <DeadLetters format={format} />
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
  delays: Record<string, DelayView>
  earlier: Moment | null
  now: number
  format: Format
}

function Stage({ stage, delays, earlier, now, format }: StageProps) {
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
      <p className="quiet">{TEXTS[stage.name]}</p>
      <p className="figure-small" data-testid={`rate-${stage.name}`}>
        {perSecond === null ? '–' : format.number(Math.max(0, perSecond), 'A')} <small>per second</small>
      </p>
      <p className="quiet">{format.number(stage.received, '')} received</p>
      {others.map(([what, n]) => (
        <p key={what} className="quiet">
          {format.number(n, '')} {what}
        </p>
      ))}
      {Object.entries(ENDS[stage.name] ?? {}).map(([end, title]) => {
        const delay = delays[`device_to_${end}`]
        return delay && <Delay key={end} end={end} title={title} delay={delay} format={format} />
      })}
    </li>
  )
}

interface DelayProps {
  end: string
  title: string
  delay: DelayView
  format: Format
}

function Delay({ end, title, delay, format }: DelayProps) {
  const { p50, p99, budget } = delay
  return (
    <div className="budget" data-over={(p99 !== null && p99 > budget) || undefined}>
      <p data-testid={`delay-${end}`}>
        To {title} {p99 === null ? 'not measured' : `p99 ${format.delay(p99)}, median ${format.delay(p50 ?? p99)}`}
        <span> of {format.delay(budget)}</span>
      </p>
      <meter min={0} max={budget} value={Math.min(budget, p99 ?? 0)} aria-label={`Delay from device to ${title}, 99th percentile`} />
    </div>
  )
}
