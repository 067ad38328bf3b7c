/** Pure geometry of the curves and scales. */

const STEPS = [1, 2, 2.5, 5, 10]

/** The smallest round number (1, 2, 2.5 or 5 times a power of ten) that is at least `value`. */
export function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value))
  // Against 0.30000000000000004 counting as more than 0.3.
  const step = STEPS.find((candidate) => candidate * power >= value * (1 - 1e-9)) ?? 10
  return step * power
}

/**
 * Where a curve's axis begins and ends, and its lines, all on round numbers.
 *
 * @param fromZero whether zero belongs to it, as for power.
 */
export function axisOf(low: number, high: number, fromZero: boolean): { min: number; max: number; lines: number[] } {
  const least = fromZero ? Math.min(0, low) : low
  const most = fromZero ? Math.max(0, high) : high
  const span = most - least || Math.abs(most) || 1
  const step = roundUp(span / 2.5)
  const first = Math.floor(least / step + 1e-9)
  // A flat line in the middle looks measured; one on the rim looks broken.
  const last = Math.max(Math.ceil(most / step - 1e-9), first + 1)
  const lines = Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step)
  return { min: lines[0]!, max: lines.at(-1)!, lines }
}

/** Digits after the point that tell an axis's lines apart. */
export function decimalsOf(lines: readonly number[]): number {
  return [0, 1, 2].find((digits) => lines.every((line) => Math.abs(line - Number(line.toFixed(digits))) < 1e-9)) ?? 3
}

/** Indexes i for which the pause between times i and i + 1 is longer than `limit`: the line breaks there. */
export function breaksOf(times: ArrayLike<number>, limit: number): number[] {
  const breaks: number[] = []
  for (let i = 1; i < times.length; i += 1) {
    if (times[i]! - times[i - 1]! > limit) breaks.push(i - 1)
  }
  return breaks
}

/** Where a value lies between two ends, as a share from 0 to 1. */
export function share(value: number, low: number, high: number): number {
  if (high <= low) return 0.5
  return Math.min(1, Math.max(0, (value - low) / (high - low)))
}

/** A range of whole steps around values, at least `least` wide. */
export function rangeAround(values: number[], step: number, least: number): [number, number] {
  if (values.length === 0) return [0, least]
  let low = Math.floor(Math.min(...values) / step) * step
  let high = Math.ceil(Math.max(...values) / step) * step
  while (high - low < least) {
    if (Math.min(...values) - low <= high - Math.max(...values)) low -= step
    else high += step
  }
  return [low, high]
}

/** Midnight to midnight as 0 to 1, by the reader's own clock. */
export function shareOfDay(date: Date): number {
  return (date.getHours() * 60 + date.getMinutes()) / (24 * 60)
}
