"""``outbox verify`` checks that results match the ledger."""

from datetime import timedelta

import pytest
from celery.backends.base import DisabledBackend
from django.test import modify_settings
from django_celery_results.models import TaskResult

from celery_ledger.desk import pruner
from celery_ledger.models import DurableTask, Tally
from celery_ledger.rows import results
from celery_ledger.testing import drain, pass_time
from tests import probe
from worker.celery import app

pytestmark = pytest.mark.django_db(transaction=True)


def test_results_that_the_consumer_wrote_are_true():
    probe.make_collection.delay("garden")
    probe.give_up.delay("permanent")
    probe.come_back.delay(60.0)
    drain()
    assert set(TaskResult.objects.values_list("status", flat=True)) == {"SUCCESS", "FAILURE", "RETRY"}
    assert list(results.untrue()) == []


@pytest.mark.parametrize(
    ("kind", "state", "line"),
    [
        ("other", "SUCCESS", "the result of {} says SUCCESS, and the ledger that it is dead"),
        ("none", "RETRY", "the result of {} says RETRY, and the ledger that it succeeded"),
    ],
)
def test_a_result_that_says_something_else_is_named(kind, state, line):
    handle = probe.make_collection.delay("garden") if kind == "none" else probe.give_up.delay(kind)
    for _ in range(3):
        drain()
        pass_time(hours=1)
    TaskResult.objects.filter(task_id=handle.id).update(status=state)
    TaskResult.objects.create(task_id="nobody's", status="RETRY")
    assert list(results.untrue()) == [line.format(handle.id)]


@modify_settings(INSTALLED_APPS={"remove": "django_celery_results"})
def test_a_project_without_results_has_its_tasks_counted_and_pruned_and_the_table_left_alone(monkeypatch):
    monkeypatch.setattr(app, "_backend_cache", DisabledBackend(app=app))
    TaskResult.objects.create(task_id="nobody's", status="RETRY")
    done = probe.make_collection.delay("garden")
    probe.give_up.delay("permanent")
    drain()
    counted = Tally.objects.exclude(outcome=Tally.Outcome.PUBLISHED).values_list("name", "outcome", "rows")
    assert set(counted) == {("tests.make_collection", "succeeded", 1), ("tests.give_up", "dead", 1)}
    TaskResult.objects.create(task_id=done.id, status="SUCCESS")
    assert pruner.prune(older_than=timedelta(0)) == 1
    assert list(DurableTask.objects.values_list("name", flat=True)) == ["tests.give_up"]
    assert set(TaskResult.objects.values_list("task_id", flat=True)) == {"nobody's", done.id}
