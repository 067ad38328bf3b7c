import { useState } from 'react'

import type { Format } from '../format'
import { usePolled } from '../polling'
import { askReplay, describe, inEarnest, isOpen, newestOf, readLetters, refusal, type Letters } from '../replays'
import type { EntryGroup, ReplayAsked, ReplayRequest } from '../types'

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
        {kinds.slice(0, MAX_SHOWN).map((kind) => (
          <Kind key={kind.fingerprint} kind={kind} newest={newestOf(replays, kind.fingerprint)} ask={ask} format={format} />
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

interface KindProps {
  kind: EntryGroup
  /** The newest request about it. */
  newest: ReplayRequest | null
  ask: (asked: ReplayAsked) => void
  format: Format
}

function Kind({ kind, newest, ask, format }: KindProps) {
  const number = (n: number) => format.number(n, '')
  // A dry run of a minute ago may be shown; that a replay failed for is no answer to a new failure.
  const told = newest !== null && (isOpen(newest) || newest.dry_run || newest.state === 'failed')
  const tried = newest !== null && newest.dry_run && newest.judged !== null ? newest : null
  const busy = newest !== null && isOpen(newest)
  const { stream, fingerprint } = kind
  return (
    <li data-kind={fingerprint}>
      <p>
        <strong>
          {number(kind.n)} × {kind.stream}
        </strong>{' '}
        {kind.reason} <span>{kind.example_detail}</span>
      </p>
      <p className="letters-do">
        <button
          type="button"
          disabled={busy}
          aria-label={`Try: ${kind.stream}, ${kind.reason}`}
          onClick={() => ask({ stream, fingerprint, dry_run: true })}
        >
          Try
        </button>
        <button
          type="button"
          disabled={tried === null || tried.judged!.accepted === 0}
          aria-label={`Replay: ${kind.stream}, ${kind.reason}`}
          onClick={() => ask(inEarnest(tried!))}
        >
          Replay
        </button>
        <span role="status">{told ? describe(newest, number) : ''}</span>
      </p>
    </li>
  )
}
