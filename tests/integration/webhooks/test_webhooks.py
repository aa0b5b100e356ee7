"""Webhooks: recipients, content, order, failures and forbidden destinations."""

import json
import time
from datetime import timedelta
from decimal import Decimal

import pytest
import standardwebhooks
from django.db import connection, transaction
from django.urls import reverse
from django.utils import timezone

from audit_trail.models import AuditEntry
from celery_ledger.models import DurableTask
from celery_ledger.testing import drain, enqueued, pass_time
from notifications.models import Notification
from store.cancellation import cancel_order
from store.models import Order, Product
from store.promises import wrong_settlements
from tests.shop import (
    api,
    browser_of,
    make_manager,
    make_product,
    make_staff,
    make_user,
    place_order,
)
from tests.webhook_receiver import is_genuine, receiver
from webhooks import changes, places, recording, sending, tasks
from webhooks.destinations import ForbiddenDestinationError, check_url, open_connection
from webhooks.models import Event, WebhookDelivery, WebhookEndpoint

pytestmark = pytest.mark.django_db(transaction=True)

DELIVER = "webhooks.tasks.deliver"


@pytest.fixture
def server(settings):
    settings.WEBHOOKS_TO_LOCALHOST = True
    with receiver() as server:
        yield server


@pytest.fixture
def staff():
    return make_staff("change_webhookendpoint")


def subscribe(server, **fields):
    fields.setdefault("events", list(Event.values))
    return WebhookEndpoint.objects.create(url=server.url, **fields)


def stored_secrets(endpoint):
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret, previous_secret FROM webhooks_webhookendpoint WHERE id = %s", [endpoint.pk])
        return cursor.fetchone()


def only_webhooks():
    DurableTask.objects.exclude(name=DELIVER).delete()


class TestEvents:
    def test_an_endpoint_is_made_told_its_secret_once_and_sent_a_signed_order(self, server, staff):
        wish = {"url": server.url, "events": ["order.created"], "description": "The warehouse"}
        made = api(staff).post("/api/webhooks/", wish)
        assert made.status_code == 201, made.content
        shown = api(staff).get(f"/api/webhooks/{made.json()['id']}/").json()
        assert "secret" not in shown
        assert shown["owner"] == staff.pk

        order = place_order(lines={make_product(): 2})
        drain()

        ((headers, body),) = server.taken
        assert is_genuine(headers, body, made.json()["secret"])
        assert not is_genuine(headers, body + b" ", made.json()["secret"])
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        told = json.loads(body)
        assert told["type"] == "order.created"
        assert told["data"]["id"] == order.pk
        assert told["data"]["total"] == "5.00"
        (row,) = api(staff).get("/api/webhooks/deliveries/?status=delivered").json()["results"]
        assert row["message_id"] == headers["webhook-id"]
        detail = api(staff).get(f"/api/webhooks/deliveries/{row['id']}/").json()
        assert detail["body"].encode() == body
        assert [(each["status_code"], each["answer"]) for each in detail["attempts"]] == [(200, "heard")]

    def test_each_event_is_sent_to_who_subscribed_to_it(self, server):
        subscribe(server)
        subscribe(server, events=[])
        subscribe(server, active=False)
        product = make_product(stock=5, low_stock_threshold=4)
        order = place_order(lines={product: 2})
        drain()
        cancel_order(order.pk, among=Order.objects.all())
        product = Product.objects.get(pk=product.pk)
        product.unit_price = Decimal("3.10")
        product.save()
        drain()
        assert sorted(server.events) == sorted(Event.values)
        told = {json.loads(body)["type"]: json.loads(body)["data"] for _, body in server.taken}
        assert told["order.cancelled"]["status"] == "cancelled"
        assert told["order.settled"]["id"] == order.pk
        assert told["stock.low"]["product"] == product.pk
        assert (told["product.price_changed"]["old"], told["product.price_changed"]["new"]) == ("2.50", "3.10")

    def test_what_an_endpoint_is_sent_looks_as_it_did_when_it_subscribed(self, server, staff):
        old = api(staff).post("/api/webhooks/", {"url": server.url, "events": ["order.created"]}).json()
        wish = {"url": server.url, "events": ["order.created"], "version": 2}
        new = api(staff).post("/api/webhooks/", wish).json()
        assert (old["version"], new["version"]) == (1, 2)
        place_order(lines={make_product(): 2})
        bodies = dict(WebhookDelivery.objects.values_list("endpoint", "body"))
        first, second = json.loads(bodies[old["id"]]), json.loads(bodies[new["id"]])
        assert first.keys() == {"type", "timestamp", "data"}
        assert first["data"]["items"][0].keys() == {"product", "sku", "quantity", "unit_price"}
        assert second["version"] == 2
        assert second["data"]["items"][0].keys() == {"product", "sku", "quantity", "unit_price", "title", "total"}
        assert second["data"]["items"][0]["total"] == "5.00"
        answer = api(staff).patch(f"/api/webhooks/{old['id']}/", {"version": 3})
        assert answer.status_code == 400, answer.content

    @pytest.mark.fault("F209")
    def test_an_order_is_settled_while_somebody_else_s_system_is_away(self, server):
        server.answers = [500]
        subscribe(server, events=["order.created"])
        order = place_order()
        drain()
        order.refresh_from_db()
        delivery = WebhookDelivery.objects.get()
        assert (delivery.status, delivery.tries) == ("pending", 1)
        assert order.settled_at is not None
        assert [(row.subject, row.status) for row in enqueued(DELIVER)] == [(order.subject, "pending")]
        assert list(wrong_settlements()) == []
        pass_time(minutes=1)
        drain()
        delivery.refresh_from_db()
        assert delivery.status == "delivered"

    def test_what_is_rolled_back_is_sent_to_nobody(self, server):
        subscribe(server)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            place_order()
            assert WebhookDelivery.objects.count() == len(enqueued(DELIVER)) == 1
            raise ZeroDivisionError
        assert not WebhookDelivery.objects.exists()
        assert not enqueued(DELIVER)

    def test_a_shop_without_webhooks_asks_for_them_once_in_some_seconds(self, django_assert_num_queries):
        recording.forget()
        with django_assert_num_queries(1):
            assert not recording.is_wanted(Event.ORDER_CREATED)
        with django_assert_num_queries(0):
            assert not recording.is_wanted(Event.ORDER_CANCELLED)


