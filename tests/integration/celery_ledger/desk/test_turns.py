"""Every task that deletes old rows ends its turn early and leaves the rest to the next one."""

from datetime import timedelta

import pytest
from django.utils import timezone

from celery_ledger.desk import turns
from celery_ledger.testing import drain, enqueued
from email_app import delivery
from email_app.models import EmailDelivery
from email_app.tasks import prune_mails
from notifications import announce
from notifications.models import Notification
from notifications.tasks import prune_notifications
from store import carts, idempotency
from store.models import Cart, IdempotencyKey
from store.tasks import drop_abandoned_carts, prune_idempotency_keys
from tests.shop import make_user

pytestmark = pytest.mark.django_db(transaction=True)
LONG_AGO = timezone.now() - timedelta(days=1_000)


def mails():
    EmailDelivery.objects.bulk_create(
        EmailDelivery(
            kind="welcome",
            recipient="ada@shop.example",
            status="sent",
            message_id=f"<{n}@shop.example>",
            reference=str(n),
            sent_at=LONG_AGO,
        )
        for n in range(3)
    )
    EmailDelivery.objects.update(created_at=LONG_AGO)


def notifications():
    user = make_user()
    Notification.objects.all().delete()
    Notification.objects.bulk_create(Notification(user=user, kind="announcement", message="hello") for _ in range(3))
    Notification.objects.update(created=LONG_AGO)


def old_carts():
    Cart.objects.bulk_create(Cart() for _ in range(3))
    Cart.objects.update(created_at=LONG_AGO)


def keys():
    user = make_user()
    for number in range(3):
        IdempotencyKey.objects.create(user=user, key=str(number), fingerprint="0" * 64, status_code=201, body={})
    IdempotencyKey.objects.update(created_at=LONG_AGO)


@pytest.mark.parametrize(
    ("make", "room", "task", "model"),
    [
        (mails, delivery, prune_mails, EmailDelivery),
        (notifications, announce, prune_notifications, Notification),
        (old_carts, carts, drop_abandoned_carts, Cart),
        (keys, idempotency, prune_idempotency_keys, IdempotencyKey),
    ],
    ids=["mails", "notifications", "carts", "idempotency keys"],
)
def test_what_is_left_is_done_by_the_next(make, room, task, model, monkeypatch):
    monkeypatch.setattr(room, "BATCH", 1)
    monkeypatch.setattr(turns, "TURN", -1)
    make()
    drain()
    old = model.objects.filter(**{"created" if model is Notification else "created_at": LONG_AGO})
    assert old.count() == 3
    assert task.run() == 1
    assert len(enqueued(task.name)) == 1
    drain()
    assert not old.exists()
