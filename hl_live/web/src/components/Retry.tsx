import type { Format } from '../format'
import type { Connection } from '../home'

interface RetryProps {
  connection: Extract<Connection, { kind: 'lost' }>
  /** The browser's clock, ms. */
  now: number
  format: Format
  onRetry: () => void
}

/** When it will be tried again, and a way not to wait for it. */
export function Retry({ connection, now, format, onRetry }: RetryProps) {
  const { retryAt } = connection
  const inSeconds = retryAt === null ? 0 : Math.ceil((retryAt - now) / 1_000)
  return (
    <p className="retry">
      <span>{inSeconds > 0 ? `Trying again in ${format.number(inSeconds, '')} s` : 'Trying again…'}</span>
      <button type="button" onClick={onRetry}>
        Try now
      </button>
    </p>
  )
}
