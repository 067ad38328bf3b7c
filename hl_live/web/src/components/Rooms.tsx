import type { CSSProperties } from 'react'

import type { Device } from '../device'
import { humanize, type Format } from '../format'
import { rangeAround, share } from '../scale'
import type { Stream } from '../stream'
import { Quantity } from './DeviceRow'
import { Section } from './Section'

interface RoomsProps {
  stream: Stream
  now: number
  format: Format
}

/** The rooms on one common scale of temperature, so that the cold one is seen before a number is read. */
export function Rooms({ stream, now, format }: RoomsProps) {
  const rooms = stream.shown
    .map((device) => ({ device, name: roomOf(device) }))
    .sort((a, b) => a.name.localeCompare(b.name))
  const temperatures = rooms.flatMap(({ device }) => temperatureOf(device) ?? [])
  const [low, high] = rangeAround(temperatures, 2, 6)
  return (
    <Section stream={stream} title="Rooms" className="rooms" thing="room" now={now} format={format}>
      <table>
        <thead>
          <tr>
            <th scope="col">
              <span className="visually-hidden">Room</span>
            </th>
            <th scope="col">
              <span className="visually-hidden">Place on the common scale</span>
              <span className="room-scale-ends" aria-hidden="true">
                <span>{format.number(low, '')}°</span>
                <span>{format.number(high, '')}°</span>
              </span>
            </th>
            <th scope="col">
              <span className="visually-hidden">Temperature</span>
            </th>
            <th scope="col">Humidity</th>
            <th scope="col">Age</th>
          </tr>
        </thead>
        <tbody>
          {rooms.map(({ device, name }) => (
            <Room key={device.id} device={device} name={name} low={low} high={high} now={now} format={format} />
          ))}
        </tbody>
      </table>
    </Section>
  )
}

interface RoomProps {
  device: Device
  name: string
  low: number
  high: number
  now: number
  format: Format
}

function Room({ device, name, low, high, now, format }: RoomProps) {
  const data = device.latest?.data ?? {}
  const temperature = temperatureOf(device)
  const age = device.latest === null ? null : now - device.latest.time
  return (
    <tr data-device={device.id} data-stale={device.isStale(now) || undefined}>
      <th scope="row">{name}</th>
      <td className="room-scale">
        {temperature !== null && (
          <span
            className="room-dot"
            style={{ '--at': share(temperature, low, high), '--warmth': share(temperature, 15, 26) } as CSSProperties}
          />
        )}
      </td>
      <td className="room-temperature">
        <Quantity field={{ unit: '°C' }} value={temperature} format={format} />
      </td>
      <td className="room-humidity">
        <Quantity field={{ unit: '%' }} value={data.humidity ?? null} format={format} />
      </td>
      <td className="room-age">{age === null ? '–' : format.age(age)}</td>
    </tr>
  )
}

function roomOf(device: Device): string {
  const room = device.latest?.data.room
  return humanize(typeof room === 'string' && room !== '' ? room : device.id)
}

function temperatureOf(device: Device): number | null {
  const value = device.latest?.data.temperature
  return typeof value === 'number' ? value : null
}
