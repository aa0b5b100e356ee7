"""A receiver that is added later is expected to have run for later orders, and not for older ones."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from celery_ledger import reactions
from celery_ledger.models import DurableTask, Reaction
from celery_ledger.promises import promises
from celery_ledger.signals import durable_signals
from celery_ledger.testing import drain
from store.models import Order
from tests.shop import make_customer, place_order

pytestmark = pytest.mark.django_db(transaction=True)
SALE = "Every order is recorded as one sale."
UID = "analytics_app.enqueue_sale"


def plan(*names):
    return [(SimpleNamespace(app_label="celery_ledger", name=name), False) for name in names]


@pytest.fixture
def unrecorded():
    """An order that lacks its record, as one that is older than the reaction."""
    buyer = make_customer()
    order = place_order(buyer).id
    DurableTask.objects.filter(name="analytics_app.tasks.record_sale").delete()
    drain()
    return order


@pytest.fixture
def added_later():
    """All receivers but one were there when the database was migrated before."""
    uids = {uid for signal in durable_signals() for (uid, _), *_ in signal.receivers}
    Reaction.objects.all().delete()
    Reaction.objects.bulk_create(Reaction(receiver=uid) for uid in uids - {UID})


def test_what_was_placed_before_a_reaction_came_is_owed_nothing(unrecorded, added_later):
    assert len(list(promises()[SALE]())) == 1
    reactions.note_new()
    assert list(promises()[SALE]()) == []
    assert Reaction.objects.exclude(since=None).get().receiver == UID


def test_what_is_placed_after_it_is(unrecorded, added_later):
    reactions.note_new()
    Order.objects.update(placed_at=timezone.now() + reactions.DEPLOY + timedelta(minutes=1))
    assert len(list(promises()[SALE]())) == 1


def test_what_is_noted_stays_as_it_is(added_later):
    reactions.note_new()
    first = Reaction.objects.get(receiver=UID).since
    reactions.note_new()
    assert Reaction.objects.get(receiver=UID).since == first


@pytest.mark.parametrize(("applied", "owed"), [(("0001_initial",), 1), ((), 0)], ids=["new", "from an older one"])
def test_what_nobody_noted_begins_now_and_in_a_new_ledger_at_the_beginning(unrecorded, applied, owed):
    Reaction.objects.all().delete()
    reactions.note_new(plan(*applied))
    assert len(list(promises()[SALE]())) == owed


def test_a_new_database_knows_every_receiver_since_the_beginning():
    Reaction.objects.all().delete()
    reactions.note_new(plan("0001_initial"))
    assert set(Reaction.objects.values_list("since", flat=True)) == {None}
    assert Reaction.objects.filter(receiver=UID).exists()
