/** One stream's WebSocket: it connects, notices silence, and comes back by itself. */

import { Backoff } from './backoff'
import type { Clock, Timer } from './clock'
import type { Frame } from './types'

/** A subscription that is not confirmed in this time counts as lost. */
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
export type Socket = Pick<WebSocket, 'onmessage' | 'onclose' | 'onerror' | 'send' | 'close'>

export interface FeedOptions {
  open: () => Socket
  clock: Clock
  random: () => number
  onFrame: (frame: Frame) => void
  onState: (state: FeedState) => void
}

export class Feed {
  #state: FeedState = { phase: 'stopped' }
  #socket: Socket | null = null
  #timer: Timer | null = null
  #heardAt = 0
  #answered = false
  #liveSince = 0
  readonly #backoff: Backoff

  constructor(private readonly options: FeedOptions) {
    this.#backoff = new Backoff(options.random)
  }

  get state(): FeedState {
    return this.#state
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
    socket.onmessage = (event) => this.#receive(event.data)
    socket.onclose = () => this.#lost()
    socket.onerror = () => this.#lost()
    this.#arm(CONFIRM_WITHIN_MS, () => this.#lost())
  }

  #receive(data: unknown): void {
    this.#heardAt = this.options.clock.now()
    this.#answered = true
    const frame = parseFrame(data)
    if (frame === null) return
    if (frame.type === 'subscribed') {
      this.#liveSince = this.#heardAt
      this.#enter({ phase: 'live' })
      this.#watch()
    }
    this.options.onFrame(frame)
  }

  /** One timer for any number of frames: it looks at the last one instead of being set anew by each. */
  #watch(): void {
    const quietFor = this.options.clock.now() - this.#heardAt
    if (quietFor >= PING_AFTER_MS) this.#ping()
    else this.#arm(PING_AFTER_MS - quietFor, () => this.#watch())
  }

  #ping(): void {
    this.#answered = false
    try {
      this.#socket?.send('{"type":"ping"}')
    } catch {
      this.#lost()
      return
    }
    this.#arm(PONG_WITHIN_MS, () => {
      if (this.#answered) this.#watch()
      else this.#lost()
    })
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
    if (socket === null) return
    // Late events of a socket that was given up must not disturb its successor.
    socket.onmessage = socket.onclose = socket.onerror = null
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
    case 'gap':
    case 'error':
    case 'pong':
      return parsed as Frame
    default:
      return null
  }
}
