"""Users and profiles, created in either order; and counts of requests."""

import threading

import pytest
from django.core import mail as outbox
from django.core.management import call_command

from celery_ledger.models import DurableTask
from celery_ledger.testing import drain
from store.models import Customer
from tests.shop import api, make_user
from web.request_counts import RequestCounts, counts

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_user_who_registers_has_a_profile_and_is_welcomed_once():
    answer = api().post(
        "/api/users/", {"username": "ada", "email": "ada@example.com", "password": "correct horse battery"}
    )
    assert answer.status_code == 201
    drain()
    assert Customer.objects.get().user.username == "ada"
    assert [message.to for message in outbox.outbox] == [["ada@example.com"]]


def test_a_profile_that_comes_before_its_user_has_one_made_who_cannot_sign_in_and_is_not_written_to():
    profile = Customer.objects.create(country="France")
    profile.refresh_from_db()
    assert not profile.user.has_usable_password()
    assert Customer.objects.get() == profile
    assert not DurableTask.objects.exists()
    profile.country = "Italy"
    profile.save()
    assert Customer.objects.get().user == profile.user


def test_profiles_and_users_of_a_fixture_are_loaded_as_they_are(tmp_path):
    make_user()
    path = tmp_path / "people.json"
    call_command("dumpdata", "core.user", "store.customer", output=str(path))
    Customer.objects.all().delete()
    DurableTask.objects.all().delete()
    call_command("loaddata", str(path), verbosity=0)
    assert Customer.objects.count() == 1
    assert not DurableTask.objects.exists()


def test_requests_are_counted():
    before = counts.total()
    api().get("/api/products/")
    api().get("/api/nowhere/")
    after = counts.total()
    assert after.started - before.started == 2
    assert after.finished - before.finished == 2
    assert after.failed == before.failed


def test_many_threads_count_without_losing_any():
    own = RequestCounts()

    def work():
        for _ in range(10_000):
            own.of_this_thread().started += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert own.total().started == 80_000
