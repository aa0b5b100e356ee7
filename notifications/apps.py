"""Notifications: a row for each reader, whatever the channels by which it is delivered."""

from django.apps import AppConfig
from django.db.models.signals import post_save


class NotificationsConfig(AppConfig):
    """Connects the app's receivers."""

    name = "notifications"

    def ready(self) -> None:
        """Connect the receivers and register the promises."""
        from celery_ledger.events import processes_missing, tasks_settled
        from celery_ledger.promises import register
        from celery_ledger.signals import schedule_late
        from messaging.models import Message
        from notifications import (
            promises,
            receivers,
            vapid,  # noqa: F401 - It registers its checks.
        )
        from notifications.models import Announcement
        from notifications.signals import deliveries_arranged
        from store.models import Order
        from store.signals import order_cancelled, order_created, stock_low

        order_created.connect(receivers.enqueue_placed_notice, dispatch_uid="notifications.enqueue_placed_notice")
        order_cancelled.connect(
            receivers.enqueue_cancelled_notice, dispatch_uid="notifications.enqueue_cancelled_notice"
        )
        post_save.connect(
            receivers.enqueue_duplicate_alert, sender=Order, dispatch_uid="notifications.enqueue_duplicate_alert"
        )
        post_save.connect(
            receivers.enqueue_message_notice, sender=Message, dispatch_uid="notifications.enqueue_message_notice"
        )
        stock_low.connect(receivers.enqueue_low_stock_alert, dispatch_uid="notifications.enqueue_low_stock_alert")
        schedule_late.connect(
            receivers.enqueue_late_schedule_alert, dispatch_uid="notifications.enqueue_late_schedule_alert"
        )
        post_save.connect(receivers.enqueue_fan_out, sender=Announcement, dispatch_uid="notifications.enqueue_fan_out")
        tasks_settled.connect(receivers.hint_at_orders, dispatch_uid="notifications.hint_at_orders")
        processes_missing.connect(
            receivers.tell_of_missing_processes, dispatch_uid="notifications.tell_of_missing_processes"
        )
        deliveries_arranged.connect(receivers.enqueue_pushes, dispatch_uid="notifications.enqueue_pushes")
        deliveries_arranged.connect(receivers.enqueue_texts, dispatch_uid="notifications.enqueue_texts")
        register("Every customer was notified of the placed order.", promises.untold_of_placed_orders)
        register("Every customer was notified of the cancellation.", promises.untold_of_cancelled_orders)
