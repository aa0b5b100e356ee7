"""django-celery-outbox's tasks, enqueued by a receiver of Django's own signal, and alongside it one that fails."""

from typing import Any

from django.dispatch import Signal

from bench.jobs.django_celery_outbox import enqueue as enqueue_tasks
from bench.jobs.failing import count_points
from bench.models import Order

order_created = Signal()


def react(sender: object, order: Order, **_: Any) -> None:
    enqueue_tasks(order)


order_created.connect(react, dispatch_uid="bench.react")
order_created.connect(count_points, dispatch_uid="bench.count_points")


def enqueue(order: Order) -> None:
    order_created.send_robust(Order, order=order)
