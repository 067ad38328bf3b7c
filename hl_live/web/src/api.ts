/** The REST calls of the page. */

import { realClock } from './clock'
import { authorization, noteStatus } from './token'
import type { ReadingsAnswer, StreamDeclaration, StreamsAnswer } from './types'

const TIMEOUT_MS = 15_000
/** The most that one answer of /raw may hold. */
export const RAW_LIMIT = 10_000

/** Something kept us from an answer; `message` is fit for a reader. */
export class ApiError extends Error {}

/** Newest readings, and when they were asked for and came, by the browser's clock in ms. */
export interface Newest extends ReadingsAnswer {
  sentAt: number
  answeredAt: number
}

export interface Api {
  streams(): Promise<StreamDeclaration[]>
  latest(stream: string): Promise<Newest>
  /** Readings of [startMs, endMs), oldest first, at most RAW_LIMIT. */
  raw(stream: string, deviceId: string, startMs: number, endMs: number): Promise<ReadingsAnswer>
}

export const httpApi: Api = {
  async streams() {
    return (await getJson<StreamsAnswer>('/api/v1/streams')).streams
  },
  async latest(stream) {
    const sentAt = realClock.now()
    const answer = await getJson<ReadingsAnswer>(`/api/v1/${encodeURIComponent(stream)}/latest`)
    return { ...answer, sentAt, answeredAt: realClock.now() }
  },
  raw(stream, deviceId, startMs, endMs) {
    const query = new URLSearchParams({
      device_id: deviceId,
      start: new Date(startMs).toISOString(),
      end: new Date(endMs).toISOString(),
      limit: String(RAW_LIMIT),
    })
    return getJson(`/api/v1/${encodeURIComponent(stream)}/raw?${query.toString()}`)
  },
}

export function getJson<T>(path: string): Promise<T> {
  return request(path, {})
}

export function postJson<T>(path: string, body: unknown): Promise<T> {
  return request(path, { method: 'POST', body: JSON.stringify(body) }, { 'content-type': 'application/json' })
}

async function request<T>(path: string, init: RequestInit, headers: Record<string, string> = {}): Promise<T> {
  let response: Response
  try {
    response = await fetch(path, {
      ...init,
      headers: { accept: 'application/json', ...headers, ...authorization() },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
  } catch {
    throw new ApiError('The live service does not answer.')
  }
  noteStatus(response.status)
  if (!response.ok) throw new ApiError(await problemOf(response))
  try {
    return (await response.json()) as T
  } catch {
    throw new ApiError('The live service sent something that is not JSON.')
  }
}

/** The sentence of an RFC 9457 problem, or the bare status of anything else. */
async function problemOf(response: Response): Promise<string> {
  try {
    const problem = (await response.json()) as { title?: unknown; detail?: unknown }
    const text = problem.detail ?? problem.title
    if (typeof text === 'string' && text !== '') return text
  } catch {
    // A proxy's HTML page, say: the status must do.
  }
  return `The live service answered with status ${response.status}.`
}
