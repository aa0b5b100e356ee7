"""Every setting that would break a promise is reported at the start."""

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.db.models.signals import post_save

from audit_trail import receivers
from celery_ledger import checks
from store.models import Order
from store.signals import order_created

pytestmark = pytest.mark.django_db


def errors() -> set[str]:
    return {message.id for message in run_checks(databases=["default"]) if message.is_serious()}


def test_as_it_comes_nothing_is_wrong():
    assert errors() == set()


@pytest.mark.parametrize(
    ("setting", "value", "id"),
    [
        ("CELERY_TASK_ACKS_LATE", False, "core.E004"),
        ("CELERY_TASK_REJECT_ON_WORKER_LOST", True, "core.E005"),
        ("CELERY_TASK_SERIALIZER", "pickle", "core.E006"),
        ("CELERY_ACCEPT_CONTENT", ["json", "pickle"], "core.E006"),
        ("CELERY_TASK_IGNORE_RESULT", False, "core.E007"),
        ("CELERY_TASK_TIME_LIMIT", None, "core.E008"),
        ("USE_TZ", False, "celery_ledger.E013"),
        ("LEDGER_PUBLISHED_LEASE", 59, "core.E009"),
        ("LEDGER_QUEUE_WINDOW", 0, "celery_ledger.E014"),
    ],
)
def test_an_unsafe_setting_is_named(settings, setting, value, id):
    setattr(settings, setting, value)
    assert errors() == {id}


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has such a mode")
def test_an_sqlite_whose_readers_become_writers_is_warned_of(monkeypatch):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "transaction_mode", "DEFERRED")
    assert errors() == set()
    assert "celery_ledger.W012" in {message.id for message in run_checks(databases=["default"])}


def test_a_receiver_without_a_name_is_named():
    post_save.connect(receivers.record_save, sender=Order)
    try:
        assert errors() == {"core.E001"}
    finally:
        post_save.disconnect(receivers.record_save, sender=Order)


def test_a_receiver_that_is_connected_twice_is_named():
    order_created.connect(receivers.enqueue_placed_entry, dispatch_uid="core.enqueue_placed_entry_again")
    try:
        assert errors() == {"core.E002"}
    finally:
        order_created.disconnect(dispatch_uid="core.enqueue_placed_entry_again")


def test_a_receiver_that_can_vanish_is_named():
    def react(sender, **kwargs):
        """Written inside another function."""

    react.__module__ = receivers.__name__
    post_save.connect(react, sender=Order, dispatch_uid="tests.nested")
    try:
        assert errors() == {"core.E003"}
    finally:
        post_save.disconnect(sender=Order, dispatch_uid="tests.nested")


def test_a_name_that_is_another_receiver_s_is_refused():
    with pytest.raises(ValueError, match="already"):
        order_created.connect(receivers.record_save, dispatch_uid="core.enqueue_placed_entry")


@pytest.fixture
def production(settings):
    settings.DEBUG = False
    for name in ("CELERY_BROKER_URL", "REDIS_URL"):
        setattr(settings, name, "redis://:secret@broker.example/0")


def test_a_production_as_it_should_be_has_no_errors(production):
    assert not {id for id in errors() if id.startswith(("celery_ledger.", "core."))}


def test_faults_that_are_armed_in_production_are_named(production, monkeypatch):
    monkeypatch.setenv("FAULT", "relay.after_claim")
    assert "celery_ledger.E006" in errors()


def test_a_broker_in_others_reach_without_a_password_is_named(production, settings):
    settings.REDIS_URL = "redis://broker.example/0"
    assert "core.E010" in errors()


def test_an_sqlite_that_is_too_old_is_named_where_it_is_used(monkeypatch):
    monkeypatch.setattr(checks, "OLDEST_SQLITE", (99, 0, 0))
    assert errors() == ({"celery_ledger.E005"} if connection.vendor == "sqlite" else set())
