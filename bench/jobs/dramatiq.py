"""Dramatiq's actors, sent when the order's transaction has committed."""

from functools import partial

import dramatiq
from django.conf import settings
from django.db import transaction
from dramatiq.brokers.redis import RedisBroker

from bench import effects
from bench.models import Order

dramatiq.set_broker(RedisBroker(url=settings.REDIS_URL))


@dramatiq.actor
def send_confirmation(order_id: int) -> None:
    effects.write("confirmation", order_id)


@dramatiq.actor
def settle_stock(order_id: int) -> None:
    effects.write("stock", order_id)


@dramatiq.actor
def record_sale(order_id: int) -> None:
    effects.write("sale", order_id)


def enqueue(order: Order) -> None:
    for actor in (send_confirmation, settle_stock, record_sale):
        transaction.on_commit(partial(actor.send, order.pk))
