import { shareOfDay } from '../scale'

/** The day from midnight to midnight in the sky's colours, with a mark at now. */
export function DayLine({ now }: { now: number }) {
  return (
    <div className="day-line" aria-hidden="true">
      <span className="day-mark" style={{ left: `${shareOfDay(new Date(now)) * 100}%` }} />
    </div>
  )
}