class TestFailing:
    def test_a_failed_delivery_comes_back_with_its_id_and_a_settled_one_when_staff_say_so(self, server, staff):
        subscribe(server)
        place_order()
        only_webhooks()
        (delivery,) = WebhookDelivery.objects.all()
        server.answers = [500, 302]
        redeliver = f"/api/webhooks/deliveries/{delivery.pk}/redeliver/"
        drain()
        assert api(staff).post(redeliver).status_code == 409
        pass_time(minutes=1)
        drain()  # A redirect is a failure, and not followed.
        assert len(server.taken) == 2
        pass_time(minutes=1)
        drain()
        delivery.refresh_from_db()
        assert delivery.status == "delivered"
        assert [a.status_code for a in delivery.attempts.all()] == [500, 302, 200]
        assert api(staff).post(redeliver).status_code == 202
        drain()
        assert server.ids == [delivery.message_id] * 4
        assert len({body for _, body in server.taken}) == 1
        assert [row.status for row in enqueued(DELIVER)] == ["succeeded"] * 2

    def test_a_receiver_says_when_to_come_back(self, server):
        def busy(handler):
            handler.send_response(429)
            handler.send_header("Retry-After", "600")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        server.answers = [busy]
        subscribe(server)
        place_order()
        only_webhooks()
        drain()
        (row,) = enqueued(DELIVER)
        assert row.available_at > timezone.now() + timedelta(minutes=9)

    def test_a_delivery_is_given_up_after_its_attempts_and_is_no_dead_letter(self, server, monkeypatch):
        monkeypatch.setattr(places, "MOST_TRIES", 2)
        server.answers = [500, 500]
        subscribe(server)
        place_order()
        only_webhooks()
        drain()
        pass_time(hours=2)
        drain()
        (delivery,) = WebhookDelivery.objects.all()
        assert (delivery.status, delivery.error) == ("failed", "It answered 500.")
        assert [row.status for row in enqueued(DELIVER)] == ["succeeded"]

    @pytest.mark.parametrize("how", ["for days", "gone"])
    def test_an_endpoint_that_failed_for_days_or_is_gone_is_disabled_and_its_owner_told_once(self, server, staff, how):
        endpoint = subscribe(server, owner=staff)
        if how == "for days":
            WebhookEndpoint.objects.update(failing_since=timezone.now() - timedelta(days=5))
        server.answers = [500 if how == "for days" else 410]
        place_order()
        place_order()
        only_webhooks()
        drain()
        pass_time(hours=2)
        drain()
        endpoint.refresh_from_db()
        assert not endpoint.active
        assert endpoint.disabled_at is not None
        assert Notification.objects.filter(user=staff, kind="webhook_disabled").count() == 1
        assert len(server.taken) == 1
        assert set(WebhookDelivery.objects.values_list("status", flat=True)) == {"failed"}
        place_order()
        assert WebhookDelivery.objects.count() == 2
        assert api(staff).post(f"/api/webhooks/{endpoint.pk}/test/").status_code == 409
        assert api(staff).patch(f"/api/webhooks/{endpoint.pk}/", {"active": True}).json()["failing_since"] is None
        assert api(staff).post(f"/api/webhooks/{endpoint.pk}/test/").status_code == 202
        drain()
        assert "webhook.test" in server.events


