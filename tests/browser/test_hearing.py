"""Live notifications over every transport, and messages between users."""

import re

import pytest
from playwright.sync_api import expect

from tests.processes import wait_until

pytestmark = pytest.mark.processes


def is_live(page, state):
    expect(page.locator("[data-live]")).to_have_attribute("data-live", state, timeout=60_000)


def unread(page, count):
    expect(page.get_by_role("link", name=re.compile(f"^Notifications.*{count} unread"))).to_be_visible()


@pytest.mark.parametrize(
    ("broken", "state"),
    [([], "websocket"), (["/ws/"], "sse"), (["/ws/", "/sse/"], "polling")],
    ids=["websocket", "event stream", "polling"],
)
def test_what_happens_elsewhere_shows_here_by_whichever_way_works(visitor, page, visit, broken, state):
    name = visitor.register()
    here = visit()
    if broken:
        here.expect_complaints("ERR_FAILED|WebSocket")
        here.page.route_web_socket(re.compile("/ws/"), lambda socket: socket.close())
    if "/sse/" in broken:
        here.page.route("**/api/notifications/sse/**", lambda route: route.abort())
    here.sign_in(name, visitor.password)
    is_live(here.page, state)
    here.page.get_by_role("link", name="Notifications").click()
    expect(here.page.get_by_text("Nothing new")).to_be_visible()

    visitor.fill_cart("Ball of jute twine")
    order = visitor.place_order()

    expect(here.page.get_by_text(f"Your order {order} of")).to_be_visible()
    unread(here.page, 1)
    here.page.get_by_role("link", name="View").click()
    expect(here.page.get_by_role("heading", name=f"Order {order}")).to_be_visible()
    expect(here.page.get_by_role("link", name=re.compile("unread"))).to_be_hidden()


def test_a_web_process_that_dies_and_comes_back_is_heard_again(shop, visitor, page):
    name = visitor.register()
    page.get_by_role("link", name="Notifications").click()
    is_live(page, "websocket")
    visitor.expect_complaints("WebSocket|ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|ERR_INCOMPLETE")

    # Before that, the script of the page may be on its way still.
    expect(page.get_by_role("heading", name="Notifications")).to_be_visible()
    shop.web.kill()
    try:
        is_live(page, "connecting")
        shop.run_command("shell", "-c", announce(name, "While nobody listened"))
    finally:
        shop.web = shop.start_web(shop.web_port)

    expect(page.locator("[data-live]")).to_have_attribute(
        "data-live", re.compile("websocket|sse|polling"), timeout=60_000
    )
    expect(page.get_by_text("While nobody listened")).to_be_visible()
    shop.run_command("shell", "-c", announce(name, "Now that somebody does"))
    expect(page.get_by_text("Now that somebody does")).to_be_visible()


def test_a_page_whose_script_does_not_come_while_the_shop_is_down_says_so(visitor, page):
    visitor.expect_complaints("ERR_FAILED")
    page.route(re.compile("/NotificationsTab-"), lambda route: route.abort())
    page.route("**/notifications", lambda route: route.abort())
    visitor.register()

    page.get_by_role("link", name="Notifications").click()
    expect(page.get_by_text("This page could not be loaded.")).to_be_visible()

    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="Notifications")).to_be_visible()


def test_a_page_without_a_network_says_so_and_goes_on_when_it_is_back(visitor, page):
    visitor.register()
    is_live(page, "websocket")
    visitor.expect_complaints("ERR_INTERNET_DISCONNECTED|WebSocket")

    page.context.set_offline(True)
    expect(page.get_by_text("You are offline.")).to_be_visible()
    is_live(page, "offline")
    page.context.set_offline(False)

    expect(page.get_by_text("You are offline.")).to_be_hidden()
    is_live(page, "websocket")


def test_a_page_whose_session_is_over_asks_to_sign_in_again(visitor, page):
    name = visitor.register()
    page.get_by_role("link", name="Notifications").click()
    expect(page.get_by_text("Nothing new")).to_be_visible()
    page.context.clear_cookies()  # As when the user signs out in another window.
    visitor.expect_complaints("401|WebSocket")

    page.get_by_role("button", name="All", exact=True).click()
    page.wait_for_url("**/sign-in?next=*")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(visitor.password)
    page.locator("form").get_by_role("button", name="Sign in").click()

    expect(page.get_by_text("Nothing new")).to_be_visible()
    is_live(page, "websocket")


def test_what_was_told_is_marked_as_read_one_by_one_and_all_at_once(shop, visitor, page):
    name = visitor.register()
    page.get_by_role("link", name="Notifications").click()
    shop.run_command("shell", "-c", announce(name, "One", "Two", "Three"))
    unread(page, 3)

    page.locator("li.notification", has_text="Two").get_by_role("button", name="Mark as read").click()
    unread(page, 2)
    expect(page.get_by_text("Two", exact=True)).to_be_hidden()
    page.get_by_role("button", name="Mark all as read").click()

    expect(page.get_by_text("2 notifications marked as read.")).to_be_visible()
    expect(page.get_by_text("Nothing new")).to_be_visible()
    page.get_by_role("button", name="All", exact=True).click()
    expect(page.locator("li.notification")).to_have_count(3)


