"""Huey's tasks, enqueued when the order's transaction has committed."""

from functools import partial

from django.db import transaction
from huey.contrib.djhuey import db_task

from bench import effects
from bench.models import Order


@db_task()
def send_confirmation(order_id: int) -> None:
    effects.write("confirmation", order_id)


@db_task()
def settle_stock(order_id: int) -> None:
    effects.write("stock", order_id)


@db_task()
def record_sale(order_id: int) -> None:
    effects.write("sale", order_id)


def enqueue(order: Order) -> None:
    for task in (send_confirmation, settle_stock, record_sale):
        transaction.on_commit(partial(task, order.pk))
