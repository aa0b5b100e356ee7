"""``POST /api/orders/``: one transaction with everything that must follow from it."""

import uuid
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from celery_ledger.models import DurableTask
from celery_ledger.testing import enqueued
from store import checkout
from store.models import Cart, CartItem, Order, OrderItem, Product, Stock
from store.signals import order_created
from store.tasks import update_inventory
from tests.shop import api, check_out, make_cart, make_customer, make_product, place_order

pytestmark = pytest.mark.django_db(transaction=True)


def stock_of(product):
    stock = Stock.objects.get(product=product)
    return stock.on_hand, stock.reserved


def test_an_order_is_what_the_contract_says():
    buyer = make_customer()
    tea, mug = make_product(price="2.50", sku="TEA", title="Tea"), make_product(price="7.05", sku="MUG", title="Mug")
    cart = make_cart({tea: 3, mug: 2}, buyer)

    response = check_out(api(buyer), cart)

    assert response.status_code == 201
    assert "Idempotent-Replayed" not in response.headers
    order = response.json()
    placed_at = order.pop("placed_at")
    assert placed_at.endswith("Z")
    assert order == {
        "id": Order.objects.get().id,
        "status": "placed",
        "customer": buyer.id,
        "items": [
            {"product": tea.id, "sku": "TEA", "title": "Tea", "quantity": 3, "unit_price": "2.50"},
            {"product": mug.id, "sku": "MUG", "title": "Mug", "quantity": 2, "unit_price": "7.05"},
        ],
        "total": "21.60",
        "currency": "GBP",
        "duplicate": False,
    }
    assert api(buyer).get(f"/api/orders/{order['id']}/").json() == {**order, "placed_at": placed_at}


def test_an_order_reserves_its_stock_and_takes_the_cart_away():
    buyer, product = make_customer(), make_product(stock=10)
    cart = make_cart({product: 4}, buyer)

    check_out(api(buyer), cart)

    assert stock_of(product) == (10, 4)
    assert not Cart.objects.exists()
    assert not CartItem.objects.exists()


def test_an_order_has_its_stock_settled_by_a_durable_task_that_is_about_it():
    buyer = make_customer()

    order_id = place_order(buyer).id

    [task] = enqueued("store.tasks.update_inventory")
    assert (task.args, task.queue, task.subject) == ([order_id], "inventory", f"store.order:{order_id}")


def test_the_price_is_the_catalogues_and_never_the_clients():
    buyer, product = make_customer(), make_product(price="10.00")
    cart = make_cart({product: 1}, buyer)
    Product.objects.update(unit_price=Decimal("12.00"))

    assert check_out(api(buyer), cart).json()["total"] == "12.00"


@pytest.mark.parametrize("field", ["price", "total", "status", "customer", "items", "duplicate"])
def test_a_checkout_takes_nothing_but_the_cart(field):
    buyer = make_customer()
    cart = make_cart({make_product(): 1}, buyer)

    response = api(buyer).post("/api/orders/", {"cart_id": str(cart.id), field: 1}, format="json")

    assert response.status_code == 400
    assert [error["pointer"] for error in response.json()["errors"]] == [f"/{field}"]
    assert Cart.objects.count() == 1


def test_too_little_stock_names_each_product_and_changes_nothing():
    buyer = make_customer()
    plenty, short, none = make_product(stock=10), make_product(stock=2), make_product(stock=None)
    cart = make_cart({plenty: 1, short: 3, none: 1}, buyer)

    response = check_out(api(buyer), cart)

    assert response.status_code == 409
    problem = response.json()
    assert problem["type"] == "urn:shopwire:problem:out-of-stock"
    assert [(e["product"], e["requested"], e["available"]) for e in problem["errors"]] == [
        (short.id, 3, 2),
        (none.id, 1, 0),
    ]
    assert all(error["pointer"] == "/cart_id" and error["detail"] for error in problem["errors"])
    assert (stock_of(plenty), stock_of(short)) == ((10, 0), (2, 0))
    assert not Order.objects.exists()
    assert not DurableTask.objects.filter(name="store.tasks.update_inventory").exists()
    assert CartItem.objects.filter(cart=cart).count() == 3


def test_what_is_reserved_for_another_order_is_not_available():
    product = make_product(stock=5)
    first, second = make_customer(), make_customer()
    check_out(api(first), make_cart({product: 4}, first))

    response = check_out(api(second), make_cart({product: 2}, second))

    assert response.json()["errors"][0]["available"] == 1


