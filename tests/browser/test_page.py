"""What a reader of the page is promised."""

import re
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import SCREENSHOTS, OpenPage
from tests.browser.house import METER, PUMP, House

SOLAR = """
name = "solar"
title = "Solar panels"
mqtt_filter = "homelab/solar/#"
kafka_topic = "homelab.solar"
table = "solar_readings"

[fields.power_kw]
type = "float"
kind = "gauge"
unit = "kW"
required = true

[fields.inverter_state]
type = "text"
kind = "state"
"""

# The feed finds nobody until the test says so.
FEED_ON_DEMAND = """
const Real = WebSocket
window.WebSocket = class extends Real {
  constructor(url, protocols) {
    super(window.feedMayConnect ? url : url.replace('/ws', '/nothing-here'), protocols)
  }
}
"""


def device(page: Page, device_id: str) -> Locator:
    return page.locator(f'[data-device="{device_id}"]')


def figure(page: Page, device_id: str) -> Locator:
    return device(page, device_id).get_by_test_id("figure")


def expect_live(page: Page) -> None:
    expect(page.get_by_role("status")).to_have_text("Live")


def overflow_px(page: Page) -> int:
    """How far the page's content reaches beyond its column, and with that perhaps beyond the screen."""
    return int(
        page.evaluate(
            "Math.max(0, ...[document.documentElement, document.querySelector('main')]"
            ".map(element => element.scrollWidth - element.clientWidth))"
        )
    )


def test_page_shows_power_of_each_meter_the_heat_pump_and_the_rooms(house: House, open_page: OpenPage):
    house.start()
    house.report_all()
    page = open_page()
    expect_live(page)
    expect(figure(page, "meter1")).to_have_text("3.21 kW")
    expect(figure(page, "meter2")).to_have_text("0.47 kW")
    pump = page.get_by_role("region", name="Heat pump")
    expect(pump).to_contain_text("Heating")
    expect(pump).to_contain_text("Compressor running")
    expect(pump).to_contain_text("1.84 kW")
    expect(pump).to_contain_text("42.5 °C")
    expect(pump).to_contain_text("45.0 °C")
    bedroom = page.get_by_role("row", name="Bedroom")
    expect(bedroom).to_contain_text("18.2 °C")
    expect(bedroom).to_contain_text("51 %")
    expect(page.get_by_role("row", name="Living room")).to_contain_text("21.4 °C")


def test_power_in_sum_and_what_the_day_has_brought_and_cost(house: House, open_page: OpenPage):
    house.start()
    house.sets_price(0.5, "EUR")
    house.reports("energy", "meter1", {**METER, "total_energy_kwh": 100.0, "power_kw": 3.0})
    house.reports("energy", "meter2", {**METER, "power_kw": 0.5})
    page = open_page()
    expect(page.get_by_test_id("power-total")).to_have_text("3.50 kW")
    house.reports("energy", "meter1", {**METER, "total_energy_kwh": 104.0, "power_kw": 1.0})
    expect(page.get_by_test_id("power-total")).to_have_text("1.50 kW")
    expect(page.get_by_test_id("energy-today")).to_have_text("4.0 kWh")
    expect(page.get_by_test_id("cost-today")).to_have_text("€2.00")


def test_the_day_counts_what_came_between_the_first_answer_and_the_feed(house: House, open_page: OpenPage):
    house.start()
    house.reports("energy", "meter1", {**METER, "total_energy_kwh": 100.0})
    page = open_page(script=FEED_ON_DEMAND)
    expect(page.get_by_test_id("energy-today")).to_have_text("0.0 kWh")
    house.reports("energy", "meter1", {**METER, "total_energy_kwh": 104.0})
    page.evaluate("window.feedMayConnect = true")
    expect_live(page)
    expect(page.get_by_test_id("energy-today")).to_have_text("4.0 kWh")


def test_without_a_price_the_page_says_how_to_set_one(house: House, open_page: OpenPage):
    house.start()
    house.report_all()
    page = open_page()
    expect(page.get_by_test_id("cost-today")).to_have_text("no price yet: hl tariff set")


def test_the_heat_pump_tells_its_coefficient_where_it_tells_its_heat(house: House, open_page: OpenPage):
    house.start()
    house.reports("heatpump", "heatpump1", PUMP)
    page = open_page()
    cop = page.get_by_test_id("cop")
    expect(cop).to_have_text("it does not tell its heat")
    house.reports("heatpump", "heatpump1", {**PUMP, "power_consumption_kw": 2.0, "heat_output_kw": 7.2})
    expect(cop).to_contain_text("now 3.6")


