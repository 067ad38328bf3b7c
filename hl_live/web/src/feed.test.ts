import { beforeEach, describe, expect, it } from 'vitest'

import { CONFIRM_WITHIN_MS, Feed, PING_AFTER_MS, PONG_WITHIN_MS, STEADY_AFTER_MS, parseFrame } from './feed'
import { FakeClock, FakeSocket } from './testing'
import type { Frame } from './types'

const SUBSCRIBED = { type: 'subscribed', stream: 'energy', resumed: false, positions: { 0: 5 } }
const DATA = { type: 'data', stream: 'energy', device_id: 'meter1', timestamp: '2026-01-03T16:00:00Z', data: {} }

let clock: FakeClock
let sockets: FakeSocket[]
let frames: Frame[]
let feed: Feed

beforeEach(() => {
  clock = new FakeClock()
  sockets = []
  frames = []
  feed = new Feed({
    clock,
    random: () => 1,
    open() {
      sockets.push(new FakeSocket())
      return sockets.at(-1)!
    },
    onState: () => {},
  })
  feed.subscribe('energy', {}, (frame) => frames.push(frame))
  feed.start()
})

const last = () => sockets.at(-1)!

/** The waits before each of the next `n` tries, none of which succeeds. */
async function waits(n: number): Promise<number[]> {
  const found: number[] = []
  for (let i = 0; i < n; i += 1) {
    last().breaks()
    const { state } = feed
    if (state.phase !== 'waiting') throw new Error(state.phase)
    found.push(state.retryAt - clock.now())
    await clock.pass(state.retryAt - clock.now())
  }
  return found
}

describe('Feed', () => {
  it('is live once the service confirms, not when the socket opens', () => {
    expect(feed.state.phase).toBe('connecting')
    last().says(SUBSCRIBED)
    expect(feed.state.phase).toBe('live')
  })

  it('hands on every frame in order', () => {
    last().says(SUBSCRIBED)
    last().says(DATA)
    last().says({ type: 'gap', stream: 'energy', missed: 3 })
    expect(frames.map(({ type }) => type)).toEqual(['subscribed', 'data', 'gap'])
  })

  it('comes back by itself, with waits that grow up to a bound', async () => {
    expect(await waits(7)).toEqual([400, 800, 1_600, 3_200, 6_400, 8_000, 8_000])
    expect(sockets).toHaveLength(8)
    last().says(SUBSCRIBED)
    expect(feed.state.phase).toBe('live')
  })

  it('begins with a short wait again after a connection that lasted', async () => {
    await waits(5)
    last().says(SUBSCRIBED)
    await clock.pass(STEADY_AFTER_MS)
    expect(await waits(1)).toEqual([400])
  })

  it('does not hurry back to a service that confirms and then dies', async () => {
    for (let i = 0; i < 4; i += 1) {
      last().says(SUBSCRIBED)
      await waits(1)
    }
    expect(await waits(1)).toEqual([6_400])
  })

  it('gives up a connection that is never confirmed', async () => {
    await clock.pass(CONFIRM_WITHIN_MS)
    expect(sockets[0]!.closed).toBe(true)
    expect(feed.state.phase).toBe('waiting')
  })

  it('asks after silence, and stays when it is answered', async () => {
    last().says(SUBSCRIBED)
    await clock.pass(PING_AFTER_MS)
    expect(last().asked('ping')).toHaveLength(1)
    last().says({ type: 'pong' })
    await clock.pass(PING_AFTER_MS)
    expect(last().asked('ping')).toHaveLength(2)
    expect(feed.state.phase).toBe('live')
  })

  it('does not ask while readings come', async () => {
    last().says(SUBSCRIBED)
    for (let i = 0; i < 60; i += 1) {
      await clock.pass(1_000)
      last().says(DATA)
    }
    expect(last().asked('ping')).toEqual([])
  })

  it('leaves a connection that is dead without having been closed', async () => {
    last().says(SUBSCRIBED)
    await clock.pass(PING_AFTER_MS + PONG_WITHIN_MS)
    expect(sockets[0]!.closed).toBe(true)
    expect(feed.state.phase).toBe('waiting')
  })

  it('finds out at once after a sleep', async () => {
    last().says(SUBSCRIBED)
    feed.check()
    await clock.pass(PONG_WITHIN_MS)
    expect(feed.state.phase).toBe('waiting')
  })

  it('does not wait when it is told to try now', () => {
    last().breaks()
    feed.retryNow()
    expect(sockets).toHaveLength(2)
    expect(feed.state.phase).toBe('connecting')
    feed.retryNow()
    expect(sockets).toHaveLength(2)
  })

  it('ignores what a socket says that it has given up', () => {
    const old = last()
    const late = old.onmessage
    old.breaks()
    expect(old.onmessage).toBeNull()
    expect(late).not.toBeNull()
  })

  it('is quiet after a stop', async () => {
    feed.stop()
    await clock.pass(60_000)
    expect(sockets).toHaveLength(1)
    expect(sockets[0]!.closed).toBe(true)
  })
})

describe('a reconnection', () => {
  const asked = () => last().asked('subscribe')[0]

  async function reconnects(afterMs = 400): Promise<void> {
    last().breaks()
    await clock.pass(afterMs)
    last().opens()
  }

  it('asks for everything since what it has', async () => {
    last().opens()
    expect(asked()).toEqual({ type: 'subscribe', streams: ['energy'] })
    last().says({ ...SUBSCRIBED, positions: { 0: 5, 1: 7, 2: 9 } })
    last().says({ ...DATA, position: { partition: 0, offset: 10 } })
    last().says({ ...DATA, snapshot: true, position: { partition: 1, offset: 2 } })
    last().says({ type: 'positions', stream: 'energy', positions: { 1: 8 } })
    last().says({ type: 'gap', stream: 'energy', partition: 2, from_offset: 9, to_offset: 20, reason: 'too_far' })
    await reconnects()
    expect(asked()).toEqual({ type: 'subscribe', streams: ['energy'], positions: { energy: { 0: 11, 1: 8, 2: 20 } } })
  })

  it('is live when every stream is answered, also one that is refused', async () => {
    feed.subscribe('gas', { mode: 'latest', max_hz: 2 }, (frame) => frames.push(frame))
    last().opens()
    expect(last().asked('subscribe')[1]).toEqual({ type: 'subscribe', streams: ['gas'], mode: 'latest', max_hz: 2 })
    last().says(SUBSCRIBED)
    expect(feed.state.phase).toBe('connecting')
    last().says({ type: 'error', code: 'unknown_stream', stream: 'gas', detail: '' })
    expect(feed.state.phase).toBe('live')
  })

  it('does not ask again for what was given up', async () => {
    last().opens()
    last().says(SUBSCRIBED)
    feed.subscribe('solar', {}, () => {})
    feed.unsubscribe('energy')
    expect(last().asked('unsubscribe')).toEqual([{ type: 'unsubscribe', streams: ['energy'] }])
    await reconnects()
    expect(last().asked('subscribe')).toEqual([{ type: 'subscribe', streams: ['solar'] }])
  })
})

describe('parseFrame', () => {
  it('takes what it knows and leaves the rest', () => {
    expect(parseFrame(JSON.stringify(DATA))).toEqual(DATA)
    for (const odd of ['', 'no json', 'null', '7', '{}', '{"type":"news"}', new ArrayBuffer(2)]) {
      expect(parseFrame(odd)).toBeNull()
    }
  })
})
