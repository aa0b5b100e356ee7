"""Any number of rows is read in portions, without a cursor, which a pooler would drop."""

import re
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from celery_ledger import walking
from celery_ledger.desk import dead_letters
from celery_ledger.models import DurableTask
from tests.dead_letters import many_dead
from tests.processes import ROOT

pytestmark = pytest.mark.django_db(transaction=True)
#: What may ask for a server-side cursor: nothing that runs for an operator.
ROOMS = (
    "worker",
    "operations",
    "store",
    "core",
    "accounts",
    "audit_trail",
    "reports",
    "web",
    "email_app",
    "analytics_app",
    "notifications",
    "messaging",
    "phones",
    "webhooks",
)


@pytest.mark.parametrize("number", [0, 1, 9, 10, 11, 25])
def test_everything_is_read_once_and_in_order(number, monkeypatch):
    monkeypatch.setattr(walking, "PORTION", 10)
    many_dead(number)
    keys = list(DurableTask.objects.order_by("pk").values_list("pk", flat=True))
    with CaptureQueriesContext(connection) as queries:
        assert list(walking.walk_keys(DurableTask.objects.all())) == keys
    assert len(queries) == number // 10 + 1
    assert [task.pk for task in walking.walk(DurableTask.objects.all())] == keys


def test_dead_letters_are_listed_longest_dead_first(monkeypatch):
    monkeypatch.setattr(dead_letters, "PORTION", 4)
    many_dead(11)
    DurableTask.objects.filter(pk__in=list(DurableTask.objects.values_list("pk", flat=True)[:6])).update(
        completed_at="2010-12-01T08:00Z"
    )
    undated = DurableTask.objects.create(name="tests.make_collection", queue="default", status="dead")
    expected = [*dead_letters.dead_tasks().exclude(completed_at=None).values_list("pk", flat=True), undated.pk]
    out = StringIO()
    call_command("outbox", "dead", stdout=out)
    assert [line.split()[0] for line in out.getvalue().splitlines()] == [str(pk) for pk in expected]


def test_nothing_asks_for_a_cursor_of_the_servers():
    asking = [
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in Path(ROOT, room).rglob("*.py")
        if "migrations" not in path.parts and re.search(r"\.iterator\(", path.read_text())
    ]
    assert asking == []
