"""Sales by day and product."""

from django.apps import AppConfig


class AnalyticsAppConfig(AppConfig):
    """Connects the app's receivers."""

    name = "analytics_app"

    def ready(self) -> None:
        """Connect the receivers and register the promises."""
        from analytics_app import promises, receivers
        from celery_ledger.promises import register
        from store.signals import order_cancelled, order_created

        order_created.connect(receivers.enqueue_sale, dispatch_uid="analytics_app.enqueue_sale")
        order_cancelled.connect(receivers.enqueue_sale_reversal, dispatch_uid="analytics_app.enqueue_sale_reversal")
        register("Every order is recorded as one sale.", promises.orders_without_sale)
        register("A sale is reversed if and only if its order is cancelled.", promises.sales_not_as_their_orders)
        register("A sale has the units and the revenue of its order's lines.", promises.sales_unlike_their_lines)
        register(
            "Daily sales are the sums of the sales that were not reversed.", promises.daily_sales_unlike_their_sales
        )
