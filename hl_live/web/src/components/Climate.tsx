import { useCallback, useMemo } from 'react'

import { heatColour, pumpDays, weekOf, type PumpDay, type RoomWeek } from '../climate'
import { humanize, type Format } from '../format'
import { readClimate } from '../history'
import { usePolled } from '../polling'

const N_DAYS = 7
const REFRESH_MS = 60_000
/** Rooms are compared on this scale, °C. */
const COLD = 16
const WARM = 25

interface ClimateProps {
  /** The browser's clock, ms. */
  now: number
  locales: readonly string[]
  format: Format
}

/** The week of the heat pump, by days, and of the rooms, hour by hour. */
export function Climate({ now, locales, format }: ClimateProps) {
  const today = new Date(now).toDateString()
  const firstDay = useMemo(() => {
    const day = new Date(today)
    return new Date(day.getFullYear(), day.getMonth(), day.getDate() - N_DAYS + 1)
  }, [today])
  const ask = useCallback(() => readClimate(firstDay), [firstDay])
  const { value, problem } = usePolled(ask, REFRESH_MS)
  if (value === null) return <p className="empty section">{problem ?? 'Looking…'}</p>
  const rooms = weekOf(value.rooms, firstDay, N_DAYS)
  const pumps = [...pumpDays(value.pumps)]
  const date = new Intl.DateTimeFormat([...locales], { weekday: 'short', day: 'numeric', month: 'numeric' })
  return (
    <>
      {problem !== null && <p className="problem">{problem}</p>}
      <section className="section" aria-labelledby="pumps-heading">
        <h2 id="pumps-heading">Heat pump, the last {N_DAYS} days</h2>
        {pumps.length === 0 && <p className="empty">No heat pump has reported in this time.</p>}
        {pumps.map(([id, days]) => (
          <Pump key={id} id={id} named={pumps.length > 1} days={days} date={date} format={format} />
        ))}
        {pumps.length > 0 && pumps.every(([, days]) => days.every(({ cop }) => cop === null)) && (
          <p className="others">
            No COP: that needs the heat that the pump delivers, as <code>heat_output_kw</code> in its readings.
          </p>
        )}
      </section>
      <section className="section" aria-labelledby="rooms-heading">
        <h2 id="rooms-heading">Rooms, hour by hour</h2>
        {rooms.length === 0 && <p className="empty">No room has reported in this time.</p>}
        <div className="weeks">
          {rooms.map((room) => (
            <Week key={room.name} room={room} date={date} format={format} />
          ))}
        </div>
        {rooms.length > 0 && (
          <p className="legend">
            {COLD}° <span className="heat-scale" /> {WARM}°
          </p>
        )}
      </section>
    </>
  )
}

interface PumpProps {
  id: string
  named: boolean
  days: readonly PumpDay[]
  date: Intl.DateTimeFormat
  format: Format
}

function Pump({ id, named, days, date, format }: PumpProps) {
  const degrees = (value: number | null) => (value === null ? '–' : `${format.number(value, '°C')}°`)
  return (
    <table className="days" data-device={id}>
      <caption className={named ? '' : 'visually-hidden'}>{humanize(id)}</caption>
      <thead>
        <tr>
          <th scope="col">Day</th>
          <th scope="col">Ran</th>
          <th scope="col">Starts</th>
          <th scope="col">kWh</th>
          <th scope="col">
            <abbr title="Coefficient of performance: heat delivered for each kWh drawn">COP</abbr>
          </th>
          <th scope="col">Actual</th>
          <th scope="col">Target</th>
        </tr>
      </thead>
      <tbody>
        {days.map((day) => (
          <tr key={day.start}>
            <th scope="row">{date.format(day.start)}</th>
            <td className="ran">
              <span className="ran-bar" style={{ width: `${(day.hours / 24) * 100}%` }} />
              <span>
                {format.number(day.hours, 'A')} h{day.provisional && ' so far'}
              </span>
            </td>
            <td>{format.number(day.starts, '')}</td>
            <td>{format.number(day.kwh, 'kWh')}</td>
            <td>{day.cop === null ? '–' : format.number(day.cop, 'COP')}</td>
            <td>{degrees(day.actual)}</td>
            <td>{degrees(day.target)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}

function Week({ room, date, format }: { room: RoomWeek; date: Intl.DateTimeFormat; format: Format }) {
  return (
    <table className="heat">
      <caption>
        <strong>{humanize(room.name)}</strong> {format.number(room.low, '°C')} to {format.number(room.high, '°C')} °C
        {room.humidity !== null && <>, {format.number(room.humidity, '%')} % humidity</>}
      </caption>
      <colgroup>
        <col className="heat-day" />
        <col span={24} />
      </colgroup>
      <thead>
        <tr>
          <th scope="col">
            <span className="visually-hidden">Day</span>
          </th>
          {Array.from({ length: 24 }, (_, hour) => (
            <th key={hour} scope="col">
              <span className={hour % 6 === 0 ? '' : 'visually-hidden'}>{hour}</span>
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {room.days.map(({ day, hours }) => (
          <tr key={day}>
            <th scope="row">{date.format(day)}</th>
            {hours.map((value, hour) => (
              <td
                key={hour}
                title={value === null ? undefined : `${hour}:00, ${format.number(value, '°C')} °C`}
                style={value === null ? undefined : { background: heatColour((value - COLD) / (WARM - COLD)) }}
              >
                <span className="visually-hidden">{value === null ? 'nothing known' : format.number(value, '°C')}</span>
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  )
}
