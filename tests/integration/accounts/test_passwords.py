"""A new password ends sessions and tokens; refresh tokens work once; a forgotten password is reset by a mailed link."""

import re
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.core import mail as outbox
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from accounts import tokens
from accounts.models import SpentToken
from celery_ledger.models import DurableTask
from celery_ledger.testing import drain
from email_app.models import AddressClaim, EmailDelivery
from tests.integration.accounts.test_enumeration import how_far_apart
from tests.shop import all_at_once, api, make_user

pytestmark = pytest.mark.django_db(transaction=True)

OLD, NEW = "correct horse battery", "staple of a new horse"


@pytest.fixture(autouse=True)
def no_throttle(settings):
    settings.THROTTLE_RATES = settings.THROTTLE_RATES | {"passwords": None}
    cache.clear()


@pytest.fixture
def ada():
    return make_user(username="ada", email="ada@example.com", password=OLD)


def sign_in(password=OLD):
    answer = api().post("/api/token/", {"username": "ada", "password": password}, format="json")
    return answer.json() if answer.status_code == 200 else None


def open_session(password=OLD):
    browser = Client()
    login = {"username": "ada", "password": password}
    assert browser.post("/api/session/", login, content_type="application/json").status_code == 200
    return browser


def post(path, **body):
    return api().post(f"/api/{path}/", body, format="json")


def refresh(pair):
    return post("token/refresh", refresh=pair["refresh"])


def opens(pair):
    headers = {"Authorization": f"Bearer {pair['access']}"}
    return api().get("/api/customers/me/", headers=headers).status_code == 200


def change(pair, old=OLD, new=NEW):
    wish, headers = {"old_password": old, "new_password": new}, {"Authorization": f"Bearer {pair['access']}"}
    return api().post("/api/auth/password/change/", wish, format="json", headers=headers)


def mails(subject):
    drain()
    return [message for message in outbox.outbox if message.subject == subject]


def link(message):
    return re.search(r"/reset-password\?token=(\S+)", message.body)[1]


# --- Changing ---------------------------------------------------------------------------


@pytest.mark.fault("F102")
def test_a_new_password_ends_every_token_and_session_but_the_one_that_set_it(ada):
    elsewhere, here, browser = sign_in(), sign_in(), open_session()
    answer = change(here)
    assert answer.status_code == 200
    for pair in (elsewhere, here):
        assert not opens(pair)
        assert refresh(pair).status_code == 401
    assert browser.get("/api/session/").json()["user"] is None
    assert opens(answer.json())
    assert refresh(answer.json()).status_code == 200
    assert sign_in() is None
    assert sign_in(NEW)
    assert mails("Your password was changed")[0].to == ["ada@example.com"]


def test_the_session_that_sets_a_password_goes_on(ada):
    browser, other, pair = open_session(), open_session(), sign_in()
    wish = {"old_password": OLD, "new_password": NEW}
    answer = browser.post("/api/auth/password/change/", wish, content_type="application/json")
    assert (answer.status_code, answer.content) == (204, b"")
    assert browser.get("/api/session/").json()["user"]["username"] == "ada"
    assert other.get("/api/session/").json()["user"] is None
    assert refresh(pair).status_code == 401


def test_a_password_that_staff_set_ends_tokens_too(ada):
    pair = sign_in()
    ada.set_password(NEW)
    ada.save()
    assert not opens(pair)
    assert refresh(pair).status_code == 401


def test_the_old_password_is_asked_for_and_cannot_be_tried_out(ada, settings):
    settings.AXES_FAILURE_LIMIT = 3
    pair = sign_in()
    answers = [change(pair, old="wrong") for _ in range(4)]
    assert answers[0].json()["errors"] == [{"pointer": "/old_password", "detail": "Wrong password."}]
    assert answers[-1].status_code == 429
    assert opens(pair)


@pytest.mark.parametrize("new", ["", "short1!", "12345678901", "ada@example.com", None, 5])
def test_a_weak_new_password_is_a_400_and_changes_nothing(ada, new):
    pair = sign_in()
    answer = change(pair, new=new)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/new_password")
    assert opens(pair)


# --- Tokens -----------------------------------------------------------------------------


@pytest.mark.fault("F102")
def test_a_refresh_token_is_good_once(ada):
    first = sign_in()
    second = refresh(first).json()
    assert second["refresh"] != first["refresh"]
    assert opens(second)
    assert refresh(first).status_code == 401
    assert refresh(second).status_code == 200  # The answer was lost, perhaps: so soon it ends nothing.


def test_of_eight_who_send_one_token_at_once_one_is_given_the_next(ada):
    pair = sign_in()
    answers = all_at_once([lambda: refresh(pair)] * 8)
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7


def test_a_token_that_is_sent_again_later_was_stolen_and_ends_all_that_followed(ada):
    first, other = sign_in(), sign_in()
    second = refresh(first).json()
    with time_machine.travel(timezone.now() + timedelta(minutes=2)):
        assert opens(second)
        assert refresh(first).status_code == 401
        assert not opens(second)
        assert refresh(second).status_code == 401
        assert opens(other)


@pytest.mark.fault("F102")
def test_signing_out_ends_a_token_with_all_that_it_gave_and_no_other(ada):
    first, other = sign_in(), sign_in()
    second = refresh(first).json()
    for _ in range(2):
        assert post("auth/logout", refresh=first["refresh"]).status_code == 204
    for pair in (first, second):
        assert not opens(pair)
        assert refresh(pair).status_code == 401
    assert opens(other)
    assert refresh(other).status_code == 200


