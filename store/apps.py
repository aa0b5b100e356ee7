"""The shop: catalogue, carts, orders, stock. It sends signals without knowing who listens."""

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_save, pre_save


class StoreConfig(AppConfig):
    name = "store"

    def ready(self) -> None:
        """Connect the shop's own receivers and register its promises."""
        from celery_ledger.promises import register
        from store import promises, receivers
        from store.models import Customer, Order, Product, Stock
        from store.signals import order_created, product_price_changed

        post_save.connect(
            receivers.create_customer_profile,
            sender=settings.AUTH_USER_MODEL,
            dispatch_uid="store.create_customer_profile",
        )
        pre_save.connect(receivers.create_user_of_profile, sender=Customer, dispatch_uid="store.create_user_of_profile")
        pre_save.connect(receivers.flag_duplicate, sender=Order, dispatch_uid="store.flag_duplicate")
        pre_save.connect(receivers.notice_old_price, sender=Product, dispatch_uid="store.notice_old_price")
        post_save.connect(receivers.record_new_price, sender=Product, dispatch_uid="store.record_new_price")
        pre_save.connect(receivers.notice_old_stock, sender=Stock, dispatch_uid="store.notice_old_stock")
        post_save.connect(receivers.announce_low_stock, sender=Stock, dispatch_uid="store.announce_low_stock")
        product_price_changed.connect(receivers.log_price_change, dispatch_uid="store.log_price_change")
        order_created.connect(receivers.enqueue_inventory_update, dispatch_uid="store.enqueue_inventory_update")

        register("No product has more stock reserved than on hand.", promises.uncovered_stock)
        register(
            "The reserved stock of each product equals what its unsettled orders need.", promises.stray_reservations
        )
        register("The stock of every placed order is settled exactly once.", promises.unsettled_lines)
        register("An order is settled once all of its tasks are done, and not before.", promises.wrong_settlements)
        register("The stock of every cancelled order is returned exactly once.", promises.unreturned_lines)
        register("The total of every order is the sum of its lines.", promises.wrong_totals)
