"""Calls are revoked by their stamps: waiting ones, later ones, and those of a canvas."""

from unittest import mock

import pytest
from celery import chain
from celery.canvas import StampingVisitor
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult
from django.db import connection, transaction

from celery_ledger.desk import processes, remote
from celery_ledger.models import DurableTask, RevokedStamp
from celery_ledger.relay import expiring
from celery_ledger.testing import drain
from tests import probe
from worker.celery import app

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status


class OfTenant(StampingVisitor):
    def __init__(self, tenant):
        self.tenant = tenant

    def on_signature(self, sig, **headers):
        return {"tenant": self.tenant, "stamped_headers": ["tenant"]}


def stamped(title, tenant):
    signature = probe.make_collection.si(title)
    signature.stamp(visitor=OfTenant(tenant))
    return signature


def statuses():
    return sorted(DurableTask.objects.values_list("args__0", "status"))


def test_those_that_wait_and_those_that_come_later_do_not_run(monkeypatch):
    monkeypatch.setattr(processes, "tell_all", mock.Mock())
    stamped("of 7", 7).apply_async()
    stamped("of 8", 8).apply_async()
    probe.make_collection.delay("of nobody")
    said = app.control.revoke_by_stamped_headers({"tenant": [7]}, reply=True)
    assert said == [{"ledger": {"ok": "headers {'tenant': [7]} flagged as revoked, and 1 cancelled"}}]
    later = stamped("of 7, later", 7).apply_async()
    drain()
    expiring.cancel_expired()
    assert statuses() == [
        ("of 7", "cancelled"),
        ("of 7, later", "cancelled"),
        ("of 8", "succeeded"),
        ("of nobody", "succeeded"),
    ]
    assert AsyncResult(later.id).state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        later.get(timeout=5)


def test_a_later_step_of_a_chain_is_revoked_when_it_is_reached():
    app.control.revoke_by_stamped_headers({"tenant": [7, 9]})
    chain(probe.make_collection.si("first"), stamped("second", 9), probe.make_collection.si("third")).apply_async()
    drain()
    expiring.cancel_expired()
    drain()
    assert statuses()[:2] == [("first", "succeeded"), ("second", "cancelled")]
    assert "succeeded" not in dict(statuses()[2:]).values()


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer")
def test_one_that_was_made_in_a_transaction_while_its_stamp_was_revoked_does_not_run():
    other = connection.copy()
    try:
        with transaction.atomic():
            stamped("of 7", 7).apply_async()
            with other.cursor() as cursor:  # Who revokes it does not see it.
                cursor.execute("INSERT INTO celery_ledger_revokedstamp (name, value) VALUES ('tenant', '7')")
    finally:
        other.close()
    assert statuses() == [("of 7", "cancelled")]


def test_workers_are_told_as_well_and_none_of_it_grows_for_ever():
    RevokedStamp.objects.create(name="tenant", value="1", revoked_at="2010-12-01T08:00Z")
    assert remote.revoke_by_stamped_headers(mock.Mock(), ["tenant=seven"]) == {
        "ok": "headers {'tenant': 'seven'} flagged as revoked, but not terminated"
    }
    app.control.revoke_by_stamped_headers({"tenant": "seven"})  # Once more changes nothing.
    assert list(RevokedStamp.objects.values_list("name", "value")) == [("tenant", '"seven"')]
