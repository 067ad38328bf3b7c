import { beforeEach, describe, expect, it } from 'vitest'

import { ApiError, type Api } from './api'
import { Home } from './home'
import { MAX_SHOWN, WINDOW_MS } from './stream'
import { FakeClock, FakeScreen, FakeSocket, settle } from './testing'
import type { ApiReading, StreamDeclaration } from './types'

const ANY = { type: 'float', required: false, minimum: null, maximum: null, description: '' } as const
const ENERGY: StreamDeclaration = {
  name: 'energy',
  title: 'Energy meters',
  description: '',
  mqtt_filter: 'homelab/energy/#',
  kafka_topic: 'homelab.energy',
  table: 'energy_readings',
  fields: [
    { ...ANY, name: 'total_energy_kwh', kind: 'counter', unit: 'kWh' },
    { ...ANY, name: 'voltage', kind: 'gauge', unit: 'V' },
    { ...ANY, name: 'power_kw', kind: 'gauge', unit: 'kW' },
  ],
}

/** Readings that have reached Kafka, of which the database has the first `stored`. */
class FakeHouse implements Api {
  up = true
  declarations = [ENERGY]
  readings: ApiReading[] = []
  stored = 0

  async streams() {
    this.#check()
    return this.declarations
  }

  async latest(stream: string) {
    this.#check()
    const newest = this.readings.slice(0, this.stored).at(-1)
    return { stream, readings: newest === undefined ? [] : [newest], sentAt: 0, answeredAt: 0 }
  }

  async raw(stream: string, _device: string, start: number, end: number) {
    this.#check()
    const stored = this.readings.slice(0, this.stored)
    const time = (reading: ApiReading) => Date.parse(reading.timestamp)
    return { stream, readings: stored.filter((reading) => time(reading) >= start && time(reading) < end) }
  }

  #check() {
    if (!this.up) throw new ApiError('The live service does not answer.')
  }
}

let clock: FakeClock
let screen: FakeScreen
let house: FakeHouse
let sockets: FakeSocket[]
let home: Home

beforeEach(() => {
  clock = new FakeClock()
  screen = new FakeScreen()
  house = new FakeHouse()
  sockets = []
  home = new Home({
    api: house,
    clock,
    screen,
    random: () => 1,
    openSocket() {
      sockets.push(new FakeSocket())
      return sockets.at(-1)!
    },
  })
})

const socket = () => sockets.at(-1)!
const meter = () => home.streams[0]!.devices.get('meter1')!
const times = () => [...meter().series!.view()[0]]

/** A reading of now reaches Kafka; it is sent to who is connected. */
function reads(send = true, id = 'meter1'): ApiReading {
  const reading = { device_id: id, timestamp: new Date(clock.now()).toISOString(), data: { power_kw: 1 } }
  house.readings.push(reading)
  if (send) socket().says({ type: 'data', stream: 'energy', ...reading })
  return reading
}

async function connect(): Promise<void> {
  home.start()
  await settle()
  socket().confirms()
}