def test_past_and_live_meet_without_a_hole_or_a_duplicate(house: House, open_page: OpenPage):
    house.start()
    now = datetime.now(UTC)
    house.stores("energy", "meter1", [(now - timedelta(seconds=s), METER) for s in range(1, 300)])
    house.reports("energy", "meter1", METER, now)
    page = open_page()
    curve = device(page, "meter1").get_by_role("img")
    expect(curve).to_have_attribute("aria-label", re.compile("300 readings between"))
    expect_live(page)
    report_many(house)
    expect(curve).to_have_attribute("aria-label", re.compile("320 readings between"))
    house.kill()
    expect(page.get_by_role("status")).to_have_text("Connection lost")
    report_many(house)
    house.start()
    expect_live(page)
    report_many(house)
    # Of what came while nobody was connected each is there, and each once.
    expect(curve).to_have_attribute("aria-label", re.compile("360 readings between"))
    page.reload()
    expect(curve).to_have_attribute("aria-label", re.compile("360 readings between"))


def report_many(house: House) -> None:
    for _ in range(20):
        house.reports("energy", "meter1", METER)


def test_a_new_reading_appears_without_a_reload(house: House, open_page: OpenPage):
    house.start()
    house.report_all()
    page = open_page()
    expect_live(page)
    page.evaluate("window.opened = 'once'")
    house.sends("energy", "meter1", {**METER, "power_kw": 7.89})
    expect(figure(page, "meter1")).to_have_text("7.89 kW")
    house.sends("heatpump", "heatpump1", {**PUMP, "mode": "hot_water", "compressor_running": False})
    expect(device(page, "heatpump1")).to_contain_text("Hot water")
    expect(device(page, "heatpump1")).to_contain_text("Compressor resting")
    house.sends("temperature", "t3", {"room": "attic", "temperature": 14.1, "humidity": 60.0})
    expect(page.get_by_role("row", name="Attic")).to_contain_text("14.1 °C")
    assert page.evaluate("window.opened") == "once"


def test_the_curve_shows_the_past_and_goes_on_with_what_is_live(house: House, open_page: OpenPage):
    house.start()
    now = datetime.now(UTC)
    past = [
        (now - timedelta(seconds=s), {**METER, "power_kw": 9.0 if s == 400 else 2.0}) for s in range(1, 500)
    ]
    house.stores("energy", "meter1", past)
    page = open_page()
    curve = device(page, "meter1").get_by_role("img")
    expect(curve).to_have_attribute("aria-label", re.compile(r"between 2\.00 and 9\.00 kW"))
    expect_live(page)
    house.reports("energy", "meter1", {**METER, "power_kw": 0.5})
    expect(curve).to_have_attribute("aria-label", re.compile(r"between 0\.50 and 9\.00 kW"))


def test_a_lost_connection_is_said_and_comes_back_by_itself_with_what_was_missed(
    house: House, open_page: OpenPage
):
    house.start()
    house.report_all()
    page = open_page()
    page.evaluate("window.opened = 'once'")
    with house.reporting():
        expect_live(page)
        expect(page.locator("section[data-quiet]")).to_have_count(0)
        house.kill()
        expect(page.get_by_role("status")).to_have_text("Connection lost")
        expect(page.get_by_role("complementary", name="Connection")).to_contain_text("Nothing new since")
        expect(page.locator("section[data-quiet]")).to_have_count(3)
        # What it showed last is still there to be read.
        expect(figure(page, "meter1")).to_have_text("3.21 kW")
        house.reports("energy", "meter1", {**METER, "power_kw": 8.5})
        page.screenshot(path=SCREENSHOTS / "connection_lost.png", full_page=True)
        house.start()
        expect_live(page)
    expect(page.locator("section[data-quiet]")).to_have_count(0)
    expect(page.get_by_role("complementary", name="Connection")).to_have_count(0)
    house.reports("energy", "meter1", {**METER, "power_kw": 1.11})
    expect(figure(page, "meter1")).to_have_text("1.11 kW")
    curve = device(page, "meter1").get_by_role("img")
    expect(curve).to_have_attribute("aria-label", re.compile(r"and 8\.50 kW"))
    assert page.evaluate("window.opened") == "once"


def test_what_was_missed_comes_by_the_feed_itself(house: House, open_page: OpenPage):
    house.start()
    house.reports("energy", "meter1", {**METER, "power_kw": 2.0})
    page = open_page()
    expect_live(page)
    house.sends("energy", "meter1", {**METER, "power_kw": 2.5})
    expect(figure(page, "meter1")).to_have_text("2.50 kW")
    house.kill()
    expect(page.get_by_role("status")).to_have_text("Connection lost")
    # Only on Kafka: the database does not know them, so that no request for the past could tell them.
    house.sends("energy", "meter1", {**METER, "power_kw": 8.8})
    house.sends("energy", "meter1", {**METER, "power_kw": 1.5})
    house.start()
    expect_live(page)
    expect(figure(page, "meter1")).to_have_text("1.50 kW")
    curve = device(page, "meter1").get_by_role("img")
    expect(curve).to_have_attribute("aria-label", re.compile(r"and 8\.80 kW"))