class TestSecrets:
    def test_after_a_rotation_both_secrets_sign_until_the_old_one_ends(self, server, staff):
        endpoint = subscribe(server)
        old = endpoint.secret
        new = api(staff).post(f"/api/webhooks/{endpoint.pk}/rotate/").json()["secret"]
        assert old != new
        for _ in range(2):
            api(staff).post(f"/api/webhooks/{endpoint.pk}/test/")
            drain()
            WebhookEndpoint.objects.update(previous_until=timezone.now() - timedelta(seconds=1))
        assert [is_genuine(*message, new) for message in server.taken] == [True, True]
        assert [is_genuine(*message, old) for message in server.taken] == [True, False]

    def test_the_standards_own_library_takes_our_messages_while_a_secret_is_changed_too(self, server, staff):
        endpoint = subscribe(server)
        old = endpoint.secret
        api(staff).post(f"/api/webhooks/{endpoint.pk}/test/")
        drain()
        new = api(staff).post(f"/api/webhooks/{endpoint.pk}/rotate/").json()["secret"]
        api(staff).post(f"/api/webhooks/{endpoint.pk}/test/")
        drain()
        before, after = server.taken

        def takes(secret, message):
            headers, body = message
            try:
                told = standardwebhooks.Webhook(secret).verify(body, {k.lower(): v for k, v in headers.items()})
            except standardwebhooks.WebhookVerificationError:
                return False
            return told["type"] == "webhook.test"

        assert [takes(old, before), takes(old, after)] == [True, True]
        assert [takes(new, before), takes(new, after)] == [False, True]
        headers, body = after
        assert not takes(new, (headers, body + b" "))
        headers.replace_header("webhook-timestamp", str(int(time.time()) - 301))
        assert not takes(new, (headers, body))

    def test_the_database_has_secrets_encrypted_and_reads_them_after_a_change_of_the_key(self, server, settings):
        endpoint = subscribe(server)
        secret = endpoint.secret
        changes.rotate(endpoint.pk)
        assert all(text.startswith("sealed:") for text in stored_secrets(endpoint))
        settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another" * 8
        assert WebhookEndpoint.objects.get().previous_secret == secret
        settings.SECRET_KEY_FALLBACKS = []
        assert sending.send(recording.record_test(WebhookEndpoint.objects.get())).error.endswith("rotate the secret.")
        assert server.taken == []
        changes.rotate(endpoint.pk)
        assert sending.send(recording.record_test(WebhookEndpoint.objects.get())).error == ""

    def test_secrets_that_an_earlier_release_wrote_as_they_are_are_read_and_sealed_by_the_hour(self, server):
        endpoint = subscribe(server)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE webhooks_webhookendpoint SET secret = 'whsec_cGxhaW4='")
        assert WebhookEndpoint.objects.get().secret == "whsec_cGxhaW4="
        tasks.tidy()
        assert stored_secrets(endpoint)[0].startswith("sealed:")
        assert WebhookEndpoint.objects.get().secret == "whsec_cGxhaW4="

    def test_who_changed_an_endpoint_and_what_is_on_record_but_no_secret(self, server, staff):
        made = api(staff).post("/api/webhooks/", {"url": server.url, "events": ["order.created"]}).json()
        page = f"/api/webhooks/{made['id']}/"
        api(staff).patch(page, {"ordered": True})
        rotated = api(staff).post(f"{page}rotate/").json()
        WebhookEndpoint.objects.update(failing_since=timezone.now() - timedelta(days=6))
        server.answers = [500]
        place_order()
        only_webhooks()
        drain()
        api(staff).delete(page)
        trail = AuditEntry.objects.filter(model="webhooks.webhookendpoint", object_id=made["id"]).order_by("id")
        assert [entry.what for entry in trail] == ["created", "changed", "changed", "changed", "deleted"]
        created, ordered, rotation, disabled, _ = trail
        assert created.after["url"] == server.url
        assert (ordered.before, ordered.after) == ({"ordered": False}, {"ordered": True})
        assert rotation.after.keys() == {"previous_until"}
        assert disabled.after["active"] is False
        told = json.dumps([[entry.before, entry.after] for entry in trail])
        assert "secret" not in told
        assert made["secret"] not in told
        assert rotated["secret"] not in told

    def test_the_admin_tells_a_secret_once_and_sends_tests(self, server):
        client = browser_of(make_manager())
        form = {"url": server.url, "events": ["stock.low"], "active": "on"}
        made = client.post(reverse("admin:webhooks_webhookendpoint_add"), form, follow=True)
        endpoint = WebhookEndpoint.objects.get()
        assert endpoint.secret in made.content.decode().replace("&#x2B;", "+").replace("&#x3D;", "=")
        page = reverse("admin:webhooks_webhookendpoint_changelist")
        for action in ("rotate_secret", "send_test"):
            client.post(page, {"action": action, "_selected_action": [endpoint.pk]})
        assert endpoint.secret not in client.get(page).content.decode()
        drain()
        assert server.events == ["webhook.test"]
        log = client.get(reverse("admin:webhooks_webhookdelivery_change", args=[WebhookDelivery.objects.get().pk]))
        assert "heard" in log.content.decode()

    def test_the_pages_of_an_endpoint_and_of_a_delivery_have_the_buttons(self, server):
        endpoint = subscribe(server)
        client = browser_of(make_manager())

        def press(kind, thing, words, action):
            page = reverse(f"admin:webhooks_{kind}_change", args=[thing.pk])
            assert words in client.get(page).content.decode()
            return client.post(f"{page.removesuffix('change/')}act/", {"action": action}, follow=True).content.decode()

        assert "A test is on its way" in press("webhookendpoint", endpoint, "Send a test", "send_test")
        delivery = WebhookDelivery.objects.get()
        assert "is still pending" in press("webhookdelivery", delivery, "Send again", "redeliver")
        drain()
        assert "1 sent again" in press("webhookdelivery", delivery, "Send again", "redeliver")
        drain()
        assert server.ids == [delivery.message_id] * 2

        looker = browser_of(make_user(is_staff=True))
        address = reverse("admin:webhooks_webhookdelivery_act", args=[delivery.pk])
        assert looker.post(address, {"action": "redeliver"}).status_code == 403
        assert client.post(address, {"action": "delete_selected"}).status_code == 403
        assert client.get(address).status_code == 405

    def test_what_was_delivered_before_a_rotation_is_sent_again_under_both_secrets(self, server, staff):
        endpoint = subscribe(server)
        old = endpoint.secret
        api(staff).post(f"/api/webhooks/{endpoint.pk}/test/")
        drain()
        new = api(staff).post(f"/api/webhooks/{endpoint.pk}/rotate/").json()["secret"]
        delivery = WebhookDelivery.objects.get()
        assert api(staff).post(f"/api/webhooks/deliveries/{delivery.pk}/redeliver/").status_code == 202
        drain()
        before, after = server.taken
        assert before[1] == after[1]
        assert server.ids == [delivery.message_id] * 2
        for secret, headers, body in ((old, *before), (old, *after), (new, *after)):
            standardwebhooks.Webhook(secret).verify(body, {k.lower(): v for k, v in headers.items()})
        headers = {k.lower(): v for k, v in before[0].items()}
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(new).verify(before[1], headers)


