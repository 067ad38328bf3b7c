/** What the live service sends: REST answers and WebSocket frames. */

export type Value = number | string | boolean | null

export interface FieldDeclaration {
  name: string
  type: 'float' | 'integer' | 'smallint' | 'text' | 'boolean'
  kind: 'gauge' | 'counter' | 'state' | 'label'
  unit: string
  description?: string
}

export interface StreamDeclaration {
  name: string
  title: string
  description?: string
  mqtt_filter?: string
  fields: FieldDeclaration[]
}

export interface StreamsAnswer {
  streams: StreamDeclaration[]
}

export interface ApiReading {
  device_id: string
  timestamp: string
  age_s?: number
  data: Record<string, Value>
}

export interface ReadingsAnswer {
  stream: string
  readings: ApiReading[]
}

export interface DataFrame {
  type: 'data'
  stream: string
  device_id: string
  timestamp: string
  data: Record<string, Value>
  /** Where it lies on Kafka; null of a reading that the database told. */
  position?: { partition: number; offset: number } | null
  /** It was the newest when the subscription began. */
  snapshot?: boolean
}

export interface GapFrame {
  type: 'gap'
  stream: string
  /** So many, as we were too slow; or a range of a partition: */
  missed?: number
  partition?: number
  from_offset?: number
  to_offset?: number
  reason?: string
}

export type Frame =
  | DataFrame
  | GapFrame
  | { type: 'subscribed'; stream: string; resumed: boolean; positions: Record<string, number> }
  | { type: 'unsubscribed'; stream: string }
  | { type: 'positions'; stream: string; positions: Record<string, number> }
  | { type: 'error'; stream?: string; code: string; detail: string }
  | { type: 'pong' }
