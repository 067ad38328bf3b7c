import { describe as group, expect, it } from 'vitest'

import { describe, inEarnest, newestOf } from './replays'
import type { ReplayRequest } from './types'

const ASKED: ReplayRequest = {
  request_id: 7,
  requested_at: '2026-01-03T16:00:00Z',
  requested_by: 'anyone at 127.0.0.1',
  dry_run: true,
  stream: null,
  fingerprint: 'f0',
  device_id: null,
  until_id: 42,
  n_selected: 900,
  state: 'asked',
  run_id: null,
  step: null,
  n_done: null,
  n_total: null,
  ended_at: null,
  judged: null,
  replayed: null,
  problem: null,
}
const judged = { n: 500, accepted: 450, rejected: 40, impossible: 10, groups: [] }
const replayed = { replay_id: 'r', n_selected: 900, n_stored: 850, n_failed_again: 40, impossible: { truncated: 10 }, complete: true }

group('a request', () => {
  it('for good means what the dry run meant, and nothing that came in since', () => {
    expect(inEarnest(ASKED)).toEqual({
      stream: null, fingerprint: 'f0', device_id: null, until_id: 42, everything: false, dry_run: false,
    })
    expect(inEarnest({ ...ASKED, fingerprint: null }).everything).toBe(true)
  })

  it('says what it does and what became of it', () => {
    const say = (change: Partial<ReplayRequest>) => describe({ ...ASKED, ...change }, String)
    expect(say({})).toBe('Trying what would succeed…')
    expect(say({ dry_run: false })).toBe('Waiting for Dagster to begin…')
    expect(say({ state: 'running', step: 'replayed', n_done: 500, n_total: 900 })).toBe('Sending 500 of 900…')
    expect(say({ state: 'running', step: 'awaited', n_done: 5, n_total: 9 })).toBe('Sent; stored 5 of 9…')
    expect(say({ state: 'done', judged })).toBe('450 of the oldest 500 of 900 would be stored.')
    expect(say({ state: 'done', replayed })).toBe('850 stored, 40 failed again, 10 cannot be replayed.')
    expect(say({ state: 'failed', problem: 'The run did not succeed.' })).toBe('The run did not succeed.')
  })

  it('is found by the kind that it is about, the newest one', () => {
    const replays = [{ ...ASKED, request_id: 9, fingerprint: null }, { ...ASKED, request_id: 8 }, ASKED]
    expect(newestOf(replays, 'f0')?.request_id).toBe(8)
    expect(newestOf(replays, null)?.request_id).toBe(9)
    expect(newestOf(replays, 'f1')).toBeNull()
  })
})
