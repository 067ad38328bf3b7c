"""The page of a service that asks for a token."""

from playwright.sync_api import expect

from tests.browser.conftest import OpenPage
from tests.browser.house import METER, House


def test_the_page_asks_for_a_token_and_is_live_with_it_until_it_is_revoked(house: House, open_page: OpenPage):
    house.start(HL_AUTH__REQUIRED="true")
    house.reports("energy", "meter1", METER)
    token = house.makes_token("tablet", "read:*")
    page = open_page()
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.on("websocket", lambda socket: addresses.append(socket.url))

    expect(page.get_by_text("This house asks for a token")).to_be_visible()
    page.get_by_label("Token").fill("hl_wrong")
    page.get_by_role("button", name="Show the house").click()
    expect(page.get_by_text("This house asks for a token")).to_be_visible()
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Show the house").click()

    expect(page.locator("[data-connection=live]")).to_be_visible()
    expect(page.get_by_text("3.21").first).to_be_visible()
    page.reload()
    expect(page.locator("[data-connection=live]")).to_be_visible()
    house.revokes("tablet")
    expect(page.get_by_text("This house asks for a token")).to_be_visible()
    assert any("?ticket=" in address for address in addresses)
    assert [address for address in addresses if token in address] == []


def test_the_documentation_takes_a_token_into_memory_and_sends_it(house: House, open_page: OpenPage):
    house.start(HL_AUTH__REQUIRED="true")
    house.reports("energy", "meter1", METER)
    token = house.makes_token("developer", "read:*")
    page = open_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))

    page.goto(f"{house.url}/docs")
    page.locator("#token input").fill("hl_wrong")
    page.get_by_role("button", name="Use").click()
    expect(page.locator("#said")).to_contain_text("unknown")
    expect(page.locator("#reference details")).to_have_count(0)
    page.locator("#token input").fill(token)
    page.get_by_role("button", name="Use").click()
    latest = page.locator("details", has=page.locator("form[action='/api/v1/energy/latest']"))
    latest.locator("summary").click()
    latest.get_by_role("button", name="Try").click()

    expect(latest.locator("pre").first).to_contain_text('"device_id": "meter1"')
    assert page.evaluate("[localStorage.length, document.cookie, location.search]") == [0, "", ""]
    assert [text for text in refused if "Content Security Policy" in text] == []
    page.reload()
    expect(page.locator("#reference details")).to_have_count(0)
