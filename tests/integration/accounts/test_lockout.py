"""Too many failed logins lock out a name from an address, for a limited time."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from axes.models import AccessAttempt
from django.test import Client
from django.urls import reverse

from accounts.tasks import clear_sessions
from tests.shop import all_at_once, api, make_manager, make_user

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"
HERE, ELSEWHERE = "198.51.100.1", "2001:db8::2"


@pytest.fixture(autouse=True)
def three_failures(settings):
    settings.AXES_FAILURE_LIMIT = 3


@pytest.fixture
def clerk():
    return make_manager(username="clerk", password=PASSWORD)


def by_token(name="clerk", password="wrong", address=HERE, **headers):
    body = {"username": name, "password": password}
    return api().post("/api/token/", body, format="json", REMOTE_ADDR=address, headers=headers)


def by_form(name="clerk", password="wrong", address=HERE):
    return Client().post(reverse("admin:login"), {"username": name, "password": password}, REMOTE_ADDR=address)


@pytest.mark.usefixtures("clerk")
def test_the_third_failure_for_a_token_locks_out_and_says_when_to_come_back():
    answers = [by_token() for _ in range(3)]

    assert [answer.status_code for answer in answers] == [401, 401, 429]
    refused = by_token(password=PASSWORD)
    assert refused.status_code == 429
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["status"] == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 900


@pytest.mark.usefixtures("clerk")
def test_failures_in_the_admin_lock_out_there_and_for_tokens():
    assert [by_form().status_code for _ in range(3)] == [200, 200, 429]
    refused = by_form(password=PASSWORD)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert "clerk" not in refused.content.decode()
    assert by_token(password=PASSWORD).status_code == 429


@pytest.mark.usefixtures("clerk")
def test_a_stranger_locks_nobody_out_from_elsewhere_and_no_other_name():
    make_user(username="other", password=PASSWORD)
    for _ in range(5):
        by_token()

    assert by_token(password=PASSWORD).status_code == 429
    assert by_token(password=PASSWORD, address=ELSEWHERE).status_code == 200
    assert by_form(password=PASSWORD, address=ELSEWHERE).status_code == 302
    assert by_token("other", PASSWORD).status_code == 200


@pytest.mark.usefixtures("clerk")
def test_the_lock_ends_with_the_cool_off_however_often_somebody_tries_meanwhile(settings):
    began = datetime.now(UTC)
    with time_machine.travel(began, tick=False):
        assert [by_token().status_code for _ in range(3)] == [401, 401, 429]
    for minutes in (5, 10, 14):
        with time_machine.travel(began + timedelta(minutes=minutes), tick=False):
            assert by_token().status_code == 429
    with time_machine.travel(began + settings.LOGIN_COOLOFF + timedelta(seconds=1), tick=False):
        assert by_token(password=PASSWORD).status_code == 200


@pytest.mark.usefixtures("clerk")
@pytest.mark.parametrize("attempt", [by_token, by_form])
def test_each_failure_after_a_lock_locks_for_twice_as_long_and_a_day_at_most(attempt):
    now = datetime.now(UTC)
    waits = []
    with time_machine.travel(now, tick=False) as clock:
        for _ in range(2):
            attempt()
        for _ in range(8):
            waits.append(int(attempt().headers["Retry-After"]))
            clock.shift(timedelta(seconds=waits[-1] - 1))
            assert attempt(password=PASSWORD).status_code == 429
            by_token("other")  # Has what no longer counts forgotten.
            clock.shift(timedelta(seconds=2))

    assert [round(wait / 60) for wait in waits] == [15, 30, 60, 120, 240, 480, 960, 1440]


@pytest.mark.usefixtures("clerk")
def test_whoever_signs_in_after_a_lock_begins_anew(settings):
    began = datetime.now(UTC)
    with time_machine.travel(began, tick=False) as clock:
        assert [by_token().status_code for _ in range(3)] == [401, 401, 429]
        clock.shift(settings.LOGIN_COOLOFF + timedelta(seconds=1))
        assert by_token(password=PASSWORD).status_code == 200
        assert [by_token().status_code for _ in range(3)] == [401, 401, 429]
        assert int(by_token().headers["Retry-After"]) <= settings.LOGIN_COOLOFF.total_seconds()


@pytest.mark.usefixtures("clerk")
def test_another_browser_another_case_and_a_header_are_no_way_round():
    answers = [
        by_token(**{"User-Agent": "one"}),
        by_token("CLERK", **{"User-Agent": "two"}),
        by_token(**{"X-Forwarded-For": "10.0.0.1"}),
    ]

    assert [answer.status_code for answer in answers] == [401, 401, 429]


@pytest.mark.usefixtures("clerk")
def test_a_login_that_succeeds_forgets_the_failures():
    assert [by_token().status_code for _ in range(2)] == [401, 401]
    assert by_token(password=PASSWORD).status_code == 200
    assert by_token().status_code == 401


def test_a_name_that_nobody_has_is_answered_alike():
    make_user(username="known", password=PASSWORD)

    def answers(name):
        return [(answer.status_code, answer.json()["title"]) for answer in (by_token(name) for _ in range(4))]

    assert answers("known") == answers("unknown")


@pytest.mark.parametrize("name", ["x" * 5000, "\u212b" * 300, "''; --", "%00"])
@pytest.mark.parametrize("address", [HERE, "", "no address"])
def test_no_name_and_no_address_is_a_500(name, address):
    answers = [by_token(name, address=address) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [401, 401, 429, 429]
    assert by_form(name, address=address).status_code in {200, 429}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("clerk")
def test_failures_at_once_are_counted_each():
    answers = all_at_once([by_token] * 12)

    assert {answer.status_code for answer in answers} <= {401, 429}
    assert by_token(password=PASSWORD).status_code == 429


@pytest.mark.usefixtures("clerk")
def test_failures_that_no_longer_count_are_forgotten(settings):
    by_token()
    clear_sessions()
    assert AccessAttempt.objects.count() == 1
    with time_machine.travel(datetime.now(UTC) + settings.LOGIN_COOLOFF + timedelta(minutes=1)):
        clear_sessions()
    assert not AccessAttempt.objects.exists()
