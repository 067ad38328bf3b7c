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
}

export type Frame =
  | DataFrame
  | { type: 'subscribed'; stream: string }
  | { type: 'gap'; stream: string; missed: number }
  | { type: 'error'; code: string; detail: string }
  | { type: 'pong' }
