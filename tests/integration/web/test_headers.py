"""Security headers of every response, and cookie attributes."""

import pytest
from django.test import Client

from tests.shop import api, make_user

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("address", ["/api/products/", "/api/docs/", "/api/nothing/", "/admin/login/", "/health/live/"])
def test_a_page_may_load_nothing_from_elsewhere_and_stand_in_no_frame(address):
    headers = Client().get(address).headers

    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "script-src" not in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


def test_the_documents_page_runs_no_script_that_is_written_into_it():
    page = api().get("/api/docs/").content.decode()

    scripts = page.split("<script")[1:]
    assert scripts
    assert all("src=" in script.partition(">")[0] for script in scripts)


def test_the_session_cookie_is_out_of_a_scripts_reach():
    make_user(username="clerk", password="right and long", is_staff=True)
    browser = Client()
    browser.post("/admin/login/", {"username": "clerk", "password": "right and long"})

    assert browser.cookies["sessionid"]["httponly"]
    assert browser.cookies["sessionid"]["samesite"] == "Lax"


def test_a_session_writes_only_with_its_csrf_token():
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(make_user())

    assert browser.post("/api/orders/", {}, content_type="application/json").status_code == 403


@pytest.mark.parametrize("address", ["/api/products/", "/admin/login/"])
def test_another_host_is_a_400(address):
    assert Client(headers={"Host": "evil.example"}).get(address).status_code == 400


@pytest.mark.parametrize("method", ["get", "options"])
def test_another_origin_may_read_nothing(settings, method):
    settings.CORS_ALLOWED_ORIGINS = ["https://shop.example"]
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}

    assert "Access-Control-Allow-Origin" not in getattr(api(), method)("/api/products/", headers=headers).headers
