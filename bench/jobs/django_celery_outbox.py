"""django-celery-outbox: ``.delay()`` writes a row, its relay sends it."""

from typing import Any

from celery.signals import worker_ready
from django_celery_outbox import OutboxCelery

from bench import effects
from bench.models import Order

app = OutboxCelery("bench")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task
def send_confirmation(order_id: int) -> None:
    effects.write("confirmation", order_id)


@app.task
def settle_stock(order_id: int) -> None:
    effects.write("stock", order_id)


@app.task
def record_sale(order_id: int) -> None:
    effects.write("sale", order_id)


def enqueue(order: Order) -> None:
    for task in (send_confirmation, settle_stock, record_sale):
        task.delay(order.pk)


@worker_ready.connect
def _say_ready(**_: Any) -> None:
    print("bench: the worker is ready", flush=True)
