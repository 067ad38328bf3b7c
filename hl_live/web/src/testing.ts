/** A clock, sockets and a screen that do what a test says. */

import type { Clock } from './clock'
import type { Socket } from './feed'
import type { Screen } from './home'

export class FakeClock implements Clock {
  #now = Date.UTC(2026, 0, 3, 16)
  #timers: { at: number; run: () => void }[] = []

  now(): number {
    return this.#now
  }

  after(ms: number, run: () => void) {
    const timer = { at: this.#now + ms, run }
    this.#timers.push(timer)
    return { cancel: () => void (this.#timers = this.#timers.filter((other) => other !== timer)) }
  }

  /** Lets time pass, and everything happen that was due in it, in order. */
  async pass(ms: number): Promise<void> {
    const until = this.#now + ms
    for (;;) {
      await settle()
      const next = this.#timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0]
      if (next === undefined) break
      this.#timers = this.#timers.filter((timer) => timer !== next)
      this.#now = Math.max(this.#now, next.at)
      next.run()
    }
    this.#now = until
    await settle()
  }
}

/** Lets promises that can be fulfilled be so. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await Promise.resolve()
}

export class FakeSocket implements Socket {
  onopen: Socket['onopen'] = null
  onmessage: Socket['onmessage'] = null
  onclose: Socket['onclose'] = null
  onerror: Socket['onerror'] = null
  readonly sent: string[] = []
  closed = false

  send(text: string): void {
    this.sent.push(text)
  }

  close(): void {
    this.closed = true
  }

  /** What the client has asked of this type. */
  asked(type: string): Record<string, unknown>[] {
    return this.sent.map((text) => JSON.parse(text) as Record<string, unknown>).filter((said) => said.type === type)
  }

  /** The connection is made, and the service confirms every stream that is asked for. */
  confirms(resumed = false, positions: Record<string, number> = { 0: 0 }): void {
    if (this.asked('subscribe').length === 0) this.opens()
    for (const { streams } of this.asked('subscribe')) {
      for (const stream of streams as string[]) this.says({ type: 'subscribed', stream, resumed, positions })
    }
  }

  opens(): void {
    this.onopen?.call(this as unknown as WebSocket, {} as Event)
  }

  /** The service sends a frame. */
  says(frame: unknown): void {
    const socket = this as unknown as WebSocket
    this.onmessage?.call(socket, { data: JSON.stringify(frame) } as MessageEvent)
  }

  /** The connection breaks. */
  breaks(): void {
    this.onclose?.call(this as unknown as WebSocket, {} as CloseEvent)
  }
}

export class FakeScreen implements Screen {
  isVisible = true
  #frame: (() => void)[] = []
  #painted: (() => void)[] = []

  nextFrame(run: () => void): void {
    this.#frame.push(run)
  }

  afterPaint(run: () => void): void {
    this.#painted.push(run)
  }

  visible(): boolean {
    return this.isVisible
  }

  /** The browser runs a frame's callbacks and paints it `whilePainting` later. */
  async paint(whilePainting: () => Promise<void> = settle): Promise<void> {
    for (const run of this.#frame.splice(0)) run()
    await whilePainting()
    for (const run of this.#painted.splice(0)) run()
  }
}