class TestTurns:
    def test_a_slow_endpoint_has_one_place_and_who_leaves_it_wakes_the_next(self, server):
        subscribe(server)
        other = subscribe(server, events=["order.cancelled"])
        for _ in range(3):
            place_order()
        only_webhooks()
        first, second, third = WebhookDelivery.objects.order_by("pk").values_list("pk", flat=True)
        held = places.enter(first)
        tasks.deliver(second)
        tasks.deliver(third)
        assert server.taken == []
        assert set(WebhookDelivery.objects.filter(waiting=True).values_list("pk", flat=True)) == {second, third}
        elsewhere = recording.record_test(other)
        assert places.enter(elsewhere.pk) is not None
        DurableTask.objects.all().delete()
        tasks.deliver(first)  # The task of a worker that was killed comes back, and finds its own place.
        assert held.message_id in server.ids
        assert [row.args for row in enqueued(DELIVER)] == [[second]]
        drain()
        assert len(server.taken) == 3

    def test_in_order_where_asked_for_an_event_waits_for_the_earlier_one_about_the_same(self, server, settings):
        settings.WEBHOOK_CONCURRENCY = 5
        subscribe(server, ordered=True, events=["order.created", "order.cancelled"])
        order = place_order()
        cancel_order(order.pk, among=Order.objects.all())
        place_order()
        only_webhooks()
        server.answers = [500]
        drain()
        assert server.events == ["order.created", "order.created"]
        pass_time(minutes=1)
        drain()
        assert server.events[2:] == ["order.created", "order.cancelled"]

    def test_what_nobody_wakes_is_woken_by_the_hour_and_what_is_old_is_forgotten(self, server):
        subscribe(server)
        place_order()
        only_webhooks()
        DurableTask.objects.all().delete()
        WebhookDelivery.objects.update(waiting=True, created_at=timezone.now() - timedelta(hours=2))
        assert tasks.tidy() == 0
        drain()
        assert len(server.taken) == 1
        WebhookDelivery.objects.update(created_at=timezone.now() - timedelta(days=31))
        assert tasks.tidy() == 1


