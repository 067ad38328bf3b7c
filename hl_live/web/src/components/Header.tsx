import type { DelaySummary } from '../delay'
import type { Format } from '../format'
import type { Connection } from '../home'
import { DayLine } from './DayLine'

interface HeaderProps {
  connection: Connection
  delay: DelaySummary | null
  /** The browser's clock, ms. */
  now: number
  format: Format
}

const WORDS: Record<Connection['kind'], string> = {
  connecting: 'Connecting…',
  live: 'Live',
  lost: 'Connection lost',
}

/** Time and date on one side; how fresh everything is on the other. */
export function Header({ connection, delay, now, format }: HeaderProps) {
  return (
    <header className="header">
      <DayLine now={now} />
      <div className="header-row">
        <div>
          <h1 className="visually-hidden">Home now</h1>
          <p className="clock">
            <time dateTime={new Date(now).toISOString()}>{format.shortTime(now)}</time>
          </p>
          <p className="date">{format.date(now)}</p>
        </div>
        <div className="freshness">
          <p className="connection" data-kind={connection.kind} role="status">
            <span className="dot" aria-hidden="true" />
            {WORDS[connection.kind]}
          </p>
          <Delay delay={delay} format={format} />
        </div>
      </div>
    </header>
  )
}

function Delay({ delay, format }: { delay: DelaySummary | null; format: Format }) {
  return (
    <dl className="delay" aria-label="Delay from device to screen in the last minute">
      <div className="delay-what">
        <dt>Device to screen</dt>
        <dd>last minute</dd>
      </div>
      <div>
        <dt>median</dt>
        <dd data-testid="delay-median">{delay === null ? '–' : format.delay(delay.median)}</dd>
      </div>
      <div>
        <dt>p99</dt>
        <dd data-testid="delay-p99">{delay === null ? '–' : format.delay(delay.p99)}</dd>
      </div>
    </dl>
  )
}
