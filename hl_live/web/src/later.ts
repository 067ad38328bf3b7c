/** Parts of the page that its first figures do without: they come once these are there. */

import { useEffect, useState } from 'react'

const AGAIN_MS = 2_000

/**
 * A part of the page once it is there; null until then. It is asked for again for as long as the service is away.
 *
 * @param load stays the same function.
 * @param wanted when to begin.
 */
export function useLater<T>(load: () => Promise<T>, wanted = true): T | null {
  const [part, setPart] = useState<T | null>(null)
  useEffect(() => {
    if (!wanted) return undefined
    let ended = false
    let timer: ReturnType<typeof setTimeout> | undefined
    const turn = async () => {
      try {
        const loaded = await load()
        if (!ended) setPart(() => loaded)
      } catch {
        if (!ended) timer = setTimeout(() => void turn(), AGAIN_MS)
      }
    }
    void turn()
    return () => {
      ended = true
      clearTimeout(timer)
    }
  }, [load, wanted])
  return part
}