describe('Home', () => {
  it('joins past and live without a seam or a duplicate, though the database lags behind', async () => {
    for (let i = 0; i < 100; i += 1) {
      reads(false)
      await clock.pass(1_000)
    }
    // The last three are on their way to the database when the page opens.
    house.stored = 97
    await connect()
    for (let i = 0; i < 10; i += 1) {
      reads()
      await screen.paint()
      await clock.pass(1_000)
      house.stored += 1
    }
    house.stored = house.readings.length
    await clock.pass(10_000)
    expect(times()).toEqual(house.readings.map(({ timestamp }) => Date.parse(timestamp)))
    expect(meter().seam.joined).toBe(true)
  })

  it('fills what it missed while the connection was lost', async () => {
    await connect()
    reads()
    await screen.paint()
    house.stored = 1
    await clock.pass(5_000)
    socket().breaks()
    expect(home.connection.kind).toBe('lost')
    house.up = false
    for (let i = 0; i < 20; i += 1) {
      reads(false)
      await clock.pass(1_000)
    }
    house.up = true
    house.stored = house.readings.length
    await clock.pass(10_000)
    socket().confirms()
    reads()
    await screen.paint()
    house.stored += 1
    await clock.pass(10_000)
    expect(home.connection.kind).toBe('live')
    expect(times()).toEqual(house.readings.map(({ timestamp }) => Date.parse(timestamp)))
  })

  it('goes on where it was after a short loss, without asking for the past', async () => {
    await connect()
    for (house.stored = 0; house.stored < 2; house.stored += 1) {
      reads()
      await screen.paint()
      await clock.pass(1_000)
    }
    await clock.pass(9_000)
    socket().says({ type: 'positions', stream: 'energy', positions: { 0: 41 } })
    socket().breaks()
    const missed = [reads(false)]
    await clock.pass(1_000)
    missed.push(reads(false))
    socket().opens()
    expect(socket().asked('subscribe')).toEqual([
      { type: 'subscribe', streams: ['energy'], positions: { energy: { 0: 41 } } },
    ])
    let n_asked = 0
    house.raw = () => Promise.reject(new Error(`asked ${(n_asked += 1)} times`))
    socket().confirms(true, { 0: 41 })
    for (const reading of missed) socket().says({ type: 'data', stream: 'energy', ...reading })
    await screen.paint()
    expect(times()).toEqual(house.readings.map(({ timestamp }) => Date.parse(timestamp)))
    expect(n_asked).toBe(0)
    expect(home.connection.kind).toBe('live')
  })

  it('shows a snapshot at once, and does not take it for live', async () => {
    await connect()
    const reading = { device_id: 'meter1', timestamp: new Date(clock.now() - 60_000).toISOString(), data: { power_kw: 2 } }
    socket().says({ type: 'data', stream: 'energy', snapshot: true, position: null, ...reading })
    await screen.paint()
    await clock.pass(1_000)
    expect(meter().latest?.data).toEqual({ power_kw: 2 })
    expect(home.delay).toBeNull()
  })

  it('tells its watchers where the feed begins or skips, for nobody else will tell of what came before', async () => {
    const told: string[] = []
    home.watch({ reading: () => told.push('reading'), missed: (stream) => told.push(`missed ${stream}`) })
    await connect()
    expect(told).toEqual(['missed energy'])
    reads()
    await screen.paint()
    socket().says({ type: 'gap', stream: 'energy', missed: 3 })
    expect(told).toEqual(['missed energy', 'reading', 'missed energy'])
    socket().breaks()
    await clock.pass(1_000)
    socket().opens()
    socket().confirms(true, { 0: 3 })
    expect(told).toHaveLength(3)
  })

  it('fetches what the service says it skipped', async () => {
    await connect()
    reads()
    await screen.paint()
    house.stored = 1
    await clock.pass(5_000)
    for (let i = 0; i < 3; i += 1) {
      reads(false)
      await clock.pass(1_000)
    }
    socket().says({ type: 'gap', stream: 'energy', missed: 3 })
    reads()
    await screen.paint()
    house.stored = house.readings.length
    await clock.pass(10_000)
    expect(times()).toHaveLength(5)
  })

  it('measures the delay to the paint, not to the arrival', async () => {
    await connect()
    reads()
    await clock.pass(30)
    await screen.paint(() => clock.pass(12))
    await clock.pass(1_000)
    expect(home.delay).toEqual({ median: 42, p99: 42, count: 1 })
  })

  it('does not count as delay that a page was hidden', async () => {
    await connect()
    screen.isVisible = false
    reads()
    await clock.pass(120_000)
    screen.isVisible = true
    home.wake()
    await screen.paint()
    await clock.pass(1_000)
    expect(home.delay).toBeNull()
    expect(meter().latest).not.toBeNull()
  })

  it('says that the service does not answer, and begins when it does', async () => {
    house.up = false
    home.start()
    await clock.pass(5_000)
    expect(home.problem).toBe('The live service does not answer.')
    expect(home.connection.kind).toBe('lost')
    house.up = true
    home.retryNow()
    await settle()
    socket().confirms()
    expect(home.ready).toBe(true)
    expect(home.problem).toBeNull()
    expect(home.connection.kind).toBe('live')
  })

  it('learns of a stream that was declared while the service was away', async () => {
    await connect()
    await clock.pass(10_000)
    house.declarations = [ENERGY, { ...ENERGY, name: 'solar' }]
    socket().breaks()
    await clock.pass(1_000)
    socket().confirms()
    await clock.pass(1_000)
    expect(home.streams.map(({ name }) => name)).toEqual(['energy', 'solar'])
    expect(socket().asked('subscribe').at(-1)).toEqual({ type: 'subscribe', streams: ['solar'] })
  })

  it('makes room for what is there by what has long been silent', async () => {
    await connect()
    for (let i = 0; i < 100; i += 1) reads(true, `a${i}`)
    await screen.paint()
    expect(home.streams[0]!.shown).toHaveLength(MAX_SHOWN)
    await clock.pass(WINDOW_MS + 60_000)
    // All are silent: then that is what there is to see.
    expect(home.streams[0]!.shown).toHaveLength(MAX_SHOWN)
    home.retryNow()
    socket().confirms()
    reads()
    await screen.paint()
    expect(home.streams[0]!.shown).toEqual([meter()])
    expect(home.streams[0]!.gone).toHaveLength(100)
    expect(meter().series).not.toBeNull()
    expect(home.streams[0]!.devices.get('a1')!.series).toBeNull()
  })
})