def test_an_empty_cart_is_a_400_and_stays():
    buyer = make_customer()
    cart = make_cart({}, buyer)

    response = check_out(api(buyer), cart)

    assert response.status_code == 400
    assert response.json()["errors"] == [{"pointer": "/cart_id", "detail": "The cart is empty."}]
    assert Cart.objects.filter(pk=cart.pk).exists()


@pytest.mark.parametrize("cart_id", ["x", "", 5, 1.5, True, None, [], {}, "'; DROP TABLE store_order; --"])
def test_a_malformed_cart_id_is_a_400(cart_id):
    response = api(make_customer()).post("/api/orders/", {"cart_id": cart_id}, format="json")

    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == "/cart_id"


def test_an_unknown_cart_is_a_404():
    assert check_out(api(make_customer()), uuid.uuid4()).status_code == 404


def test_somebody_elses_cart_is_a_404_like_an_unknown_one():
    owner, thief = make_customer(), make_customer()
    cart = make_cart({make_product(): 1}, owner)

    stolen, unknown = check_out(api(thief), cart), check_out(api(thief), uuid.uuid4())

    assert (stolen.status_code, stolen.json()) == (unknown.status_code, unknown.json()) == (404, unknown.json())
    assert Cart.objects.filter(pk=cart.pk).exists()


def test_nobodys_cart_becomes_the_order_of_whoever_checks_it_out_and_of_nobody_else():
    first, second = make_customer(), make_customer()
    cart = make_cart({make_product(): 1})

    assert check_out(api(first), cart).json()["customer"] == first.id
    assert check_out(api(second), cart).status_code == 404


def test_a_checkout_needs_somebody_who_is_signed_in():
    response = check_out(api(), make_cart({make_product(): 1}))

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_products_in_two_currencies_are_two_orders():
    buyer = make_customer()
    cart = make_cart({make_product(): 1, make_product(currency="EUR"): 1}, buyer)

    assert check_out(api(buyer), cart).status_code == 400


def test_a_total_that_no_order_can_hold_is_a_400():
    buyer = make_customer()
    dear = [make_product(price="9999999999.99", stock=10_000) for _ in range(101)]
    cart = make_cart(dict.fromkeys(dear, 10_000), buyer)

    assert check_out(api(buyer), cart).status_code == 400


def test_the_same_lines_again_within_the_window_are_flagged(settings):
    buyer, other = make_customer(), make_customer()
    tea, mug = make_product(), make_product()

    def order(lines, customer=buyer):
        return check_out(api(customer), make_cart(lines, customer)).json()["duplicate"]

    assert order({tea: 1, mug: 2}) is False
    assert order({mug: 2, tea: 1}) is True
    assert order({tea: 2, mug: 1}) is False
    assert order({tea: 1}) is False
    assert order({tea: 1, mug: 2}, other) is False


def test_an_order_that_is_saved_elsewhere_is_flagged_too():
    buyer = make_customer()

    def save():
        return Order.objects.create(customer=buyer, cart_id=uuid.uuid4(), fingerprint="f" * 64, total=1)

    assert [save().duplicate, save().duplicate] == [False, True]


def test_the_checkout_looks_for_a_duplicate_once():
    buyer = make_customer()
    cart = make_cart({make_product(): 1}, buyer)
    with CaptureQueriesContext(connection) as queries:
        check_out(api(buyer), cart)
    assert sum("fingerprint = " in query["sql"] for query in queries) == 1


def test_the_same_lines_after_the_window_are_not_flagged(settings):
    buyer, product = make_customer(), make_product()
    check_out(api(buyer), make_cart({product: 1}, buyer))
    Order.objects.update(placed_at="2020-01-01T00:00:00Z")

    assert check_out(api(buyer), make_cart({product: 1}, buyer)).json()["duplicate"] is False


def test_lines_of_a_cart_that_is_not_taken_stay():
    cart = make_cart({make_product(): 1}, make_customer())
    with transaction.atomic():
        with pytest.raises(checkout.CartNotFound):
            checkout.take_cart(cart.id, make_customer())
        assert CartItem.objects.filter(cart=cart.id).count() == 1