def test_people_write_to_each_other_and_see_what_was_read(visitor, page, visit):
    ada, bob = visitor, visit()
    ada_name, bob_name = ada.register(), bob.register()
    page.get_by_role("link", name="Messages").click()
    page.get_by_label("To", exact=True).fill(bob_name)
    page.get_by_label("Message", exact=True).fill("Is the parcel there?")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".bubble.mine")).to_contain_text("Sent")

    bob.page.get_by_role("link", name="Messages").click()
    bob.page.get_by_role("button", name=re.compile(ada_name)).click()
    expect(bob.page.get_by_text("Is the parcel there?").last).to_be_visible()
    bob.page.get_by_label("Message", exact=True).fill("It is.")
    bob.page.get_by_role("button", name="Send", exact=True).click()

    expect(page.locator(".bubble", has_text="It is.")).to_be_visible()
    expect(page.locator(".bubble.mine")).to_contain_text("Read")


def test_a_message_to_nobody_is_refused_beside_its_field(visitor, page):
    visitor.register()
    page.get_by_role("link", name="Messages").click()
    page.get_by_label("To", exact=True).fill("nobody with this name")
    page.get_by_label("Message", exact=True).fill("Hello?")
    visitor.expect_complaints("400")
    page.get_by_role("button", name="Send", exact=True).click()

    expect(page.get_by_text("There is no user with this name.")).to_be_visible()


def test_who_is_blocked_is_not_written_to_until_messages_are_taken_again(visitor, page, visit):
    other = visit()
    name, other_name = visitor.register(), other.register()
    for one, receiver in ((visitor, other_name), (other, name)):
        one.page.goto(f"/messages?with={receiver}")
        one.page.get_by_label("Message", exact=True).fill("Buy, buy, buy!")
        one.page.get_by_role("button", name="Send", exact=True).click()
        expect(one.page.locator(".bubble.mine")).to_be_visible()

    page.get_by_role("button", name="Block").click()
    question = page.get_by_role("dialog", name=f"Block {other_name}?")
    question.get_by_role("button", name="Block").click()
    expect(page.get_by_text(f"You have blocked {other_name}.")).to_be_visible()
    other.expect_complaints("403")
    other.page.get_by_label("Message", exact=True).fill("Why not?")
    other.page.get_by_role("button", name="Send", exact=True).click()
    expect(other.page.get_by_text("You cannot exchange messages with this user.")).to_be_visible()
    page.get_by_role("button", name="Unblock").click()

    expect(page.get_by_label("Message", exact=True)).to_be_visible()
    other.page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".bubble", has_text="Why not?")).to_be_visible()


def test_a_number_is_verified_with_the_code_that_came_to_it(shop, visitor, page):
    visitor.register()
    page.goto("/account")
    page.get_by_label("Phone number").fill("+44 20 7946 0123")
    page.get_by_role("button", name="Save").click()
    page.get_by_label("Code").fill("12")
    visitor.expect_complaints("400")
    page.get_by_role("button", name="Verify").click()
    expect(page.get_by_label("Code")).to_have_attribute("aria-invalid", "true")

    texts = lambda: [text for path in (shop.folder / "sms").glob("*.txt") if "0123" in (text := path.read_text())]  # noqa: E731
    wait_until("the code is there", texts)
    page.get_by_label("Code").fill(re.search(r"\b\d{6}\b", texts()[0].partition("\n\n")[2]).group())
    page.get_by_role("button", name="Verify").click()

    expect(page.get_by_text("is verified and can receive text messages.")).to_be_visible()


def test_preferences_and_profile_are_kept(visitor, page):
    visitor.register()
    page.goto("/account")
    page.get_by_label("Order placed by Push").uncheck()
    page.get_by_label("Use quiet hours every day").check()
    expect(page.get_by_label("From")).to_have_value("22:00")
    page.get_by_label("First name").fill("Ada")
    page.get_by_label("Phone number").fill("nonsense")
    visitor.expect_complaints("400")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Phone number")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Phone number").fill("+44 20 7946 0000")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()

    page.reload()

    expect(page.get_by_label("First name")).to_have_value("Ada")
    expect(page.get_by_label("Order placed by Push")).not_to_be_checked()
    expect(page.get_by_label("Use quiet hours every day")).to_be_checked()


def announce(name: str, *words: str) -> str:
    """Return the Python that notifies a user, as the shop does."""
    return (
        "from django.contrib.auth import get_user_model; from notifications.announce import notify; "
        f"reader = get_user_model().objects.get(username={name!r}).pk; "
        f"[notify([reader], kind='announcement', message=words) for words in {words!r}]"
    )
