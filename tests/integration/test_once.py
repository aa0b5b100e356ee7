"""Every POST that makes something makes it once for each Idempotency-Key, as the checkout does."""

import json
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator

from celery_ledger.models import DurableTask
from messaging.models import Block, Message
from notifications.models import PushSubscription
from store.models import Cart, CartItem, IdempotencyKey
from tests.shop import all_at_once, api, make_cart, make_customer, make_manager, make_product
from webhooks.models import WebhookDelivery, WebhookEndpoint

pytestmark = pytest.mark.django_db(transaction=True)

BROWSER = {
    "endpoint": "https://fcm.googleapis.com/fcm/send/abc",
    "keys": {
        "p256dh": "BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA_0QTpQtUbVlUls0VJXg7A8u-Ts1XbjhazAkj7I99e8QcYP7DkM",
        "auth": "tBHItJI5svbpez7KI4CCXg",
    },
}
HOOK = {"url": "https://hooks.example/x", "events": ["order.created"]}


def post(client, path, body, key="key"):
    return client.post(path, body, format="json", headers={"Idempotency-Key": key})


def reports():
    return DurableTask.objects.filter(name__endswith="send_report")


CASES = {
    "users_create": lambda _: ("/api/users/", new_user(), get_user_model().objects.filter(username="ada"), True),
    "carts_create": lambda _: ("/api/carts/", {}, Cart.objects, False),
    "carts_items_create": lambda user: (
        f"/api/carts/{make_cart({}, user.customer).pk}/items/",
        {"product_id": make_product().pk, "quantity": 2},
        CartItem.objects.filter(quantity=2),
        False,
    ),
    "messages_create": lambda _: (
        "/api/messages/",
        {"receiver": make_customer().user.username, "content": "Is it there?"},
        Message.objects,
        False,
    ),
    "messages_blocks_create": lambda _: (
        "/api/messages/blocks/",
        {"username": make_customer().user.username},
        Block.objects,
        False,
    ),
    "save_sub_create": lambda _: ("/api/save-sub/", BROWSER, PushSubscription.objects, False),
    "webhooks_create": lambda _: ("/api/webhooks/", HOOK, WebhookEndpoint.objects, False),
    "webhooks_test_create": lambda user: (
        f"/api/webhooks/{make_hook(user).pk}/test/",
        {},
        WebhookDelivery.objects,
        False,
    ),
    "analytics_reports_create": lambda _: ("/api/analytics/reports/", {}, reports(), False),
}


def new_user():
    return {"username": "ada", "email": "ada@shop.example", "password": "correct horse battery"}


def make_hook(user):
    return WebhookEndpoint.objects.create(owner=user, **HOOK)


def test_the_document_says_which_calls_take_a_key():
    document = SchemaGenerator().get_schema(public=True)
    keyed = {
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", []))
    }
    assert keyed == {*CASES, "orders_create", "webhooks_rotate_create"}


@pytest.mark.parametrize("call", CASES)
def test_the_same_request_again_is_the_same_answer_again_and_nothing_more(call):
    user = make_manager()
    path, body, made, is_visitors = CASES[call](user)
    client = api(None if is_visitors else user)
    first, again = post(client, path, body), post(client, path, body)
    assert first.status_code in {201, 202}, first.content
    assert "Idempotent-Replayed" not in first.headers
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert made.count() == 1

    other = post(client, path, {**body, "more": 1})
    assert (other.status_code, other.json()["type"]) == (422, "urn:shopwire:problem:idempotency-key-reused")
    assert made.count() == 1


def test_a_key_of_one_call_is_not_for_another_nor_for_somebody_else_and_lives_a_day():
    user = make_customer()
    assert post(api(user), "/api/carts/", {}).status_code == 201
    receiver = make_customer().user.username
    assert post(api(user), "/api/messages/", {"receiver": receiver, "content": "x"}).status_code == 422
    assert post(api(make_customer()), "/api/carts/", {}).status_code == 201
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert "Idempotent-Replayed" not in post(api(user), "/api/carts/", {}).headers
    assert Cart.objects.count() == 3


def test_visitors_have_keys_of_their_own_by_where_they_come_from():
    def ask(address):
        return (
            api()
            .post("/api/carts/", {}, format="json", headers={"Idempotency-Key": "1"}, REMOTE_ADDR=address)
            .json()["id"]
        )

    assert ask("192.0.2.1") == ask("192.0.2.1") != ask("192.0.2.2")
    assert Cart.objects.count() == 2


def test_a_refused_request_leaves_its_key_free_and_a_malformed_key_makes_nothing():
    user, other = make_customer(), make_customer().user.username
    assert post(api(user), "/api/messages/", {"receiver": "nobody", "content": "x"}).status_code == 400
    assert post(api(user), "/api/messages/", {"receiver": other, "content": "x"}).status_code == 201
    assert post(api(user), "/api/carts/", {}, key="k" * 256).status_code == 400
    assert not Cart.objects.exists()


def test_ten_at_once_under_one_key_add_to_the_cart_once():
    user, product = make_customer(), make_product()
    path, line = f"/api/carts/{make_cart({}, user).pk}/items/", {"product_id": product.pk, "quantity": 2}
    answers = all_at_once([lambda: post(api(user), path, line)] * 10)
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert CartItem.objects.get().quantity == 2


def test_what_is_kept_of_an_answer_has_neither_a_webhook_s_secret_nor_a_digest_of_a_password():
    secret = post(api(make_manager()), "/api/webhooks/", HOOK).json()["secret"]
    post(api(), "/api/users/", new_user())
    with connection.cursor() as cursor:
        cursor.execute("SELECT body, fingerprint FROM store_idempotencykey")
        kept = str(cursor.fetchall())
    assert secret not in kept
    assert json.dumps(new_user()) not in kept
    assert "correct horse" not in kept


def test_a_secret_that_nobody_can_read_any_more_makes_no_second_one(settings):
    client = api(make_manager())
    post(client, "/api/webhooks/", HOOK)
    settings.SECRET_KEY = "another that is as long as it has to be, and a bit longer than that"
    assert post(client, "/api/webhooks/", HOOK).status_code == 422
    assert WebhookEndpoint.objects.count() == 1
