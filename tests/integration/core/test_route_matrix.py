"""
Every route with every method: as another customer on a customer's objects, and as an anonymous client.

A route without an entry here fails the test, so that every new route states who may use it.
"""

from collections.abc import Iterator
from datetime import timedelta
from itertools import product as pairs
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken

from accounts.models import SignIn
from celery_ledger.models import DurableTask, QueueSwitch
from messaging.models import Block, Message
from notifications.models import Notification, NotificationPreference, PushSubscription
from store.models import Cart, CartItem, Collection, Order, Stock
from tests.shop import browser_of, check_out, make_cart, make_customer, make_product, make_user

pytestmark = pytest.mark.django_db

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
READ = {"GET": 200, "HEAD": 200}
UNKNOWN_CART = "00000000-0000-4000-8000-000000000000"
UNKNOWN_NUMBER = 987_654_321
ENDPOINT = "https://fcm.googleapis.com/fcm/send/owner"

#: What another customer is answered, by route and method; a method that is not named here is a 405.
#: On objects, the identifiers are another user's, or unknown: no difference.
OTHER_CUSTOMER: dict[str, dict[str, int]] = {
    "/api/": READ,
    "/api/users/": {"POST": 400},
    "/api/token/": {"POST": 400},
    "/api/token/refresh/": {"POST": 400},
    "/api/auth/email/": READ,
    "/api/auth/email/verify/": {"POST": 400},
    "/api/auth/email/resend/": {"POST": 409},
    "/api/auth/email/change/": {"POST": 400},
    "/api/auth/password/change/": {"POST": 400},
    "/api/auth/password/reset/": {"POST": 400},
    "/api/auth/password/reset/confirm/": {"POST": 400},
    "/api/auth/logout/": {"POST": 400},
    "/api/auth/sign-ins/": READ,
    "/api/auth/sign-ins/{sign_in}/": {"DELETE": 404},
    "/api/auth/sign-out-everywhere/": {"POST": 400},
    "/api/customers/me/export/": READ,
    "/api/payments/callback/": {"POST": 401},
    "/api/orders/{order}/payment/": {"GET": 404, "HEAD": 404, "POST": 404},
    "/api/customers/me/deletion/": {"POST": 400},
    "/api/session/": READ | {"POST": 400, "DELETE": 204},
    "/api/schema/": READ,
    "/api/docs/": READ | {"OPTIONS": 405},
    "/api/notifications/test/": dict.fromkeys(METHODS, 403),
    "/api/analytics/sales/": dict.fromkeys(METHODS, 403),
    "/api/analytics/reports/": dict.fromkeys(METHODS, 403),
    "/api/analytics/reports/{task}/": dict.fromkeys(METHODS, 403),
    **{
        f"/api/ops/{address}": dict.fromkeys(METHODS, 403)
        for address in (
            "queues/",
            "queues/{queue}/pause/",
            "queues/{queue}/resume/",
            "queues/{queue}/limits/",
            "figures/",
            "limits/",
            "limits/tasks/{task}/",
            "schedules/",
            "schedules/{schedule}/tell/",
            "processes/",
            "processes/{process}/tell/",
            "series/",
            "problems/",
            "failing/",
            "dead/",
            "dead/groups/",
            "dead/replay/",
            "dead/discard/",
            "dead/{task}/replay/",
            "dead/{task}/discard/",
            "tasks/",
            "tasks/decide/",
            "tasks/{task}/",
            "tasks/{task}/cancel/",
            "tasks/{task}/run-now/",
            "canvases/{task}/",
            "canvases/{task}/cancel/",
            "decisions/",
            "decisions/{decision}/",
        )
    },
    "/api/customers/me/": READ | {"PATCH": 200},
    "/api/customers/me/phone/": READ,
    "/api/customers/me/phone/code/": {"POST": 409},
    "/api/customers/me/phone/verify/": {"POST": 400},
    "/api/carts/": {"POST": 201},
    "/api/carts/{cart}/": {"GET": 404, "HEAD": 404, "DELETE": 404},
    "/api/carts/{cart}/claim/": {"POST": 404},
    "/api/carts/{cart}/items/": {"POST": 404},
    "/api/carts/{cart}/items/{item}/": {"PATCH": 404, "DELETE": 404},
    "/api/products/": READ,
    "/api/products/{product}/": READ,
    "/api/collections/": READ,
    "/api/collections/{collection}/": READ,
    "/api/orders/": READ | {"POST": 404},
    "/api/orders/{order}/": {"GET": 404, "HEAD": 404},
    "/api/orders/{order}/cancel/": {"POST": 404},
    "/api/orders/{order}/tasks/": {"GET": 404, "HEAD": 404},
    "/api/notifications/": READ,
    "/api/notifications/sse/": {"GET": 200},
    "/api/notifications/read-all/": {"POST": 200},
    "/api/notifications/preferences/": READ | {"PUT": 200},
    "/api/notifications/{notification}/read/": {"POST": 404},
    "/api/push/public-key/": {"GET": 404, "HEAD": 404},
    "/api/save-sub/": {"POST": 400, "DELETE": 404},
    "/api/messages/": READ | {"POST": 201},
    "/api/messages/{message}/read/": {"POST": 404},
    "/api/messages/blocks/": READ | {"POST": 400},
    "/api/messages/blocks/{block}/": {"DELETE": 404},
    **{
        f"/api/webhooks/{address}": dict.fromkeys(METHODS, 403)
        for address in (
            "",
            "{webhook}/",
            "{webhook}/rotate/",
            "{webhook}/test/",
            "deliveries/",
            "deliveries/{delivery}/",
            "deliveries/{delivery}/redeliver/",
        )
    },
}
#: Where a stranger may go. Everywhere else it is a 401, whatever the method.
FOR_STRANGERS = {
    "/api/",
    "/api/users/",
    "/api/token/",
    "/api/token/refresh/",
    "/api/auth/email/verify/",
    "/api/auth/password/reset/",
    "/api/auth/password/reset/confirm/",
    "/api/auth/logout/",
    "/api/payments/callback/",
    "/api/session/",
    "/api/schema/",
    "/api/docs/",
    "/api/carts/",
    "/api/carts/{cart}/",
    "/api/carts/{cart}/items/",
    "/api/carts/{cart}/items/{item}/",
    "/api/products/",
    "/api/products/{product}/",
    "/api/collections/",
    "/api/collections/{collection}/",
}
#: What the URLconf names by its number, below the plural.
THINGS = ("product", "collection", "order", "notification", "message", "block", "decision")
#: How the URLconf writes an identifier, and what it is called here.
PLACEHOLDERS = {
    "<uuid:cart_id>": "{cart}",
    "<int:item_id>": "{item}",
    "<uuid:task_id>": "{task}",
    "<uuid:canvas_id>": "{task}",
    "sign-ins/<int:id>/": "sign-ins/{sign_in}/",
    "<int:order_id>": "{order}",
    "<str:queue>": "{queue}",
    "<str:process>": "{process}",
    "<str:task>": "{task}",
    "webhooks/(?P<pk>[0-9]{1,18})": "webhooks/{webhook}",
    "deliveries/(?P<pk>[0-9]{1,18})": "deliveries/{delivery}",
    "schedules/(?P<pk>[0-9]{1,9})": "schedules/{schedule}",
    **{f"{thing}s/(?P<pk>[0-9]{{1,18}})": f"{thing}s/{{{thing}}}" for thing in THINGS},
}
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/carts/{cart}/items/"): {"product_id": "{product}", "quantity": 1},
    ("PATCH", "/api/carts/{cart}/items/{item}/"): {"quantity": 9},
    ("POST", "/api/orders/"): {"cart_id": "{cart}"},
    ("DELETE", "/api/save-sub/"): {"endpoint": "{endpoint}"},
    ("POST", "/api/messages/"): {"receiver": "{owner}", "content": "Hello."},
}
OWNED = ("{cart}", "{order}", "{notification}", "{message}", "{block}", "{sign_in}")
WITH_OBJECTS = [*sorted(route for route in OTHER_CUSTOMER if set(OWNED) & set(route.split("/"))), "/api/orders/"]


