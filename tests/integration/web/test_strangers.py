"""Writes of anonymous clients are limited, also across several addresses of one network."""

from datetime import timedelta

import pytest
import time_machine
from django.test import RequestFactory
from django.utils import timezone

from accounts.models import LoginFailures
from audit_trail.models import AuditEntry
from store.models import Cart
from store.tasks import drop_abandoned_carts
from tests.shop import all_at_once, api, make_cart, make_customer, make_product, make_user
from web.clients import client_of

NOON = "2026-11-21T12:00:10Z"
HERE = "198.51.100.1"
#: Addresses of one /64, and of another.
OWN = [f"2001:db8:1:2:{n:x}:{n:x}::{n:x}" for n in range(1, 60)]
ELSEWHERE = "2001:db8:1:3::1"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def two_carts(settings):
    settings.THROTTLE_RATES = settings.THROTTLE_RATES | {"carts": (2, 60), "carts_a_day": (3, 86_400)}


def make(address=HERE, user=None):
    return api(user).post("/api/carts/", REMOTE_ADDR=address).status_code


def fail(name="ada", address=HERE, **headers):
    body = {"username": name, "password": "wrong"}
    return api().post("/api/token/", body, format="json", REMOTE_ADDR=address, headers=headers).status_code


def failures():
    return [(entry.object_id, entry.after["times"]) for entry in AuditEntry.objects.filter(what="login failed")]


# --- Carts ------------------------------------------------------------------------------


@pytest.mark.fault("F103")
@pytest.mark.usefixtures("two_carts")
def test_strangers_make_so_many_carts_a_minute_and_a_day_and_customers_are_not_held_back_by_them():
    with time_machine.travel(NOON, tick=False):
        assert [make() for _ in range(3)] == [201, 201, 429]
        assert make(address="198.51.100.2") == 201
        assert [make(user=make_customer()) for _ in range(3)] == [201] * 3
    with time_machine.travel("2026-11-21T12:05:00Z", tick=False):
        assert [make() for _ in range(2)] == [201, 429]
    with time_machine.travel("2026-11-22T00:00:01Z", tick=False):
        assert make() == 201


def test_strangers_put_so_many_lines_into_carts_and_look_at_them_as_they_like(settings):
    settings.THROTTLE_RATES = settings.THROTTLE_RATES | {"cart_lines": (2, 60)}
    product, cart = make_product(), make_cart({})
    line = {"product_id": product.pk, "quantity": 1}
    with time_machine.travel(NOON, tick=False):
        answers = [api().post(f"/api/carts/{cart.pk}/items/", line, format="json") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [201, 201, 429]
        assert answers[2].headers["Retry-After"] == "50"
        assert [api().get(f"/api/carts/{cart.pk}/").status_code for _ in range(5)] == [200] * 5
        assert api().delete(f"/api/carts/{cart.pk}/").status_code == 204


def test_by_default_strangers_are_held_back_long_before_a_thousand_carts():
    with time_machine.travel(NOON, tick=False):
        answers = [make() for _ in range(320)]
    assert answers == [201] * 300 + [429] * 20


def test_nobodys_empty_carts_are_dropped_after_a_day_and_no_others():
    product, customer = make_product(), make_customer()
    empty, filled, own = make_cart({}), make_cart({product: 1}), make_cart({}, customer)
    young = make_cart({})
    Cart.objects.exclude(pk=young.pk).update(created_at=timezone.now() - timedelta(hours=25))
    assert drop_abandoned_carts() == 1
    assert set(Cart.objects.all()) == {filled, own, young}
    assert empty not in Cart.objects.all()


# --- Failed logins ----------------------------------------------------------------------


@pytest.mark.fault("F103")
def test_forty_failures_are_two_lines_of_the_trail_and_a_count(settings):
    settings.AXES_FAILURE_LIMIT = 10_000
    ada = make_user(username="ada", password="correct horse battery")
    with time_machine.travel(NOON):
        for _ in range(40):
            assert fail() == 401
        assert failures() == [(str(ada.pk), 10), (str(ada.pk), 1)]
        for number in range(40):
            fail(name=f"made-up-{number}")
    assert failures()[:2] == [("", 10), ("", 1)]
    counts = LoginFailures.objects.values_list("user_id", "client", "times")
    assert set(counts) == {(ada.pk, f"{HERE}/32", 40), (0, f"{HERE}/32", 40)}
    with time_machine.travel("2026-11-21T13:00:10Z"):  # Another hour is another story.
        fail()
    assert len(failures()) == 5


def test_failures_at_once_are_counted_each(settings):
    settings.AXES_FAILURE_LIMIT = 10_000
    make_user(username="ada", password="correct horse battery")
    with time_machine.travel(NOON, tick=False):
        all_at_once([fail] * 12)
    assert LoginFailures.objects.get().times == 12
    assert sorted(times for _, times in failures()) == [1, 10]


def test_counts_are_forgotten_after_two_days(settings):
    settings.AXES_FAILURE_LIMIT = 10_000
    with time_machine.travel(NOON):
        fail()
    with time_machine.travel("2026-11-24T12:00:00Z"):
        fail(address=ELSEWHERE)
    assert [row.client for row in LoginFailures.objects.all()] == ["2001:db8:1:3::/64"]


# --- Addresses --------------------------------------------------------------------------


@pytest.mark.fault("F104")
@pytest.mark.usefixtures("two_carts")
def test_every_address_of_a_64_is_one_client_of_the_throttles():
    with time_machine.travel(NOON, tick=False):
        assert [make(address) for address in OWN[:4]] == [201, 201, 429, 429]
        assert make(ELSEWHERE) == 201


@pytest.mark.fault("F104")
def test_every_address_of_a_64_is_one_client_of_the_lockout(settings):
    settings.AXES_FAILURE_LIMIT = 3
    make_user(username="ada", password="correct horse battery")
    assert [fail(address=address) for address in OWN[:5]] == [401, 401, 429, 429, 429]
    assert fail(address=ELSEWHERE) == 401


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1/32"),
        ("192.0.2.1:4711", "192.0.2.1/32"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("2001:DB8::1", "2001:db8::/64"),
        ("[2001:db8::1]:443", "2001:db8::/64"),
        ("[2001:db8::1]", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("/run/web.sock", "unknown"),
        ("testserver", "unknown"),
    ],
)
@pytest.mark.parametrize("behind_proxy", [False, True])
def test_whatever_a_server_or_a_proxy_writes_of_an_address_it_is_one_client(settings, address, client, behind_proxy):
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": int(behind_proxy)}
    where = {"HTTP_X_FORWARDED_FOR": f"10.9.9.9, {address}"} if behind_proxy else {"REMOTE_ADDR": address}
    assert client_of(RequestFactory().get("/", **where)) == client


def test_the_lockout_understands_what_a_proxy_writes(settings):
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": 1}
    settings.AXES_FAILURE_LIMIT = 2
    ports = [fail(**{"X-Forwarded-For": f"203.0.113.5:{port}"}) for port in (1111, 2222, 3333)]
    assert ports == [401, 429, 429]
