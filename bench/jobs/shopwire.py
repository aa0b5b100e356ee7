"""This project's tasks: ordinary shared tasks with a batch size, enqueued by a durable signal's receivers."""

from typing import Any

from celery import Task, shared_task
from celery.signals import worker_ready
from django.conf import settings

from bench import effects
from bench.models import Order
from celery_ledger.signals import DurableSignal

order_created = DurableSignal("bench.order_created")


def _write(kind: str, orders: list[int] | int) -> None:
    """With a batch size of one, a body is given its argument; else the list of them."""
    if isinstance(orders, list):
        effects.write_all(kind, orders)
    else:
        effects.write(kind, orders)


@shared_task(name="bench.send_confirmation", batch_size=settings.BENCH_BATCH_SIZE)
def send_confirmation(orders: list[int] | int) -> None:
    _write("confirmation", orders)


@shared_task(name="bench.settle_stock", batch_size=settings.BENCH_BATCH_SIZE)
def settle_stock(orders: list[int] | int) -> None:
    _write("stock", orders)


@shared_task(name="bench.record_sale", batch_size=settings.BENCH_BATCH_SIZE)
def record_sale(orders: list[int] | int) -> None:
    _write("sale", orders)


def _connect(task: Task) -> None:
    def receiver(sender: object, order: Order, **_: Any) -> None:
        task.delay(order.pk)

    order_created.connect(receiver, dispatch_uid=task.name)


for _task in (send_confirmation, settle_stock, record_sale):
    _connect(_task)


def enqueue(order: Order) -> None:
    order_created.send_robust(Order, order=order)


@worker_ready.connect
def _say_ready(**_: Any) -> None:
    print("bench: the worker is ready", flush=True)
