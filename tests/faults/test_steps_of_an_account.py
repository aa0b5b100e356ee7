"""Users' actions on their accounts, with the web process killed between every two steps."""

import httpx
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.tokens import default_token_generator
from django.utils.http import int_to_base36
from rest_framework_simplejwt.tokens import AccessToken

from celery_ledger.models import DurableTask
from core.examples import SHIPPING_ADDRESS
from email_app import addresses
from email_app.models import AddressClaim
from messaging.models import Message
from store.models import Order, ShippingAddress
from tests.processes import wait_until
from tests.shop import api, make_cart, make_customer, make_product

pytestmark = [pytest.mark.processes, pytest.mark.slow_fault, pytest.mark.timeout(300)]

PASSWORD = "correct horse battery"


@pytest.fixture
def ada():
    """A customer who has ordered, written a message, and not yet verified the new address."""
    customer = make_customer(username="ada", email="ada@shop.example", password=PASSWORD)
    cart = make_cart({make_product(): 1}, customer)
    order = {"cart_id": str(cart.pk), "shipping_address": SHIPPING_ADDRESS}
    assert api(customer).post("/api/orders/", order, format="json").status_code == 201
    Order.objects.update(status="shipped")
    Message.objects.create(sender=customer.user, receiver=make_customer().user, content="My secret")
    AddressClaim.objects.create(user=customer.user, email=customer.user.email)
    return customer.user


def killed_once(machine, step, ask):
    """Ask a web process that is killed at ``step``, and return what asks the next one."""
    web = machine.start_web(FAULT=step)
    with pytest.raises(httpx.TransportError):
        ask()
    wait_until("the fault landed", lambda: not web.is_alive)
    machine.start_web(machine.web_port)


def call(machine, user, method, path, body=None):
    headers = {"Authorization": f"Bearer {AccessToken.for_user(user)}"} if user else {}
    return httpx.request(method, f"{machine.web_url}{path}", json=body, headers=headers, timeout=30, trust_env=False)


def traces():
    """How many rows are left that say something of her."""
    return (
        Message.objects.count()
        + ShippingAddress.objects.count()
        + AddressClaim.objects.count()
        + get_user_model().objects.filter(username="ada", is_active=True).count()
    )


@pytest.mark.fault("F205")
@pytest.mark.parametrize("step", ["accounts.half_deleted", "accounts.before_deleted", "accounts.after_deleted"])
def test_f205_who_deletes_an_account_while_the_web_process_is_killed_is_forgotten_whole_or_not_at_all(
    machine, ada, step
):
    def ask():
        return call(machine, ada, "POST", "/api/customers/me/deletion/", {"password": PASSWORD})

    killed_once(machine, step, ask)
    is_done = ".after_" in step
    assert traces() == (0 if is_done else 4)
    assert ask().status_code == (401 if is_done else 204)
    assert traces() == 0
    order = Order.objects.select_related("customer__user").get()
    assert order.customer.user.username.startswith("deleted-")
    assert order.items.count() == 1


@pytest.mark.fault("F206")
def test_f206_an_export_that_is_killed_has_changed_nothing_and_the_next_is_whole(machine, ada):
    def ask():
        return call(machine, ada, "GET", "/api/customers/me/export/")

    killed_once(machine, "accounts.half_exported", ask)
    assert traces() == 4
    told = ask().json()
    assert [len(told[part]) for part in ("orders", "order_items", "shipping_addresses", "messages")] == [1, 1, 1, 1]


@pytest.mark.fault("F207")
@pytest.mark.parametrize("step", ["accounts.before_confirmed", "accounts.after_confirmed"])
def test_f207_a_link_that_was_followed_into_a_killed_web_process_has_verified_the_address_or_is_good_still(
    machine, ada, step
):
    token = addresses.link(AddressClaim.objects.get(), "new").partition("token=")[2]

    def ask():
        return call(machine, None, "POST", "/api/auth/email/verify/", {"token": token})

    killed_once(machine, step, ask)
    released = DurableTask.objects.filter(name="email_app.tasks.release_mails")
    assert (AddressClaim.objects.count(), released.count()) == ((0, 1) if ".after_" in step else (1, 0))
    assert ask().status_code == (400 if ".after_" in step else 200)
    assert (AddressClaim.objects.count(), released.count()) == (0, 1)


@pytest.mark.fault("F207")
@pytest.mark.parametrize("step", ["accounts.before_reset", "accounts.after_reset"])
def test_f207_a_password_that_is_reset_in_a_killed_web_process_is_set_and_told_of_or_the_link_is_good_still(
    machine, ada, step
):
    token = f"{int_to_base36(ada.pk)}.{default_token_generator.make_token(ada)}"

    def ask():
        wish = {"token": token, "new_password": "staple of a new horse"}
        return call(machine, None, "POST", "/api/auth/password/reset/confirm/", wish)

    killed_once(machine, step, ask)
    notices = DurableTask.objects.filter(name="email_app.tasks.send_password_notice")
    assert notices.count() == (".after_" in step)
    assert ask().status_code == (400 if ".after_" in step else 204)
    assert notices.count() == 1
    ada.refresh_from_db()
    assert ada.check_password("staple of a new horse")
