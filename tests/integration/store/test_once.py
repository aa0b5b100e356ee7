"""Every POST that creates something creates it once per Idempotency-Key, like the checkout."""

import json
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from drf_spectacular.generators import SchemaGenerator

from accounts import tokens
from accounts.models import LoginFailures, SignIn, SpentToken
from celery_ledger.models import DurableTask
from email_app import addresses
from messaging.models import Block, Message
from notifications.models import Notification, PushSubscription
from store.models import Cart, CartItem, Customer, IdempotencyKey
from tests.shop import all_at_once, api, check_out, make_cart, make_customer, make_manager, make_product, make_user
from webhooks.models import WebhookDelivery, WebhookEndpoint
from webhooks.recording import record_test

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


def tasks(name):
    return DurableTask.objects.filter(name__endswith=name)


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
    "notifications_test": lambda user: (
        "/api/notifications/test/",
        {},
        Notification.objects.filter(user=user, kind="trouble"),
        False,
    ),
    "webhooks_create": lambda _: ("/api/webhooks/", HOOK, WebhookEndpoint.objects, False),
    "webhooks_test_create": lambda user: (
        f"/api/webhooks/{make_hook(user).pk}/test/",
        {},
        WebhookDelivery.objects,
        False,
    ),
    "webhooks_deliveries_redeliver_create": lambda user: (
        f"/api/webhooks/deliveries/{make_delivery(user).pk}/redeliver/",
        {},
        tasks("tasks.deliver"),
        False,
    ),
    "analytics_reports_create": lambda _: ("/api/analytics/reports/", {}, tasks("send_report"), False),
    "token_create": lambda user: ("/api/token/", sign_in(user), SignIn.objects, True),
    "token_refresh_create": lambda user: (
        "/api/token/refresh/",
        {"refresh": tokens.pair_for(user)["refresh"]},
        SpentToken.objects,
        True,
    ),
    "auth_email_resend_create": lambda user: ("/api/auth/email/resend/", {}, checks_of(user), False),
    "auth_email_change_create": lambda user: (
        "/api/auth/email/change/",
        {"password": sign_in(user)["password"], "email": "new@shop.example"},
        tasks("send_address_change"),
        False,
    ),
    "auth_password_reset_create": lambda user: (
        "/api/auth/password/reset/",
        {"email": user.email},
        tasks("send_password_reset"),
        True,
    ),
    "customers_me_phone_code_create": lambda user: (
        "/api/customers/me/phone/code/",
        {},
        set_phone(user),
        False,
    ),
    "orders_payment_create": lambda user: (
        f"/api/orders/{make_unpaid(user)}/payment/",
        {},
        tasks("payments.tasks.charge"),
        False,
    ),
    "ops_schedule_tell": lambda _: (
        f"/api/ops/schedules/{make_schedule()}/tell/",
        {"what": "run-now"},
        tasks("drop_abandoned_carts"),
        False,
    ),
}
#: They are tested where they are: with the checkout's own contract, and with secrets.
ELSEWHERE = {"orders_create", "webhooks_rotate_create"}
DECIDES = "It decides about something that is there; a second time there is nothing left to decide."
SPENDS = "It uses up what was mailed or sent: a second time there is nothing left of it."
ENDS = "It ends the sign-in that could repeat it: the repeated request is a 401."
MAKES_NOTHING = {
    "auth_email_verify_create": SPENDS,
    "auth_password_reset_confirm_create": SPENDS,
    "customers_me_phone_verify_create": SPENDS,
    "auth_password_change_create": ENDS,
    "auth_sign_out_everywhere_create": ENDS,
    "auth_logout_create": ENDS,
    "customers_me_deletion_create": ENDS,
    "session_create": "A cookie cannot be told again. The browser that has it and signs in again has one session.",
    "payments_callback_create": "The provider's webhook-id is its key.",
    "carts_claim_create": DECIDES,
    "orders_cancel_create": DECIDES,
    "messages_read_create": DECIDES,
    "notifications_read_create": DECIDES,
    "notifications_read_all_create": DECIDES,
    "ops_canvases_cancel": DECIDES,
    "ops_dead_discard_create": DECIDES,
    "ops_dead_replay_create": DECIDES,
    "ops_dead_discard_many": DECIDES,
    "ops_dead_replay_many": DECIDES,
    "ops_queues_limits_create": DECIDES,
    "ops_queues_pause_create": DECIDES,
    "ops_queues_resume_create": DECIDES,
    "ops_task_rate": DECIDES,
    "ops_tasks_cancel_create": DECIDES,
    "ops_tasks_decide": DECIDES,
    "ops_tasks_run_now_create": DECIDES,
    "ops_process_tell": DECIDES,
}
PASSWORD = "correct horse battery"


