"""The shop's pages in the admin: they open, at a constant cost, and history is read-only."""

import html
import re

import pytest
from django.contrib import admin
from django.urls import reverse

from analytics_app.models import SaleRecord
from audit_trail.models import AuditEntry
from celery_ledger.models import DurableTask
from celery_ledger.testing import drain, enqueued
from core.examples import SHIPPING_ADDRESS
from email_app.models import EmailDelivery
from notifications.models import Notification, NotificationPreference
from phones.models import PhoneVerification
from store.models import Collection, Order, PriceChange, Product
from tests.shop import (
    api,
    browser_of,
    check_out,
    make_cart,
    make_customer,
    make_manager,
    make_product,
    make_staff,
    make_user,
    place_order,
)

pytestmark = pytest.mark.django_db(transaction=True)

#: Every model of ours, and what the packages that we show keep.
MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)
SHOP = [model for model in MODELS if model._meta.app_label in {"store", "core", "audit_trail"}]
HISTORY = {"order", "stockmovement", "idempotencykey", "cart", "pricechange", "auditentry", "shippingaddress"}


def named(model):
    return model._meta.label


@pytest.fixture
def browser():
    return browser_of(make_user(is_staff=True, is_superuser=True))


def fill_the_shop(orders):
    """Have a row or more of each model that people meet in the admin, all of them caused."""
    for number in range(orders):
        shelf = Collection.objects.create(title=f"Shelf {Collection.objects.count()}")
        buyer = make_customer(username=f"buyer{number}-{Order.objects.count()}")
        product = make_product(collection=shelf)
        check_out(api(buyer), make_cart({product: 1}, buyer), key="k", address=SHIPPING_ADDRESS)
        check_out(api(buyer), make_cart({product: 1}, buyer))  # A duplicate: the managers hear of it.
        api(buyer).post("/api/token/", {"username": f"nobody{number}", "password": "x"})
        make_cart({product: 1}, buyer)
        product.unit_price += 1
        product.save()
        NotificationPreference.objects.create(user=buyer.user, kind="order_placed", channel="email", enabled=False)
        PhoneVerification.objects.create(customer=buyer, phone="+44 20 7946 0000", nonce=f"n{number}")
    drain()


@pytest.mark.once
@pytest.mark.parametrize("model", MODELS, ids=named)
def test_a_list_costs_as_many_queries_for_many_rows_as_for_one(browser, model, django_assert_max_num_queries):
    make_manager()
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    fill_the_shop(1)
    few_rows = model._default_manager.count()
    with django_assert_max_num_queries(30) as few:
        assert browser.get(address).status_code == 200
    cost = len(few)
    fill_the_shop(3)
    if model in SHOP or model in {EmailDelivery, Notification, PhoneVerification, SaleRecord, DurableTask}:
        assert model._default_manager.count() > few_rows, "The test shows nothing: there are no more rows than before."
    with django_assert_max_num_queries(cost):
        assert browser.get(address).status_code == 200


@pytest.mark.parametrize("model", SHOP, ids=named)
def test_a_search_and_a_page_open(browser, model):
    fill_the_shop(1)
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"

    for words in ("1", "buyer0", "a b", "%00"):
        assert browser.get(reverse(f"{name}_changelist"), {"q": words}).status_code == 200
    assert browser.get(reverse(f"{name}_change", args=[model._default_manager.first().pk])).status_code == 200


@pytest.mark.parametrize("model", SHOP, ids=named)
def test_history_is_only_read(browser, model):
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    expected = 403 if model._meta.model_name in HISTORY else 200

    assert browser.get(reverse(f"{name}_add")).status_code == expected


def test_an_order_shows_its_lines_and_its_tasks(browser):
    buyer = make_customer()
    order = check_out(api(buyer), make_cart({make_product(title="A rare <b>mug</b>"): 1}, buyer)).json()

    page = browser.get(reverse("admin:store_order_change", args=[order["id"]])).content.decode()

    assert "A rare &lt;b&gt;mug&lt;/b&gt;" in page
    assert "store.tasks.update_inventory" in page
    assert enqueued("store.tasks.update_inventory")[0].status in page
    [ledger] = re.findall(r'href="([^"]*)">View in the ledger', page)
    rows = browser.get(html.unescape(ledger)).context["cl"].result_list
    assert {task.subject for task in rows} == {f"store.order:{order['id']}"}


def test_an_order_whose_tasks_were_pruned_says_so(browser):
    buyer = make_customer()
    order = check_out(api(buyer), make_cart({make_product(): 1}, buyer)).json()
    DurableTask.objects.all().delete()

    assert (
        "no longer in the ledger"
        in browser.get(reverse("admin:store_order_change", args=[order["id"]])).content.decode()
    )


