"""The shop's promises under concurrent requests, on the database of this run."""

from collections import Counter

import pytest
from django.db import connection, transaction

from celery_ledger.models import DurableTask
from celery_ledger.promises import promises
from store.models import Order, Stock, StockMovement
from store.tasks import update_inventory
from tests.shop import all_at_once, api, check_out, make_cart, make_customer, make_product, place_order

pytestmark = pytest.mark.django_db(transaction=True)
#: A race that is lost now and then is not won by one run.
five_times = pytest.mark.parametrize("time", range(5))


def statuses(responses):
    return Counter(response.status_code for response in responses)


def stock_of(product):
    stock = Stock.objects.get(product=product)
    return stock.on_hand, stock.reserved


def settle(orders):
    with transaction.atomic():  # As the consumer runs it.
        update_inventory(orders)


def broken_promises():
    return [line for violations in promises().values() for line in violations() if "is unsettled" not in line]


@pytest.mark.fault("F35")
@five_times
def test_fifty_buyers_of_the_last_item_make_one_order(time):
    product = make_product(stock=1)
    buyers = [make_customer() for _ in range(50)]
    carts = [make_cart({product: 1}, buyer) for buyer in buyers]

    responses = all_at_once(
        [lambda buyer=buyer, cart=cart: check_out(api(buyer), cart) for buyer, cart in zip(buyers, carts, strict=True)]
    )

    assert statuses(responses) == {201: 1, 409: 49}
    assert Order.objects.count() == 1
    assert stock_of(product) == (1, 1)


@pytest.mark.fault("F36")
@five_times
def test_clients_who_buy_in_opposite_order_never_see_a_deadlock(time):
    products = [make_product(stock=1000) for _ in range(5)]
    calls = []
    for number in range(20):
        buyer = make_customer()
        cart = make_cart(dict.fromkeys(products if number % 2 else products[::-1], 1), buyer)
        calls.append(lambda buyer=buyer, cart=cart: check_out(api(buyer), cart))
    before = deadlocks()

    responses = all_at_once(calls)

    assert statuses(responses) == {201: 20}
    assert [stock_of(product) for product in products] == [(1000, 20)] * 5
    assert deadlocks() == before


@pytest.mark.fault("F31")
@five_times
def test_ten_checkouts_with_one_key_make_one_order(time):
    buyer = make_customer()
    cart = make_cart({make_product(): 2}, buyer)

    responses = all_at_once([lambda: check_out(api(buyer), cart, key="once")] * 10)

    assert set(statuses(responses)) <= {201, 409}
    assert Order.objects.count() == 1
    told = [response.json() for response in responses if response.status_code == 201]
    assert all(answer == told[0] for answer in told)
    assert check_out(api(buyer), cart, key="once").json() == told[0]
    if connection.vendor == "sqlite":
        assert len(told) == 10


@pytest.mark.fault("F32")
@five_times
def test_ten_checkouts_of_one_cart_make_one_order(time):
    buyer = make_customer()
    cart = make_cart({make_product(): 2}, buyer)

    responses = all_at_once([lambda: check_out(api(buyer), cart)] * 10)

    assert statuses(responses) == {201: 1, 200: 9}
    assert len({response.json()["id"] for response in responses}) == 1
    assert Order.objects.count() == 1
    assert DurableTask.objects.filter(name="store.tasks.update_inventory").count() == 1


def test_two_equal_orders_at_once_are_flagged_once():
    product, buyer = make_product(), make_customer()
    carts = [make_cart({product: 2}, buyer) for _ in range(2)]

    responses = all_at_once([lambda cart=cart: check_out(api(buyer), cart) for cart in carts])

    assert sorted(response.json()["duplicate"] for response in responses) == [False, True]


@pytest.mark.fault("F41")
def test_cancelling_while_the_stock_is_settled_gives_it_back_once():
    product, buyer = make_product(stock=100), make_customer()
    orders = [place_order(buyer, {product: 3}).id for _ in range(10)]

    calls = [lambda: settle(orders)]
    calls += [lambda order=order: api(buyer).post(f"/api/orders/{order}/cancel/") for order in orders]
    calls += [lambda: settle(orders[::-1])]
    responses = all_at_once(calls)

    assert {response.status_code for response in responses if response is not None} == {200}
    settle(orders)
    assert stock_of(product) == (100, 0)
    assert sum(StockMovement.objects.values_list("quantity", flat=True)) == 0
    assert broken_promises() == []


@pytest.mark.fault("F41")
def test_cancelling_ten_times_at_once_gives_the_stock_back_once():
    product, buyer = make_product(stock=100), make_customer()
    order = place_order(buyer, {product: 3}).id
    settle([order])

    responses = all_at_once([lambda: api(buyer).post(f"/api/orders/{order}/cancel/")] * 10)

    assert statuses(responses) == {200: 1, 409: 9}
    assert stock_of(product) == (100, 0)


def deadlocks():
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return cursor.fetchone()[0]
