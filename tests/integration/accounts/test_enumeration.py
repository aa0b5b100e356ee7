"""Responses take equally long for existing and missing objects: timing reveals nothing."""

import time
from statistics import median

import pytest

from tests.processes import best_of
from tests.shop import api, make_cart, make_customer, make_product, make_user, place_order

pytestmark = pytest.mark.django_db


def medians(*calls, probes):
    """Return the median seconds of each call; they take turns, so that a busy machine slows all of them alike."""
    times = [[] for _ in calls]
    for _ in range(probes):
        for call, spent in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            spent.append(time.perf_counter() - began)
    return [median(spent) for spent in times]


def how_far_apart(*calls, probes):
    """Return how many times as long the slowest call takes as the quickest; of three measurements the best."""

    def ratio():
        seconds = medians(*calls, probes=probes)
        return max(seconds) / min(seconds)

    return best_of(ratio, below=1.6)


@pytest.mark.once
def test_a_login_takes_as_long_for_a_name_that_nobody_has(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    settings.AXES_FAILURE_LIMIT = 10_000
    make_user(username="known", password="correct horse battery")
    make_user(username="gone", password="correct horse battery", is_active=False)

    def sign_in(name):
        answer = api().post("/api/token/", {"username": name, "password": "wrong and long"}, format="json")
        assert (answer.status_code, answer.json()["detail"]) == (
            401,
            "No active account found with the given credentials",
        )

    calls = [lambda: sign_in("known"), lambda: sign_in("unknown"), lambda: sign_in("gone")]

    assert min(medians(*calls, probes=1)) > 0.05, "The hasher is too fast for this to show anything."
    assert how_far_apart(*calls, probes=9) < 1.6


def test_somebody_elses_order_and_cart_take_as_long_as_none(settings):
    owner, other = make_customer(), make_customer()
    order = place_order(owner, {make_product(): 1 for _ in range(20)}).id
    cart = make_cart({make_product(): 1 for _ in range(20)}, owner)
    client = api(other)

    def ask(address):
        assert client.get(address).status_code == 404

    orders = [lambda: ask(f"/api/orders/{order}/"), lambda: ask(f"/api/orders/{order + 1000}/")]
    assert how_far_apart(*orders, probes=100) < 2
    carts = [
        lambda: ask(f"/api/carts/{cart.pk}/"),
        lambda: ask("/api/carts/00000000-0000-4000-8000-000000000000/"),
    ]
    assert how_far_apart(*carts, probes=100) < 2
