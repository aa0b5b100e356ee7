"""A customer enters a shipping address and pays, in a separate shop that takes payments."""

import threading

import pytest
from playwright.sync_api import expect

from payments.fake import FakeProvider
from tests.browser.visitor import Visitor
from tests.processes import Machine, free_port
from webhooks.signing import make_secret

pytestmark = pytest.mark.processes


@pytest.fixture
def provider(tmp_path):
    """A payment provider, and a shop that uses it."""
    port, secret = free_port(), make_secret()
    machine = Machine(tmp_path).__enter__()
    with FakeProvider(0, f"http://127.0.0.1:{port}/api/payments/callback/", secret) as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        machine.environment |= {
            "DATABASE_URL": f"sqlite:///{tmp_path}/shop.sqlite3",
            "SECRET_KEY": "for the browser tests only, and long enough for them",
            "PAYMENT_URL": provider.url,
            "PAYMENT_SECRET": secret,
        }
        prepared = machine.run_command("seed_demo", "--migrate")
        assert prepared.returncode == 0, prepared.stderr
        machine.start_web(port)
        machine.start_relay()
        machine.start_worker(concurrency=1)
        yield provider
        provider.shutdown()
    # Playwright keeps an event loop in this thread, in which Django speaks to no database.
    closing = threading.Thread(target=machine.__exit__, args=(None, None, None))
    closing.start()
    closing.join()


def test_an_order_goes_where_it_was_said_and_is_paid_at_the_first_or_second_try(provider, chromium):
    context = chromium.new_context(base_url=provider.callback_url.partition("/api/")[0])
    context.set_default_timeout(20_000)
    visitor = Visitor(context.new_page())
    page = visitor.page
    visitor.register()
    visitor.fill_cart("Hand trowel")
    page.goto("/cart")
    page.get_by_text("Add a shipping address").click()
    for field, text in {
        "Name": "Ada King",
        "Street and number": "12 St James's Square",
        "Town or city": "London",
    }.items():
        page.get_by_label(field, exact=True).fill(text)
    page.get_by_label("Country").select_option("FR")
    page.get_by_role("button", name="Place order").click()
    expect(page.get_by_text("Awaiting payment")).to_be_visible()
    expect(page.get_by_text("These items are kept for you until")).to_be_visible()
    expect(page.locator("address")).to_have_text("Ada King12 St James's SquareLondonFrance")
    assert not provider.charges

    provider.moods = ["late", "decline"]
    page.get_by_role("button", name="Pay £").click()
    expect(page.get_by_text("Your payment is being processed.")).to_be_visible()
    expect(page.locator(".state.placed")).to_be_visible()
    expect(page.locator("[data-task='store.tasks.update_inventory'][data-status=succeeded]")).to_be_visible()

    visitor.fill_cart("Hand trowel")
    page.goto("/cart")
    expect(page.get_by_label("Street and number")).to_have_value("12 St James's Square")
    expect(page.get_by_label("Country")).to_have_value("FR")
    page.get_by_role("button", name="Place order").click()
    page.get_by_role("button", name="Pay £").click()
    expect(page.get_by_text("Your payment was declined. Nothing was charged")).to_be_visible()
    expect(page.get_by_text("The rest follows when the order is paid.")).to_be_visible()
    page.get_by_role("button", name="Try again to pay £").click()
    expect(page.locator(".state.placed")).to_be_visible()
    expect(page.get_by_text("tasks are done.")).to_be_visible()
    expect(page.locator("[data-settled=true]")).to_be_visible()
    assert (provider.captured.total(), len(provider.charges)) == (2, 3)
    context.close()
    assert visitor.complaints == []
