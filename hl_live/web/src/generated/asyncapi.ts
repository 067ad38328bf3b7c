/* Written by scripts/types.mjs from api/asyncapi.json. Change the service instead. */

export interface Schemas {
  DataMessage: DataMessage
  ErrorMessage: ErrorMessage
  GapMessage: GapMessage
  Ping: Ping
  PongMessage: PongMessage
  Position: Position
  PositionsMessage: PositionsMessage
  Subscribe: Subscribe
  SubscribedMessage: SubscribedMessage
  Unsubscribe: Unsubscribe
  UnsubscribedMessage: UnsubscribedMessage
}
/**
 * A reading.
 *
 *     Args:
 *         timestamp: the device's own time.
 *         received_at: when the bridge received it.
 *         data: the fields that were asked for.
 *         position: null only of a snapshot's reading that came from the database.
 *         snapshot: true of a reading that was the newest when the subscription began; else it is absent.
 */
export interface DataMessage {
  type: 'data'
  stream: string
  device_id: string
  timestamp: string
  received_at: string
  data: {
    [k: string]: number | string | boolean | null
  }
  position: Position | null
  snapshot?: boolean
}
/**
 * Where a reading lies on Kafka.
 */
export interface Position {
  partition: number
  offset: number
}
/**
 * What is wrong; the connection stays, unless there is no room for it.
 *
 *     Args:
 *         stream: the one that could not be subscribed, where it is one.
 */
export interface ErrorMessage {
  type: 'error'
  code: 'bad_message' | 'bad_parameter' | 'forbidden' | 'not_subscribed' | 'too_many_clients' | 'unknown_stream'
  detail: string
  stream?: string | null
}
/**
 * Readings that the client does not get.
 *
 *     Args:
 *         missed: so many, as the client was too slow for them; newer ones of the same devices follow.
 *         partition, from_offset, to_offset: or all from this offset on, before that one.
 *         reason: of such a range: `retention`, Kafka no longer has it; `replaced`, the Kafka topic was made anew or cut;
 *             `too_far`, it is longer than the service reads again; `skipped`, the service itself has not seen it.
 */
export interface GapMessage {
  type: 'gap'
  stream: string
  missed?: number | null
  partition?: number | null
  from_offset?: number | null
  to_offset?: number | null
  reason?: ('replaced' | 'retention' | 'skipped' | 'too_far') | null
}
/**
 * Asks whether the service is there.
 */
export interface Ping {
  type: 'ping'
}
/**
 * The answer to a ping.
 */
export interface PongMessage {
  type: 'pong'
}
/**
 * All that was asked for up to these offsets has been told; for a resume, where few readings come.
 */
export interface PositionsMessage {
  type: 'positions'
  stream: string
  positions: {
    [k: string]: number
  }
}
/**
 * Asks for streams; once more for the same stream replaces what was asked before.
 *
 *     Args:
 *         device_id: only these; without it every device.
 *         fields: only these of the data; without it all.
 *         mode: `all` readings, or of each device the `latest` that can be delivered.
 *         max_hz: at most so many readings a second of each device, the latest ones.
 *         positions: by stream and Kafka partition the next offset that the client wants; without it the newest
 *             readings come first.
 *         snapshot: whether the newest readings come first.
 */
export interface Subscribe {
  type: 'subscribe'
  /**
   * @minItems 1
   * @maxItems 100
   */
  streams: [string, ...string[]]
  device_id?: string[] | null
  fields?: string[] | null
  mode?: 'all' | 'latest'
  max_hz?: number | null
  positions?: {
    [k: string]: {
      [k: string]: number
    }
  } | null
  snapshot?: boolean
}
/**
 * The first message of a stream's subscription, before its data.
 *
 *     Args:
 *         device_id, fields, mode, max_hz: as asked; null is all.
 *         resumed: whether it begins with the positions that the client gave.
 *         complete: whether the snapshot holds every device; if not, others follow when the database has told them.
 *         positions: by Kafka partition, the next offset that this subscription will tell.
 */
export interface SubscribedMessage {
  type: 'subscribed'
  stream: string
  device_id: string[] | null
  fields: string[] | null
  mode: 'all' | 'latest'
  max_hz: number | null
  resumed: boolean
  complete: boolean
  positions: {
    [k: string]: number
  }
}
/**
 * Ends the subscriptions of streams.
 */
export interface Unsubscribe {
  type: 'unsubscribe'
  /**
   * @minItems 1
   * @maxItems 100
   */
  streams: [string, ...string[]]
}
/**
 * Nothing of this stream comes any more.
 */
export interface UnsubscribedMessage {
  type: 'unsubscribed'
  stream: string
}
