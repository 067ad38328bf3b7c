import type { ReactNode } from 'react'

import type { Format } from '../format'
import type { Stream } from '../stream'
import { DeviceRow } from './DeviceRow'
import { Section } from './Section'

interface DevicesProps {
  stream: Stream
  title: string
  /** The service's clock, ms. */
  now: number
  format: Format
  /** The page's main part: larger. */
  hero?: boolean
  /** Stands before them. */
  children?: ReactNode
}

/** How many hues the style sheet has; further devices begin again. */
const HUES = 8

/** A stream's devices one below the other, each with its number and its curve on a common time axis. */
export function Devices({ stream, title, now, format, hero = false, children }: DevicesProps) {
  const { shown } = stream
  const firstHue = hero ? 0 : hueOf(stream.name)
  return (
    <Section
      stream={stream}
      title={title === '' ? stream.name : title}
      className={hero ? 'hero' : 'more'}
      thing={hero ? 'meter' : 'device'}
      now={now}
      format={format}
    >
      {children}
      {shown.map((device, index) => (
        <DeviceRow
          key={device.id}
          stream={stream}
          device={device}
          version={device.version}
          now={now}
          format={format}
          hue={(firstHue + index) % HUES}
          last={index === shown.length - 1}
        />
      ))}
    </Section>
  )
}

/** A stream keeps its colour from visit to visit; the first two belong to the meters. */
function hueOf(name: string): number {
  let sum = 0
  for (const letter of name) sum += letter.codePointAt(0)!
  return 2 + (sum % (HUES - 2))
}
