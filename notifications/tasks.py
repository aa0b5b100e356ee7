"""
Durable tasks that notify users. Called by receivers.py and by schedules.

The tasks that announce run in the transaction that marks their ledger rows succeeded, so each notification is written
exactly once; a key prevents a second notification when a signal is sent again.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import islice
from typing import Any

from celery import shared_task
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import Count, F
from django.utils import timezone

from celery_ledger import clock
from celery_ledger.desk import dead_letters, turns
from messaging.models import Message
from notifications import push, texts, trouble
from notifications.announce import notify, prune, write
from notifications.models import Announcement, Kind, Notification
from store.managers import managers
from store.models import Order, Product
from store.money import money

#: How many products one notification names.
MOST_NAMED = 20
#: How often managers are notified of dead letters, and how far back the first notification looks.
GATHERING, LOOK_BACK = timedelta(hours=1), timedelta(days=1)
#: A death may be committed this long after its own timestamp.
DYING = timedelta(minutes=1)
#: How many users one transaction notifies of an announcement.
FAN_OUT = 1_000


@shared_task(name="notifications.tasks.announce_placed_order", label="Notify you", batch_size=200)
def announce_placed_order(order_ids: list[int]) -> None:
    """Notify customers that their orders are placed, once each. Callers give one id each."""
    _tell_customers(order_ids, Kind.ORDER_PLACED, "has been placed")


@shared_task(
    name="notifications.tasks.announce_cancelled_order", label="Notify you of the cancellation", batch_size=200
)
def announce_cancelled_order(order_ids: list[int]) -> None:
    """Notify customers that their orders are cancelled, once each. Callers give one id each."""
    _tell_customers(order_ids, Kind.ORDER_CANCELLED, "has been cancelled")


@shared_task(name="notifications.tasks.alert_duplicate_order", label="Notify the managers of a duplicate")
def alert_duplicate_order(order_id: int) -> None:
    """Alert every manager, once, to an order that repeats another one of its customer."""
    _tell_managers(
        Kind.DUPLICATE_ORDER,
        f"Order {order_id} has the same lines as another that the customer placed just before.",
        data={"order": order_id},
        key=f"{Kind.DUPLICATE_ORDER}:{order_id}",
    )


@shared_task(name="notifications.tasks.alert_low_stock", batch_size=200)
def alert_low_stock(product_ids: list[int]) -> None:
    """
    Alert every manager to products with low stock, once for each call. Callers give one id each.

    A product that no longer exists is skipped.
    """
    products: dict[int, Any] = Product.objects.with_available().in_bulk(product_ids)
    readers = _manager_ids()
    write(
        Notification(
            user_id=user_id,
            kind=Kind.STOCK_LOW,
            message=(
                f"{products[id].sku} {products[id].title}: {products[id].available} left, "
                f"fewer than {products[id].low_stock_threshold}."
            ),
            data={"product": id},
        )
        for id in product_ids
        if id in products
        for user_id in readers
    )


@shared_task(name="notifications.tasks.alert_late_schedule")
def alert_late_schedule(name: str, due_at: str) -> None:
    """Alert every manager, once, to a schedule that did not run when it was due."""
    _tell_managers(
        Kind.SCHEDULE_LATE,
        f"The schedule {name!r} was due at {due_at} but did not run: beat was down or late."[:500],
        data={"schedule": name, "due_at": due_at},
        key=f"{Kind.SCHEDULE_LATE}:{sha256(f'{name} {due_at}'.encode()).hexdigest()}",
    )


@shared_task(name="notifications.tasks.tell_of_dead_letters")
def tell_of_dead_letters() -> int:
    """
    Notify every manager of new dead letters, at most once an hour; return how many.

    Repeatable: nothing is reported twice. A dead letter that was replayed or discarded meanwhile is left
    out.
    """
    until = clock.now() - DYING
    last = Notification.objects.filter(kind=Kind.DEAD_LETTERS).order_by("-pk").first()
    since = until - LOOK_BACK
    if last is not None and "until" in last.data:
        since = datetime.fromisoformat(last.data["until"])
        if until - since < GATHERING:
            return 0
    dead = dead_letters.dead_tasks().filter(completed_at__gt=since, completed_at__lte=until).order_by()
    counts = dict(dead.values_list("name").annotate(count=Count("id")).order_by("-count", "name"))
    if not counts:
        return 0
    names = ", ".join(f"{name} ({count})" for name, count in islice(counts.items(), 3))
    more = f" and {len(counts) - 3} other tasks" if len(counts) > 3 else ""
    died = sum(counts.values())
    _tell_managers(
        Kind.DEAD_LETTERS,
        f"{died} {'task has become a dead letter' if died == 1 else 'tasks have become dead letters'}: {names}{more}."[
            :500
        ],
        data={"tasks": counts, "until": until.isoformat()},
        key=f"{Kind.DEAD_LETTERS}:{until:%Y-%m-%dT%H:%M}",
    )
    return died


@shared_task(name="notifications.tasks.tell_of_trouble", queue="scheduled")
def tell_of_trouble() -> int:
    """
    Notify the managers of failing tasks and other problems; return how many were new to them.

    Repeatable: the same trouble is reported at most once an hour. While no worker or no relay is running, nothing runs
    this task: see :mod:`notifications.urgent`.
    """
    return trouble.tell()


@shared_task(name="notifications.tasks.announce_message", batch_size=200)
def announce_message(message_ids: list[int]) -> None:
    """
    Notify users of messages, once for each message. Callers give one id each.

    A message that no longer exists is skipped.
    """
    messages = Message.objects.filter(pk__in=message_ids).select_related("sender").order_by("pk")
    write(
        Notification(
            user_id=message.receiver_id,
            sender_id=message.sender_id,
            kind=Kind.MESSAGE,
            message=f"{message.sender.username} wrote: {message.preview}",
            data={"message": message.pk},
            key=f"{Kind.MESSAGE}:{message.pk}",
        )
        for message in messages
    )


@shared_task(name="notifications.tasks.fan_out_announcement")
def fan_out_announcement(announcement_id: int, after: int = 0) -> int:
    """
    Notify the next thousand users, after the id ``after``, of an announcement; return how many.

    Their notifications and the task for the next users are one transaction, so each user is notified once. Users who
    sign up meanwhile are notified too. It ends if the announcement is deleted.
    """
    announcement = Announcement.objects.filter(pk=announcement_id).first()
    if announcement is None:
        return 0
    users = get_user_model()._default_manager.filter(is_active=True, pk__gt=after).order_by("pk")
    user_ids = list(users.values_list("pk", flat=True)[:FAN_OUT])
    notify(
        user_ids,
        kind=Kind.ANNOUNCEMENT,
        message=announcement.message,
        data={"announcement": announcement.pk},
        key=f"{Kind.ANNOUNCEMENT}:{announcement.pk}",
        sender_id=announcement.author_id,
    )
    if len(user_ids) == FAN_OUT:
        fan_out_announcement.delay(announcement_id, user_ids[-1])
    else:
        Announcement.objects.filter(pk=announcement_id).update(told_at=timezone.now())
    return len(user_ids)


@shared_task(
    name="notifications.tasks.push_notification",
    label="Notify your browsers",
    bind=True,
    transactional=False,
    retries="patient",
)
def push_notification(self: Any, delivery_id: int) -> None:
    """
    Push a notification to its reader's browsers; a second run skips those that accepted it.

    It waits if a push service asks for that. A subscription that has ended is forgotten.
    """
    try:
        push.deliver(delivery_id)
    except push.PushDeferredError as error:
        if error.wait is not None:
            pause = max(error.wait, self.pause_after(self.request.retries + 1))
            raise self.retry(countdown=pause, exc=error) from None
        raise


@shared_task(
    name="notifications.tasks.text_notification", label="Notify you by SMS", transactional=False, retries="patient"
)
def text_notification(delivery_id: int) -> None:
    """
    Send a notification by SMS to a verified number; a second run finds it sent.

    Permanent errors: the gateway refuses it.
    """
    texts.deliver(delivery_id)


@shared_task(name="notifications.tasks.sweep_low_stock", queue="scheduled")
def sweep_low_stock() -> int:
    """
    Alert every manager, once a day, to products below their thresholds, whatever the cause.

    Returns how many those are.
    """
    with_available: Any = Product.objects.with_available()
    low = with_available.filter(low_stock_threshold__gt=0, available__lt=F("low_stock_threshold"))
    skus = list(low.order_by("sku").values_list("sku", flat=True))
    if skus:
        named = ", ".join(skus[:MOST_NAMED]) + (", ..." if len(skus) > MOST_NAMED else "")
        _tell_managers(
            Kind.STOCK_LOW,
            f"{len(skus)} products are below their thresholds: {named}"[:500],
            data={"count": len(skus)},
            key=f"{Kind.STOCK_LOW}:{timezone.now().date()}",
        )
    return len(skus)


@shared_task(name="notifications.tasks.prune_notifications", queue="scheduled", transactional=False)
def prune_notifications() -> int:
    """
    Delete notifications ``NOTIFICATION_RETENTION_DAYS`` after they were made, if read, and return how many.

    Unread ones go after ``NOTIFICATION_UNREAD_RETENTION_DAYS``. Repeatable.
    """
    steps = prune(
        older_than=timedelta(days=settings.NOTIFICATION_RETENTION_DAYS),
        unread_older_than=timedelta(days=settings.NOTIFICATION_UNREAD_RETENTION_DAYS),
    )
    return turns.take(prune_notifications, steps)


def _tell_customers(order_ids: Iterable[int], kind: Kind, what: str) -> None:
    orders = Order.objects.filter(pk__in=order_ids).order_by("pk")
    write(
        Notification(
            user_id=user_id,
            kind=kind,
            message=f"Your order {id} of {money(total, currency)} {what}.",
            data={"order": id},
            key=f"{kind}:{id}",
        )
        for id, user_id, total, currency in orders.values_list("pk", "customer__user_id", "total", "currency")
    )


def _tell_managers(kind: Kind, message: str, *, data: dict[str, object], key: str) -> None:
    notify(_manager_ids(), kind=kind, message=message, data=data, key=key)


def _manager_ids() -> list[int]:
    return list(managers().values_list("pk", flat=True))
