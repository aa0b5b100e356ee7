"""Payments: an order waits for its payment and is paid exactly once. Off unless configured."""

from django.apps import AppConfig


class PaymentsConfig(AppConfig):
    """Connects the app's receivers."""

    name = "payments"

    def ready(self) -> None:
        """Connect the receivers and register the promises."""
        from celery_ledger.promises import register
        from payments import (
            checks,  # noqa: F401 - It registers itself.
            promises,
            receivers,
        )
        from store.signals import order_cancelled, order_expired, order_reserved

        order_reserved.connect(receivers.wait_for_payment, dispatch_uid="payments.wait_for_payment")
        order_expired.connect(receivers.end_payment, dispatch_uid="payments.end_payment")
        order_cancelled.connect(receivers.return_payment, dispatch_uid="payments.return_payment")
        register("An order with a payment is placed if and only if it is paid.", promises.unlike_orders)
        register("No order is waiting for an overdue payment.", promises.overdue)
