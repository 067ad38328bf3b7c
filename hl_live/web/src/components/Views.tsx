import { VIEWS, type View } from '../view'

/** From one view to another. */
export function Views({ current }: { current: View }) {
  return (
    <nav className="views" aria-label="Views">
      {(Object.keys(VIEWS) as View[]).map((view) => (
        <a key={view} href={`#${view}`} aria-current={view === current ? 'page' : undefined}>
          {VIEWS[view]}
        </a>
      ))}
    </nav>
  )
}
