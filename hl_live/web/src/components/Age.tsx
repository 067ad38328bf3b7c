import type { Device } from '../device'
import type { Format } from '../format'

interface AgeProps {
  device: Device
  now: number
  format: Format
}

/** Silent while a device keeps its pace; says for how long it has been quiet when it does not. */
export function Age({ device, now, format }: AgeProps) {
  if (device.latest === null || !device.isStale(now)) return null
  return <p className="stale-note">quiet for {format.age(now - device.latest.time)}</p>
}
