"""Shipping addresses, and the customer's mails when an order is shipped and delivered."""

import pytest
from django.core import mail

from audit_trail.models import AuditEntry
from celery_ledger.promises import promises
from celery_ledger.testing import drain
from core.examples import SHIPPING_ADDRESS
from email_app.models import EmailDelivery
from store.models import Order, ShippingAddress
from store.shipping import deliver_orders, ship_orders
from tests.shop import api, browser_of, check_out, edit_in_admin, make_cart, make_customer, make_manager, make_product

pytestmark = pytest.mark.django_db(transaction=True)


def order_to(customer, address=SHIPPING_ADDRESS, key=None):
    return check_out(api(customer), make_cart({make_product(): 1}, customer), key, address)


def test_an_address_is_optional_and_comes_back_with_the_order_wherever_it_is_shown():
    customer = make_customer()
    placed = order_to(customer, key="key").json()
    assert placed["shipping_address"] == SHIPPING_ADDRESS
    assert api(customer).get(f"/api/orders/{placed['id']}/").json() == placed
    assert api(customer).get("/api/orders/").json()["results"][0]["shipping_address"] == SHIPPING_ADDRESS

    short = {name: text for name, text in SHIPPING_ADDRESS.items() if text}
    assert order_to(customer, short).json()["shipping_address"] == SHIPPING_ADDRESS
    assert "shipping_address" not in order_to(customer, None).json()


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"city": " "}, "/shipping_address/city"),
        ({"name": "Ada\nBcc: all@shop.example"}, "/shipping_address/name"),
        ({"country": "England"}, "/shipping_address/country"),
        ({"line2": 2}, "/shipping_address/line2"),
        ({"planet": "Earth"}, "/shipping_address/planet"),
    ],
)
def test_what_is_no_address_is_refused_by_name_and_nothing_is_ordered(wrong, pointer):
    customer = make_customer()
    refused = order_to(customer, SHIPPING_ADDRESS | wrong)
    assert refused.status_code == 400
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert not Order.objects.exists()


def test_who_ordered_is_told_once_that_it_was_shipped_and_that_it_arrived(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    customer = make_customer()
    placed, other = (order_to(customer).json()["id"] for _ in range(2))
    drain()
    mail.outbox.clear()
    for _ in range(2):
        ship_orders([placed, other])
        deliver_orders([placed])
    drain()

    told = EmailDelivery.objects.filter(kind__in=["order_shipped", "order_delivered"], status="sent")
    assert sorted(told.values_list("order_id", "kind")) == sorted(
        [(placed, "order_shipped"), (placed, "order_delivered"), (other, "order_shipped")]
    )
    assert len(mail.outbox) == 3
    assert all("12 St James's Square\n    SW1Y 4JH London\n" in str(each.body) for each in mail.outbox)
    order = api(customer).get(f"/api/orders/{placed}/").json()
    assert order["placed_at"] < order["shipped_at"] < order["delivered_at"]
    assert broken() == []


def test_a_shipped_order_whose_customer_was_not_told_is_found():
    order = order_to(make_customer()).json()["id"]
    ship_orders([order])
    drain()
    EmailDelivery.objects.filter(kind="order_shipped").delete()
    assert broken() == [f"order {order} has no order_shipped mail marked as sent, and no task that will send one"]


def test_staff_put_an_address_right_until_the_goods_are_sent_and_the_trail_does_not_say_what_it_was(client):
    order = order_to(make_customer()).json()["id"]
    manager, address = make_manager(), ShippingAddress.objects.get()
    edit_in_admin(manager, address, line1="14 St James's Square")
    assert ShippingAddress.objects.get().line1 == "14 St James's Square"
    trail = AuditEntry.objects.get(model="store.shippingaddress")
    assert (trail.who_id, trail.after["fields"]) == (manager.pk, ["Line1"])
    assert "Square" not in str(AuditEntry.objects.values_list("before", "after"))

    ship_orders([order])
    client = browser_of(manager)
    assert client.post(f"/admin/store/shippingaddress/{order}/change/", {"line1": "x"}).status_code == 403


def test_an_address_is_exported_and_goes_with_its_person_but_not_before_the_goods():
    customer = make_customer(password="correct horse battery")
    order = order_to(customer).json()["id"]
    exported = api(customer).get("/api/customers/me/export/").json()
    assert exported["shipping_addresses"] == [{"order_id": order, **SHIPPING_ADDRESS}]

    leave = {"password": "correct horse battery"}
    assert api(customer).post("/api/customers/me/deletion/", leave, format="json").status_code == 409
    ship_orders([order])
    assert api(customer).post("/api/customers/me/deletion/", leave, format="json").status_code == 204
    assert Order.objects.get().status == "shipped"
    assert not ShippingAddress.objects.exists()


def broken():
    return [line for check in promises().values() for line in check() if " mail" in line]
