"""Many identical calls at once make one row; all callers get its id, and it sees what each of them wrote."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from celery_ledger.models import DurableTask
from celery_ledger.rows import ledger
from celery_ledger.testing import drain
from store.models import Collection
from tests import probe
from tests.shop import all_at_once

pytestmark = pytest.mark.django_db(transaction=True)
CALLERS, ROUNDS = 8, 25


@pytest.mark.fault("F132")
@pytest.mark.parametrize(
    "options", [{"unique_for": term} for term in ("kept", "pending", "done", 60)] + [{"debounce": 60}], ids=str
)
def test_f132_calls_at_once_are_one_row_whose_id_all_get(options):
    if options == {"unique_for": 60}:  # All of them find that the last period is over.
        probe.see_collections.apply_async(unique_key="key", **options)
        DurableTask.objects.update(unique_until=Now())
    before = DurableTask.objects.count()

    def call():
        with transaction.atomic():
            return probe.see_collections.apply_async(unique_key="key", **options).id

    ids = all_at_once([call] * CALLERS)
    assert len(set(ids)) == 1
    assert DurableTask.objects.count() == before + 1
    assert str(DurableTask.objects.latest("id").id) == ids[0]


@pytest.mark.fault("F132")
def test_f132_of_debounced_calls_at_once_the_last_one_s_arguments_win():
    """The row is locked until the caller's transaction ends: what is written after a call tells which is last."""

    def call(number):
        for round in range(ROUNDS):
            title = f"{number} {round}"
            with transaction.atomic():
                id = probe.make_collection.apply_async((title,), unique_key="key", debounce=60).id
                Collection.objects.create(title=title)
        return id

    [id] = set(all_at_once([lambda number=number: call(number) for number in range(CALLERS)]))
    row = DurableTask.objects.get()
    assert (str(row.id), row.args) == (id, [Collection.objects.latest("id").title])
    assert Collection.objects.count() == CALLERS * ROUNDS


@pytest.mark.fault("F132")
@pytest.mark.parametrize("options", [{"unique_for": "pending"}, {"debounce": 0}], ids=str)
def test_f132_the_row_that_stands_sees_what_each_of_its_callers_wrote(options):
    """It is not taken between a call and the end of the caller's transaction."""
    probe.seen.clear()
    calls_end = threading.Event()

    def run():
        while not calls_end.is_set():
            drain()

    def call(number):
        made = {}
        for round in range(ROUNDS):
            title = f"{number} {round}"
            with transaction.atomic():
                Collection.objects.create(title=title)
                made[title] = probe.see_collections.apply_async(unique_key="key", **options)
                time.sleep(0.002)
        return made

    def call_all():
        try:
            return all_at_once([lambda number=number: call(number) for number in range(CALLERS)])
        finally:
            calls_end.set()

    made, _ = all_at_once([call_all, run])
    # A worker passes over a row that a caller has just missed and still looks at; a relay brings it back.
    DurableTask.objects.filter(status=DurableTask.Status.PUBLISHED).update(lease_until=Now() - timedelta(seconds=1))
    ledger.lapse_expired()
    drain()
    saw = dict(probe.seen)
    handles = {title: handle.id for each in made for title, handle in each.items()}
    assert [title for title, id in handles.items() if title not in saw[id]] == []
    assert DurableTask.objects.count() == len(saw) == len(set(handles.values()))
    print(f"F132: {len(handles)} calls, {len(saw)} rows, on {connection.vendor}")
