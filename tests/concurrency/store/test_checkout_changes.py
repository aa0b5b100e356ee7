"""The catalogue and the cart change while an order is placed: the order has the old or the new state, never a mix."""

import random
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection
from django.db.models import ProtectedError

from celery_ledger.promises import promises
from store.models import CartItem, Order, OrderItem, Product
from tests.shop import all_at_once, api, check_out, make_cart, make_customer, make_product

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 8


def broken_promises():
    return [line for violations in promises().values() for line in violations() if "is unsettled" not in line]


@pytest.mark.fault("F37")
def test_f37_a_price_that_changes_meanwhile_is_the_old_or_the_new_one_and_the_total_is_its_sum():
    buyer, product = make_customer(), make_product(price="10.00", stock=1_000)

    def reprice(price):
        Product.objects.filter(pk=product.pk).update(unit_price=price)

    for turn in range(ROUNDS):
        old, new = Decimal("10.00") + turn, Decimal("11.00") + turn
        reprice(old)
        carts = [make_cart({product: 3}, buyer) for _ in range(4)]
        calls = [lambda cart=cart: check_out(api(buyer), cart) for cart in carts]
        calls.insert(2, lambda new=new: reprice(new))
        answers = [answer.json() for answer in all_at_once(calls) if answer is not None]
        for answer in answers:
            price = Decimal(answer["items"][0]["unit_price"])
            assert price in {old, new}
            assert Decimal(answer["total"]) == price * 3
            order = Order.objects.get(pk=answer["id"])
            assert (order.total, order.items.get().unit_price) == (price * 3, price)
    assert Order.objects.count() == 4 * ROUNDS
    assert broken_promises() == []


@pytest.mark.fault("F38")
def test_f38_a_line_that_is_added_meanwhile_is_in_the_order_or_refused_and_never_lost():
    buyer = make_customer()
    first, second = make_product(stock=1_000), make_product(stock=1_000)
    outcomes = set()
    for _ in range(ROUNDS):
        cart = make_cart({first: 1}, buyer)
        placed, added = all_at_once(
            [
                lambda cart=cart: check_out(api(buyer), cart),
                lambda cart=cart: api(buyer).post(
                    f"/api/carts/{cart.pk}/items/", {"product_id": second.pk, "quantity": 2}, format="json"
                ),
            ]
        )
        assert placed.status_code == 201
        assert added.status_code in {201, 404}
        in_order = {item["product"]: item["quantity"] for item in placed.json()["items"]}
        expected = {first.pk: 1} | ({second.pk: 2} if added.status_code == 201 else {})
        assert in_order == expected
        outcomes.add(added.status_code)
        assert not CartItem.objects.filter(cart_id=cart.pk).exists()
    print(f"F38: adding was answered {sorted(outcomes)} in {ROUNDS} rounds on {connection.vendor}")
    assert broken_promises() == []


@pytest.mark.fault("F39")
def test_f39_a_product_that_is_deleted_meanwhile_is_sold_or_gone_and_never_a_crash():
    buyer = make_customer()
    for _ in range(ROUNDS):
        kept, goes = make_product(stock=10), make_product(stock=10)
        cart = make_cart({kept: 1, goes: 1}, buyer)

        def delete(product=goes):
            try:
                product.delete()
            except (ProtectedError, IntegrityError):  # It was sold a moment ago.
                return False
            return True

        answer, deleted = all_at_once([lambda cart=cart: check_out(api(buyer), cart), delete])
        assert answer.status_code in {201, 400, 409}, answer.content
        lines = OrderItem.objects.filter(product_id=goes.pk)
        assert not (deleted and lines.exists())
    assert broken_promises() == []


@pytest.mark.fault("F31", "F42")
def test_a_seeded_storm_of_double_clicks_makes_each_order_once():
    seed = random.randrange(10_000)
    chance = random.Random(seed)
    buyer = make_customer()
    carts = [make_cart({make_product(): 1}, buyer) for _ in range(6)]
    clicks = [(cart, f"key-{cart.pk}") for cart in carts for _ in range(chance.randint(2, 4))]
    chance.shuffle(clicks)
    answers = all_at_once([lambda cart=c, key=k: check_out(api(buyer), cart, key=key) for c, k in clicks])
    print(f"seed {seed}: {len(clicks)} clicks")
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert Order.objects.count() == len(carts)
