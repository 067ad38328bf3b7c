"""The page in a real browser, served by a real live service on real servers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from bench.chromium import chromium
from hl_platform.stack.kafka import EmbeddedKafka
from tests.browser.house import House
from tests.browser.page_build import build_page
from tests.servers import Database

SCREENSHOTS = Path(__file__).parent / "screenshots"
# On a machine that does other things as well. Conditions are waited for, so a quick one loses nothing.
PATIENCE_MS = 60_000

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def built_page() -> None:
    build_page()


# Of the module, not of the session: its event loop would be in the way of tests with one of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with chromium() as opened:
        yield opened


@pytest.fixture
def house(built_page: None, database: Database, kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[House]:  # noqa: ARG001 - must have been built
    made = House(database, kafka.bootstrap_servers, tmp_path)
    yield made
    made.close()


@pytest.fixture
def open_page(browser: Browser, house: House, request: pytest.FixtureRequest) -> Iterator[OpenPage]:
    """Opens the page as a reader would; leaves a picture of how it looked at the end."""
    pages: list[Page] = []

    def open_it(
        width: int = 1280, height: int = 900, locale: str = "en-GB", script: str = "", **context: object
    ) -> Page:
        made = browser.new_context(
            viewport={"width": width, "height": height},
            locale=locale,
            timezone_id=house.timezone,
            **context,
        )
        made.set_default_timeout(PATIENCE_MS)
        made.add_init_script(script)
        page = made.new_page()
        pages.append(page)
        page.goto(house.url)
        return page

    yield open_it
    SCREENSHOTS.mkdir(exist_ok=True)
    for number, page in enumerate(pages):
        name = request.node.name.removeprefix("test_") + (f"_{number}" if number else "")
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
        page.context.close()