class TestForgery:
    """Requests that the shop would be made to send where others cannot (SSRF); see also tests/unit."""

    def test_the_api_and_the_admin_take_no_url_that_is_none_of_the_webs(self, staff):
        answer = api(staff).post("/api/webhooks/", {"url": "https://shop.example:22/", "events": ["stock.low"]})
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == "/url"
        client = browser_of(make_manager())
        form = {"url": "http://127.0.0.1/", "events": ["stock.low"]}
        page = client.post(reverse("admin:webhooks_webhookendpoint_add"), form).content.decode()
        assert "must begin with https://" in page
        assert not WebhookEndpoint.objects.exists()

    def test_a_private_address_is_a_failed_attempt_in_the_log(self, server, settings):
        settings.WEBHOOKS_TO_LOCALHOST = False
        endpoint = WebhookEndpoint.objects.create(url=server.url.replace("http:", "https:"), events=[])
        delivery = recording.record_test(endpoint)
        outcome = sending.send(delivery)
        assert outcome.status_code is None
        assert "not public" in outcome.error
        assert server.taken == []

    def test_a_development_shop_reaches_this_machine_and_no_private_network(self, settings):
        settings.WEBHOOKS_TO_LOCALHOST = True
        with pytest.raises(ForbiddenDestinationError):
            open_connection(check_url("http://10.0.0.1/"))

    def test_a_receiver_that_hangs_drips_or_pours_is_left_after_its_time_and_its_kilobyte(self, server, monkeypatch):
        monkeypatch.setattr(sending, "DEADLINE", 0.5)

        def hang(handler):
            time.sleep(5)

        def drip(handler):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for _ in range(100):
                handler.wfile.write(b"X")
                time.sleep(0.05)

        def pour(handler):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            for _ in range(1_000):
                handler.wfile.write(b"y\0" * 10_000)

        server.answers = [hang, drip, pour]
        delivery = recording.record_test(subscribe(server))
        began = time.monotonic()
        hung, dripped, poured = [sending.send(delivery) for _ in range(3)]
        assert time.monotonic() - began < 4
        assert (hung.status_code, hung.error) == (None, "It did not answer: RemoteDisconnected.")
        assert dripped.milliseconds < 2_000
        assert (poured.status_code, poured.error) == (200, "")
        assert 0 < len(poured.answer) <= 1024
        assert "\0" not in poured.answer
