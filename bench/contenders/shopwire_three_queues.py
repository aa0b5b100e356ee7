"""As shopwire, but each task has its own queue, as in the shop: their rows never share a message."""

from dataclasses import replace

from bench.contenders.shopwire import CONTENDER as SHOPWIRE

CONTENDER = replace(
    SHOPWIRE,
    name="shopwire_three_queues",
    title="Shopwire, a queue for each task",
    settings={
        **SHOPWIRE.settings,
        "CELERY_TASK_ROUTES": {
            "bench.send_confirmation": {"queue": "email"},
            "bench.settle_stock": {"queue": "inventory"},
            "bench.record_sale": {"queue": "analytics"},
        },
    },
)
