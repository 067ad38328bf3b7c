/**
 * A client of the live feed: one WebSocket for any number of streams. It notices silence, comes back by itself, and
 * goes on where it was, so that nothing is missed; what cannot be had any more arrives as a gap.
 */

import { Backoff } from './backoff'
import type { Clock, Timer } from './clock'
import type { Frame, Subscribe } from './types'

/** Subscriptions that are not answered in this time mean that the connection is lost. */
export const CONFIRM_WITHIN_MS = 10_000
/** After this much silence we ask whether the service is still there. A sleeping phone's socket is not. */
export const PING_AFTER_MS = 15_000
/** How long the answer may take. */
export const PONG_WITHIN_MS = 5_000
/** A connection that lasted this long was a success: its end starts with a short wait again. */
export const STEADY_AFTER_MS = 5_000

export type FeedState =
  | { phase: 'connecting' }
  | { phase: 'live' }
  | { phase: 'waiting'; retryAt: number }
  | { phase: 'stopped' }

/** The part of WebSocket that is used. */
export type Socket = Pick<WebSocket, 'onopen' | 'onmessage' | 'onclose' | 'onerror' | 'send' | 'close'>

/** What is wanted of a stream; without anything all of it. */
export type Wish = Pick<Subscribe, 'device_id' | 'fields' | 'mode' | 'max_hz'>

export interface FeedOptions {
  open: () => Socket
  clock: Clock
  random: () => number
  onState: (state: FeedState) => void
  /** After a longer time without a connection it begins anew instead of going on where it was. */
  resumeWithinMs?: number
}

type Positions = Record<string, number>

interface Subscription {
  wish: Wish
  onFrame: (frame: Frame) => void
  /** By Kafka partition the next offset to ask for. */
  positions: Positions
  answered: boolean
}

export class Feed {
  #state: FeedState = { phase: 'stopped' }
  #socket: Socket | null = null
  #open = false
  #timer: Timer | null = null
  #heardAt = 0
  #pongDue = false
  #liveSince = 0
  readonly #subscriptions = new Map<string, Subscription>()
  readonly #backoff: Backoff

  constructor(private readonly options: FeedOptions) {
    this.#backoff = new Backoff(options.random)
  }

  get state(): FeedState {
    return this.#state
  }

  /** Asks for a stream, now and after every reconnection, instead of what was asked of it before. */
  subscribe(stream: string, wish: Wish, onFrame: (frame: Frame) => void): void {
    const subscription = { wish, onFrame, positions: {}, answered: false }
    this.#subscriptions.set(stream, subscription)
    if (this.#open) this.#ask(stream, subscription)
  }

  unsubscribe(stream: string): void {
    if (this.#subscriptions.delete(stream) && this.#open) this.#say({ type: 'unsubscribe', streams: [stream] })
  }

  start(): void {
    if (this.#state.phase === 'stopped') this.#connect()
  }

  /** Connects now instead of at the end of the wait; nothing when it is not waiting. */
  retryNow(): void {
    if (this.#state.phase === 'waiting') this.#connect()
  }

  /** Asks at once whether a quiet connection still lives, as after a sleep of the machine. */
  check(): void {
    if (this.#state.phase === 'live') this.#ping()
  }

  stop(): void {
    this.#release()
    this.#enter({ phase: 'stopped' })
  }

  #connect(): void {
    this.#release()
    this.#enter({ phase: 'connecting' })
    let socket: Socket
    try {
      socket = this.options.open()
    } catch {
      this.#lost()
      return
    }
    this.#socket = socket
    socket.onopen = () => this.#opened()
    socket.onmessage = (event) => this.#receive(event.data)
    socket.onclose = () => this.#lost()
    socket.onerror = () => this.#lost()
    this.#arm(CONFIRM_WITHIN_MS, () => this.#lost())
  }

  #opened(): void {
    this.#open = true
    const { clock, resumeWithinMs = Infinity } = this.options
    const stale = clock.now() - this.#heardAt > resumeWithinMs
    for (const [stream, subscription] of this.#subscriptions) {
      if (stale) subscription.positions = {}
      subscription.answered = false
      this.#ask(stream, subscription)
    }
  }

  #ask(stream: string, { wish, positions }: Subscription): void {
    const known = Object.keys(positions).length > 0
    this.#say({ type: 'subscribe', streams: [stream], ...wish, ...(known && { positions: { [stream]: positions } }) })
  }

  #receive(data: unknown): void {
    this.#heardAt = this.options.clock.now()
    this.#pongDue = false
    const frame = parseFrame(data)
    if (frame === null || frame.type === 'pong') return
    const subscription = frame.stream == null ? undefined : this.#subscriptions.get(frame.stream)
    if (subscription === undefined) return
    noteProgress(subscription.positions, frame)
    if (frame.type === 'subscribed' || frame.type === 'error') {
      subscription.answered = true
      this.#settle()
    }
    subscription.onFrame(frame)
  }

  /** Every stream has been answered: it is live. One that is refused does not keep the others waiting. */
  #settle(): void {
    if (this.#state.phase !== 'connecting') return
    for (const { answered } of this.#subscriptions.values()) if (!answered) return
    this.#liveSince = this.#heardAt
    this.#enter({ phase: 'live' })
    this.#watch()
  }

  /** One timer for any number of frames: it looks at the last one instead of being set anew by each. */
  #watch(): void {
    const quietFor = this.options.clock.now() - this.#heardAt
    if (quietFor >= PING_AFTER_MS) this.#ping()
    else this.#arm(PING_AFTER_MS - quietFor, () => this.#watch())
  }

  #ping(): void {
    this.#pongDue = true
    if (!this.#say({ type: 'ping' })) return
    this.#arm(PONG_WITHIN_MS, () => {
      if (this.#pongDue) this.#lost()
      else this.#watch()
    })
  }

