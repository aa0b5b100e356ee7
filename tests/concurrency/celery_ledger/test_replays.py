"""Dead letters that many people replay at once run once."""

import pytest
from django.db import connection

from celery_ledger.desk import dead_letters
from celery_ledger.models import DurableTask
from celery_ledger.rows.outbox import collecting
from celery_ledger.testing import drain
from store.models import Collection
from tests import probe
from tests.shop import all_at_once

pytestmark = pytest.mark.django_db(transaction=True)
Status = DurableTask.Status
COUNT = 10_000


@pytest.mark.fault("F67")
def test_f67_ten_thousand_dead_letters_replayed_three_times_at_once_come_back_once():
    for part in range(10):
        with collecting():
            for number in range(COUNT // 10):
                probe.make_collections.delay(f"shelf {part} {number}")
    DurableTask.objects.update(status=Status.DEAD, attempts=8, last_error="it was broken")
    ids = list(dead_letters.dead_tasks().values_list("id", flat=True))
    before = set(ids)

    replayed = all_at_once([lambda: dead_letters.replay(ids)] * 3)

    assert sum(replayed) == COUNT
    pending = DurableTask.objects.filter(status=Status.PENDING)
    assert set(pending.values_list("id", flat=True)) == before
    some = list(pending.values_list("id", flat=True)[:20])
    pending.exclude(id__in=some).delete()
    drain()
    assert dead_letters.replay(ids[:100]) == 0
    drain()
    assert Collection.objects.count() == 20
    print(f"F67: {replayed} replayed by three at once, on {connection.vendor}")
