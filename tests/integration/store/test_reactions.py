"""The shop's reactions to events: over HTTP, in the admin, by a command."""

import gzip
from decimal import Decimal
from unittest import mock

import pytest
from django.core import mail as outbox
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from celery_ledger.models import DurableTask
from celery_ledger.signals import DurableSignal
from celery_ledger.testing import drain, enqueued, loud_receivers
from email_app.models import EmailDelivery
from notifications.models import Notification
from store.models import PriceChange, Product, Stock
from store.signals import product_price_changed, stock_low
from tests.shop import api, check_out, edit_in_admin, make_cart, make_customer, make_manager, make_product

pytestmark = pytest.mark.django_db(transaction=True)

#: What becomes of a receiver that fails, which `loud` turns into an error here.
AS_IN_PRODUCTION = DurableSignal.handle_failure


@pytest.fixture(autouse=True)
def loud():
    with loud_receivers():
        yield


def order(customer, lines):
    response = check_out(api(customer), make_cart(lines, customer))
    assert response.status_code == 201, response.content
    return response.json()


def told(user, kind=None):
    rows = Notification.objects.filter(user=user, **({"kind": kind} if kind else {})).order_by("id")
    return [row.message for row in rows]


# --- Orders -----------------------------------------------------------------------------


def test_a_customer_is_told_that_the_order_is_placed_and_that_it_is_cancelled():
    buyer = make_customer()
    placed = order(buyer, {make_product(price="2.50"): 2})
    drain()
    assert told(buyer.user) == [f"Your order {placed['id']} of £5.00 has been placed."]
    assert api(buyer).post(f"/api/orders/{placed['id']}/cancel/").status_code == 200
    drain()
    assert told(buyer.user)[1:] == [f"Your order {placed['id']} of £5.00 has been cancelled."]
    [first, second] = Notification.objects.order_by("id")
    assert (first.kind, first.data, first.read) == ("order_placed", {"order": placed["id"]}, False)
    assert second.kind == "order_cancelled"


def test_customers_of_a_burst_are_told_by_one_batch_with_as_many_queries():
    orders = [order(buyer, {make_product(): 1}) for buyer in (make_customer(), make_customer(), make_customer())]
    from notifications.tasks import announce_placed_order

    counts = []
    for batch in (orders[:1], orders):
        with CaptureQueriesContext(connection) as queries:
            announce_placed_order([placed["id"] for placed in batch])
        counts.append(len(queries))
    assert counts[0] == counts[1]
    announce_placed_order([placed["id"] for placed in orders])
    assert Notification.objects.count() == 3


def test_a_duplicate_order_is_flagged_and_every_manager_has_one_notification_and_one_mail():
    buyer, product = make_customer(), make_product()
    managers = [make_manager(first_name="Grace"), make_manager()]
    make_manager(is_active=False)
    order(buyer, {product: 2})
    drain()
    outbox.outbox.clear()
    duplicate = order(buyer, {product: 2})
    assert duplicate["duplicate"] is True
    drain()

    for manager in managers:
        assert told(manager) == [
            f"Order {duplicate['id']} has the same lines as another that the customer placed just before."
        ]
    alerts = [message for message in outbox.outbox if "duplicate" in message.subject]
    assert sorted(message.to for message in alerts) == sorted([manager.email] for manager in managers)
    assert EmailDelivery.objects.filter(kind="duplicate_order", order=duplicate["id"], status="sent").count() == 2
    assert "Hello Grace," in next(message.body for message in alerts if message.to == [managers[0].email])
    assert f"/admin/store/order/{duplicate['id']}/change/" in alerts[0].body
    names = set(DurableTask.objects.filter(subject=f"store.order:{duplicate['id']}").values_list("name", flat=True))
    assert {"notifications.tasks.alert_duplicate_order", "email_app.tasks.send_duplicate_alert"} <= names


