"""Webhooks: signed messages to other systems about events in the shop, at least once."""

from django.apps import AppConfig
from django.db.models.signals import post_delete, post_save


class WebhooksConfig(AppConfig):
    """Connects the app's receivers."""

    name = "webhooks"

    def ready(self) -> None:
        """Connect the receivers."""
        from celery_ledger.desk import limits
        from store.signals import order_announced, order_cancelled, orders_settled, product_price_changed, stock_low
        from webhooks import (
            checks,  # noqa: F401 - It registers itself.
            places,
            receivers,
        )
        from webhooks.models import WebhookEndpoint

        order_announced.connect(receivers.send_order_created, dispatch_uid="webhooks.send_order_created")
        order_cancelled.connect(receivers.send_order_cancelled, dispatch_uid="webhooks.send_order_cancelled")
        orders_settled.connect(receivers.send_orders_settled, dispatch_uid="webhooks.send_orders_settled")
        stock_low.connect(receivers.send_stock_low, dispatch_uid="webhooks.send_stock_low")
        product_price_changed.connect(receivers.send_price_changed, dispatch_uid="webhooks.send_price_changed")
        post_save.connect(receivers.look_again, sender=WebhookEndpoint, dispatch_uid="webhooks.look_again")
        post_delete.connect(receivers.look_again, sender=WebhookEndpoint, dispatch_uid="webhooks.look_again")
        limits.register("webhook endpoints", places.limits)
