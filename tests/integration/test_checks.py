"""Every setting under which a promise would break is named at the start."""

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.db.models.signals import post_save

from core import receivers
from store.models import Order
from store.signals import order_created
from worker import checks

pytestmark = pytest.mark.django_db


def errors() -> set[str]:
    return {message.id for message in run_checks(databases=["default"]) if message.is_serious()}


def test_as_it_comes_nothing_is_wrong():
    assert errors() == set()


@pytest.mark.parametrize(
    ("setting", "value", "id"),
    [
        ("CELERY_TASK_ACKS_LATE", False, "worker.E001"),
        ("CELERY_TASK_REJECT_ON_WORKER_LOST", True, "worker.E002"),
        ("CELERY_TASK_SERIALIZER", "pickle", "worker.E003"),
        ("CELERY_ACCEPT_CONTENT", ["json", "pickle"], "worker.E003"),
        ("CELERY_TASK_IGNORE_RESULT", False, "worker.E004"),
        ("CELERY_TASK_TIME_LIMIT", None, "worker.E008"),
        ("LEDGER_PUBLISHED_LEASE", 59, "worker.E009"),
        ("CELERY_BROKER_TRANSPORT_OPTIONS", {"visibility_timeout": 60}, "worker.E010"),
    ],
)
def test_an_unsafe_setting_is_named(settings, setting, value, id):
    setattr(settings, setting, value)
    assert errors() == {id} | ({"worker.E011"} if lacks_confirms(settings) else set())


def lacks_confirms(settings) -> bool:
    amqp = settings.CELERY_BROKER_URL.startswith("amqp")
    return amqp and not settings.CELERY_BROKER_TRANSPORT_OPTIONS.get("confirm_publish")


def test_a_rabbitmq_without_confirms_is_named(settings):
    settings.CELERY_BROKER_URL = "amqp://shop:secret@127.0.0.1//"
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {}
    assert errors() == {"worker.E011"}


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has such a mode")
def test_an_sqlite_whose_readers_become_writers_is_named(monkeypatch):
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "transaction_mode", "DEFERRED")
    assert errors() == {"worker.E012"}


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
        """Somebody wrote it inside of another function."""

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
    assert not {id for id in errors() if id.startswith("worker.")}


def test_faults_that_are_armed_in_production_are_named(production, monkeypatch):
    monkeypatch.setenv("FAULT", "relay.after_claim")
    assert "worker.E006" in errors()


def test_a_broker_in_others_reach_without_a_password_is_named(production, settings):
    settings.REDIS_URL = "redis://broker.example/0"
    assert "worker.E007" in errors()


def test_an_sqlite_that_is_too_old_is_named_where_it_is_used(monkeypatch):
    monkeypatch.setattr(checks, "OLDEST_SQLITE", (99, 0, 0))
    assert errors() == ({"worker.E005"} if connection.vendor == "sqlite" else set())
