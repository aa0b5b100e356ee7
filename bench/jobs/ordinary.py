"""Ordinary tasks on the package: plain Celery's own three, in an app with the ledger's task class."""

from celery import Celery
from celery.signals import worker_ready
from django.conf import settings

from bench import effects
from bench.models import Order

app = Celery("bench", task_cls="celery_ledger:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(transactional=settings.BENCH_TRANSACTIONAL)
def send_confirmation(order_id: int) -> None:
    effects.write("confirmation", order_id)


@app.task(transactional=settings.BENCH_TRANSACTIONAL)
def settle_stock(order_id: int) -> None:
    effects.write("stock", order_id)


@app.task(transactional=settings.BENCH_TRANSACTIONAL)
def record_sale(order_id: int) -> None:
    effects.write("sale", order_id)


def enqueue(order: Order) -> None:
    for task in (send_confirmation, settle_stock, record_sale):
        task.delay(order.pk)


@worker_ready.connect
def _say_ready(**_: object) -> None:
    print("bench: the worker is ready", flush=True)
