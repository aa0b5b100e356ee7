"""No customer can order more of a product within a day than the shop allows, however the orders are split."""

from datetime import timedelta

import pytest
from django.utils import timezone

from store.models import Order, Stock
from store.shipping import deliver_orders, ship_orders
from tests.shop import all_at_once, api, check_out, make_cart, make_customer, make_product

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def product(settings):
    settings.CUSTOMER_QUANTITY_LIMIT = 5
    return make_product(stock=100)


def order(customer, product, quantity):
    return check_out(api(customer), make_cart({product: quantity}, customer))


def test_orders_of_a_day_count_together_and_what_was_cancelled_or_is_older_does_not(product):
    customer = make_customer()
    first = order(customer, product, 4)
    refused = order(customer, product, 2)
    assert refused.status_code == 409
    assert refused.json()["type"].endswith("quantity-limited")
    assert refused.json()["errors"][0]["product"] == product.pk
    assert Stock.objects.get().reserved == 4
    assert order(make_customer(), product, 5).status_code == 201
    assert order(customer, product, 1).status_code == 201
    api(customer).post(f"/api/orders/{first.json()['id']}/cancel/")
    assert order(customer, product, 4).status_code == 201
    Order.objects.update(placed_at=timezone.now() - timedelta(hours=25))
    assert order(customer, product, 5).status_code == 201


def test_orders_at_the_same_moment_count_together(product):
    customer = make_customer()
    carts = [make_cart({product: 2}, customer) for _ in range(5)]
    answers = all_at_once([lambda cart=cart: check_out(api(customer), cart).status_code for cart in carts])
    assert sorted(answers) == [201, 201, 409, 409, 409]


def test_only_what_was_shipped_is_delivered(product):
    customer = make_customer()
    ids = [order(customer, product, 1).json()["id"] for _ in range(2)]
    assert [each.pk for each in ship_orders(ids[:1])] == ids[:1]
    assert [each.pk for each in deliver_orders(ids)] == ids[:1]
    assert ship_orders(ids[:1]) == []
    assert api(customer).post(f"/api/orders/{ids[0]}/cancel/").status_code == 409
    assert api(customer).get(f"/api/orders/{ids[0]}/").json()["status"] == "delivered"