def test_a_duplicate_alert_that_runs_twice_tells_nobody_twice():
    buyer, product, manager = make_customer(), make_product(), make_manager()
    order(buyer, {product: 2})
    duplicate = order(buyer, {product: 2})
    drain()
    from email_app.tasks import alert_managers_of_duplicate
    from notifications.tasks import alert_duplicate_order

    alert_managers_of_duplicate.delay(duplicate["id"])
    alert_duplicate_order.delay(duplicate["id"])
    drain()
    assert len(told(manager)) == 1
    assert len([message for message in outbox.outbox if "duplicate" in message.subject]) == 1


def test_an_order_that_is_no_duplicate_alerts_nobody():
    make_manager()
    order(make_customer(), {make_product(): 1})
    assert enqueued("notifications.tasks.alert_duplicate_order") == []
    assert enqueued("email_app.tasks.alert_managers_of_duplicate") == []


def test_an_order_that_is_loaded_from_a_fixture_alerts_nobody(tmp_path):
    buyer, product = make_customer(), make_product()
    order(buyer, {product: 1})
    order(buyer, {product: 1})
    path = tmp_path / "orders.json"
    call_command("dumpdata", "store.order", "store.product", "store.stock", output=str(path))
    DurableTask.objects.all().delete()
    call_command("loaddata", str(path), verbosity=0)
    assert not DurableTask.objects.exists()
    assert not PriceChange.objects.exists()


# --- Prices -----------------------------------------------------------------------------


@pytest.fixture
def heard():
    """What a listener hears of changing prices."""
    changes = []

    def hear(sender, product, old, new, **kwargs):
        changes.append((product.pk, old, new))

    product_price_changed.connect(hear, dispatch_uid="tests.hear")
    yield changes
    product_price_changed.disconnect(dispatch_uid="tests.hear")


def test_a_price_that_is_changed_in_the_admin_is_recorded_with_who_changed_it(heard, caplog):
    manager, product = make_manager(), make_product(price="10.00")
    with caplog.at_level("INFO", logger="store.receivers"):
        edit_in_admin(manager, product, unit_price="12.50")
    change = PriceChange.objects.get()
    assert (change.product, change.old, change.new, change.who) == (
        product,
        Decimal("10.00"),
        Decimal("12.50"),
        manager,
    )
    assert heard == [(product.pk, Decimal("10.00"), Decimal("12.50"))]
    assert f"The price of product {product.pk} changes: 10.00 -> 12.50 GBP." in caplog.messages


def test_an_edit_that_leaves_the_price_alone_is_no_price_change(heard):
    product = make_product(price="10.00")
    edit_in_admin(make_manager(), product, title="Other")
    product.title = "Another"
    product.save(update_fields=["title"])
    product.unit_price = "10.0"
    product.save()
    assert not PriceChange.objects.exists()
    assert heard == []


def test_a_new_product_has_no_price_change(heard):
    make_product()
    assert heard == []


def test_a_change_that_is_rolled_back_is_not_recorded():
    product = make_product(price="10.00")
    product.unit_price = Decimal("0")
    with pytest.raises(Exception, match="product_price_is_positive"):
        product.save()
    product.refresh_from_db()
    assert product.unit_price == Decimal("10.00")
    assert not PriceChange.objects.exists()


def test_a_receiver_that_fails_is_sent_the_same_prices_again(heard):
    failing = [True]

    def fails_once(sender, product, old, new, **kwargs):
        if failing:
            raise RuntimeError(failing.pop())
        heard.append(("again", old, new))

    product = make_product(price="10.00")
    product_price_changed.connect(fails_once, dispatch_uid="tests.fails_once")
    try:
        with mock.patch.object(DurableSignal, "handle_failure", AS_IN_PRODUCTION):
            product.unit_price = Decimal("11.00")
            product.save()
        drain()
    finally:
        product_price_changed.disconnect(dispatch_uid="tests.fails_once")
    assert ("again", Decimal("10.00"), Decimal("11.00")) in heard


