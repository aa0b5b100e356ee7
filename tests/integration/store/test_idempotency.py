"""A repeated request gets the same response, and has no further effect."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from store import idempotency
from store.contention import LostRace
from store.idempotency import Answer, NamedRequest
from store.models import IdempotencyKey, Order
from store.refusals import KeyInUse
from tests.shop import all_at_once, api, check_out, make_cart, make_customer, make_product

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def buyer():
    return make_customer()


@pytest.fixture
def cart(buyer):
    return make_cart({make_product(): 2}, buyer)


def test_the_same_key_and_body_answer_the_first_response_again(buyer, cart):
    first = check_out(api(buyer), cart, key="k")
    again = check_out(api(buyer), cart, key="k")

    assert (again.status_code, again.json()) == (first.status_code, first.json()) == (201, first.json())
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


def test_the_first_response_is_answered_also_when_the_order_has_changed(buyer, cart):
    first = check_out(api(buyer), cart, key="k")
    api(buyer).post(f"/api/orders/{first.json()['id']}/cancel/")

    assert check_out(api(buyer), cart, key="k").json() == first.json()


def test_white_space_in_the_body_makes_no_difference(buyer, cart):
    first = check_out(api(buyer), cart, key="k")
    again = api(buyer).post(
        "/api/orders/",
        f'\n{{ "cart_id" :  "{cart.id}" }}',
        content_type="application/json",
        headers={"Idempotency-Key": "k"},
    )

    assert again.json() == first.json()


@pytest.mark.fault("F33")
def test_the_same_key_with_another_body_is_a_422_and_places_nothing(buyer, cart):
    check_out(api(buyer), cart, key="k")
    other = make_cart({make_product(): 1}, buyer)

    response = check_out(api(buyer), other, key="k")

    assert response.status_code == 422
    assert response.json()["type"] == "urn:shopwire:problem:idempotency-key-reused"
    assert Order.objects.count() == 1


@pytest.mark.fault("F34")
def test_a_key_belongs_to_its_user(buyer, cart):
    other = make_customer()
    check_out(api(buyer), cart, key="k")

    assert check_out(api(other), make_cart({make_product(): 1}, other), key="k").status_code == 201


@pytest.mark.fault("F34")
def test_a_key_is_forgotten_after_24_hours(buyer, cart):
    check_out(api(buyer), cart, key="k")
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=24, seconds=1))
    other = make_cart({make_product(): 1}, buyer)

    assert check_out(api(buyer), other, key="k").status_code == 201
    assert check_out(api(buyer), other, key="k").headers["Idempotent-Replayed"] == "true"


def test_a_request_that_failed_leaves_its_key_free(buyer):
    product = make_product(stock=1)
    cart = make_cart({product: 2}, buyer)
    assert check_out(api(buyer), cart, key="k").status_code == 409
    assert not IdempotencyKey.objects.exists()
    product.stock.on_hand = 2
    product.stock.save()

    assert check_out(api(buyer), cart, key="k").status_code == 201


def test_a_second_checkout_of_a_cart_without_a_key_answers_the_same_order(buyer, cart):
    first = check_out(api(buyer), cart)
    again = check_out(api(buyer), cart)

    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == 1


def test_a_second_checkout_of_a_cart_under_another_key_answers_the_same_order(buyer, cart):
    first = check_out(api(buyer), cart, key="one")
    again = check_out(api(buyer), cart, key="two")
    replayed = check_out(api(buyer), cart, key="two")

    assert (again.status_code, replayed.status_code) == (200, 200)
    assert again.json() == replayed.json() == first.json()
    assert Order.objects.count() == 1


@pytest.mark.parametrize("key", ["", "k" * 256, "tab\there", "caf\xe9", "\x7f"])
def test_a_malformed_key_is_a_400(buyer, cart, key):
    assert check_out(api(buyer), cart, key=key).status_code == 400
    assert not Order.objects.exists()


@pytest.mark.parametrize("key", ["k", "k" * 255, " ~!\"#%&'(;"])
def test_any_printable_ascii_is_a_key(buyer, cart, key):
    assert check_out(api(buyer), cart, key=key).status_code == 201


@pytest.mark.postgresql
def test_while_the_first_is_running_the_second_is_told_so_at_once(buyer, cart):
    named = NamedRequest(buyer.user_id, "k", "0" * 64)
    with transaction.atomic():
        assert idempotency.recall(named) is None  # As a checkout that has not committed yet.

        [response] = all_at_once([lambda: check_out(api(buyer), cart, key="k")])

    assert response.status_code == 409
    assert response.json()["type"] == "urn:shopwire:problem:idempotency-key-in-use"
    assert response.headers["Retry-After"] == "1"
    assert check_out(api(buyer), cart, key="k").status_code == 201


def test_of_two_answers_under_one_key_the_second_is_none_and_its_transaction_runs_again(buyer):
    named, answer = NamedRequest(buyer.user_id, "k", "0" * 64), Answer(201, {"id": 1})
    idempotency.remember(named, answer)

    with pytest.raises(LostRace), transaction.atomic():
        idempotency.remember(named, answer)


@pytest.mark.postgresql
def test_a_finished_key_is_replayed_also_while_somebody_else_looks_at_it(buyer, cart):
    first = check_out(api(buyer), cart, key="k")
    body = idempotency.fingerprint_of_body({"cart_id": str(cart.id)})
    with transaction.atomic():
        idempotency.recall(NamedRequest(buyer.user_id, "k", body))

        [response] = all_at_once([lambda: check_out(api(buyer), cart, key="k")])

    assert response.json() == first.json()


@pytest.mark.postgresql
def test_a_key_that_is_held_here_is_held_for_nobody_else(buyer):
    mine, other = NamedRequest(buyer.user_id, "k", "0"), NamedRequest(buyer.user_id, "other", "0")

    def try_to_hold(request):
        with transaction.atomic():
            try:
                return idempotency.recall(request)
            except KeyInUse as refusal:
                return refusal.get_codes()

    with transaction.atomic():
        idempotency.recall(mine)
        [same, different] = all_at_once([lambda: try_to_hold(mine), lambda: try_to_hold(other)])

    assert same is not None
    assert different is None