@pytest.mark.parametrize(("token", "status"), [("x", 401), ("", 400), (None, 400), (5, 400)])
def test_what_is_no_token_signs_nobody_out(token, status):
    assert post("auth/logout", refresh=token).status_code == status


def test_an_access_token_signs_nobody_out(ada):
    pair = sign_in()
    assert post("auth/logout", refresh=pair["access"]).status_code == 401
    assert opens(pair)


def test_what_was_spent_is_forgotten_when_it_would_have_expired(ada):
    refresh(sign_in())
    assert SpentToken.objects.count() == 1
    with time_machine.travel(timezone.now() + timedelta(days=8)):
        token = tokens.RefreshToken.for_user(ada)
        tokens.spend(token)
        assert [row.name for row in SpentToken.objects.all()] == [f"token {token['jti']}"]


# --- Forgotten --------------------------------------------------------------------------


@pytest.mark.fault("F102")
def test_who_forgot_a_password_sets_one_by_the_link_of_a_mail_once(ada):
    pair, browser = sign_in(), open_session()
    assert post("auth/password/reset", email="ADA@example.com").status_code == 202
    [message] = mails("Reset your Shopwire password")
    assert message.to == ["ada@example.com"]
    assert "ada" not in message.body.replace("ada@example.com", "")
    token = link(message)
    assert post("auth/password/reset/confirm", token=token, new_password="12345678").status_code == 400
    answers = all_at_once([lambda: post("auth/password/reset/confirm", token=token, new_password=NEW)] * 4)
    assert sorted(answer.status_code for answer in answers) == [204, 400, 400, 400]
    assert not opens(pair)
    assert refresh(pair).status_code == 401
    assert browser.get("/api/session/").json()["user"] is None
    assert sign_in(NEW)


def test_a_link_is_dead_after_an_hour_after_a_login_and_with_another_letter(ada):
    for _ in range(2):
        post("auth/password/reset", email="ada@example.com")
    token = link(mails("Reset your Shopwire password")[0])
    other = token.partition(".")[0] + "x." + token.partition(".")[2]
    for bad in (token[:-1], other, "x", ".", "zzzzzzzzzzzz.x", "-1.x", "\u0661.x"):
        refused = post("auth/password/reset/confirm", token=bad, new_password=NEW)
        assert (refused.status_code, refused.json()["type"]) == (400, "urn:shopwire:problem:no-good-link")
    with time_machine.travel(timezone.now() + timedelta(minutes=61)):
        assert post("auth/password/reset/confirm", token=token, new_password=NEW).status_code == 400
    assert sign_in()
    assert post("auth/password/reset/confirm", token=token, new_password=NEW).status_code == 400


def test_nobody_learns_from_the_answer_or_the_clock_who_has_an_account(ada):
    calls = [
        lambda: post("auth/password/reset", email="ada@example.com"),
        lambda: post("auth/password/reset", email="nobody@example.com"),
    ]
    assert how_far_apart(*calls, probes=40) < 1.6
    answers = [post("auth/password/reset", email=f"{name}@example.com") for name in ("ada", "nobody")]
    assert [(answer.status_code, answer.content) for answer in answers] == [(202, b"")] * 2


def test_no_more_than_five_links_an_hour_go_to_one_user(ada):
    for _ in range(9):
        assert post("auth/password/reset", email="ada@example.com").status_code == 202
    assert len(mails("Reset your Shopwire password")) == 5
    assert not DurableTask.objects.exclude(status="succeeded").exists()


def test_no_link_goes_to_whoever_has_no_password_or_no_account(ada):
    make_user(email="gone@example.com", is_active=False)
    imported = make_user(email="imported@example.com")
    imported.set_unusable_password()
    imported.save()
    for name in ("gone", "imported", "nobody"):
        assert post("auth/password/reset", email=f"{name}@example.com").status_code == 202
    assert mails("Reset your Shopwire password") == []


def test_a_link_that_is_followed_shows_whose_the_address_is():
    post("users", username="eve", email="eve@example.com", password=OLD)
    post("auth/password/reset", email="eve@example.com")
    [message] = mails("Reset your Shopwire password")
    assert post("auth/password/reset/confirm", token=link(message), new_password=NEW).status_code == 204
    assert not AddressClaim.objects.exists()
    assert mails("Your password was changed")[0].to == ["eve@example.com"]


def test_a_busy_customer_is_sent_a_link_all_the_same(ada):
    for number in range(30):
        EmailDelivery.objects.create(
            kind="sales_report", recipient=ada.email, user=ada, reference=str(number), message_id=f"<{number}@x>"
        )
    post("auth/password/reset", email="ada@example.com")
    assert len(mails("Reset your Shopwire password")) == 1


def test_who_is_locked_out_may_come_back_by_the_link(ada, settings):
    settings.AXES_FAILURE_LIMIT = 2
    for _ in range(3):
        sign_in("wrong")
    post("auth/password/reset", email="ada@example.com")
    token = link(mails("Reset your Shopwire password")[0])
    assert post("auth/password/reset/confirm", token=token, new_password=NEW).status_code == 204
    assert sign_in(NEW)


def test_such_requests_are_throttled(ada, settings):
    settings.THROTTLE_RATES = settings.THROTTLE_RATES | {"passwords": (3, 60)}
    answers = [post("auth/password/reset", email=f"{n}@example.com").status_code for n in range(5)]
    assert answers == [202] * 3 + [429] * 2


def test_a_token_of_before_this_release_has_to_be_had_anew(ada):
    token = tokens.SimpleRefreshToken()
    token["user_id"] = str(ada.pk)
    assert refresh({"refresh": str(token)}).status_code == 401
    assert not opens({"access": str(token.access_token)})
    assert get_user_model().objects.count() == 1