def write_export(path, count, price):
    lines = ["InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"]
    lines += [
        f"{500000 + number // 500},{20000 + number},ITEM {number},1,2010-12-01 08:26:00,{price},17850,United Kingdom"
        for number in range(count)
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return str(path)


def import_counting(path):
    with CaptureQueriesContext(connection) as queries:
        call_command("import_retail", path, verbosity=0)
    return len(queries)


@pytest.mark.once
def test_ten_thousand_prices_that_an_import_changes_are_recorded_at_a_constant_cost_per_thousand(tmp_path, heard):
    def import_change(count):
        Product.objects.bulk_create(
            Product(sku=str(20000 + n), title=f"ITEM {n}", slug=f"item-{n}", unit_price=Decimal("1.00"))
            for n in range(count)
        )
        cost = import_counting(write_export(tmp_path / f"{count}.csv.gz", count, "2.00"))
        assert PriceChange.objects.filter(old=Decimal("1.00"), new=Decimal("2.00")).count() == count
        assert len(heard) == count
        heard.clear()
        for model in (PriceChange, Stock, Product):
            model.objects.all()._raw_delete("default")
        return cost

    one, ten = import_change(1_000), import_change(10_000)
    assert ten <= 10 * one
    assert one < 100


# --- Stock ------------------------------------------------------------------------------


@pytest.fixture
def low():
    """Which products a listener hears of."""
    products = []

    def hear(sender, product, **kwargs):
        products.append(product.pk)

    stock_low.connect(hear, dispatch_uid="tests.hear_low")
    yield products
    stock_low.disconnect(dispatch_uid="tests.hear_low")


def test_managers_are_told_when_stock_falls_below_the_threshold_and_once_for_each_crossing(low):
    manager, buyer = make_manager(), make_customer()
    product = make_product(stock=10, low_stock_threshold=5, sku="TEA", title="Tea")
    order(buyer, {product: 5})
    assert low == []
    crossing = order(buyer, {product: 1})
    order(buyer, {product: 2})
    assert low == [product.pk]
    drain()
    assert told(manager, "stock_low") == ["TEA Tea: 2 left, fewer than 5."]
    # Back above it, and below it again.
    api(buyer).post(f"/api/orders/{crossing['id']}/cancel/")
    Stock.objects.filter(product=product).update(on_hand=20)
    assert low == [product.pk]
    left = Stock.objects.get(product=product).available
    order(buyer, {product: left - 4})
    assert low == [product.pk] * 2


def test_a_threshold_of_zero_is_none(low):
    product = make_product(stock=1)
    order(make_customer(), {product: 1})
    assert low == []


def test_an_order_that_is_refused_alerts_nobody(low):
    plenty, little = make_product(stock=10, low_stock_threshold=9), make_product(stock=1)
    buyer = make_customer()
    assert check_out(api(buyer), make_cart({plenty: 5, little: 2}, buyer)).status_code == 409
    assert low == []
    assert enqueued("notifications.tasks.alert_low_stock") == []


def test_an_edit_of_the_stock_in_the_admin_that_crosses_the_threshold_is_announced(low):
    manager, product = make_manager(), make_product(stock=10, low_stock_threshold=5)
    edit_in_admin(manager, product, **{"stock-0-on_hand": "5"})
    assert low == []
    edit_in_admin(manager, product, **{"stock-0-on_hand": "4"})
    edit_in_admin(manager, product, **{"stock-0-on_hand": "3"})
    assert Stock.objects.get(product=product).on_hand == 3
    assert low == [product.pk]


def test_a_checkout_sends_as_many_queries_with_a_threshold_that_is_not_crossed():
    buyer = make_customer()
    without, within = make_product(), make_product(low_stock_threshold=5)
    counts = []
    for product in (without, within):
        cart = make_cart({product: 1}, buyer)
        with CaptureQueriesContext(connection) as queries:
            assert check_out(api(buyer), cart).status_code == 201
        counts.append(len(queries))
    assert counts[0] == counts[1]