def routes(resolver: URLResolver, prefix: str = "/") -> Iterator[str]:
    for pattern in resolver.url_patterns:
        address = prefix + str(pattern.pattern).removeprefix("^").removesuffix("$").removesuffix(r"\Z")
        if isinstance(pattern, URLPattern):
            yield address
        else:
            yield from routes(pattern, address)


def api_routes() -> list[str]:
    found = []
    for address in routes(get_resolver()):
        for written, name in PLACEHOLDERS.items():
            address = address.replace(written, name)
        if address.startswith("/api/"):
            found.append(address)
    return found


@pytest.fixture
def owner():
    return make_customer(username="owner")


@pytest.fixture
def objects(owner):
    """What belongs to the owner, and what belongs to all."""
    ware = make_product(collection=Collection.objects.create(title="Shelf"))
    cart = make_cart({ware: 2}, owner)
    order = check_out(signed_in(owner.user), make_cart({ware: 1}, owner)).json()["id"]
    friend = make_user()
    return {
        "cart": cart.pk,
        "item": cart.items.get().pk,
        "order": order,
        "product": ware.pk,
        "collection": ware.collection_id,
        "task": UNKNOWN_CART,
        "decision": UNKNOWN_NUMBER,
        "webhook": UNKNOWN_NUMBER,
        "delivery": UNKNOWN_NUMBER,
        "owner": owner.user.username,
        "endpoint": owner.user.push_subscriptions.create(endpoint=ENDPOINT, p256dh="k", auth="s").endpoint,
        "notification": owner.user.notifications.create(kind="announcement", message="Told.").pk,
        "message": Message.objects.create(sender=friend, receiver=owner.user, content="Written.").pk,
        "block": owner.user.blocks.create(blocked=make_user()).pk,
        "sign_in": sign_in_of(owner.user).pk,
        "queue": "email",
        "schedule": UNKNOWN_NUMBER,
        "process": "worker 1 at nowhere",
    }


