"""A user's sign-ins and personal data: listed, exported, ended and deleted."""

import json

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from accounts.models import SignIn, SpentToken
from audit_trail.models import AuditEntry
from email_app.models import EmailDelivery
from messaging.models import Message
from notifications.models import Notification, PushSubscription
from store.models import Cart, Customer
from tests.shop import api, check_out, make_cart, make_product, make_user, place_order

pytestmark = [pytest.mark.django_db, pytest.mark.once]

PASSWORD = "correct horse battery"
SIGN_INS = "/api/auth/sign-ins/"


@pytest.fixture
def ada():
    return make_user(username="ada", password=PASSWORD, email="ada@shop.example", first_name="Ada")


def browser(agent="Firefox", name="ada"):
    client = Client(HTTP_USER_AGENT=agent)
    wish = {"username": name, "password": PASSWORD}
    assert client.post("/api/session/", wish, content_type="application/json").status_code == 200
    return client


def tokens(name="ada"):
    answer = api().post("/api/token/", {"username": name, "password": PASSWORD}, HTTP_USER_AGENT="curl/8")
    assert answer.status_code == 200, answer.content
    return answer.json()


def bearer(pair):
    client = api()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {pair['access']}")
    return client


def listed(client):
    return client.get(SIGN_INS).json()["results"]


def post(client, address, body):
    return client.post(address, body, content_type="application/json")


def is_in(client):
    return client.get("/api/customers/me/").status_code == 200


class TestSignIns:
    def test_each_session_and_token_is_listed_and_which_of_them_asks(self, ada):
        first, second, pair = browser(), browser("Chrome\x07"), tokens()
        browser(name=make_user(username="eve", password=PASSWORD).username)
        rows = listed(second)
        assert [(row["kind"], row["agent"], row["current"]) for row in rows] == [
            ("tokens", "curl/8", False),
            ("session", "Chrome\N{REPLACEMENT CHARACTER}", True),
            ("session", "Firefox", False),
        ]
        assert rows[0].keys() == {
            "id",
            "kind",
            "agent",
            "client",
            "created_at",
            "last_used_at",
            "expires_at",
            "current",
        }
        assert [row["current"] for row in listed(bearer(pair))] == [True, False, False]
        assert len(listed(first)) == 3

    def test_what_is_ended_elsewhere_opens_nothing_from_then_on(self, ada):
        here, there, pair = browser(), browser(), tokens()
        later = api().post("/api/token/refresh/", {"refresh": pair["refresh"]}).json()
        token, other, own = listed(here)
        assert token["last_used_at"] is not None
        for row in (token, other):
            assert here.delete(f"{SIGN_INS}{row['id']}/").status_code == 204
        assert [is_in(client) for client in (here, there, bearer(later))] == [True, False, False]
        assert api().post("/api/token/refresh/", {"refresh": later["refresh"]}).status_code == 401
        assert [row["id"] for row in listed(here)] == [own["id"]]
        assert here.delete(f"{SIGN_INS}{other['id']}/").status_code == 404

    def test_who_signs_out_is_listed_no_more(self, ada):
        here, there, pair = browser(), browser(), tokens()
        there.delete("/api/session/")
        api().post("/api/auth/logout/", {"refresh": pair["refresh"]})
        assert len(listed(here)) == 1

    def test_nobody_ends_somebody_elses(self, ada):
        browser()
        eve = make_user(username="eve", password=PASSWORD)
        (row,) = SignIn.objects.filter(user=ada)
        assert api(eve).delete(f"{SIGN_INS}{row.pk}/").status_code == 404
        assert SignIn.objects.filter(pk=row.pk).exists()

    @pytest.mark.parametrize("by", ["session", "token"])
    def test_sign_out_everywhere_ends_all_but_the_one_that_asks_also_what_is_not_listed(self, ada, by):
        here, there, pair, mine = browser(), browser(), tokens(), tokens()
        SignIn.objects.all().delete()  # As of before there was a list.
        asks = here if by == "session" else bearer(mine)
        address = "/api/auth/sign-out-everywhere/"
        send = (lambda body: post(asks, address, body)) if by == "session" else (lambda body: asks.post(address, body))
        assert send({"password": "another"}).status_code == 400
        assert is_in(there)
        answer = send({"password": PASSWORD})
        assert answer.status_code == (204 if by == "session" else 200)
        assert is_in(here) is (by == "session")
        assert [is_in(there), is_in(bearer(pair)), is_in(bearer(mine))] == [False, False, False]
        assert api().post("/api/token/refresh/", {"refresh": pair["refresh"]}).status_code == 401
        current = here if by == "session" else bearer(answer.json())
        assert [row["current"] for row in listed(current)] == [True]
        assert browser().get("/api/session/").json()["user"]  # The password is the same.
        assert AuditEntry.objects.filter(after={"signed_out": "everywhere"}, who=ada).exists()

    def test_a_new_password_leaves_one_on_the_list(self, ada):
        here = browser()
        browser()
        tokens()
        wish = {"old_password": PASSWORD, "new_password": "staple of a new horse"}
        assert post(here, "/api/auth/password/change/", wish).status_code == 204
        assert [row["current"] for row in listed(here)] == [True]

    def test_rows_of_what_has_expired_are_dropped_as_others_are_written(self, ada):
        browser()
        SignIn.objects.update(expires_at=timezone.now())
        here = browser()
        assert len(listed(here)) == SignIn.objects.count() == 1


