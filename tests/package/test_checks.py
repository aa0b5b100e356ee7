"""``manage.py check`` in an independent project: Celery's defaults are fine."""

import celery
import pytest
from django.core.checks import run_checks
from django.db import connection

from celery_ledger import checks
from tests.package.strangers import make_app  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db


def found(**options) -> dict[str, object]:
    """Return what this package says, by id."""
    messages = run_checks(databases=["default"], **options)
    return {message.id: message for message in messages if message.id.startswith("celery_ledger.")}


def nothing():
    pass


def test_celerys_defaults_are_fine(make_app):  # noqa: F811
    make_app()
    assert found() == {}


@pytest.mark.parametrize(
    ("broker", "conf", "id", "hint"),
    [
        ("redis://", {"accept_content": ["pickle"]}, "celery_ledger.E003", "Add 'json'"),
        ("redis://", {"task_time_limit": 3600}, "celery_ledger.E010", "visibility_timeout"),
        (
            "sentinel://",
            {"task_time_limit": 9, "broker_transport_options": {"visibility_timeout": 9}},
            "celery_ledger.E010",
            "visibility_timeout",
        ),
        ("redis://", {"worker_pool": "gevent"}, "celery_ledger.E015", "prefork"),
        ("redis://", {"worker_pool": "celery.concurrency.eventlet:TaskPool"}, "celery_ledger.E015", "prefork"),
        ("memory://", {}, "celery_ledger.E016", "amqp://"),
        ("filesystem://", {}, "celery_ledger.E016", "redis://"),
        ("sqs://", {}, "celery_ledger.E016", "redis://"),
    ],
)
def test_what_would_break_a_promise_is_refused_with_a_remedy(make_app, broker, conf, id, hint):  # noqa: F811
    make_app(broker=broker, **conf)
    [(named, message)] = found().items()
    assert named == id
    assert message.is_serious()
    assert hint in message.hint


@pytest.mark.parametrize(
    ("broker", "conf"),
    [
        ("amqp://", {"task_time_limit": 3600}),
        ("memory://", {"task_always_eager": True}),
        ("redis://", {"accept_content": ["pickle", "json"], "task_acks_late": False, "worker_pool": "solo"}),
        ("sentinel://", {"result_backend": "redis://", "task_reject_on_worker_lost": True}),
        ("rediss://", {"task_time_limit": 3599}),
    ],
)
def test_what_breaks_none_is_a_projects_own_affair(make_app, broker, conf):  # noqa: F811
    make_app(broker=broker, **conf)
    assert found() == {}


def test_what_pickle_means_is_said(make_app):  # noqa: F811
    make_app(task_serializer="pickle", accept_content=["pickle", "json"])
    [(named, message)] = found().items()
    assert (named, message.is_serious()) == ("celery_ledger.W027", False)
    assert "refused with a TypeError" in message.hint
    assert "any code" in found(include_deployment_checks=True)["celery_ledger.W028"].hint


def test_workers_that_hoard_messages_are_warned_of(make_app):  # noqa: F811
    make_app(worker_prefetch_multiplier=8)
    [(named, message)] = found().items()
    assert (named, message.is_serious()) == ("celery_ledger.W019", False)


class TestTasks:
    def test_one_whose_class_is_not_ours_is_named_with_the_remedy(self, make_app):  # noqa: F811
        app = make_app()
        app.task(nothing, shared=False, name="strangers.foreign", base=celery.Task)
        [(named, message)] = found().items()
        assert (named, message.is_serious()) == ("celery_ledger.W017", False)
        assert "strangers.foreign" in message.msg
        assert "celery_ledger.Task" in message.hint

    def test_one_that_says_so_is_not(self, make_app):  # noqa: F811
        app = make_app()
        app.task(nothing, shared=False, name="strangers.plain", base=celery.Task, durable=False)
        assert found() == {}

    def test_an_app_without_the_second_line_is_named_once(self, make_app):  # noqa: F811
        make_app(task_cls=celery.Task)
        [(named, message)] = found().items()
        assert named == "celery_ledger.W002"
        assert 'task_cls="celery_ledger:Task"' in message.hint

    def test_ones_that_cannot_be_imported_are_named(self, make_app):  # noqa: F811
        make_app(imports=["tests.package.no_such_module"])
        [(named, message)] = found().items()
        assert named == "celery_ledger.W022"
        assert "no_such_module" in message.msg


def test_a_broker_in_reach_of_others_is_warned_of_in_a_deployment(make_app, settings):  # noqa: F811
    make_app(broker="redis://redis:6379/0")
    assert found() == {}
    assert not found(include_deployment_checks=True)["celery_ledger.W007"].is_serious()


@pytest.mark.parametrize("value", [0, -1, "60", None, True, 5, float("inf")])
def test_a_value_of_ours_that_cannot_be_right_is_refused(make_app, settings, value):  # noqa: F811
    make_app()
    settings.LEDGER_PUBLISHED_LEASE = value
    [(named, message)] = found().items()
    assert named == "celery_ledger.E014"
    assert f"LEDGER_PUBLISHED_LEASE must be a number above 5, and not {value!r}." in message.msg


def test_another_database_is_refused(make_app, monkeypatch):  # noqa: F811
    make_app()
    monkeypatch.setattr(connection, "vendor", "mysql")
    assert set(found()) == {"celery_ledger.E004"}


def test_every_id_is_used_once():
    source = (checks.__file__ or "").removesuffix("c")
    with open(source) as file:
        ids = [line.partition('id="')[2].partition('"')[0] for line in file if 'id="celery_ledger.' in line]
    assert len(ids) == len(set(ids)) > 10