def test_a_checkout_sends_as_many_queries_for_many_lines_as_for_one():
    buyer = make_customer()
    few = make_cart({make_product(): 1}, buyer)
    many = make_cart({make_product(): 1 for _ in range(400)}, buyer)

    with CaptureQueriesContext(
        connection,
    ) as for_few:
        assert check_out(api(buyer), few, key="few").status_code == 201
    with CaptureQueriesContext(connection) as for_many:
        assert check_out(api(buyer), many, key="many").status_code == 201

    statements = [query["sql"].split(None, 1)[0] for query in for_few]
    assert len(for_many) == len(for_few), "\n".join(query["sql"][:200] for query in for_many)
    assert len(statements) == (12 if connection.vendor == "postgresql" else 13), statements


class ReceiverError(Exception):
    pass


def raw_sql_error(sender, order, **kwargs):
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM there_is_no_such_table")


def integrity_error(sender, order, **kwargs):
    line = order.items.first()
    OrderItem.objects.create(order=order, product=line.product, quantity=1, unit_price=1)


def python_error(sender, order, **kwargs):
    raise ReceiverError


@pytest.mark.fault("F03", "F04", "F05")
@pytest.mark.parametrize("receiver", [raw_sql_error, integrity_error, python_error])
def test_a_failing_receiver_loses_neither_the_order_nor_its_own_reaction(receiver):
    buyer, product = make_customer(), make_product(stock=5)
    cart = make_cart({product: 2}, buyer)
    order_created.connect(receiver, dispatch_uid="tests.failing")
    try:
        response = check_out(api(buyer), cart)
    finally:
        order_created.disconnect(dispatch_uid="tests.failing")

    assert response.status_code == 201
    order = Order.objects.get(pk=response.json()["id"])
    assert order.items.count() == 1
    assert stock_of(product) == (5, 2)
    [redelivery] = enqueued("celery_ledger.tasks.redeliver")
    assert redelivery.kwargs["dispatch_uid"] == "tests.failing"
    assert len(enqueued("store.tasks.update_inventory")) == 1


def spoil(sender, order, **kwargs):
    transaction.set_rollback(True)


@pytest.mark.fault("F69")
@pytest.mark.parametrize(
    "receiver",
    [
        spoil,
        lambda order, **kwargs: Product(unit_price="bad").save(),
        lambda order, **kwargs: update_inventory.delay(object()),
        lambda order, **kwargs: update_inventory.delay("\0"),
        lambda order, **kwargs: update_inventory.apply_async((order.pk,), unique_key="k" * 256),
        lambda order, **kwargs: update_inventory.apply_async((order.pk,), countdown=1e12),
    ],
)
def test_f69_an_order_is_placed_whatever_a_receiver_does_before_its_first_query_or_in_its_calls(receiver):
    buyer = make_customer()
    cart = make_cart({make_product(): 1}, buyer)
    order_created.connect(receiver, dispatch_uid="tests.spoil")
    try:
        assert check_out(api(buyer), cart).status_code == 201
    finally:
        order_created.disconnect(dispatch_uid="tests.spoil")
    assert Order.objects.count() == 1
    assert [task.kwargs["dispatch_uid"] for task in enqueued("celery_ledger.tasks.redeliver")] == ["tests.spoil"]
    assert len(enqueued("store.tasks.update_inventory")) == 1


def test_an_order_that_sets_nothing_in_motion_is_not_said_to_be_placed_either_if_it_is_spoiled(monkeypatch, caplog):
    buyer = make_customer()
    cart = make_cart({make_product(): 1}, buyer)
    monkeypatch.setattr(order_created, "send_robust", spoil)
    assert check_out(api(buyer), cart).status_code == 500
    assert "A receiver of the order's signal broke the transaction." in caplog.text
    assert not Order.objects.exists()


def test_an_order_of_a_thousand_lines_of_ten_thousand_is_placed():
    buyer = make_customer()
    Product.objects.bulk_create(
        Product(sku=f"BULK{n}", title="Bulk", slug="bulk", unit_price=Decimal("1.00")) for n in range(1000)
    )
    products = list(Product.objects.filter(sku__startswith="BULK"))
    Stock.objects.bulk_create(Stock(product=product, on_hand=10_000) for product in products)

    response = check_out(api(buyer), make_cart(dict.fromkeys(products, 10_000), buyer))

    assert response.status_code == 201
    assert response.json()["total"] == "10000000.00"
    assert len(response.json()["items"]) == 1000
