/** Asks again and again while a view is open. */

import { useEffect, useRef, useState } from 'react'

import { realClock } from './clock'
import type { Home } from './home'
import { Revalidation } from './late'

/** A question without an answer is asked again this soon; who waits for figures does not wait a minute more. */
const RETRY_MS = 5_000

export interface Polled<T> {
  /** The last answer; null before the first. */
  value: T | null
  /** The answer before it; null before the second. */
  previous: T | null
  /** Why the newest question has no answer; null when it has. */
  problem: string | null
  /** Asks now. */
  again: () => void
}

/**
 * What `ask` answers, asked anew every so often and when it changes. One question at a time.
 *
 * @param ask stays the same function as long as it asks the same.
 */
export function usePolled<T>(ask: () => Promise<T>, everyMs: number): Polled<T> {
  const [polled, setPolled] = useState<Omit<Polled<T>, 'again'>>({ value: null, previous: null, problem: null })
  const now = useRef(() => {})
  const again = useRef(() => now.current()).current
  useEffect(() => {
    let ended = false
    let asking = false
    let wanted = false
    let timer: ReturnType<typeof setTimeout> | undefined
    const turn = async () => {
      clearTimeout(timer)
      wanted = asking
      if (asking) return
      asking = true
      let waitMs = everyMs
      try {
        const value = await ask()
        if (!ended) setPolled((last) => ({ value, previous: last.value, problem: null }))
      } catch (error) {
        waitMs = Math.min(everyMs, RETRY_MS)
        if (!ended) setPolled((last) => ({ ...last, problem: error instanceof Error ? error.message : String(error) }))
      }
      asking = false
      if (!ended) timer = setTimeout(() => void turn(), wanted ? 0 : waitMs)
    }
    now.current = () => void turn()
    void turn()
    return () => {
      ended = true
      clearTimeout(timer)
      now.current = () => {}
    }
  }, [ask, everyMs])
  return { ...polled, again }
}

/** A period of a stream, in ms, half-open. */
export interface Watched {
  stream: string
  from: number
  to: number
}

/** Asks again when the feed brings a reading of these times: a late one soon, others now and then; and where it begins. */
export function useRevalidation(home: Home, { stream, from, to }: Watched, again: () => void): void {
  // Apart from the effect: what is due must not be forgotten because the period is known more exactly now.
  const period = useRef({ from, to })
  period.current = { from, to }
  useEffect(() => {
    const revalidation = new Revalidation(realClock, again)
    const unwatch = home.watch({
      reading: (name, time) => {
        const { from, to } = period.current
        if (name === stream && time >= from && time < to) revalidation.reading(home.now() - time)
      },
      missed: (name) => {
        if (name === stream) revalidation.missed()
      },
    })
    return () => {
      unwatch()
      revalidation.stop()
    }
  }, [home, stream, again])
}
