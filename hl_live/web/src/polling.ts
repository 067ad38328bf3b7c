/** Asks again and again while a view is open. */

import { useEffect, useState } from 'react'

export interface Polled<T> {
  /** The last answer; null before the first. */
  value: T | null
  /** The answer before it; null before the second. */
  previous: T | null
  /** Why the newest question has no answer; null when it has. */
  problem: string | null
}

/**
 * What `ask` answers, asked anew every so often and when it changes.
 *
 * @param ask stays the same function as long as it asks the same.
 */
export function usePolled<T>(ask: () => Promise<T>, everyMs: number): Polled<T> {
  const [polled, setPolled] = useState<Polled<T>>({ value: null, previous: null, problem: null })
  useEffect(() => {
    let ended = false
    let timer: ReturnType<typeof setTimeout> | undefined
    const turn = async () => {
      try {
        const value = await ask()
        if (!ended) setPolled((last) => ({ value, previous: last.value, problem: null }))
      } catch (error) {
        if (!ended) setPolled((last) => ({ ...last, problem: error instanceof Error ? error.message : String(error) }))
      }
      if (!ended) timer = setTimeout(() => void turn(), everyMs)
    }
    void turn()
    return () => {
      ended = true
      clearTimeout(timer)
    }
  }, [ask, everyMs])
  return polled
}
