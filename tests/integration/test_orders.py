"""Orders after the checkout: seen by their customer and by staff, cancelled once, followed by their tasks."""

import pytest
from django.db import transaction

from store.models import Order, Stock, StockMovement
from store.signals import order_cancelled
from store.tasks import update_inventory
from tests.shop import api, check_out, make_cart, make_customer, make_product, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def buyer():
    return make_customer()


@pytest.fixture
def product():
    return make_product(stock=10)


@pytest.fixture
def order(buyer, product):
    answer = check_out(api(buyer), make_cart({product: 3}, buyer))
    return Order.objects.get(pk=answer.json()["id"])


def settle(*orders):
    with transaction.atomic():
        update_inventory([order.id for order in orders])


def cancel(client, order):
    return client.post(f"/api/orders/{order.id}/cancel/")


def stock_of(product):
    stock = Stock.objects.get(product=product)
    return stock.on_hand, stock.reserved


def test_a_customer_sees_their_own_orders_newest_first(buyer, product):
    mine = [check_out(api(buyer), make_cart({product: 1}, buyer)).json()["id"] for _ in range(3)]
    other = make_customer()
    check_out(api(other), make_cart({product: 1}, other))

    page = api(buyer).get("/api/orders/").json()

    assert (page["count"], page["next"], page["previous"]) == (3, None, None)
    assert [order["id"] for order in page["results"]] == mine[::-1]


def test_staff_see_all_orders(order):
    staff = api(make_user(is_staff=True))

    assert staff.get("/api/orders/").json()["count"] == 1
    assert staff.get(f"/api/orders/{order.id}/").status_code == 200
    assert staff.get(f"/api/orders/{order.id}/tasks/").status_code == 200


@pytest.mark.parametrize(("method", "suffix"), [("get", ""), ("post", "cancel/"), ("get", "tasks/")])
def test_somebody_elses_order_is_a_404_like_an_unknown_one(order, method, suffix):
    stranger = api(make_customer())

    others = getattr(stranger, method)(f"/api/orders/{order.id}/{suffix}")
    unknown = getattr(stranger, method)(f"/api/orders/999999/{suffix}")
    absurd = getattr(stranger, method)(f"/api/orders/{10**17}/{suffix}")

    assert others.status_code == unknown.status_code == absurd.status_code == 404
    assert others.json() == unknown.json()
    assert Order.objects.get().status == "placed"


@pytest.mark.parametrize(
    ("method", "address"),
    [("get", ""), ("post", ""), ("get", "1/"), ("post", "1/cancel/"), ("get", "1/tasks/")],
)
def test_orders_are_for_people_who_are_signed_in(method, address):
    response = getattr(api(), method)(f"/api/orders/{address}")

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_page_of_orders_costs_as_many_queries_as_one_order(buyer, product, django_assert_num_queries):
    def place():
        check_out(api(buyer), make_cart({product: 1, make_product(): 1}, buyer))

    place()
    client = api(buyer)
    with django_assert_num_queries(3):
        client.get("/api/orders/")
    for _ in range(4):
        place()
    with django_assert_num_queries(3):
        assert len(client.get("/api/orders/").json()["results"]) == 5


def test_settling_takes_the_goods_out_and_says_so_once_a_line(order, product):
    settle(order)
    settle(order)

    assert stock_of(product) == (7, 0)
    assert [(m.reason, m.quantity) for m in StockMovement.objects.filter(order=order)] == [("sale", -3)]


def test_settling_many_orders_costs_as_many_queries_as_one(buyer, order, django_assert_num_queries):
    products = [make_product() for _ in range(5)]
    orders = [
        Order.objects.get(pk=check_out(api(buyer), make_cart(dict.fromkeys(products, n), buyer)).json()["id"])
        for n in range(1, 7)
    ]

    with transaction.atomic(), django_assert_num_queries(3):
        update_inventory([order.id])
    with transaction.atomic(), django_assert_num_queries(3):
        update_inventory([order.id for order in orders])

    assert {stock_of(product) for product in products} == {(100 - 21, 0)}
    assert StockMovement.objects.count() == 31


def test_settling_passes_over_orders_that_are_gone(order, product):
    with transaction.atomic():
        update_inventory([order.id, 999_999])
    with transaction.atomic():
        update_inventory([999_999])

    assert stock_of(product) == (7, 0)


def test_cancelling_before_the_stock_is_settled_lets_the_reservation_go(buyer, order, product):
    response = cancel(api(buyer), order)

    assert response.status_code == 200
    assert (response.json()["id"], response.json()["status"]) == (order.id, "cancelled")
    assert response.json()["items"][0]["quantity"] == 3
    assert stock_of(product) == (10, 0)
    settle(order)
    assert stock_of(product) == (10, 0)
    assert not StockMovement.objects.exists()


def test_cancelling_after_the_stock_is_settled_brings_the_goods_back(buyer, order, product):
    settle(order)

    assert cancel(api(buyer), order).status_code == 200

    assert stock_of(product) == (10, 0)
    movements = StockMovement.objects.filter(order=order).order_by("id")
    assert [(m.reason, m.quantity) for m in movements] == [("sale", -3), ("cancel", 3)]


def test_a_second_cancellation_is_a_409_and_changes_nothing(buyer, order, product):
    cancel(api(buyer), order)

    response = cancel(api(buyer), order)

    assert response.status_code == 409
    assert response.json()["type"] == "urn:shopwire:problem:not-cancellable"
    assert "cancelled" in response.json()["detail"]
    assert stock_of(product) == (10, 0)


def test_a_shipped_order_cannot_be_cancelled(buyer, order, product):
    Order.objects.update(status="shipped")

    assert cancel(api(buyer), order).status_code == 409
    assert stock_of(product) == (10, 3)


def test_a_cancellation_is_announced_once(buyer, order):
    heard = []

    def listen(sender, order, **kwargs):
        heard.append((order.id, order.status))

    order_cancelled.connect(listen, dispatch_uid="tests.listen")
    try:
        cancel(api(buyer), order)
        cancel(api(buyer), order)
    finally:
        order_cancelled.disconnect(dispatch_uid="tests.listen")

    assert heard == [(order.id, "cancelled")]


def test_a_cancellation_takes_no_fields(buyer, order):
    response = api(buyer).post(f"/api/orders/{order.id}/cancel/", {"status": "placed"}, format="json")

    assert response.status_code == 400
    assert Order.objects.get().status == "placed"


def test_an_order_tells_what_became_of_it(buyer, order):
    answer = api(buyer).get(f"/api/orders/{order.id}/tasks/").json()

    assert list(answer) == ["results"]
    [row] = [row for row in answer["results"] if row["task"] == "store.tasks.update_inventory"]
    assert row.pop("id")
    assert row.pop("enqueued_at").endswith("Z")
    assert row == {
        "task": "store.tasks.update_inventory",
        "queue": "inventory",
        "status": "pending",
        "attempts": 0,
        "published_at": None,
        "completed_at": None,
        "last_error": "",
    }


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_an_order_cannot_be_edited(buyer, order, method):
    assert getattr(api(buyer), method)(f"/api/orders/{order.id}/", {}, format="json").status_code == 405
