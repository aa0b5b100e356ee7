"""Too many requests get a 429 that says when to retry."""

from types import SimpleNamespace

import pytest
import time_machine

from tests.shop import all_at_once, api, check_out, make_cart, make_customer, make_product
from web.throttling import ScopedThrottle

pytestmark = pytest.mark.django_db


@pytest.fixture
def two_a_minute(settings):
    settings.THROTTLE_RATES = dict.fromkeys(settings.THROTTLE_RATES, (2, 60))


NOON = "2026-11-21T12:00:10Z"


@pytest.mark.usefixtures("two_a_minute")
@pytest.mark.parametrize(
    ("address", "body"),
    [
        ("/api/token/", {"username": "x", "password": "x"}),
        ("/api/token/refresh/", {"refresh": "x"}),
        ("/api/users/", {}),
    ],
)
def test_the_third_of_two_a_minute_is_a_429(address, body):
    with time_machine.travel(NOON, tick=False):
        answers = [api().post(address, body, format="json") for _ in range(3)]

    assert [answer.status_code == 429 for answer in answers] == [False, False, True]
    assert answers[2].headers["Retry-After"] == "50"
    assert answers[2].headers["Content-Type"] == "application/problem+json"


@pytest.mark.usefixtures("two_a_minute")
def test_checkouts_are_counted_for_each_user_and_only_they():
    buyer, other, product = make_customer(), make_customer(), make_product()

    def order(customer):
        return check_out(api(customer), make_cart({product: 1}, customer)).status_code

    with time_machine.travel(NOON, tick=False):
        assert [order(buyer), order(buyer), order(buyer)] == [201, 201, 429]
        assert order(other) == 201
        assert [api(buyer).get("/api/orders/").status_code for _ in range(5)] == [200] * 5
    with time_machine.travel("2026-11-21T12:01:00Z", tick=False):
        assert order(buyer) == 201


@pytest.mark.usefixtures("two_a_minute")
def test_a_header_does_not_make_another_client(settings):
    with time_machine.travel(NOON, tick=False):
        answers = [
            api().post("/api/users/", {}, format="json", headers={"X-Forwarded-For": f"10.0.0.{n}"}) for n in range(3)
        ]

    assert answers[2].status_code == 429


def test_no_rate_is_no_limit(settings):
    settings.THROTTLE_RATES = dict.fromkeys(settings.THROTTLE_RATES)

    assert {api().post("/api/users/", {}, format="json").status_code for _ in range(20)} == {400}


def test_of_two_hundred_at_once_no_more_than_the_limit_pass(settings):
    settings.THROTTLE_RATES = {"checkout": (50, 60)}
    request = SimpleNamespace(user=SimpleNamespace(is_authenticated=True, pk=1))
    view = SimpleNamespace(throttle_scope="checkout")

    with time_machine.travel(NOON, tick=False):
        passed = all_at_once([lambda: ScopedThrottle().allow_request(request, view)] * 200)

    assert sum(passed) == 50
