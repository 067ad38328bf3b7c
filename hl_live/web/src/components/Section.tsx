import { useId, type ReactNode } from 'react'

import type { Stream } from '../stream'

interface SectionProps {
  stream: Stream
  title: string
  className?: string
  /** What a person would call one of its devices, for the empty state. */
  thing: string
  children: ReactNode
}

/** One stream's part of the page, with what there is to say while it has nothing to show. */
export function Section({ stream, title, className = '', thing, children }: SectionProps) {
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
      {stream.devices.size > 0 && stream.problem !== null && !quiet && (
        <p className="problem">The past is missing for now: {stream.problem}</p>
      )}
    </section>
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
