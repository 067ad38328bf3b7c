/** The drawing of a curve with uPlot. */

import uPlot from 'uplot'

import type { Format } from './format'
import { axisOf, breaksOf } from './scale'
import type { Series } from './series'
import { WINDOW_MS } from './stream'

export interface Point {
  time: number
  value: number
}

export interface Moving {
  /** Right end of the window, ms. */
  end: number
  /** A longer pause than this breaks the line, ms. */
  breakMs: number
}

interface CurveOptions {
  unit: string
  format: Format
  /** Whether the time axis is labelled. */
  withTime: boolean
  /** What changes from drawing to drawing. */
  moving: { readonly current: Moving }
  /** The reader points at a reading, or no longer. */
  onPoint: (point: Point | null) => void
}

const MINUTE_MS = 60_000
/** Candidates for the distance of time labels. */
const TICKS_MS = [2 * MINUTE_MS, 5 * MINUTE_MS]
/** Room that "12:00 AM" needs, with air around it. */
const TICK_PX = 84
const FONT_PX = 12
const LINE_PX = 1.75
const TIP_PX = 3.5
/** One cursor for all curves of the page: what was the other meter doing at that moment? */
const CURSOR = 'page'

/** Draws `series` into `element`, whose size and CSS colours it takes; the colours anew at each drawing. */
export function plotCurve(element: HTMLElement, series: Series, options: CurveOptions): uPlot {
  const style = getComputedStyle(element)
  const colour = (name: string) => style.getPropertyValue(name).trim()
  const font = `${FONT_PX}px ${style.fontFamily}`
  const fromZero = options.unit === 'kW' || options.unit === 'W'
  const hue = () => colour('--hue-now')
  const faint = () => colour('--ink-3')
  let lines: number[] = []

  return new uPlot(
    {
      width: element.clientWidth,
      height: element.clientHeight,
      ms: 1,
      pxAlign: 1,
      padding: [8, 10, options.withTime ? 0 : 8, 0],
      legend: { show: false },
      cursor: {
        y: false,
        drag: { x: false, y: false },
        sync: { key: CURSOR, scales: ['x', null] },
        points: { size: 8, width: 2, stroke: () => colour('--paper'), fill: hue },
      },
      scales: {
        x: { time: true, range: () => [options.moving.current.end - WINDOW_MS, options.moving.current.end] },
        y: {
          range: (_, low, high) => {
            const axis = axisOf(low ?? 0, high ?? 1, fromZero)
            lines = axis.lines
            return [axis.min, axis.max]
          },
        },
      },
      axes: [
        {
          show: options.withTime,
          stroke: faint,
          font,
          size: 26,
          gap: 8,
          grid: { show: false },
          ticks: { show: false },
          splits: (plot, _, low, high) => timeTicks(low, high, plot.bbox.width / devicePixelRatio),
          values: (_, ticks) => ticks.map((tick) => options.format.shortTime(tick)),
        },
        {
          stroke: faint,
          font,
          size: 38,
          gap: 8,
          grid: { stroke: () => colour('--line'), width: 1 },
          ticks: { show: false },
          splits: () => lines,
          values: (_, shown) => shown.map((line) => tidy(line, options.format)),
        },
      ],
      series: [
        {},
        {
          stroke: hue,
          width: LINE_PX,
          fill: (plot) => fade(plot, hue()),
          points: { show: false },
          gaps: (plot, _, first, last, gaps) => [
            ...gaps,
            ...gapsOf(plot, first, last, options.moving.current.breakMs),
          ],
        },
      ],
      hooks: {
        draw: [(plot) => drawTip(plot, hue(), colour('--paper'))],
        setCursor: [
          (plot) => {
            const index = plot.cursor.idx
            const time = index == null ? undefined : plot.data[0][index]
            const value = index == null ? undefined : plot.data[1]?.[index]
            options.onPoint(time === undefined || value == null ? null : { time, value })
          },
        ],
      },
    },
    [...series.view()],
    element,
  )
}

/** Round times, as dense as their labels allow; none so near an end that it would be cut off. */
function timeTicks(low: number, high: number, width: number): number[] {
  const msPerPx = (high - low) / width
  const step = TICKS_MS.find((candidate) => candidate / msPerPx >= TICK_PX) ?? TICKS_MS.at(-1)!
  const margin = (TICK_PX / 3) * msPerPx
  const ticks: number[] = []
  for (let tick = Math.ceil((low + margin) / step) * step; tick <= high - margin; tick += step) ticks.push(tick)
  return ticks
}

/** As few digits as the line needs. */
function tidy(line: number, format: Format): string {
  if (Number.isInteger(line)) return format.number(line, '')
  return format.number(line, Number.isInteger(Math.round(line * 1e6) / 1e5) ? 'A' : 'kW')
}

/** The pieces of the plot, in canvas pixels, over which no line is drawn. */
function gapsOf(plot: uPlot, first: number, last: number, breakMs: number): [number, number][] {
  const times = plot.data[0].slice(first, last + 1)
  return breaksOf(times, breakMs).map((at) => [
    Math.round(plot.valToPos(times[at]!, 'x', true)),
    Math.round(plot.valToPos(times[at + 1]!, 'x', true)),
  ])
}

/** The area below the line: its colour, fading towards the ground. */
function fade(plot: uPlot, hue: string): CanvasGradient | string {
  const { top, height } = plot.bbox
  // Before the first layout there is no height, and a gradient of none is an error.
  if (!Number.isFinite(top + height) || height === 0) return 'transparent'
  const gradient = plot.ctx.createLinearGradient(0, top, 0, top + height)
  gradient.addColorStop(0, withAlpha(hue, 0.26))
  gradient.addColorStop(1, withAlpha(hue, 0.02))
  return gradient
}

/** The style sheet's colours are all written as `oklch(L C H)`. */
function withAlpha(colour: string, alpha: number): string {
  return colour.replace(')', ` / ${alpha})`)
}

/** A dot where the curve is now. */
function drawTip(plot: uPlot, hue: string, paper: string): void {
  const times = plot.data[0]
  const time = times[times.length - 1]
  const value = plot.data[1]?.[times.length - 1]
  if (time === undefined || value == null) return
  const x = plot.valToPos(time, 'x', true)
  if (x < plot.bbox.left) return
  const y = plot.valToPos(value, 'y', true)
  const { ctx } = plot
  const scale = devicePixelRatio
  ctx.save()
  ctx.beginPath()
  ctx.arc(x, y, TIP_PX * scale, 0, 2 * Math.PI)
  ctx.fillStyle = hue
  ctx.fill()
  ctx.lineWidth = 2 * scale
  ctx.strokeStyle = paper
  ctx.stroke()
  ctx.restore()
}
