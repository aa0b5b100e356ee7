"""Pages keep their position after going back, also by keyboard. A cart holds no more than the stock."""

import re

import pytest
from playwright.sync_api import expect

from tests.processes import wait_until

pytestmark = pytest.mark.processes


@pytest.mark.fault("F113")
@pytest.mark.parametrize("way", ["the browser's", "the page's"])
def test_f113_going_back_leads_to_the_place_and_the_search_that_one_left(visitor, page, way):
    page.set_viewport_size({"width": 390, "height": 700})
    page.goto("/?ordering=title")
    link = page.locator(".card-link").nth(9)
    link.scroll_into_view_if_needed()
    wait_until(
        "the place is noted", lambda: page.evaluate("scrollY > 300 && history.state?.scroll === Math.round(scrollY)")
    )
    left_at, address = page.evaluate("scrollY"), page.url

    def is_back() -> bool:
        return abs(page.evaluate("scrollY") - left_at) < 3

    link.click()
    expect(page.get_by_role("link", name="Back to the shop")).to_be_visible()
    assert page.evaluate("scrollY") == 0
    if way == "the browser's":
        page.go_back()
    else:
        page.get_by_role("link", name="Back to the shop").click()

    expect(page.get_by_role("heading", name="Good, plain things")).to_be_visible()
    wait_until("the page is where it was left", is_back)
    assert page.url == address
    page.reload()
    wait_until("the page is there again", is_back)


@pytest.mark.fault("F113")
def test_f113_what_is_read_in_one_tab_is_read_in_the_others(visitor, page):
    visitor.register()
    visitor.fill_cart("Enamel saucepan")
    visitor.place_order()
    visitor.expect_settled_timeline()
    tab = page.context.new_page()
    tab.goto("/notifications")
    expect(tab.locator("li.notification.fresh")).to_have_count(1)
    page.goto("/notifications")

    page.get_by_role("button", name="Mark all as read").click()

    expect(page.get_by_text("Nothing new")).to_be_visible()
    expect(tab.get_by_text("Nothing new")).to_be_visible()
    expect(tab.get_by_role("link", name=re.compile("unread"))).to_be_hidden()


@pytest.mark.fault("F113")
def test_f113_the_focus_stays_where_one_goes_on(visitor, page):
    page.goto("/?search=saucepan")
    add = page.get_by_role("button", name="Add to cart Enamel saucepan")
    add.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Enamel saucepan was added to your cart.")).to_be_visible()
    expect(add).to_be_focused()
    visitor.fill_cart("Hand trowel")
    page.goto("/cart")
    more = page.get_by_role("group", name="Quantity of Enamel saucepan").get_by_role("button", name="One more")
    more.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Cart 3 items")).to_be_visible()
    expect(more).to_be_focused()

    page.get_by_role("button", name="Remove Enamel saucepan").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Enamel saucepan was removed from your cart.")).to_be_visible()
    expect(page.get_by_role("button", name="Remove Hand trowel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Your cart is empty")).to_be_visible()
    expect(page.get_by_role("heading", name="Your cart", exact=True)).to_be_focused()


@pytest.mark.fault("F113")
def test_f113_after_a_wrong_password_the_focus_is_where_it_is_put_right(visitor, page):
    page.goto("/sign-in")
    page.get_by_label("Username").fill("demo")
    page.get_by_label("Password").fill("wrong")
    visitor.expect_complaints("401")

    page.locator("form").get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("alert")).to_contain_text("Wrong username or password")
    expect(page.get_by_label("Password")).to_be_focused()


@pytest.mark.fault("F113")
def test_f113_no_more_is_put_into_a_cart_than_there_is(visitor, page, client):
    product = client.get("/api/products/", params={"search": "Beeswax candle"}).json()["results"][0]
    page.goto(f"/products/{product['id']}")
    field = page.get_by_label("Quantity").get_by_role("textbox")
    field.fill("10000")
    field.press("Enter")
    expect(field).to_have_value(str(product["available"]))
    expect(page.get_by_text(re.compile("Only .* left"))).to_be_visible()

    page.get_by_role("button", name="Add to cart").click()
    expect(page.get_by_text("Your cart already holds all that is in stock.")).to_be_visible()
    page.goto("/cart")
    quantity = page.get_by_role("group", name="Quantity of Beeswax candle")
    quantity.get_by_role("button", name="One more").click(force=True)
    quantity.get_by_role("textbox").fill("10000")
    quantity.get_by_role("textbox").press("Enter")

    expect(quantity.get_by_role("textbox")).to_have_value(str(product["available"]))
    expect(page.get_by_role("link", name=f"Cart {product['available']} items")).to_be_visible()


@pytest.mark.fault("F113")
def test_f113_an_amount_reads_the_same_on_every_page(visitor, page):
    visitor.register()
    visitor.fill_cart("Enamel saucepan")
    order = visitor.place_order()
    expect(page.locator(".summary-total")).to_contain_text("£24.50")
    visitor.expect_settled_timeline()

    page.goto("/notifications")

    expect(page.get_by_text(f"Your order {order} of £24.50 has been placed.")).to_be_visible()
