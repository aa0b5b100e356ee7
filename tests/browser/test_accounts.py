"""A user's address and password: confirmed, changed, forgotten and reset."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.processes import wait_until

pytestmark = pytest.mark.processes


def links_in(mail_server, address: str, page: str) -> list[str]:
    """Return the paths that mails to an address lead to, on that page of ours, oldest first."""
    mails = [mail for mail in list(mail_server.received) if mail["To"] == address]
    bodies = [mail.get_body(("plain",)).get_content() for mail in mails]
    return [found for body in bodies for found in re.findall(rf"https?://[^/\s]+(/{page}\?token=\S+)", body)]


def newest_link(mail_server, address: str, page: str, *, after: int = 0) -> str:
    wait_until(f"a link to {page} has come", lambda: len(links_in(mail_server, address, page)) > after)
    return links_in(mail_server, address, page)[-1]


def sign_in(visitor, name: str, password: str) -> None:
    visitor.page.get_by_label("Username").fill(name)
    visitor.page.get_by_label("Password").fill(password)
    visitor.page.locator("form").get_by_role("button", name="Sign in").click()


@pytest.mark.fault("F114")
def test_f114_a_new_address_is_confirmed_by_a_press_on_the_page_that_its_mail_leads_to(visitor, page, mail_server):
    name = visitor.register()
    waits = page.get_by_text("is not confirmed. Emails about your orders are held")
    expect(waits).to_be_visible()
    first = newest_link(mail_server, f"{name}@shop.example", "verify-email")

    tab = page.context.new_page()
    tab.goto(first)
    tab.get_by_role("button", name="Confirm my address").click()
    expect(tab.get_by_text("Your address is confirmed.")).to_be_visible()

    assert "token" not in tab.url
    expect(waits).to_be_hidden()
    visitor.expect_complaints("400")
    page.goto(first)
    page.get_by_role("button", name="Confirm my address").click()
    expect(page.get_by_text("This link is invalid")).to_be_visible()


@pytest.mark.fault("F114")
def test_f114_the_mail_is_sent_again_to_whoever_asks(visitor, page, mail_server):
    address = f"{visitor.register()}@shop.example"
    newest_link(mail_server, address, "verify-email")

    page.get_by_role("button", name="Resend email").click()

    expect(page.get_by_text("The email has been sent again.")).to_be_visible()
    newest_link(mail_server, address, "verify-email", after=1)


@pytest.mark.fault("F114")
def test_f114_an_address_becomes_another_when_the_links_to_both_were_followed(visitor, page, mail_server):
    name = visitor.register()
    old, new = f"{name}@shop.example", f"{name}@elsewhere.example"
    page.goto(newest_link(mail_server, old, "verify-email"))
    page.get_by_role("button", name="Confirm my address").click()
    expect(page.get_by_text("Your address is confirmed.")).to_be_visible()
    page.goto("/account")
    ours = page.get_by_role("region", name="Your email address")
    visitor.expect_complaints("400")
    ours.get_by_label("New email address").fill(new)
    ours.get_by_label("Your password").fill("another")
    ours.get_by_role("button", name="Change address").click()
    expect(ours.get_by_text("Wrong password.")).to_be_visible()
    expect(ours.get_by_label("Your password")).to_be_focused()

    ours.get_by_label("Your password").fill(visitor.password)
    ours.get_by_role("button", name="Change address").click()
    expect(ours.get_by_text(f"It will change to {new} once you have followed the links")).to_be_visible()
    page.goto(newest_link(mail_server, new, "verify-email"))
    page.get_by_role("button", name="Confirm my address").click()
    expect(page.get_by_text("We sent a link to the other address too")).to_be_visible()
    page.goto(newest_link(mail_server, old, "verify-email", after=1))
    page.get_by_role("button", name="Confirm my address").click()
    expect(page.get_by_text("Your address is confirmed.")).to_be_visible()

    page.goto("/account")
    expect(ours.get_by_text(new)).to_be_visible()
    expect(ours.get_by_text("Confirmed", exact=True)).to_be_visible()


@pytest.mark.fault("F114")
def test_f114_a_changed_password_ends_the_sessions_elsewhere_and_not_this_one(visitor, page, visit):
    name = visitor.register()
    elsewhere = visit()
    elsewhere.sign_in(name, visitor.password)
    page.goto("/account")
    ours = page.get_by_role("region", name="Your password")
    ours.get_by_label("Current password").fill(visitor.password)
    ours.get_by_label("New password").fill("quite another one 7")
    ours.get_by_role("button", name="Change password").click()
    expect(page.get_by_text("Your password has been changed.")).to_be_visible()

    page.goto("/orders")
    expect(page.get_by_text("No orders yet")).to_be_visible()
    elsewhere.expect_complaints("401|403|WebSocket")
    elsewhere.page.goto("/orders")
    expect(elsewhere.page.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.mark.fault("F114")
def test_f114_a_forgotten_password_is_set_anew_by_the_link_of_a_mail(visitor, page, mail_server, visit):
    name = visitor.register()
    address = f"{name}@shop.example"
    page.goto(newest_link(mail_server, address, "verify-email"))
    page.get_by_role("button", name="Confirm my address").click()
    expect(page.get_by_text("Your address is confirmed.")).to_be_visible()
    stranger = visit()
    window = stranger.page
    window.goto("/sign-in")
    window.get_by_role("link", name="Forgot your password?").click()
    window.get_by_label("Email").fill(address)
    window.get_by_role("button", name="Send reset link").click()
    expect(window.get_by_text("If an account exists with this address")).to_be_visible()

    window.goto(newest_link(mail_server, address, "reset-password"))
    stranger.expect_complaints("400|401")
    window.get_by_label("New password").fill("12345678")
    window.get_by_role("button", name="Set password").click()
    expect(window.locator(".field-error")).to_be_visible()
    window.get_by_label("New password").fill("quite another one 7")
    window.get_by_role("button", name="Set password").click()
    expect(window.get_by_text("Your password has been reset.")).to_be_visible()

    sign_in(stranger, name, visitor.password)
    expect(window.get_by_text("Wrong username or password.")).to_be_visible()
    expect(window.get_by_label("Password")).to_be_focused()
    sign_in(stranger, name, "quite another one 7")
    expect(window.get_by_role("button", name="Sign out")).to_be_visible()


def test_one_sees_where_one_is_signed_in_ends_it_there_and_takes_ones_data_along_and_away(visitor, page):
    name = visitor.register()
    other = page.context.browser.new_context(base_url=visitor_base(page), user_agent="Elsewhere Firefox/1")
    elsewhere = other.new_page()
    elsewhere.goto("/sign-in")
    elsewhere.get_by_label("Username").fill(name)
    elsewhere.get_by_label("Password").fill(visitor.password)
    elsewhere.locator("form").get_by_role("button", name="Sign in").click()
    expect(elsewhere.get_by_role("button", name="Sign out")).to_be_visible()

    page.goto("/account")
    ours = page.get_by_role("region", name="Where you are signed in")
    expect(ours.get_by_role("listitem")).to_have_count(2)
    ours.get_by_role("button", name="Sign out Firefox").click()
    expect(page.get_by_text("Signed out there.")).to_be_visible()
    expect(ours.get_by_role("listitem")).to_have_count(1)
    elsewhere.goto("/account")
    expect(elsewhere.locator("header").get_by_role("link", name="Sign in")).to_be_visible()
    other.close()

    ours.get_by_label("Your password").fill(visitor.password)
    ours.get_by_role("button", name="Sign out everywhere else").click()
    expect(page.get_by_text("You are signed out everywhere else.")).to_be_visible()
    expect(ours.get_by_role("listitem")).to_have_count(1)

    data = page.get_by_role("region", name="Your data")
    with page.expect_download() as download:
        data.get_by_role("link", name="Download your data").click()
    assert name in Path(download.value.path()).read_text()
    data.get_by_text("Delete your account").click()
    data.get_by_label("Your password").fill(visitor.password)
    data.get_by_role("button", name="Delete account").click()
    expect(page.locator("header").get_by_role("link", name="Sign in")).to_be_visible()
    page.goto("/sign-in")
    visitor.expect_complaints("401|403")
    sign_in(visitor, name, visitor.password)
    expect(page.get_by_text("Wrong username or password.")).to_be_visible()


def visitor_base(page) -> str:
    return "/".join(page.url.split("/")[:3])
