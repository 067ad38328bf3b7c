import { useEffect, useRef, useState } from 'react'
import type uPlot from 'uplot'

import { plotCurve, type Point } from '../plot'
import type { Format } from '../format'
import type { Series } from '../series'

interface CurveProps {
  series: Series
  /** Of the series; tells that it has changed. */
  version: number
  /** The service's clock, ms: the curve's right end. */
  now: number
  /** What it shows, for those who cannot see it. */
  name: string
  unit: string
  format: Format
  withTime: boolean
  stale: boolean
}

/** The last ten minutes of one value. Point at it to read it at any time of them. */
export function Curve({ series, version, now, name, unit, format, withTime, stale }: CurveProps) {
  const frame = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | null>(null)
  const end = useRef(now)
  const [pointed, setPointed] = useState<Point | null>(null)
  end.current = now

  useEffect(() => {
    const element = frame.current!
    plot.current = plotCurve(element, series, { unit, format, withTime, end, onPoint: setPointed })
    const redraw = () => plot.current?.redraw()
    const scheme = matchMedia('(prefers-color-scheme: dark)')
    scheme.addEventListener('change', redraw)
    const observer = new ResizeObserver(() => {
      plot.current?.setSize({ width: element.clientWidth, height: element.clientHeight })
    })
    observer.observe(element)
    return () => {
      scheme.removeEventListener('change', redraw)
      observer.disconnect()
      plot.current?.destroy()
      plot.current = null
    }
  }, [series, unit, format, withTime])

  useEffect(() => {
    plot.current?.setData([...series.view()])
  }, [series, version, now])

  return (
    <div className="curve" data-time={withTime || undefined} data-stale={stale || undefined}>
      <div className="curve-plot" ref={frame} role="img" aria-label={describe(series, name, unit, format)} />
      {pointed !== null && (
        <p className="curve-point" aria-hidden="true">
          {format.time(pointed.time)} <strong>{`${format.number(pointed.value, unit)} ${unit}`}</strong>
        </p>
      )}
    </div>
  )
}

function describe(series: Series, name: string, unit: string, format: Format): string {
  const [, values] = series.view()
  if (values.length === 0) return `${name}: nothing in the last ten minutes`
  let low = Infinity
  let high = -Infinity
  for (const value of values) {
    low = Math.min(low, value)
    high = Math.max(high, value)
  }
  return `${name} in the last ten minutes: between ${format.number(low, unit)} and ${format.number(high, unit)} ${unit}`
}
