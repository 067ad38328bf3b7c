/** Which view the address names, so that it can be linked to and the browser's own buttons work. */

import { useSyncExternalStore } from 'react'

export const VIEWS = { now: 'Now', energy: 'Energy', climate: 'Climate', pipeline: 'Pipeline' } as const
export type View = keyof typeof VIEWS

/** The view that a fragment such as `#energy` names; the first for anything else. */
export function viewOf(fragment: string): View {
  const name = fragment.replace(/^#/, '')
  return Object.hasOwn(VIEWS, name) ? (name as View) : 'now'
}

export function useView(): View {
  return viewOf(useSyncExternalStore(subscribe, () => location.hash))
}

function subscribe(onChange: () => void): () => void {
  addEventListener('hashchange', onChange)
  return () => removeEventListener('hashchange', onChange)
}
