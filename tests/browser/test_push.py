"""Web Push: a browser opts in, and shows what a push service hands to it."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import expect

pytestmark = pytest.mark.processes

ENDPOINT = "https://updates.push.services.mozilla.com/wpush/v2/of-the-browser-tests"

#: There is no push service here, so the browser's half of a subscription is made up; everything else is real.
SUBSCRIBE = """
(keys) => {
  let subscription = null;
  const made = () => ({
    endpoint: keys.endpoint,
    toJSON: () => ({ endpoint: keys.endpoint, keys }),
    unsubscribe: async () => { subscription = null; return true; },
  });
  PushManager.prototype.subscribe = async (options) => {
    window.asked = options;
    return (subscription = made());
  };
  PushManager.prototype.getSubscription = async () => subscription;
}
"""


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def subscriber(visit, address):
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    keys = {"endpoint": ENDPOINT, "p256dh": encoded(point), "auth": encoded(bytes(16))}
    visitor = visit()
    visitor.page.context.grant_permissions(["notifications"], origin=address)
    visitor.page.add_init_script(f"({SUBSCRIBE})({json.dumps(keys)})")
    visitor.register()
    return visitor


def test_a_browser_opts_in_is_pushed_to_and_opts_out(subscriber, address):
    page = subscriber.page
    session = page.context.new_cdp_session(page)
    registrations = []
    session.on("ServiceWorker.workerRegistrationUpdated", lambda told: registrations.extend(told["registrations"]))
    session.send("ServiceWorker.enable")
    page.goto("/account")
    with page.expect_response("**/api/save-sub/") as saved:
        page.get_by_role("button", name="Turn on push").click()
    assert saved.value.status == 201
    expect(page.get_by_text("Push notifications are on in this browser.")).to_be_visible()
    assert page.evaluate("navigator.serviceWorker.ready.then(({ active }) => active.scriptURL)") == f"{address}/sw.js"
    assert page.evaluate("window.asked.userVisibleOnly")
    assert page.evaluate("window.asked.applicationServerKey") == page.evaluate(
        "fetch('/api/push/public-key/').then((answer) => answer.json()).then((key) => key.public_key)"
    )

    told = {
        "id": 41,
        "kind": "order_placed",
        "title": "Shopwire",
        "body": "Your order 7 is placed.",
        "data": {"order": 7},
    }
    session.send(
        "ServiceWorker.deliverPushMessage",
        {"origin": address, "registrationId": registrations[-1]["registrationId"], "data": json.dumps(told)},
    )

    shown = page.wait_for_function(
        """async () => {
          const registration = await navigator.serviceWorker.ready;
          const shown = await registration.getNotifications();
          return shown.length ? shown.map(({ title, body, tag }) => ({ title, body, tag })) : null;
        }"""
    ).json_value()
    assert shown == [{"title": "Shopwire", "body": "Your order 7 is placed.", "tag": "shopwire-41"}]

    with page.expect_response("**/api/save-sub/") as forgotten:
        page.get_by_role("button", name="Turn off push").click()
    assert forgotten.value.status == 204
    expect(page.get_by_role("button", name="Turn on push")).to_be_visible()


def test_who_signs_out_is_no_longer_pushed_to_here(subscriber):
    page = subscriber.page
    page.goto("/account")
    page.get_by_role("button", name="Turn on push").click()
    expect(page.get_by_text("Push notifications are on in this browser.")).to_be_visible()

    with page.expect_response("**/api/save-sub/") as forgotten:
        page.locator("header").get_by_role("button", name="Sign out").first.click()
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()

    assert (forgotten.value.request.method, forgotten.value.status) == ("DELETE", 204)
    assert page.evaluate("navigator.serviceWorker.ready.then((here) => here.pushManager.getSubscription())") is None


def test_who_comes_after_somebody_else_is_not_said_to_be_pushed_to(subscriber):
    page = subscriber.page
    page.goto("/account")
    page.get_by_role("button", name="Turn on push").click()
    expect(page.get_by_text("Push notifications are on in this browser.")).to_be_visible()
    page.context.clear_cookies()  # The session is over, without a sign-out.

    subscriber.register()
    page.get_by_role("link", name="Account").click()

    expect(page.get_by_role("button", name="Turn on push")).to_be_enabled()


def test_a_browser_that_was_told_not_to_says_so(visitor, page):
    visitor.register()
    page.add_init_script("Notification.requestPermission = async () => 'denied'")
    page.goto("/account")
    page.get_by_role("button", name="Turn on push").click()

    expect(page.get_by_text("Notifications are blocked in this browser")).to_be_visible()
