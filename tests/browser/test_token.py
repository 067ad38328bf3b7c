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