def sign_in_of(user):
    expiry = timezone.now() + timedelta(days=1)
    return SignIn.objects.create(user=user, kind="tokens", name="f", proof="p", client="unknown", expires_at=expiry)


@pytest.fixture
def nothing(objects):
    """Well-formed identifiers of things that there are not."""
    numbered = ("item", "order", "notification", "message", "block", "sign_in")
    return objects | {"cart": UNKNOWN_CART} | dict.fromkeys(numbered, UNKNOWN_NUMBER)


def signed_in(user) -> APIClient:
    """A client with a real token in its header, at an address of its own, by which some calls are throttled."""
    client = APIClient(raise_request_exception=False, REMOTE_ADDR=f"198.18.{user.pk // 250 % 250}.{user.pk % 250}")
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {AccessToken.for_user(user)}")
    return client


def send(client, method, route, identifiers):
    body = BODIES.get((method, route), {})
    body = {name: identifiers[v.strip("{}")] if str(v).startswith("{") else v for name, v in body.items()}
    if "cart_id" in body:
        body["cart_id"] = str(body["cart_id"])
    return client.generic(
        method,
        route.format(**identifiers),
        client._encode_data(body, "json")[0] if method not in {"GET", "HEAD"} else "",
        content_type="application/json",
    )


#: What is asked with any method that changes something.
REFUSED = dict.fromkeys(("POST", "PUT", "PATCH", "DELETE"), 403)
#: What staff without a single permission are answered where they are answered otherwise than a customer.
#: They may look at everything, and change nothing but what is their own.
STAFF_WITHOUT_PERMISSIONS: dict[str, dict[str, int]] = {
    "/api/analytics/sales/": READ,
    "/api/analytics/reports/": {"POST": 202},  # A mail to themselves, of figures that they may read.
    "/api/analytics/reports/{task}/": {"GET": 404, "HEAD": 404},
    "/api/ops/queues/": READ,
    "/api/ops/queues/{queue}/pause/": REFUSED,
    "/api/ops/queues/{queue}/resume/": REFUSED,
    "/api/ops/queues/{queue}/limits/": REFUSED,
    "/api/ops/figures/": READ,
    "/api/ops/limits/": READ,
    "/api/ops/limits/tasks/{task}/": REFUSED,
    "/api/notifications/test/": {"POST": 201},  # A test alert to themselves.
    "/api/ops/schedules/": READ,
    "/api/ops/schedules/{schedule}/tell/": REFUSED,
    "/api/ops/processes/": READ,
    "/api/ops/processes/{process}/tell/": REFUSED,
    "/api/ops/series/": READ,
    "/api/ops/problems/": READ,
    "/api/ops/failing/": READ,
    "/api/ops/canvases/{task}/": {"GET": 404, "HEAD": 404},
    "/api/ops/canvases/{task}/cancel/": REFUSED,
    "/api/ops/decisions/": READ,
    "/api/ops/decisions/{decision}/": {"GET": 404, "HEAD": 404},
    "/api/ops/dead/": READ,
    "/api/ops/dead/groups/": READ,
    "/api/ops/dead/replay/": REFUSED,
    "/api/ops/dead/discard/": REFUSED,
    "/api/ops/dead/{task}/replay/": REFUSED,
    "/api/ops/dead/{task}/discard/": REFUSED,
    "/api/ops/tasks/": READ,
    "/api/ops/tasks/decide/": REFUSED,
    "/api/ops/tasks/{task}/": READ,
    "/api/ops/tasks/{task}/cancel/": REFUSED,
    "/api/ops/tasks/{task}/run-now/": REFUSED,
    "/api/webhooks/": READ | {"POST": 403},
    "/api/webhooks/{webhook}/": {"GET": 404, "HEAD": 404, "PATCH": 403, "DELETE": 403},
    "/api/webhooks/{webhook}/rotate/": {"POST": 403},
    "/api/webhooks/{webhook}/test/": {"POST": 403},
    "/api/webhooks/deliveries/": READ,
    "/api/webhooks/deliveries/{delivery}/": {"GET": 404, "HEAD": 404},
    "/api/webhooks/deliveries/{delivery}/redeliver/": {"POST": 403},
    "/api/orders/{order}/": READ,
    "/api/orders/{order}/cancel/": {"POST": 403},
    "/api/orders/{order}/payment/": {"GET": 404, "HEAD": 404, "POST": 404},
    "/api/orders/{order}/tasks/": READ,
}


