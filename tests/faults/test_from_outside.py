"""Webhooks, quantity limits and shipping mails, seen from outside: over HTTP and by mail only."""

import email
import email.policy
import threading
from contextlib import ExitStack

import httpx
import pytest
import standardwebhooks

from tests.processes import wait_until
from tests.shop import make_manager, make_product, make_user
from tests.webhook_receiver import receiver

pytestmark = [pytest.mark.processes, pytest.mark.once, pytest.mark.timeout(300)]

PASSWORD = "correct horse battery"


class Person:
    """A user with an account, who talks to the running shop."""

    def __init__(self, browser, user):
        user.set_password(PASSWORD)
        user.save()
        self.user = user
        self.http = browser
        self.signing_in = {"username": user.username, "password": PASSWORD}
        self.http.headers["Authorization"] = f"Bearer {self('post', '/api/token/', self.signing_in).json()['access']}"

    def __call__(self, method, path, body=None):
        return self.http.request(method, path, json=body)

    def order(self, product, quantity):
        cart = self("post", "/api/carts/").json()["id"]
        line = {"product_id": product.pk, "quantity": quantity}
        assert self("post", f"/api/carts/{cart}/items/", line).status_code == 201
        return self("post", "/api/orders/", {"cart_id": cart})


@pytest.fixture
def shop(machine):
    options = {"WEBHOOKS_TO_LOCALHOST": "1", "CUSTOMER_QUANTITY_LIMIT": "5"}
    machine.start_web(**options)
    machine.start_relay(**options)
    machine.start_worker(concurrency=4, **options)
    return machine


@pytest.fixture
def browser(shop):
    """Makes clients that know nothing of each other, for as long as the test runs."""
    with ExitStack() as stack:

        def make():
            client = httpx.Client(base_url=shop.web_url, timeout=30, trust_env=False, follow_redirects=True)
            return stack.enter_context(client)

        yield make


def verified(message, secret):
    """The content of a message, verified with the standard's library; None: it is not genuine."""
    headers, body = message
    try:
        return standardwebhooks.Webhook(secret).verify(body, {name.lower(): value for name, value in headers.items()})
    except standardwebhooks.WebhookVerificationError:
        return None


def test_a_subscriber_s_day(browser):
    staff, buyer, product = Person(browser(), make_manager()), Person(browser(), make_user()), make_product()
    released = threading.Event()
    with receiver() as quick, receiver() as slow, receiver() as gone:
        slow.answers = [lambda handler: released.wait(60)]
        gone.answers = [410]

        def subscribe(server, **wish):
            answer = staff("post", "/api/webhooks/", {"url": server.url, "events": ["order.created"], **wish})
            assert answer.status_code == 201, answer.text
            return answer.json()

        first = subscribe(quick, events=["order.created", "order.cancelled"], ordered=True)
        held, leaving = subscribe(slow, version=2), subscribe(gone)
        # The web process may have looked who subscribes some seconds ago.
        placed = []
        wait_until(
            "the subscription is known", lambda: placed.append(buyer.order(product, 1)) or quick.taken, seconds=30
        )
        orders = [answer.json()["id"] for answer in placed if answer.status_code == 201]
        buyer("post", f"/api/orders/{orders[0]}/cancel/")
        wait_until("the quick one has heard of all", lambda: len(quick.taken) == len(orders) + 1, seconds=30)
        assert len(slow.taken) == 1  # It holds its first message still, and no other client waited for it.
        wait_until(
            "the orders are settled",
            lambda: all(buyer("get", f"/api/orders/{id}/").json().get("settled_at") for id in orders),
        )
        released.set()
        wait_until("the slow one has heard of all, the first again", lambda: len(slow.taken) == len(orders) + 1)

        told = [verified(message, first["secret"]) for message in quick.taken]
        about = [each["type"] for each in told if each["data"]["id"] == orders[0]]
        assert about == ["order.created", "order.cancelled"]
        assert "version" not in told[0]
        assert {verified(message, held["secret"])["version"] for message in slow.taken} == {2}
        wait_until(
            "who is gone is switched off", lambda: not staff("get", f"/api/webhooks/{leaving['id']}/").json()["active"]
        )
        wait_until("its owner is told", lambda: "webhook_disabled" in staff("get", "/api/notifications/").text)

        log = f"/api/webhooks/deliveries/?endpoint={held['id']}"
        wait_until(
            "the log has them", lambda: len(staff("get", f"{log}&status=delivered").json()["results"]) == len(orders)
        )
        [retried] = [each for each in staff("get", log).json()["results"] if each["tries"] == 2]
        attempts = staff("get", f"/api/webhooks/deliveries/{retried['id']}/").json()["attempts"]
        assert [(each["status_code"], each["answer"]) for each in attempts] == [(None, ""), (200, "heard")]
        assert all(each["at"] for each in attempts)

        new = staff("post", f"/api/webhooks/{first['id']}/rotate/").json()["secret"]
        assert staff("post", f"/api/webhooks/{first['id']}/test/").status_code == 202
        wait_until("the test is heard", lambda: "webhook.test" in quick.events)
        assert [verified(quick.taken[-1], secret)["type"] for secret in (first["secret"], new)] == ["webhook.test"] * 2
        [one, *_] = staff("get", f"/api/webhooks/deliveries/?endpoint={first['id']}").json()["results"]
        heard = len(quick.taken)
        wait_until(
            "it can be sent again",
            lambda: staff("post", f"/api/webhooks/deliveries/{one['id']}/redeliver/").status_code == 202,
        )
        wait_until("it is", lambda: len(quick.taken) == heard + 1)
        assert quick.ids[-1] == quick.ids[-2] == one["message_id"]


def test_a_customer_has_no_more_than_the_shop_allows_and_is_told_of_the_goods_on_their_way(shop, browser):
    staff, buyer, product = make_manager(), Person(browser(), make_user()), make_product()
    order = buyer.order(product, 4).json()["id"]
    refused = buyer.order(product, 2)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:shopwire:problem:quantity-limited")
    assert refused.json()["errors"][0]["product"] == product.pk

    admin = browser()
    desk = Person(browser(), staff)
    admin.get("/admin/login/")
    admin.post("/admin/login/", data={**desk.signing_in, "csrfmiddlewaretoken": admin.cookies["csrftoken"]})
    for action, status in (("deliver", "placed"), ("ship", "shipped"), ("deliver", "delivered")):
        wish = {"action": action, "_selected_action": order, "csrfmiddlewaretoken": admin.cookies["csrftoken"]}
        assert admin.post("/admin/store/order/", data=wish).status_code == 200
        assert buyer("get", f"/api/orders/{order}/").json()["status"] == status

    def subjects():
        found = [
            email.message_from_bytes(each.read_bytes(), policy=email.policy.default) for each in mailbox.glob("*.eml")
        ]
        return sorted(
            mail["Subject"] for mail in found if mail["To"] == buyer.user.email and str(order) in mail["Subject"]
        )

    mailbox = shop.folder / "mail"
    wait_until("all three mails are there", lambda: len(subjects()) == 3, seconds=60)
    assert ["delivered" in each for each in subjects()].count(True) == 1
    assert buyer("post", f"/api/orders/{order}/cancel/").status_code == 409
