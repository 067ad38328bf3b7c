/** The token of this tab, for services that ask for one. It is never part of an address. */

import type { TicketAnswer } from './types'

const KEY = 'hl.token'
const TICKET_WITHIN_MS = 10_000

/** Whether the service has asked for a token that it did not get. */
let asked = false

export function wantsToken(): boolean {
  return asked
}

/** Keeps a token until the tab is closed. */
export function keepToken(token: string): void {
  sessionStorage.setItem(KEY, token.trim())
}

/** The header of a request; none without a token. */
export function authorization(): Record<string, string> {
  const token = sessionStorage.getItem(KEY)
  return token === null ? {} : { authorization: `Bearer ${token}` }
}

/** Notes what the service said to it: a token that is over is forgotten. */
export function noteStatus(status: number): void {
  if (status === 401) {
    asked = true
    sessionStorage.removeItem(KEY)
  } else {
    asked = false
  }
}

type Handlers = Pick<WebSocket, 'onopen' | 'onmessage' | 'onclose' | 'onerror' | 'send' | 'close'>

/** A WebSocket; with a token, one that fetches its ticket first, since it cannot carry a header. */
export function openSocket(url: URL): Handlers {
  return sessionStorage.getItem(KEY) === null ? new WebSocket(url) : new TicketedSocket(url)
}

class TicketedSocket implements Handlers {
  onopen: Handlers['onopen'] = null
  onmessage: Handlers['onmessage'] = null
  onclose: Handlers['onclose'] = null
  onerror: Handlers['onerror'] = null
  #socket: WebSocket | null = null
  #closed = false

  constructor(url: URL) {
    void this.#open(url)
  }

  send(data: string): void {
    this.#socket?.send(data)
  }

  close(): void {
    this.#closed = true
    this.#socket?.close()
  }

  async #open(url: URL): Promise<void> {
    try {
      url.searchParams.set('ticket', await fetchTicket())
    } catch {
      if (!this.#closed) this.#call(this.onerror, new Event('error'))
      return
    }
    if (this.#closed) return
    const socket = (this.#socket = new WebSocket(url))
    socket.onopen = (event) => this.#call(this.onopen, event)
    socket.onmessage = (event) => this.#call(this.onmessage, event)
    socket.onclose = (event) => this.#call(this.onclose, event)
    socket.onerror = (event) => this.#call(this.onerror, event)
  }

  #call<E extends Event>(handler: ((this: WebSocket, event: E) => unknown) | null, event: E): void {
    handler?.call(this as unknown as WebSocket, event)
  }
}

async function fetchTicket(): Promise<string> {
  const response = await fetch('/api/v1/ticket', {
    method: 'POST',
    headers: { accept: 'application/json', ...authorization() },
    signal: AbortSignal.timeout(TICKET_WITHIN_MS),
  })
  if (response.status === 401) {
    noteStatus(response.status)
    // The page asks for another token when it begins.
    location.reload()
  }
  if (!response.ok) throw new Error(`status ${response.status}`)
  return ((await response.json()) as TicketAnswer).ticket
}
