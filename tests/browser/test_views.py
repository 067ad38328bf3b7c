"""The views beside the present: energy of the past, and the pipeline. And whether everybody can use all of them."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, expect

from hl_platform.core.replay_requests import Judged, Replayed
from tests.browser.conftest import OpenPage
from tests.browser.house import METER, PUMP, House

AXE = Path(__file__).parents[2] / "hl_live" / "web" / "node_modules" / "axe-core" / "axe.min.js"


def meter(kwh: float) -> dict[str, object]:
    return {**METER, "total_energy_kwh": kwh}


def midnight(house: House, days_ago: int) -> datetime:
    today = datetime.now(ZoneInfo(house.timezone)).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days_ago)


def fill(house: House) -> None:
    """Two days of 48 and 24 kWh; of the later one the readings of two hours are missing."""
    readings = [(midnight(house, 2) + timedelta(minutes=5 * n), meter(100 + n / 6)) for n in range(288)]
    readings += [
        (midnight(house, 1) + timedelta(minutes=5 * n), meter(148 + n / 12))
        for n in range(289)
        if not 120 < n < 144
    ]
    house.stores("energy", "meter1", readings)


def go_to(page: Page, view: str) -> None:
    page.get_by_role("navigation", name="Views").get_by_role("link", name=view).click()


def test_energy_of_a_day_stands_beside_the_day_before_with_what_was_estimated(
    house: House, open_page: OpenPage
) -> None:
    house.start()
    fill(house)
    page = open_page()
    go_to(page, "Energy")
    page.get_by_role("button", name="The day before").click()
    expect(page.get_by_test_id("energy-total")).to_have_text("24.0 kWh")
    expect(page.get_by_text(re.compile("^.50%$"))).to_be_visible()
    expect(page.get_by_text("Of it estimated").locator("xpath=../dd")).to_have_text("2.0 kWh")
    page.get_by_text("As a table").click()
    row = page.get_by_role("row", name="10:00")
    expect(row.get_by_role("cell")).to_have_text(["1.0", "1.0", "2.0"])
    expect(page.get_by_role("row", name="12:00").get_by_role("cell")).to_have_text(["1.0", "", "2.0"])


def test_a_day_of_which_nothing_is_known_says_so(house: House, open_page: OpenPage) -> None:
    house.start()
    page = open_page(color_scheme="dark")
    go_to(page, "Energy")
    expect(page.get_by_text("No meter has told anything of this day, nor of the day before.")).to_be_visible()


def test_late_reading_corrects_a_past_hour_while_one_looks_at_it(house: House, open_page: OpenPage) -> None:
    house.start()
    fill(house)
    page = open_page()
    go_to(page, "Energy")
    page.get_by_role("button", name="The day before").click()
    page.get_by_text("As a table").click()
    cells = page.get_by_role("row", name="10:00").get_by_role("cell")
    expect(cells).to_have_text(["1.0", "1.0", "2.0"])
    # The meter was busy in the first of the two hours. The feed tells it; the view by itself asks once a minute.
    house.reports("energy", "meter1", meter(148 + 11.9), midnight(house, 1) + timedelta(hours=11))
    expect(cells).to_have_text(["1.9", "1.9", "2.0"])


def test_pipeline_shows_each_stage_and_what_nobody_has_dealt_with(house: House, open_page: OpenPage) -> None:
    house.start()
    page = open_page()
    go_to(page, "Pipeline")
    expect(page.get_by_role("region", name="way")).to_contain_text("Devices")
    with house.reporting():
        expect(page.locator('[data-stage="live"]')).to_contain_text("received")
        expect(page.get_by_test_id("rate-live")).to_have_text(re.compile(r"\d"))
    expect(page.get_by_role("region", name="Dead letters")).to_contain_text(
        "None that anybody has to look at."
    )


def test_a_dead_letter_is_tried_and_replayed_from_the_page(house: House, open_page: OpenPage) -> None:
    house.start()
    house.rejects("meter1")
    page = open_page()
    go_to(page, "Pipeline")
    letters = page.get_by_role("region", name="Dead letters")
    expect(letters).to_contain_text("energy not_json JSON is malformed")
    replay = letters.get_by_role("button", name="Replay: energy, not_json")
    expect(replay).to_be_disabled()
    letters.get_by_role("button", name="Try: energy, not_json").click()
    expect(letters.get_by_role("status")).to_have_text("Trying what would succeed…")
    # From here on what Dagster does; tests/integration has it do so.
    requests = house.replay_requests
    [tried] = requests.open()
    assert (tried.dry_run, tried.fingerprint, tried.requested_by) == (True, "f0", "anyone at 127.0.0.1")
    requests.end(tried.request_id, judged=Judged(n=1, accepted=1, rejected=0, impossible=0, groups=[]))
    expect(letters.get_by_role("status")).to_have_text("1 of 1 would be stored.")
    replay.click()
    expect(letters.get_by_role("status")).to_have_text("Waiting for Dagster to begin…")
    [asked] = requests.open()
    assert (asked.dry_run, asked.fingerprint, asked.until_id) == (False, "f0", tried.until_id)
    requests.begin(asked.request_id, "a run")
    requests.note_progress(asked.request_id, "replayed", 0, 1)
    expect(letters.get_by_role("status")).to_have_text("Sending 0 of 1…")
    done = Replayed(replay_id="r", n_selected=1, n_stored=1, n_failed_again=0, impossible={}, complete=True)
    requests.end(asked.request_id, replayed=done)
    expect(letters).to_contain_text("1 stored, 0 failed again.")


def test_dead_letters_of_all_kinds_are_tried_and_replayed_together(house: House, open_page: OpenPage) -> None:
    house.start()
    house.rejects("meter1", "f0")
    house.rejects("meter2", "f1")
    page = open_page()
    go_to(page, "Pipeline")
    letters = page.get_by_role("region", name="Dead letters")
    letters.get_by_role("button", name="Try: all").click()
    requests = house.replay_requests
    expect(letters.get_by_role("status").first).to_have_text("Trying what would succeed…")
    [tried] = requests.open()
    assert (tried.dry_run, tried.fingerprint, tried.stream, tried.n_selected) == (True, None, None, 2)
    requests.end(tried.request_id, judged=Judged(n=2, accepted=2, rejected=0, impossible=0, groups=[]))
    letters.get_by_role("button", name="Replay: all").click()
    expect(letters.get_by_role("status").first).to_have_text("Waiting for Dagster to begin…")
    [asked] = requests.open()
    assert (asked.dry_run, asked.fingerprint, asked.until_id) == (False, None, tried.until_id)


def test_week_of_heat_pump_and_rooms(house: House, open_page: OpenPage) -> None:
    house.start()
    quarters = [midnight(house, 1) + timedelta(minutes=5 * n) for n in range(289)]
    runs = [
        (
            at,
            {
                **PUMP,
                "compressor_running": 2 <= at.hour < 8,
                "power_consumption_kw": 2.0,
                "heat_output_kw": 7.0,
            },
        )
        for at in quarters
    ]
    house.stores("heatpump", "heatpump1", runs)
    warm = [
        (at, {"room": "living_room", "temperature": 15 + at.hour / 2, "humidity": 40.0}) for at in quarters
    ]
    house.stores("temperature", "t1", warm)
    page = open_page()
    go_to(page, "Climate")
    day = page.locator("table.days tbody tr").nth(1)
    expect(day.get_by_role("cell")).to_have_text(["6.0 h", "1", "48.0", "3.5", "42.5°", "45.0°"])
    room = page.get_by_role("table", name="Living room")
    expect(room).to_contain_text("15.0 to 26.5 °C, 40 % humidity")
    expect(room.get_by_title("8:00, 19.0 °C")).to_be_visible()


def test_view_is_a_link_that_can_be_kept(house: House, open_page: OpenPage) -> None:
    house.start()
    page = open_page()
    go_to(page, "Energy")
    page.reload()
    expect(page.get_by_role("link", name="Energy")).to_have_attribute("aria-current", "page")
    page.go_back()
    expect(page.get_by_role("link", name="Now")).to_have_attribute("aria-current", "page")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_every_view_passes_the_accessibility_audit(
    house: House, open_page: OpenPage, width: int, scheme: str
) -> None:
    house.start()
    fill(house)
    house.report_all()
    page = open_page(width=width, color_scheme=scheme)
    for view in ("Now", "Energy", "Climate", "Pipeline"):
        go_to(page, view)
        expect(page.locator(".section").first).to_be_visible()
        # Figures come a moment later, and are looked at as well.
        page.wait_for_load_state("networkidle")
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate(
            "axe.run().then(({violations}) => violations.map(v => v.id + ': ' + v.nodes[0].html))"
        )
        assert found == [], view
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{view} is too wide"
