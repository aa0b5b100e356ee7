"""Signing in with a cookie, as the browser's pages do."""

import pytest
from django.test import Client

from tests.shop import make_user

pytestmark = pytest.mark.django_db

ADDRESS = "/api/session/"
ADA = {"username": "ada", "password": "correct horse battery"}


@pytest.fixture
def ada():
    return make_user(**ADA)


@pytest.fixture
def browser():
    """A browser on our pages: it has been given the cookie, and sends it back as a header."""
    browser = Client(enforce_csrf_checks=True)
    browser.get(ADDRESS)
    return browser


def send(browser, method, body=None, address=ADDRESS):
    headers = {"X-CSRFToken": browser.cookies["csrftoken"].value}
    return getattr(browser, method)(address, body, content_type="application/json", headers=headers)


def test_nobody_is_signed_in_at_first(browser):
    assert browser.get(ADDRESS).json() == {"user": None, "flower_url": None}


def test_who_signs_in_is_known_from_then_on_and_may_write(ada, browser):
    answer = send(browser, "post", ADA)

    assert answer.status_code == 200
    assert answer.json()["user"] == {"id": ada.pk, "username": "ada", "is_staff": False}
    assert browser.get(ADDRESS).json() == answer.json()
    assert send(browser, "patch", {"first_name": "Ada"}, "/api/customers/me/").status_code == 200


def test_staff_are_told_where_flower_is(browser, settings):
    make_user(**ADA, is_staff=True)

    assert send(browser, "post", ADA).json()["flower_url"] == settings.FLOWER_URL


def test_who_signs_out_is_nobody_again(ada, browser):
    send(browser, "post", ADA)

    assert send(browser, "delete").status_code == 204
    assert browser.get(ADDRESS).json()["user"] is None
    assert browser.get("/api/orders/").status_code == 401


@pytest.mark.parametrize("wrong", [{"username": "eve"}, {"password": "another"}])
def test_a_wrong_name_or_password_is_a_401_and_no_session(ada, browser, wrong):
    assert send(browser, "post", ADA | wrong).status_code == 401
    assert "sessionid" not in browser.cookies


@pytest.mark.parametrize("body", [{}, {"username": "ada"}, {**ADA, "more": 1}, {"username": 5, "password": True}, []])
def test_what_is_no_name_and_password_is_a_400(browser, body):
    assert send(browser, "post", body).status_code == 400


def test_after_too_many_failures_no_password_is_tried(ada, browser, settings):
    settings.AXES_FAILURE_LIMIT = 2
    for _ in range(2):
        send(browser, "post", ADA | {"password": "another"})

    answer = send(browser, "post", ADA)

    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["post", "delete"])
def test_another_sites_page_signs_nobody_in_or_out(ada, browser, method):
    if method == "delete":
        send(browser, "post", ADA)

    answer = getattr(browser, method)(ADDRESS, ADA, content_type="application/json")

    assert answer.status_code == 403
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (browser.get(ADDRESS).json()["user"] is None) == (method == "post")


def test_signing_in_gives_the_session_another_name(ada, browser):
    send(browser, "post", ADA)
    first = browser.cookies["sessionid"].value
    send(browser, "delete")
    send(browser, "post", ADA)

    assert browser.cookies["sessionid"].value != first