def everything_of(owner):
    return (
        sorted(Cart.objects.filter(customer=owner).values_list("id", "customer")),
        sorted(CartItem.objects.filter(cart__customer=owner).values_list("id", "quantity")),
        sorted(Order.objects.values_list("id", "customer", "status", "total")),
        sorted(Stock.objects.values_list("product", "on_hand", "reserved")),
        sorted(Notification.objects.filter(user=owner.user).values_list("id", "read")),
        sorted(NotificationPreference.objects.filter(user=owner.user).values_list("kind", "channel", "enabled")),
        sorted(PushSubscription.objects.filter(user=owner.user).values_list("endpoint", "auth")),
        sorted(Message.objects.filter(receiver=owner.user, content="Written.").values_list("id", "read_at")),
        sorted(Block.objects.filter(user=owner.user).values_list("id", "blocked")),
        sorted(SignIn.objects.filter(user=owner.user).values_list("id", "name")),
        owner.user.__class__.objects.values_list("email", "first_name").get(pk=owner.user_id),
    )


def test_every_route_of_the_api_has_an_entry():
    assert sorted(api_routes()) == sorted(OTHER_CUSTOMER)


def expected_of(answers: dict[str, int]) -> dict[str, int]:
    """What each method is to be answered: 405, where the matrix does not say."""
    return {method: answers.get(method, 200 if method == "OPTIONS" else 405) for method in METHODS}


# One test for each route, not for each of its methods: to make what is asked for takes longer than to ask. Each method
# has a user of its own, and what it must not change is looked at after each.


@pytest.mark.parametrize("route", OTHER_CUSTOMER)
def test_another_customer_gets_what_the_matrix_says_and_changes_nothing(owner, objects, route):
    before = everything_of(owner)
    answers = {}
    for method in METHODS:
        answers[method] = send(signed_in(make_user()), method, route, objects).status_code
        assert everything_of(owner) == before, method
    assert answers == expected_of(OTHER_CUSTOMER[route])


@pytest.mark.fault("F105")
@pytest.mark.parametrize("route", OTHER_CUSTOMER)
def test_f105_staff_without_a_permission_look_and_change_nothing(owner, objects, route):
    dead = DurableTask.objects.create(name="tests.dead", queue="email", status=DurableTask.Status.DEAD)
    identifiers = objects | ({"task": dead.pk} if "/ops/" in route else {})
    before = everything_of(owner)
    answers = {}
    for method in METHODS:
        answers[method] = send(signed_in(make_user(is_staff=True)), method, route, identifiers).status_code
        assert everything_of(owner) == before, method
        assert DurableTask.objects.get(pk=dead.pk).status == DurableTask.Status.DEAD, method
        assert not QueueSwitch.objects.exists(), method
    assert answers == expected_of((OTHER_CUSTOMER | STAFF_WITHOUT_PERMISSIONS)[route])


