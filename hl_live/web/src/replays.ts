/** Asking for dead letters to be replayed, and following what becomes of it. */

import { ApiError, getJson, postJson } from './api'
import type { EntryGroup, KindsAnswer, ReplayAsked, ReplayRequest, ReplaysAnswer } from './types'

const PATH = '/api/v1/dead-letters'

export interface Letters {
  kinds: EntryGroup[]
  /** The newest first. */
  replays: ReplayRequest[]
}

export async function readLetters(): Promise<Letters> {
  const [{ kinds }, { replays }] = await Promise.all([
    getJson<KindsAnswer>(`${PATH}/kinds`),
    getJson<ReplaysAnswer>(`${PATH}/replays`),
  ])
  return { kinds, replays }
}

export function askReplay(asked: ReplayAsked): Promise<ReplayRequest> {
  return postJson(`${PATH}/replay`, asked)
}

/** The same request once more, for good: what came in since the dry run is not meant. */
export function inEarnest({ stream, fingerprint, device_id, until_id }: ReplayRequest): ReplayAsked {
  const narrowed = stream !== null || fingerprint !== null || device_id !== null
  return { stream, fingerprint, device_id, until_id, everything: !narrowed, dry_run: false }
}

/** The newest request about these entries, of a list with the newest first. */
export function newestOf(replays: readonly ReplayRequest[], fingerprint: string | null): ReplayRequest | null {
  return replays.find((one) => one.fingerprint === fingerprint && (fingerprint !== null || (one.stream === null && one.device_id === null))) ?? null
}

export function isOpen(request: ReplayRequest): boolean {
  return request.state === 'asked' || request.state === 'running'
}

/** What has become of a request, in a sentence. */
export function describe(request: ReplayRequest, number: (n: number) => string): string {
  if (request.state === 'failed') return request.problem ?? 'It failed.'
  if (request.state === 'asked') return request.dry_run ? 'Trying what would succeed…' : 'Waiting for Dagster to begin…'
  if (request.state === 'running') return describeStep(request, number)
  if (request.judged !== null) return describeJudged(request, number)
  if (request.replayed === null) return 'Done.'
  const { n_stored, n_failed_again, impossible, complete } = request.replayed
  const n_impossible = Object.values(impossible).reduce((sum, n) => sum + n, 0)
  const parts = [`${number(n_stored)} stored`, `${number(n_failed_again)} failed again`]
  if (n_impossible > 0) parts.push(`${number(n_impossible)} cannot be replayed`)
  return `${parts.join(', ')}.${complete ? '' : ' The sink has not passed all of it yet.'}`
}

function describeStep({ step, n_done, n_total }: ReplayRequest, number: (n: number) => string): string {
  const far = n_done === null || n_total === null ? '' : ` ${number(n_done)} of ${number(n_total)}`
  return step === 'awaited' ? `Sent; stored${far}…` : `Sending${far}…`
}

function describeJudged({ judged, n_selected }: ReplayRequest, number: (n: number) => string): string {
  const { n, accepted } = judged!
  const of = n < n_selected ? `the oldest ${number(n)} of ${number(n_selected)}` : number(n)
  return `${number(accepted)} of ${of} would be stored.`
}

/** What to tell a reader whose request was refused. */
export function refusal(error: unknown): string {
  return error instanceof ApiError ? error.message : String(error)
}
