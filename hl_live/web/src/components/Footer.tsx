export function Footer() {
  return (
    <footer className="footer">
      <span>hl</span>
      <nav aria-label="More">
        <a href="/docs">API</a>
        <a href="/health">Health</a>
        <a href="/licenses.txt">Licences</a>
      </nav>
    </footer>
  )
}