def sign_in(user):
    user.set_password(PASSWORD)
    user.save()
    return {"username": user.get_username(), "password": PASSWORD}


def make_delivery(user):
    delivery = record_test(make_hook(user))
    WebhookDelivery.objects.update(status="delivered")
    return delivery


def checks_of(user):
    addresses.claim(user)
    return tasks("send_address_check")


def set_phone(user):
    user.customer.phone = "+44 20 7946 0000"  # No signal, and so no code yet.
    Customer.objects.bulk_update([user.customer], ["phone"])
    return tasks("phones.tasks.send_code")


def make_schedule():
    hourly = IntervalSchedule.objects.create(every=1, period="hours")
    task = "store.tasks.drop_abandoned_carts"
    return PeriodicTask.objects.create(name="One more", task=task, interval=hourly).pk


def make_unpaid(user):
    return check_out(api(user), make_cart({make_product(): 1}, user.customer)).json()["id"]


@pytest.fixture(autouse=True)
def paying(settings):
    settings.PAYMENT_URL = "http://127.0.0.1:9"


def new_user():
    return {"username": "ada", "email": "ada@shop.example", "password": "correct horse battery"}


def make_hook(user):
    return WebhookEndpoint.objects.create(owner=user, **HOOK)


def test_every_post_takes_a_key_or_makes_nothing_and_the_document_says_which():
    document = SchemaGenerator().get_schema(public=True)
    posts = {
        path["post"]["operationId"]: {parameter["name"] for parameter in path["post"].get("parameters", [])}
        for path in document["paths"].values()
        if "post" in path
    }
    keyed = {operation for operation, parameters in posts.items() if "Idempotency-Key" in parameters}
    assert keyed == {*CASES, *ELSEWHERE}
    assert posts.keys() - keyed == MAKES_NOTHING.keys()


@pytest.mark.parametrize("call", CASES)
def test_the_same_request_again_is_the_same_answer_again_and_nothing_more(call):
    user = make_manager()
    path, body, made, is_visitors = CASES[call](user)
    client = api(None if is_visitors else user)
    first, again = post(client, path, body), post(client, path, body)
    assert first.status_code in {200, 201, 202}, first.content
    assert "Idempotent-Replayed" not in first.headers
    assert (again.status_code, again.content) == (first.status_code, first.content)
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


def test_a_refusal_under_a_key_is_counted_as_without_one():
    user, login = make_user(), {"username": "nobody", "password": "wrong"}
    for number in range(3):
        assert post(api(), "/api/token/", login, key=f"key {number}").status_code == 401
    assert LoginFailures.objects.get().times == 3

    stolen = {"refresh": tokens.pair_for(user)["refresh"]}
    successor = post(api(), "/api/token/refresh/", stolen).json()
    SpentToken.objects.update(spent_at=timezone.now() - timedelta(hours=1))
    assert post(api(), "/api/token/refresh/", stolen, key="the thief's").status_code == 401
    assert post(api(), "/api/token/refresh/", {"refresh": successor["refresh"]}, key="x").status_code == 401


def test_no_token_is_kept_as_it_is():
    pair = post(api(), "/api/token/", sign_in(make_user())).json()
    with connection.cursor() as cursor:
        cursor.execute("SELECT body FROM store_idempotencykey")
        [[kept]] = cursor.fetchall()
    assert pair["refresh"] not in kept
    assert pair["access"] not in kept


def test_a_secret_that_nobody_can_read_any_more_makes_no_second_one(settings):
    client = api(make_manager())
    post(client, "/api/webhooks/", HOOK)
    settings.SECRET_KEY = "another that is as long as it has to be, and a bit longer than that"
    assert post(client, "/api/webhooks/", HOOK).status_code == 422
    assert WebhookEndpoint.objects.count() == 1
