"""The page's first view in Chromium, from the navigation until the first figures are painted, on the running stack.

Each load is a tab of its own: first visits have nothing in their cache, later ones have what never changes. Times are
of the clock, CPU is that of all processes of the browser, until the figures are there.
"""

import argparse
import statistics

from playwright.sync_api import Browser, BrowserContext
from rich.table import Table

from bench.chromium import chromium
from bench.stack import RunningStack, console
from hl_platform.adapters.feed_client import token_headers

# A first visit is to be of use within this time.
LIMIT_MS = 1_000

# Runs before the page's own scripts: notes when a meter's figure is in the document, and when it has been painted.
NOTE_FIGURES = """
window.hlPainted = new Promise((painted) => {
  const observer = new MutationObserver(() => {
    if (document.querySelector('[data-testid="figure"] .number') === null) return
    observer.disconnect()
    window.hlInDocument = performance.now()
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel()
      port1.onmessage = () => painted(performance.now())
      port2.postMessage(null)
    })
  })
  observer.observe(document, { childList: true, subtree: true })
})
"""
PAINTED_AT = "window.hlPainted"
READ_TIMES = """
() => {
  const [page] = performance.getEntriesByType('navigation')
  const files = performance.getEntriesByType('resource')
  const ends = (part) => files.filter(({ name }) => part.test(name)).map(({ responseEnd }) => responseEnd)
  const first = (part) => files.find(({ name }) => part.test(name)) ?? { startTime: 0, responseEnd: 0 }
  const before = [page, ...files.filter(({ responseEnd }) => responseEnd <= window.hlInDocument)]
  return {
    'document has come, ms': page.responseEnd,
    'scripts and styles, ms': Math.max(0, ...ends(/index-[^/]*\\.(js|css)$/)),
    'first paint, ms': performance.getEntriesByType('paint').at(-1)?.startTime ?? 0,
    'streams asked for, ms': first(/v1\\/streams$/).startTime,
    'streams answered, ms': first(/v1\\/streams$/).responseEnd,
    'newest readings answered, ms': first(/\\/latest$/).responseEnd,
    'figures in the document, ms': window.hlInDocument,
    'waited for the service until then, ms':
      before.reduce((sum, { requestStart, responseStart }) => sum + Math.max(0, responseStart - requestStart), 0),
    'bytes sent until then, kB': before.reduce((sum, { transferSize }) => sum + transferSize, 0) / 1000,
  }
}
"""
PAINTED = "figures painted, ms"
MAIN_THREAD = {"ScriptDuration": "scripts", "LayoutDuration": "layout", "RecalcStyleDuration": "styles"}
Figures = dict[str, float]


def cpu_ms(browser: Browser) -> dict[int, float]:
    """Processor time of the browser's processes so far, by pid."""
    session = browser.new_browser_cdp_session()
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return {process["id"]: 1000 * process["cpuTime"] for process in found}


def load(browser: Browser, context: BrowserContext, url: str) -> Figures:
    """Opens the page in a new tab and closes it when its figures are there."""
    page = context.new_page()
    page.add_init_script(NOTE_FIGURES)
    session = context.new_cdp_session(page)
    session.send("Performance.enable")
    before = cpu_ms(browser)
    page.goto(url, wait_until="commit")
    painted_ms: float = page.evaluate(PAINTED_AT)
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    after = cpu_ms(browser)
    figures: Figures = page.evaluate(READ_TIMES) | {PAINTED: painted_ms}
    figures |= {f"main thread: {title}, ms": 1000 * metrics[name] for name, title in MAIN_THREAD.items()}
    figures["CPU of the browser, ms"] = sum(ms - before.get(pid, 0) for pid, ms in after.items())
    page.close()
    return figures


def measure(url: str, n: int, headers: dict[str, str]) -> tuple[list[Figures], list[Figures]]:
    """First visits, and as many later ones, in turns."""
    first, later = [], []
    token = headers.get("Authorization", "").removeprefix("Bearer ")
    with chromium() as browser:
        # The first of all pays for the browser's own start.
        for number in range(n + 1):
            context = browser.new_context(
                viewport={"width": 1280, "height": 900}, timezone_id="Europe/Berlin"
            )
            if token:
                context.add_init_script(f"sessionStorage.setItem('hl.token', {token!r})")
            visits = [load(browser, context, url) for _ in range(2)]
            context.close()
            if number:
                first.append(visits[0])
                later.append(visits[1])
    return first, later


def table_of(first: list[Figures], later: list[Figures]) -> Table:
    """Medians, and what was least and most."""
    table = Table(title=f"The page's first view: median (least to most) of {len(first)}")
    for head in ("since the navigation", "first visit", "later visit"):
        table.add_column(head, justify="left" if head.startswith("since") else "right")
    for name in first[0]:
        table.add_row(name, *(_cell([visit[name] for visit in visits]) for visits in (first, later)))
    return table


def _cell(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m bench page` takes."""
    parser.add_argument("--loads", type=int, default=20, help="of each kind")
    parser.add_argument("--url", help="of a page; the running stack's unless given")


def main(arguments: argparse.Namespace) -> int:
    """1 when a first visit takes a second or longer until its figures are there, in the median."""
    url, headers = arguments.url, {}
    if url is None:
        stack = RunningStack()
        url, headers = f"http://{stack.live_address}/", token_headers(stack.settings.live)
    first, later = measure(url, arguments.loads, headers)
    console().print(table_of(first, later))
    return int(statistics.median(visit[PAINTED] for visit in first) >= LIMIT_MS)