@pytest.mark.parametrize("route", OTHER_CUSTOMER)
def test_a_stranger_is_told_to_sign_in_and_changes_nothing(owner, objects, route):
    before = everything_of(owner)
    answers = {}
    for number, method in enumerate(METHODS, 1):
        client = APIClient(raise_request_exception=False, REMOTE_ADDR=f"203.0.113.{number}")  # Throttled apart.
        response = send(client, method, route, objects)
        answers[method] = response.status_code
        assert route in FOR_STRANGERS or response.headers["WWW-Authenticate"].startswith("Bearer"), method
        assert everything_of(owner) == before, method
    assert answers == (expected_of(OTHER_CUSTOMER[route]) if route in FOR_STRANGERS else dict.fromkeys(METHODS, 401))


@pytest.mark.parametrize("route", WITH_OBJECTS)
@pytest.mark.parametrize("who", ["another customer", "a stranger"])
def test_somebody_elses_object_is_answered_like_one_that_is_not_there(objects, nothing, route, who):
    def answer(method, identifiers):
        client = signed_in(make_user()) if who == "another customer" else APIClient()
        response = send(client, method, route, identifiers)
        headers = {name: value for name, value in response.headers.items() if name != "X-Request-ID"}
        return response.status_code, response.content, headers

    for method in METHODS:
        assert answer(method, objects) == answer(method, nothing), method


@pytest.mark.parametrize("route", WITH_OBJECTS)
def test_a_token_that_is_none_opens_nothing(owner, objects, route):
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION="Bearer not.a.token")
    before = everything_of(owner)
    answers = {}
    for method in METHODS:
        answers[method] = send(client, method, route, objects).status_code
        assert everything_of(owner) == before, method
    assert answers == dict.fromkeys(METHODS, 401)


# --- The admin ------------------------------------------------------------------------

#: Pages of the admin that need no staff: to sign in and out.
OPEN_IN_ADMIN = {"/admin/login/", "/admin/logout/"}


def admin_addresses() -> list[str]:
    """Every address of the admin, with a number wherever one has to name something."""
    found = []
    for address in routes(get_resolver()):
        if address.startswith("/admin/"):
            filled = "/".join("1" if "<" in part or "(" in part else part for part in address.split("/"))
            found.append(filled if filled.endswith("/") or address.endswith("$") else f"{filled}/")
    return sorted(set(found) - OPEN_IN_ADMIN)


def test_the_admin_has_addresses_for_each_of_its_models():
    addresses = admin_addresses()

    for model in admin.site._registry:
        assert f"/admin/{model._meta.app_label}/{model._meta.model_name}/" in addresses


@pytest.mark.parametrize("address", admin_addresses())
def test_the_admin_sends_whoever_is_not_staff_to_its_login(address):
    browser, stranger = browser_of(make_user()), Client()

    for client, method in pairs((browser, stranger), ("get", "post", "put", "patch", "delete")):
        response = getattr(client, method)(address)
        assert response.status_code in {302, 404, 405}, (method, address)
        if response.status_code == 302:
            assert "/login/" in response.headers["Location"], (method, address)


@pytest.mark.parametrize("model", list(admin.site._registry), ids=lambda model: model._meta.label)
def test_a_token_of_the_api_is_no_way_into_the_admin(model):
    staff = make_user(is_staff=True, is_superuser=True)
    address = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"

    response = Client(headers={"Authorization": f"Bearer {AccessToken.for_user(staff)}"}).get(address)

    assert response.status_code == 302


@pytest.mark.parametrize("model", list(admin.site._registry), ids=lambda model: model._meta.label)
def test_staff_without_a_permission_see_nothing_of_a_model(model):
    browser = browser_of(make_user(is_staff=True))

    assert browser.get(f"/admin/{model._meta.app_label}/{model._meta.model_name}/").status_code == 403