  /** @returns whether the connection took it. */
  #say(message: object): boolean {
    try {
      this.#socket?.send(JSON.stringify(message))
      return true
    } catch {
      this.#lost()
      return false
    }
  }

  #lost(): void {
    const wasLive = this.#state.phase === 'live'
    this.#release()
    const now = this.options.clock.now()
    if (wasLive && now - this.#liveSince >= STEADY_AFTER_MS) this.#backoff.reset()
    const waitMs = this.#backoff.next()
    this.#arm(waitMs, () => this.#connect())
    this.#enter({ phase: 'waiting', retryAt: now + waitMs })
  }

  #release(): void {
    this.#timer?.cancel()
    this.#timer = null
    const socket = this.#socket
    this.#socket = null
    this.#open = false
    if (socket === null) return
    // Late events of a socket that was given up must not disturb its successor.
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null
    socket.close()
  }

  #arm(ms: number, run: () => void): void {
    this.#timer?.cancel()
    this.#timer = this.options.clock.after(ms, run)
  }

  #enter(state: FeedState): void {
    this.#state = state
    this.options.onState(state)
  }
}

/** Notes how far a frame leads: what to ask for after a reconnection. */
export function noteProgress(positions: Positions, frame: Frame): void {
  switch (frame.type) {
    case 'subscribed':
      for (const partition of Object.keys(positions)) delete positions[partition]
      Object.assign(positions, frame.positions)
      break
    case 'positions':
      Object.assign(positions, frame.positions)
      break
    case 'data':
      if (frame.position != null && !frame.snapshot) positions[frame.position.partition] = frame.position.offset + 1
      break
    case 'gap':
      if (frame.partition != null && frame.to_offset != null) positions[frame.partition] = frame.to_offset
  }
}

/** The frame in a message, or null for what a newer service may send and this page does not know. */
export function parseFrame(data: unknown): Frame | null {
  if (typeof data !== 'string') return null
  let parsed: unknown
  try {
    parsed = JSON.parse(data)
  } catch {
    return null
  }
  if (typeof parsed !== 'object' || parsed === null || !('type' in parsed)) return null
  switch (parsed.type) {
    case 'data':
    case 'subscribed':
    case 'unsubscribed':
    case 'positions':
    case 'gap':
    case 'error':
    case 'pong':
      return parsed as Frame
    default:
      return null
  }
}
