import { useState, type ReactNode } from 'react'

import type { Format } from '../format'
import { usePolled } from '../polling'
import { askReplay, describe, inEarnest, isOpen, newestOf, readLetters, refusal, type Letters } from '../replays'
import type { ReplayAsked, ReplayRequest } from '../types'

const REFRESH_MS = 2_000
const MAX_SHOWN = 8
const MAX_DONE_SHOWN = 3

/** What was rejected, by kind of failure, each to be tried and replayed; and who asked for what. */
export function DeadLetters({ format }: { format: Format }) {
  const { value, problem, again } = usePolled(readLetters, REFRESH_MS)
  const [refused, setRefused] = useState<string | null>(null)
  const ask = (asked: ReplayAsked) => {
    setRefused(null)
    askReplay(asked).then(again, (error: unknown) => setRefused(refusal(error)))
  }
  return (
    <section className="section" aria-labelledby="letters-heading">
      <h2 id="letters-heading">Dead letters</h2>
      {(refused ?? problem) !== null && (
        <p className="problem" role="alert">
          {refused ?? problem}
        </p>
      )}
      {value === null ? problem === null && <p className="empty">Looking…</p> : <Kinds letters={value} ask={ask} format={format} />}
    </section>
  )
}

interface KindsProps {
  letters: Letters
  ask: (asked: ReplayAsked) => void
  format: Format
}

function Kinds({ letters: { kinds, replays }, ask, format }: KindsProps) {
  const done = replays.filter((one) => !one.dry_run && !isOpen(one)).slice(0, MAX_DONE_SHOWN)
  return (
    <>
      {kinds.length === 0 && <p className="empty">None that anybody has to look at.</p>}
      <ul className="letters">
        {kinds.length > 1 && (
          <Choice wish={{ everything: true }} name="all" newest={newestOf(replays, null)} ask={ask} format={format}>
            <strong>All of them</strong>
          </Choice>
        )}
        {kinds.slice(0, MAX_SHOWN).map(({ stream, fingerprint, reason, n, example_detail }) => (
          <Choice
            key={fingerprint}
            wish={{ stream, fingerprint }}
            name={`${stream}, ${reason}`}
            newest={newestOf(replays, fingerprint)}
            ask={ask}
            format={format}
          >
            <strong>
              {format.number(n, '')} × {stream}
            </strong>{' '}
            {reason} <span>{example_detail}</span>
          </Choice>
        ))}
      </ul>
      {kinds.length > MAX_SHOWN && (
        <p className="others">
          And {format.number(kinds.length - MAX_SHOWN, '')} more kinds; <code>hl dlq list</code> has them all.
        </p>
      )}
      {done.length > 0 && (
        <>
          <h3>Replayed last</h3>
          <ul className="letters" aria-live="polite">
            {done.map((one) => (
              <li key={one.request_id} data-request={one.request_id}>
                {describe(one, (n) => format.number(n, ''))}{' '}
                <span>
                  {format.date(Date.parse(one.requested_at))}, {format.shortTime(Date.parse(one.requested_at))}, {one.requested_by}
                </span>
              </li>
            ))}
          </ul>
        </>
      )}
    </>
  )
}

interface ChoiceProps {
  /** What its buttons ask about. */
  wish: ReplayAsked
  /** Tells its buttons from others. */
  name: string
  /** The newest request about it. */
  newest: ReplayRequest | null
  ask: (asked: ReplayAsked) => void
  format: Format
  children: ReactNode
}

/** Some dead letters, to be tried and then replayed. */
function Choice({ wish, name, newest, ask, format, children }: ChoiceProps) {
  const number = (n: number) => format.number(n, '')
  // A dry run of a minute ago may be shown; that a replay failed for is no answer to a new failure.
  const told = newest !== null && (isOpen(newest) || newest.dry_run || newest.state === 'failed')
  const tried = newest !== null && newest.dry_run && newest.judged !== null ? newest : null
  const busy = newest !== null && isOpen(newest)
  return (
    <li>
      <p>{children}</p>
      <p className="letters-do">
        <button
          type="button"
          disabled={busy}
          aria-label={`Try: ${name}`}
          onClick={() => ask({ ...wish, dry_run: true })}
        >
          Try
        </button>
        <button
          type="button"
          disabled={tried === null || tried.judged!.accepted === 0}
          aria-label={`Replay: ${name}`}
          onClick={() => ask(inEarnest(tried!))}
        >
          Replay
        </button>
        <span role="status">{told ? describe(newest, number) : ''}</span>
      </p>
    </li>
  )
}
