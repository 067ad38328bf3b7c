/** Numbers and times as the reader writes them. */

const MINUTE_MS = 60_000
const HOUR_MS = 3_600_000
const DAY_MS = 86_400_000

/** Digits after the point, fixed per unit so that a live number does not change its width. */
const DIGITS: Record<string, number> = { kW: 2, COP: 1, h: 1, kWh: 1, W: 0, Wh: 0, V: 0, A: 1, '°C': 1, '%': 0, hPa: 0, ppm: 0 }

export interface Format {
  /** A value with its unit's usual digits; an unknown unit gets about three significant ones. */
  number(value: number, unit: string): string
  fixed(value: number, digits: number): string
  /** Time of day, to the second. */
  time(ms: number): string
  /** Time of day, to the minute. */
  shortTime(ms: number): string
  date(ms: number): string
  /** @param currency ISO 4217 */
  money(amount: number, currency: string): string
  /** "12 s", "4 min", "3 h", "2 d"; "now" within two seconds. */
  age(ms: number): string
  /** "48 ms", "1.2 s", "4 min". */
  delay(ms: number): string
}

/** @param locales of the reader, as in navigator.languages; undefined for the machine's own. */
export function makeFormat(locales: readonly string[] | undefined, timeZone?: string): Format {
  const tags = locales === undefined ? undefined : [...locales]
  const numbers = new Map<number, Intl.NumberFormat>()
  const zone = timeZone === undefined ? {} : { timeZone }
  const time = new Intl.DateTimeFormat(tags, { timeStyle: 'medium', ...zone })
  const shortTime = new Intl.DateTimeFormat(tags, { timeStyle: 'short', ...zone })
  const date = new Intl.DateTimeFormat(tags, { weekday: 'long', day: 'numeric', month: 'long', ...zone })

  function fixed(value: number, digits: number): string {
    let format = numbers.get(digits)
    if (format === undefined) {
      format = new Intl.NumberFormat(tags, { minimumFractionDigits: digits, maximumFractionDigits: digits })
      numbers.set(digits, format)
    }
    // "−0.00" would say that something flows back; and a true minus is as wide as a digit.
    const rounded = Number(value.toFixed(digits))
    return format.format(rounded === 0 ? 0 : rounded).replace('-', '−')
  }

  return {
    fixed,
    number: (value, unit) => fixed(value, DIGITS[unit] ?? digitsOf(value)),
    time: (ms) => time.format(ms),
    shortTime: (ms) => shortTime.format(ms),
    date: (ms) => date.format(ms),
    money: (amount, currency) => new Intl.NumberFormat(tags, { style: 'currency', currency }).format(amount),
    age(ms) {
      if (ms < 2_000) return 'now'
      if (ms < MINUTE_MS) return `${fixed(Math.floor(ms / 1_000), 0)} s`
      if (ms < HOUR_MS) return `${fixed(Math.floor(ms / MINUTE_MS), 0)} min`
      if (ms < 2 * DAY_MS) return `${fixed(Math.floor(ms / HOUR_MS), 0)} h`
      return `${fixed(Math.floor(ms / DAY_MS), 0)} d`
    },
    delay(ms) {
      if (ms < 999.5) return `${fixed(ms, 0)} ms`
      if (ms < 9_950) return `${fixed(ms / 1_000, 1)} s`
      if (ms < MINUTE_MS) return `${fixed(ms / 1_000, 0)} s`
      return this.age(ms)
    },
  }
}

function digitsOf(value: number): number {
  if (Number.isInteger(value)) return 0
  const size = Math.abs(value)
  if (size >= 100) return 0
  return size >= 10 ? 1 : 2
}

/** "living_room" and "livingRoom2" as a person would write them: "Living room", "Living room 2". */
export function humanize(name: string): string {
  const words = name
    .replaceAll(/[_-]+/g, ' ')
    .replaceAll(/(\p{Ll})(\p{Lu})/gu, '$1 $2')
    .replaceAll(/(\p{L})(\d+)$/gu, '$1 $2')
    .trim()
    .toLowerCase()
  return words.charAt(0).toUpperCase() + words.slice(1)
}

const UNIT_SUFFIX = /_(kwh|wh|kw|w|v|a|c|pct|percent|hpa|ppm|lx|s|ms)$/

/** A field's name as a label: its unit stands beside the value, so it goes from the name. */
export function fieldLabel(name: string): string {
  return humanize(name.replace(UNIT_SUFFIX, ''))
}