def test_an_orders_page_costs_as_many_queries_for_many_lines_as_for_one(browser, django_assert_max_num_queries):
    buyer = make_customer()

    def page(lines):
        cart = make_cart({make_product(): 1 for _ in range(lines)}, buyer)
        return reverse("admin:store_order_change", args=[check_out(api(buyer), cart).json()["id"]])

    one, many = page(1), page(20)
    with django_assert_max_num_queries(12) as few:
        browser.get(one)
    cost = len(few)
    with django_assert_max_num_queries(cost):
        browser.get(many)


def test_an_order_shows_its_mails_with_a_link_to_each(browser):
    buyer = make_customer(email="reader@example.com")
    order = check_out(api(buyer), make_cart({make_product(): 1}, buyer)).json()
    api(buyer).post(f"/api/orders/{order['id']}/cancel/")
    drain()

    page = browser.get(reverse("admin:store_order_change", args=[order["id"]])).content.decode()

    mails = EmailDelivery.objects.filter(order=order["id"])
    assert {mail.kind for mail in mails} == {"order_confirmation", "order_cancellation"}
    for mail in mails:
        assert reverse("admin:email_app_emaildelivery_change", args=[mail.pk]) in page
        assert mail.get_kind_display() in page
    assert "reader@example.com" in page


def act(browser, model, action, things, **fields):
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    chosen = {"action": action, "_selected_action": [str(thing) for thing in things], **fields}
    return browser.post(address, chosen, follow=True)


def test_orders_are_cancelled_together_with_all_that_follows(browser):
    buyer, product = make_customer(), make_product(stock=10)
    orders = [place_order(buyer, {product: 2}).id for _ in range(3)]
    act(browser, Order, "ship", orders[:1])

    page = act(browser, Order, "cancel", orders).content.decode()
    assert "3 orders will be cancelled. This cannot be undone" in page
    assert Order.objects.filter(status="cancelled").count() == 0
    page = act(browser, Order, "cancel", orders, confirmed="yes").content.decode()

    assert "2 orders cancelled, 1 left unchanged." in page
    assert list(Order.objects.order_by("id").values_list("status", flat=True)) == ["shipped", "cancelled", "cancelled"]
    drain()
    product.stock.refresh_from_db()
    assert (product.stock.on_hand, product.stock.reserved) == (8, 0)
    assert AuditEntry.objects.filter(model="store.order", what="cancelled", who__is_staff=True).count() == 2
    assert api(buyer).post(f"/api/orders/{orders[0]}/cancel/").status_code == 409


def test_orders_are_shipped_in_portions(browser, monkeypatch):
    from store import admin

    monkeypatch.setattr(admin, "PORTION", 2)
    buyer, product = make_customer(), make_product(stock=10)
    orders = [place_order(buyer, {product: 1}).id for _ in range(3)]
    assert "3 orders marked as shipped" in act(browser, Order, "ship", orders).content.decode()


def test_that_an_order_may_be_a_double_is_said_in_words(browser):
    buyer, product = make_customer(), make_product(stock=10)
    for _ in range(2):
        check_out(api(buyer), make_cart({product: 1}, buyer))
    page = browser.get(reverse("admin:store_order_changelist")).content.decode()
    assert page.count("possible duplicate") == 1
    assert "icon-yes" not in page


def test_who_marks_an_order_as_shipped_is_on_record(browser):
    buyer = make_customer()
    order = place_order(buyer).id

    assert "1 orders marked as shipped" in act(browser, Order, "ship", [order]).content.decode()

    [entry] = AuditEntry.objects.filter(model="store.order", object_id=order, what="admin")
    assert (entry.who.is_staff, entry.after) == (True, {"action": "Change", "fields": ["Status"]})


def test_who_may_only_look_at_orders_has_no_actions_on_them():
    client = browser_of(make_staff("view_order"))
    order = place_order().id

    for action in ("ship", "cancel"):
        act(client, Order, action, [order])

    assert Order.objects.get().status == "placed"


def test_prices_are_moved_together_and_each_is_on_record(browser):
    products = [make_product(price=price) for price in ("10.00", "0.01", "3.33")]

    page = act(browser, Product, "change_prices", [p.pk for p in products], percent="10").content.decode()

    assert "2 prices changed." in page
    assert [str(p.unit_price) for p in Product.objects.order_by("id")] == ["11.00", "0.01", "3.66"]
    assert [(str(c.old), str(c.new), c.who.is_staff) for c in PriceChange.objects.order_by("id")] == [
        ("10.00", "11.00", True),
        ("3.33", "3.66", True),
    ]
    entries = AuditEntry.objects.filter(model="store.product", what="changed").order_by("id")
    assert [entry.after for entry in entries] == [{"unit_price": "11.00"}, {"unit_price": "3.66"}]


@pytest.mark.parametrize("percent", ["", "x", "-100", "NaN", "1e9"])
def test_prices_stay_where_nobody_says_by_how_much(browser, percent):
    product = make_product(price="10.00")

    assert act(browser, Product, "change_prices", [product.pk], percent=percent).status_code == 200

    assert not PriceChange.objects.exists()


def test_the_admin_is_for_staff():
    client = browser_of(make_user())

    assert client.get(reverse("admin:store_order_changelist")).status_code == 302
