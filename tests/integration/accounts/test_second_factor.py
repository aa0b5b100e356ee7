"""With ADMIN_TWO_FACTOR a password alone does not open the admin."""

from io import StringIO
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from django.core.management import CommandError, call_command
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from tests.shop import make_manager, make_user

PASSWORD = "correct horse battery"


@pytest.mark.processes
def test_the_admin_asks_for_a_code_where_it_is_told_to(machine):
    make_manager(username="clerk", password=PASSWORD)
    call_command("make_second_factor", "clerk", stdout=StringIO(), stderr=StringIO())
    device = TOTPDevice.objects.get()
    machine.start_web(ADMIN_TWO_FACTOR="1")

    def get_in(**form):
        with httpx.Client(base_url=machine.web_url) as browser:
            browser.get("/admin/login/")
            form |= {"username": "clerk", "otp_device": device.persistent_id}
            form |= {"csrfmiddlewaretoken": browser.cookies["csrftoken"]}
            browser.post("/admin/login/", data=form)
            return browser.get("/admin/").status_code

    assert get_in(password=PASSWORD) == 302
    assert get_in(password=PASSWORD, otp_token="000000") == 302
    device.refresh_from_db()
    assert device.throttling_failure_count == 1
    device.throttle_reset()
    code = f"{totp(device.bin_key):06}"
    assert get_in(password="wrong", otp_token=code) == 302
    assert get_in(password=PASSWORD, otp_token=code) == 200
    assert get_in(password=PASSWORD, otp_token=code) == 302, "a code counts once"
    with httpx.Client(base_url=machine.web_url) as browser:
        browser.get("/api/session/")
        headers = {"X-CSRFToken": browser.cookies["csrftoken"]}
        signed_in = browser.post("/api/session/", json={"username": "clerk", "password": PASSWORD}, headers=headers)
        assert signed_in.json()["user"]["is_staff"]
        assert browser.get("/admin/").status_code == 302


@pytest.mark.django_db
def test_a_new_factor_takes_the_place_of_the_old_one():
    make_manager(username="clerk")
    addresses = []
    for _ in range(2):
        out = StringIO()
        call_command("make_second_factor", "clerk", stdout=out, stderr=StringIO())
        addresses.append(urlsplit(out.getvalue().strip()))

    assert [address.scheme for address in addresses] == ["otpauth", "otpauth"]
    assert parse_qs(addresses[1].query)["issuer"] == ["Shopwire"]
    assert addresses[0].query != addresses[1].query
    assert TOTPDevice.objects.count() == 1


@pytest.mark.django_db
def test_only_staff_have_one():
    make_user(username="ada")
    with pytest.raises(CommandError, match="no member of staff named ada"):
        call_command("make_second_factor", "ada")
