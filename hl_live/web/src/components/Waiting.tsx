import type { Format } from '../format'
import type { Connection } from '../home'
import { wantsToken } from '../token'
import { Retry } from './Retry'
import { TokenForm } from './TokenForm'

interface WaitingProps {
  /** Why there is no answer, for the reader; null while nothing speaks against one. */
  problem: string | null
  connection: Connection
  /** The browser's clock, ms. */
  now: number
  format: Format
  onRetry: () => void
}

/** Before the first answer of the service: the shape of the page to come, or why it does not. */
export function Waiting({ problem, connection, ...retry }: WaitingProps) {
  if (problem === null) {
    return (
      <main className="skeleton" aria-busy="true" aria-label="Loading">
        <span />
        <span />
        <span />
      </main>
    )
  }
  if (wantsToken()) {
    return (
      <main>
        <section className="notice">
          <h2>Who is there?</h2>
          <p>
            This house asks for a token. Who runs it makes one with <code>hl token create</code>.
          </p>
          <TokenForm onToken={retry.onRetry} />
        </section>
      </main>
    )
  }
  return (
    <main>
      <section className="notice">
        <h2>The house is out of sight</h2>
        <p>{problem}</p>
        <p>
          This page comes back by itself. If you run the house, <code>hl status</code> says what is amiss.
        </p>
        {connection.kind === 'lost' && <Retry connection={connection} {...retry} />}
      </section>
    </main>
  )
}
