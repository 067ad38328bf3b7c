import type { Format } from '../format'
import type { Connection } from '../home'
import { Retry } from './Retry'

interface LostProps {
  connection: Extract<Connection, { kind: 'lost' }>
  /** The browser's clock, ms. */
  now: number
  format: Format
  onRetry: () => void
}

/** Says since when nothing new has come, and when it will be tried again. It stays in view. */
export function Lost(props: LostProps) {
  const { since } = props.connection
  return (
    <aside className="lost" aria-label="Connection">
      <p>
        Nothing new since <time dateTime={new Date(since).toISOString()}>{props.format.time(since)}</time>. What you see
        is from before.
      </p>
      <Retry {...props} />
    </aside>
  )
}
