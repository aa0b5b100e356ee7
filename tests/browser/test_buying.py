"""Buying under realistic conditions: with a double click, a lost response, or no network."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.processes

#: Sets the quantity of the first line of the browser's cart, bypassing the page.
ASK_FOR_MORE = """async (quantity) => {
    const user = (await (await fetch("/api/session/")).json()).user.id;
    const cart = `/api/carts/${localStorage.getItem(`shopwire.cart.${user}`)}/`;
    const line = (await (await fetch(cart)).json()).items[0].id;
    const token = document.cookie.match(/csrftoken=([^;]+)/)[1];
    const headers = {"Content-Type": "application/json", "X-CSRFToken": token};
    const answer = await fetch(`${cart}items/${line}/`, {method: "PATCH", headers, body: JSON.stringify({quantity})});
    if (!answer.ok) throw new Error(await answer.text());
}"""
#: What follows from every order.
EFFECTS = {
    "email_app.tasks.send_order_confirmation",
    "store.tasks.update_inventory",
    "analytics_app.tasks.record_sale",
}


def test_a_stranger_finds_something_registers_buys_it_and_sees_every_task_done(visitor, page):
    page.goto("/")
    page.get_by_label("Search").fill("watering can")
    expect(page.get_by_text("1 product", exact=True)).to_be_visible()
    page.get_by_role("link", name="Galvanised watering can").click()
    expect(page.get_by_role("heading", name="Galvanised watering can")).to_be_visible()
    page.get_by_role("button", name="One more").click()
    page.get_by_role("button", name="Add to cart").click()
    page.get_by_role("link", name="Cart 2 items").click()
    page.get_by_role("link", name="Sign in to order").click()
    page.get_by_role("link", name="New here? Register").click()
    page.get_by_label("Username").fill("Beatrix")
    page.get_by_label("Email").fill("beatrix@shop.example")
    page.get_by_label("Password").fill("under the cabbages")
    page.get_by_role("button", name="Register").click()
    page.get_by_role("button", name="Place order").click()

    expect(page.get_by_role("status").filter(has_text="Your order has been placed")).to_be_visible()
    visitor.expect_settled_timeline()
    done = page.locator("[data-status=succeeded]")
    assert {step.get_attribute("data-task") for step in done.all()} >= EFFECTS
    expect(page.get_by_text(re.compile(r"All \d+ tasks are done"))).to_be_visible()
    expect(page.get_by_role("link", name="Cart empty")).to_be_visible()


def test_a_double_click_places_one_order(visitor, page, client):
    visitor.register()
    visitor.fill_cart("Enamel saucepan")
    sent = []
    page.on("request", lambda request: sent.append(request) if is_checkout(request) else None)
    page.goto("/cart")

    page.get_by_role("button", name="Place order").dblclick()
    page.wait_for_url("**/orders/*")
    visitor.expect_settled_timeline()

    assert len({request.headers["idempotency-key"] for request in sent}) == 1
    page.goto("/orders")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_an_answer_that_is_lost_is_asked_for_again_under_the_same_key(visitor, page):
    visitor.register()
    visitor.fill_cart("Hand trowel")
    page.goto("/cart")
    keys, replayed = [], []

    def lose_the_first_answer(route):
        keys.append(route.request.headers["idempotency-key"])
        answer = route.fetch()
        assert answer.ok
        if len(keys) == 1:
            route.abort()
        else:
            replayed.append(answer.headers.get("idempotent-replayed"))
            route.fulfill(response=answer)

    visitor.expect_complaints(r"ERR_FAILED")
    page.route(
        "**/api/orders/",
        lambda route: lose_the_first_answer(route) if is_checkout(route.request) else route.continue_(),
    )
    page.get_by_role("button", name="Place order").click()
    page.wait_for_url("**/orders/*")

    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert replayed == ["true"]
    page.goto("/orders")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_a_page_that_is_loaded_again_without_an_answer_finds_its_order(visitor, page):
    visitor.register()
    visitor.fill_cart("Bird feeder")
    page.goto("/cart")
    placed = []

    def place_and_say_nothing(route):
        placed.append(route.fetch().json()["id"])
        route.abort()

    visitor.expect_complaints(r"ERR_FAILED|404")
    page.route("**/api/orders/", place_and_say_nothing)
    page.get_by_role("button", name="Place order").click()
    expect(page.get_by_text("The shop's response did not arrive")).to_be_visible()
    page.unroute("**/api/orders/")
    page.reload()

    page.wait_for_url(f"**/orders/{placed[0]}")
    assert len(set(placed)) == 1


def test_what_is_short_is_named_before_the_order_is_placed(visitor, page):
    visitor.register()
    visitor.fill_cart("Storm lantern")
    page.goto("/cart")
    expect(page.get_by_role("button", name="Place order")).to_be_visible()
    page.evaluate(ASK_FOR_MORE, 10_000)

    page.reload()

    expect(page.get_by_text("You asked for 10,000, but only 500 are left.")).to_be_visible()


def test_what_is_short_is_named_and_nothing_is_ordered(visitor, page):
    visitor.register()
    visitor.fill_cart("Storm lantern")
    page.goto("/cart")
    expect(page.get_by_role("button", name="Place order")).to_be_visible()
    page.evaluate(ASK_FOR_MORE, 9999)  # As a customer does who has it in the cart while others buy.
    visitor.expect_complaints("409")

    page.get_by_role("button", name="Place order").click()

    expect(page.get_by_text("You asked for 9,999, but only 500 are left.")).to_be_visible()
    page.goto("/orders")
    expect(page.get_by_text("No orders yet")).to_be_visible()


def test_an_order_is_cancelled_after_a_question(visitor, page):
    visitor.register()
    visitor.fill_cart("Stoneware mixing bowl")
    visitor.place_order()

    page.get_by_role("button", name="Cancel order").click()
    question = page.get_by_role("dialog", name="Cancel this order?")
    question.get_by_role("button", name="Never mind").click()
    expect(question).to_be_hidden()
    page.get_by_role("button", name="Cancel order").click()
    question.get_by_role("button", name="Cancel order").click()

    expect(page.get_by_text("Your order has been cancelled.")).to_be_visible()
    expect(page.locator(".lead .state")).to_have_text("Cancelled")
    expect(page.locator("[data-task='email_app.tasks.send_order_cancellation'][data-status=succeeded]")).to_be_visible()


def test_a_wrong_password_is_said_and_the_page_behind_comes_after_the_right_one(visitor, page):
    page.goto("/orders?page=1")
    page.wait_for_url("**/sign-in?next=*")
    page.get_by_label("Username").fill("demo")
    page.get_by_label("Password").fill("wrong")
    visitor.expect_complaints("401")
    page.locator("form").get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Wrong username or password.")).to_be_visible()

    page.get_by_label("Password").fill("shopwire-demo")
    page.locator("form").get_by_role("button", name="Sign in").click()

    expect(page.get_by_role("heading", name="Your orders")).to_be_visible()


def is_checkout(request) -> bool:
    return request.method == "POST" and request.url.endswith("/api/orders/")
