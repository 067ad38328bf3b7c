/** What the live service sends, under the names of the page. The shapes come from its own documents. */

import type {
  DataMessage,
  ErrorMessage,
  GapMessage,
  PongMessage,
  PositionsMessage,
  SubscribedMessage,
  UnsubscribedMessage,
} from './generated/asyncapi'
import type { EnergyNewest, EnergyReading } from './generated/openapi'

export type {
  BalanceView,
  CostAnswer,
  DelayView,
  EnergyBucket,
  EnergyBucketsAnswer,
  EntryGroup,
  FieldSchema as FieldDeclaration,
  HeatpumpBucket,
  HeatpumpBucketsAnswer,
  KindsAnswer,
  PipelineView,
  ReplayAsked,
  ReplayRequest,
  ReplaysAnswer,
  StageView,
  StreamSchema as StreamDeclaration,
  StreamsAnswer,
  TemperatureBucket,
  TemperatureBucketsAnswer,
  TicketAnswer,
} from './generated/openapi'
export type { DataMessage as DataFrame, Subscribe } from './generated/asyncapi'

export type Value = DataMessage['data'][string]

/** A reading of any stream: the document has one for each that comes with hl, alike but for their data. */
export type ApiReading = Pick<EnergyReading, 'device_id' | 'timestamp'> &
  Partial<Pick<EnergyNewest, 'age_s'>> & { data: Record<string, Value> }

export interface ReadingsAnswer {
  stream: string
  readings: ApiReading[]
}

export type Frame =
  | DataMessage
  | GapMessage
  | SubscribedMessage
  | UnsubscribedMessage
  | PositionsMessage
  | ErrorMessage
  | PongMessage
