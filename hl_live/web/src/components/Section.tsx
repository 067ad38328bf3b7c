import { useId, type ReactNode } from 'react'

import { humanize, type Format } from '../format'
import type { Stream } from '../stream'

interface SectionProps {
  stream: Stream
  title: string
  className?: string
  /** What a person would call one of its devices, for the empty state. */
  thing: string
  /** The service's clock, ms. */
  now: number
  format: Format
  children: ReactNode
}

/** As many names as a reader would look through. */
const MAX_NAMES = 100

/** One stream's part of the page, with what there is to say while it has nothing to show. */
export function Section({ stream, title, className = '', thing, now, format, children }: SectionProps) {
  const headingId = useId()
  const quiet = stream.feed.state.phase !== 'live'
  return (
    <section
      className={`section ${className}`}
      aria-labelledby={headingId}
      data-stream={stream.name}
      data-quiet={quiet || undefined}
    >
      <h2 id={headingId}>{title}</h2>
      {stream.devices.size > 0 ? children : <Empty stream={stream} thing={thing} />}
      {stream.hidden > 0 && <p className="others">And {format.number(stream.hidden, '')} more.</p>}
      {stream.gone.length > 0 && <Gone stream={stream} now={now} format={format} />}
      {stream.devices.size > 0 && stream.problem !== null && !quiet && (
        <p className="problem">The past is missing for now: {stream.problem}</p>
      )}
    </section>
  )
}

function Gone({ stream, now, format }: { stream: Stream; now: number; format: Format }) {
  const { gone } = stream
  return (
    <details className="others">
      <summary>
        {gone.length === 1 ? 'One device is silent' : `${format.number(gone.length, '')} devices are silent`}
      </summary>
      <ul>
        {gone.slice(0, MAX_NAMES).map(({ id, latest }) => (
          <li key={id}>
            {humanize(id)}
            {latest !== null && <span> for {format.age(now - latest.time)}</span>}
          </li>
        ))}
        {gone.length > MAX_NAMES && <li>and {format.number(gone.length - MAX_NAMES, '')} more</li>}
      </ul>
    </details>
  )
}

function Empty({ stream, thing }: { stream: Stream; thing: string }) {
  if (stream.problem !== null) return <p className="empty">{stream.problem}</p>
  if (!stream.loaded) return <p className="empty">Looking…</p>
  const filter = stream.declaration.mqtt_filter
  return (
    <p className="empty">
      No {thing} has reported yet.
      {filter !== undefined && (
        <>
          {' '}
          The first message on <code>{filter}</code> will appear here.
        </>
      )}
    </p>
  )
}
