import { useEffect, useRef, useState } from 'react'
import type uPlot from 'uplot'

import type { Format } from '../format'
import { useLater } from '../later'
import type { Point } from '../plot'
import type { Series } from '../series'

interface CurveProps {
  series: Series
  /** Of the series; tells that it has changed. */
  version: number
  /** The service's clock, ms: the curve's right end. */
  now: number
  /** A longer pause than this breaks the line, ms. */
  breakMs: number
  /** What it shows, for those who cannot see it. */
  name: string
  unit: string
  format: Format
  withTime: boolean
  stale: boolean
}

/** However quick a device is, its curve need not be drawn more often. */
const REDRAW_MS = 200
const loadPlot = () => import('../plot')

/** The last ten minutes of one value. Point at it to read it at any time of them. */
export function Curve({ series, version, now, breakMs, name, unit, format, withTime, stale }: CurveProps) {
  const frame = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | null>(null)
  const moving = useRef({ end: now, breakMs })
  const drawnAt = useRef(0)
  const [pointed, setPointed] = useState<Point | null>(null)
  const drawing = useLater(loadPlot)

  useEffect(() => {
    if (drawing === null) return undefined
    const element = frame.current!
    plot.current = drawing.plotCurve(element, series, { unit, format, withTime, moving, onPoint: setPointed })
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
  }, [drawing, series, unit, format, withTime])

  useEffect(() => {
    moving.current = { end: now, breakMs }
    const draw = () => {
      drawnAt.current = performance.now()
      plot.current?.setData([...series.view()])
      frame.current?.setAttribute('aria-label', describe(series, name, unit, format))
    }
    const waitMs = drawnAt.current + REDRAW_MS - performance.now()
    if (waitMs <= 0) {
      draw()
      return undefined
    }
    const timer = setTimeout(draw, waitMs)
    return () => clearTimeout(timer)
  }, [series, version, now, breakMs, name, unit, format])

  return (
    <div className="curve" data-time={withTime || undefined} data-stale={stale || undefined}>
      <div className="curve-plot" ref={frame} role="img" />
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
  const count = values.length === 1 ? 'one reading' : `${format.number(values.length, '')} readings`
  return `${name} in the last ten minutes: ${count} between ${format.number(low, unit)} and ${format.number(high, unit)} ${unit}`
}
