"""Mails to customers, each a row with a status."""

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_save


class EmailAppConfig(AppConfig):
    """Connects the app's receivers."""

    name = "email_app"

    def ready(self) -> None:
        """Connect the receivers and register the promises."""
        from celery_ledger.promises import register
        from email_app import notification_mail, promises, receivers
        from notifications import urgent
        from notifications.models import Channel
        from notifications.signals import deliveries_arranged
        from store.models import Order
        from store.signals import address_wished, order_cancelled, order_created, order_delivered, order_shipped

        order_created.connect(receivers.enqueue_order_confirmation, dispatch_uid="email_app.enqueue_order_confirmation")
        order_cancelled.connect(
            receivers.enqueue_order_cancellation, dispatch_uid="email_app.enqueue_order_cancellation"
        )
        order_shipped.connect(receivers.enqueue_shipped_mail, dispatch_uid="email_app.enqueue_shipped_mail")
        order_delivered.connect(receivers.enqueue_delivered_mail, dispatch_uid="email_app.enqueue_delivered_mail")
        address_wished.connect(receivers.ask_about_address, dispatch_uid="email_app.ask_about_address")
        post_save.connect(
            receivers.enqueue_welcome_mail,
            sender=settings.AUTH_USER_MODEL,
            dispatch_uid="email_app.enqueue_welcome_mail",
        )
        post_save.connect(
            receivers.enqueue_duplicate_alert, sender=Order, dispatch_uid="email_app.enqueue_duplicate_alert"
        )
        deliveries_arranged.connect(
            receivers.enqueue_notification_mails, dispatch_uid="email_app.enqueue_notification_mails"
        )
        urgent.register(Channel.EMAIL, notification_mail.send)
        register("Every order has exactly one confirmation mail.", promises.orders_without_confirmation)
        register("Every cancelled order has exactly one cancellation mail.", promises.cancelled_orders_without_mail)
        register("Every shipped order has exactly one shipping mail.", promises.shipped_orders_without_mail)
        register("Every delivered order has exactly one delivery mail.", promises.delivered_orders_without_mail)
        register("Every order mail belongs to an order.", promises.mails_without_order)
        register("A mail has a sending time if and only if it is marked as sent.", promises.mails_with_a_wrong_time)