def test_try_now_connects_at_once(house: House, open_page: OpenPage):
    house.start()
    house.report_all()
    page = open_page()
    expect_live(page)
    house.kill()
    button = page.get_by_role("button", name="Try now")
    expect(button).to_be_visible()
    house.start()
    # It may have come back by itself meanwhile; then the button is gone, which is as good.
    page.evaluate("document.querySelector('button')?.click()")
    expect_live(page)


def test_the_delay_from_device_to_screen_is_shown(house: House, open_page: OpenPage):
    house.start()
    page = open_page()
    expect_live(page)
    with house.reporting():
        expect(page.get_by_test_id("delay-median")).to_have_text(re.compile(r"^\d+ ms$"))
        expect(page.get_by_test_id("delay-p99")).to_have_text(re.compile(r"^[\d.]+ m?s$"))


def test_a_phone_has_no_horizontal_scroll(house: House, open_page: OpenPage):
    house.declare("solar", SOLAR)
    house.start()
    house.report_all()
    house.reports("energy", "main_distribution_board_of_the_annex", {**METER, "power_kw": -88.88})
    house.reports("temperature", "t4", {"room": "guest_room_on_the_second_floor", "temperature": -12.3})
    house.reports("solar", "roof_south", {"power_kw": 3.3, "inverter_state": "feeding"})
    page = open_page(width=360, height=780, device_scale_factor=2, is_mobile=True, has_touch=True)
    expect_live(page)
    expect(figure(page, "roof_south")).to_have_text("3.30 kW")
    expect(page.get_by_role("row", name="Guest room")).to_be_visible()
    assert overflow_px(page) == 0
    house.kill()
    expect(page.get_by_role("status")).to_have_text("Connection lost")
    assert overflow_px(page) == 0


def test_a_device_that_fell_silent_is_called_so(house: House, open_page: OpenPage):
    house.start()
    house.reports("energy", "meter1", METER)
    house.reports("energy", "meter2", METER, datetime.now(UTC) - timedelta(minutes=3))
    page = open_page()
    expect(device(page, "meter2")).to_contain_text("quiet for 3 min")
    with house.reporting():
        expect(device(page, "meter2")).not_to_contain_text("quiet for")


def test_a_stream_of_the_users_own_appears_by_its_declaration(house: House, open_page: OpenPage):
    house.declare("solar", SOLAR)
    house.start()
    page = open_page()
    expect_live(page)
    solar = page.get_by_role("region", name="Solar panels")
    expect(solar).to_contain_text("homelab/solar/#")
    house.sends("solar", "roof_south", {"power_kw": 4.56, "inverter_state": "feeding"})
    expect(figure(page, "roof_south")).to_have_text("4.56 kW")
    expect(solar).to_contain_text("Inverter state")
    expect(solar).to_contain_text("Feeding")


def test_an_empty_house_says_what_would_fill_it(house: House, open_page: OpenPage):
    house.start()
    page = open_page(color_scheme="dark")
    expect_live(page)
    expect(page.get_by_role("region", name="Power")).to_contain_text("No meter has reported yet")
    expect(page.get_by_text("hl simulate")).to_be_visible()


def test_numbers_are_written_as_the_reader_writes_them(house: House, open_page: OpenPage):
    house.start()
    house.report_all()
    page = open_page(locale="de-DE")
    expect(figure(page, "meter1")).to_have_text("3,21 kW")
    expect(device(page, "meter1")).to_contain_text("12.345,6 kWh")


def test_the_page_loads_only_from_its_own_service_and_breaks_none_of_its_rules(
    house: House, browser: Browser
):
    house.start()
    house.report_all()
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    requested: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(house.url)
    expect_live(page)
    expect(figure(page, "meter1")).to_have_text("3.21 kW")
    assert [url for url in requested if not url.startswith(house.url)] == []
    assert complaints == []
    context.close()


def test_the_first_view_costs_less_than_200_kb(house: House, open_page: OpenPage):
    house.start()
    house.report_all()
    page = open_page()
    expect(figure(page, "meter1")).to_have_text("3.21 kW")
    sizes = page.evaluate(
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".map(({transferSize}) => transferSize)"
    )
    # Document, script, style and two typefaces, and what the API answered.
    assert len(sizes) > 5
    assert sum(sizes) < 200_000