@pytest.fixture
def order(ada):
    order = place_order(ada.customer, {make_product(): 2})
    EmailDelivery.objects.create(kind="order_confirmation", order=order, recipient=ada.email)
    return order


def leave_traces(ada):
    Customer.objects.filter(user=ada).update(phone="+442079460958", birth_date="1990-12-10", country="Elbonia")
    friend = make_user()
    Message.objects.create(sender=ada, receiver=friend, content="My secret")
    Message.objects.create(sender=friend, receiver=ada, content="Dear Ada")
    Notification.objects.create(user=ada, kind="message", message="Written by Ada")
    PushSubscription.objects.create(user=ada, endpoint="https://push.example/ada", p256dh="k", auth="s")
    make_cart({make_product(): 1}, ada.customer)


TRACES = ("ada@shop.example", "My secret", "Dear Ada", "+442079460958", "1990-12-10", "Elbonia", "push.example/ada")


class TestData:
    def test_an_export_has_all_of_ones_own_and_nothing_of_others(self, ada, order):
        leave_traces(ada)
        other = make_user(username="bob", email="bob@shop.example")
        check_out(api(other), make_cart({make_product(): 1}, other.customer))
        client = browser()
        answer = client.get("/api/customers/me/export/")
        assert answer.status_code == 200
        assert answer["Content-Disposition"].startswith("attachment")
        text = answer.content.decode()
        assert all(trace in text for trace in TRACES)
        assert "bob" not in text
        assert get_user_model().objects.get(pk=ada.pk).password not in text
        assert client.session.session_key not in text
        told = json.loads(text)
        assert [row["id"] for row in told["orders"]] == [order.pk]
        assert [row["quantity"] for row in told["order_items"]] == [2]

    def test_who_has_ordered_is_made_nobody_and_the_orders_stay(self, ada, order):
        leave_traces(ada)
        here, there, pair = browser(), browser(), tokens()
        body = {"password": "another"}
        assert post(here, "/api/customers/me/deletion/", body).status_code == 400
        assert post(here, "/api/customers/me/deletion/", {"password": PASSWORD}).status_code == 204
        assert [is_in(here), is_in(there), is_in(bearer(pair))] == [False, False, False]
        assert api().post("/api/token/refresh/", {"refresh": pair["refresh"]}).status_code == 401
        order.refresh_from_db()
        user = get_user_model().objects.get(pk=ada.pk)
        assert order.customer.user == user
        assert not user.is_active
        assert not user.has_usable_password()
        assert user.email.endswith("@customers.invalid")
        assert EmailDelivery.objects.get(order=order, kind="order_confirmation").recipient == user.email
        assert not Cart.objects.filter(customer=order.customer).exists()
        assert make_user(username="ada", email="ada@shop.example", password=PASSWORD)  # Both are free again.

    def test_no_table_holds_a_trace_of_who_is_gone_and_the_trail_says_that_it_happened(self, ada, order):
        from django.apps import apps

        leave_traces(ada)
        here = browser()
        assert post(here, "/api/customers/me/deletion/", {"password": PASSWORD}).status_code == 204
        for model in apps.get_models():
            if model._meta.managed and not model._meta.proxy:
                text = " ".join(str(list(row.values())) for row in model._base_manager.values())
                assert not [trace for trace in TRACES if trace in text], model
        (entry,) = AuditEntry.objects.filter(model="core.user", object_id=str(ada.pk), what="deleted")
        assert (entry.before, entry.after, entry.who_id) == ({}, {}, ada.pk)

    def test_who_never_ordered_is_gone_altogether(self, ada):
        leave_traces(ada)
        assert bearer(pair := tokens()).post("/api/customers/me/deletion/", {"password": PASSWORD}).status_code == 204
        assert not get_user_model().objects.filter(pk=ada.pk).exists()
        assert not is_in(bearer(pair))
        assert AuditEntry.objects.filter(model="core.user", object_id=str(ada.pk), what="deleted", before={}).exists()
        assert SpentToken.objects.exists()

    def test_an_account_of_the_staff_is_not_ended_this_way(self):
        staff = make_user(username="ada", password=PASSWORD, is_staff=True)
        answer = post(browser(), "/api/customers/me/deletion/", {"password": PASSWORD})
        assert answer.status_code == 409
        assert answer.json()["type"].endswith("account-not-deletable")
        assert get_user_model().objects.get(pk=staff.pk).username == "ada"
