"""Procrastinate's tasks, deferred through Django's connection, so in the order's transaction."""

from procrastinate.contrib.django import app

from bench import effects
from bench.models import Order


@app.task(name="bench.send_confirmation")
def send_confirmation(order_id: int) -> None:
    effects.write("confirmation", order_id)


@app.task(name="bench.settle_stock")
def settle_stock(order_id: int) -> None:
    effects.write("stock", order_id)


@app.task(name="bench.record_sale")
def record_sale(order_id: int) -> None:
    effects.write("sale", order_id)


def enqueue(order: Order) -> None:
    for task in (send_confirmation, settle_stock, record_sale):
        task.defer(order_id=order.pk)
