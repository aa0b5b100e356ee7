"""The invariants that must hold after a fault: I1 to I10 of the fault catalogue, as one function."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from email.message import EmailMessage

from django.db.models import Sum

from celery_ledger.models import DurableTask
from celery_ledger.promises import promises
from core import wiring
from store.models import Order, OrderItem, Stock
from tests.faults.buyers import Buyers
from tests.processes import wait_until
from webhooks.models import Event, WebhookEndpoint
from webhooks.tasks import deliver

Status = DurableTask.Status
ENDED = {Status.SUCCEEDED, Status.DEAD, Status.CANCELLED}


def settle(*, seconds: float = 60) -> float:
    """Wait until no task is open and return how many seconds that took; fail when none has ended for ``seconds``."""
    began = time.monotonic()
    while left := open_tasks():
        wait_until(f"one of {left} open tasks has ended", lambda left=left: open_tasks() < left, seconds=seconds)
    return time.monotonic() - began


def open_tasks() -> int:
    return DurableTask.objects.exclude(status__in=ENDED).count()


def broken(buyers: Buyers, mails: Iterable[EmailMessage] | None = None) -> list[str]:
    """Return a line for each thing that breaks an invariant. Call it once every task has ended."""
    return [*_orders(buyers), *_tasks(), *_promises(), *_stock(buyers), *_answers(buyers), *_mails(mails)]


def doubled(mails: Iterable[EmailMessage]) -> int:
    """Return how many mails are second copies of another."""
    return sum(count - 1 for count in Counter(mail["Message-ID"] for mail in mails).values())


def _orders(buyers: Buyers) -> Iterator[str]:
    carts = dict(Order.objects.values_list("pk", "cart_id"))
    for checkout in buyers.begun:
        if checkout.order_id is not None and carts.get(checkout.order_id) != checkout.cart_id:
            yield f"I1: {checkout.key} was told of order {checkout.order_id}, which is not there"
    for cart, count in Counter(carts.values()).items():
        if count > 1:
            yield f"I7: cart {cart} became {count} orders"
    begun = {checkout.cart_id for checkout in buyers.begun}
    for pk, cart in carts.items():
        if cart not in begun:
            yield f"I7: nobody placed order {pk}"


def _tasks() -> Iterator[str]:
    reactions = [each.task for each in wiring.connections() if each.signal == "store.order_created" and each.task]
    # One for each endpoint that subscribed, and so mostly none.
    endpoints = [each for each in WebhookEndpoint.objects.filter(active=True) if Event.ORDER_CREATED in each.events]
    owed = dict.fromkeys(reactions, 1) | {deliver.name: len(endpoints)}
    found: dict[str, Counter[str]] = {}
    for subject, name in DurableTask.objects.exclude(subject=None).values_list("subject", "name"):
        found.setdefault(subject, Counter())[name] += 1
    for pk in Order.objects.values_list("pk", flat=True):
        names = found.get(f"store.order:{pk}", Counter())
        for reaction, tasks in owed.items():
            if names[reaction] != tasks:
                yield f"I2: order {pk} has {names[reaction]} tasks {reaction}"
    orders = {f"store.order:{pk}" for pk in Order.objects.values_list("pk", flat=True)}
    for subject in found:
        if subject.startswith("store.order:") and subject not in orders:
            yield f"I2: tasks of {subject}, which is not there"
    for task in DurableTask.objects.exclude(status__in=ENDED):
        yield f"I3, I9: {task.name} {task.pk} is still {task.status}"
    for task in DurableTask.objects.filter(status=Status.DEAD):
        yield f"I3: {task.name} is dead: {task.last_error}"


def _promises() -> Iterator[str]:
    for promise, violations in promises().items():
        yield from (f"I2-I6, I9: {promise} {line}" for line in violations())


def _stock(buyers: Buyers) -> Iterator[str]:
    sold = dict(OrderItem.objects.values_list("product").annotate(Sum("quantity")))
    for stock in Stock.objects.filter(product__in=buyers.products):
        if stock.on_hand != buyers.stock - sold.get(stock.product_id, 0) or stock.reserved != 0:
            yield f"I5: of {stock.product_id} {stock.on_hand} are on hand, {stock.reserved} reserved"


def _answers(buyers: Buyers) -> Iterator[str]:
    for checkout in buyers.begun:
        yield from (f"I10: {checkout.key} was answered {fault}" for fault in checkout.faults)
        if not checkout.is_answered and not checkout.faults:
            yield f"I10: {checkout.key} was never answered: {Counter(checkout.statuses)}"


def _mails(mails: Iterable[EmailMessage] | None) -> Iterator[str]:
    """At least one confirmation an order; that there is no second is for the test to say, which knows its faults."""
    if mails is None:
        return
    from email_app.models import EmailDelivery

    arrived = {mail["Message-ID"] for mail in mails}
    recorded = set(EmailDelivery.objects.values_list("message_id", flat=True))
    for stranger in arrived - recorded:
        yield f"I8: {stranger} was sent and is no mail of ours"
    for missing in recorded - arrived:
        yield f"I8: {missing} never arrived"
