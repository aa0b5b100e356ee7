"""Plain Celery: an app of its own, three tasks, and the settings of the contender."""

from celery import Celery
from django.conf import settings

from bench import effects
from bench.models import Order

app = Celery("bench")
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
        getattr(task, settings.BENCH_ENQUEUE)(order.pk)
