"""A cart belongs to the signed-in user, and becomes an order only when that user places it."""

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.processes


def sign_in_here(visitor, name) -> None:
    """Fill in the page to sign in that is shown."""
    visitor.page.get_by_label("Username").fill(name)
    visitor.page.get_by_label("Password").fill(visitor.password)
    visitor.page.locator("form").get_by_role("button", name="Sign in").click()


@pytest.mark.fault("F110")
def test_f110_signing_in_again_shows_the_cart_and_orders_nothing(visitor, page):
    name = visitor.register()
    visitor.fill_cart("Enamel saucepan")
    page.goto("/cart")
    expect(page.get_by_role("button", name="Place order")).to_be_visible()
    page.wait_for_load_state("networkidle")  # A request of the page's own would find out first.
    page.context.clear_cookies(name="sessionid")
    visitor.expect_complaints("401|404")

    page.get_by_role("button", name="Place order").click()
    expect(page.get_by_text("Nothing has been ordered yet.")).to_be_visible()
    checkouts = []
    page.on("request", lambda request: checkouts.append(request.url) if is_checkout(request) else None)
    sign_in_here(visitor, name)

    expect(page.get_by_role("button", name="Place order")).to_be_enabled()
    expect(page.get_by_role("link", name="Enamel saucepan")).to_be_visible()
    page.goto("/orders")
    expect(page.get_by_text("No orders yet")).to_be_visible()
    assert checkouts == []
    visitor.place_order()
    page.goto("/orders")
    expect(page.locator("tbody tr")).to_have_count(1)


@pytest.mark.fault("F110")
def test_f110_the_next_person_at_a_browser_finds_an_empty_cart(visitor, page, visit):
    other = visit().register()
    page.goto("/")
    visitor.fill_cart("Hand trowel")
    name = visitor.register()
    expect(page.get_by_role("link", name="Cart 1 item")).to_be_visible()
    page.goto("/cart")
    expect(page.get_by_role("link", name="Hand trowel")).to_be_visible()
    visitor.expect_complaints("404")

    visitor.sign_out()
    expect(page.get_by_role("link", name="Cart empty")).to_be_visible()
    page.goto("/cart")
    expect(page.get_by_text("Your cart is empty")).to_be_visible()
    visitor.sign_in(other, visitor.password)
    page.goto("/cart")
    expect(page.get_by_text("Your cart is empty")).to_be_visible()

    visitor.sign_out()
    visitor.sign_in(name, visitor.password)
    page.goto("/cart")
    expect(page.get_by_role("link", name="Hand trowel")).to_be_visible()


@pytest.mark.fault("F110")
def test_f110_what_one_fills_before_signing_in_comes_before_an_earlier_cart_which_comes_back(visitor, page):
    name = visitor.register()
    visitor.fill_cart("Bird feeder")
    visitor.sign_out()
    visitor.fill_cart("Linen tea towel")
    visitor.sign_in(name, visitor.password)
    page.goto("/cart")
    expect(page.get_by_role("link", name="Linen tea towel")).to_be_visible()
    expect(page.get_by_role("link", name="Bird feeder")).to_be_hidden()

    visitor.place_order()

    page.goto("/cart")
    expect(page.get_by_role("link", name="Bird feeder")).to_be_visible()


@pytest.mark.fault("F110")
def test_f110_signing_out_and_what_is_put_into_the_cart_reach_the_other_tabs(visitor, page):
    visitor.register()
    tab = page.context.new_page()
    tab.goto("/")
    expect(tab.get_by_role("link", name="Cart empty")).to_be_visible()

    visitor.fill_cart("Hand trowel")
    expect(tab.get_by_role("link", name="Cart 1 item")).to_be_visible()
    visitor.sign_out()

    expect(tab.locator("header").get_by_role("link", name="Sign in")).to_be_visible()
    expect(tab.get_by_role("link", name="Cart empty")).to_be_visible()


def is_checkout(request) -> bool:
    return request.method == "POST" and request.url.endswith("/api/orders/")
