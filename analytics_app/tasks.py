"""
The journal as durable tasks. Called by receivers.py.

Both run in batches, inside the transaction that marks their ledger rows succeeded: a sale is counted exactly once. They
may run in any order.
"""

from celery import shared_task

from analytics_app import journal


@shared_task(name="analytics_app.tasks.record_sale", label="Record the sale", batch_size=200)
def record_sale(order_ids: list[int]) -> None:
    """
    Count orders: one sale record each, added to the daily sales. Callers give one id each.

    An order that is already recorded is skipped. Permanent errors: an order no longer exists.
    """
    journal.record(order_ids)


@shared_task(name="analytics_app.tasks.reverse_sale", label="Reverse the sale", batch_size=200)
def reverse_sale(order_ids: list[int]) -> None:
    """
    Subtract cancelled orders from the daily sales and mark their records. Callers give one id each.

    An order that is already reversed, or not cancelled, is skipped. Permanent errors: an order no longer exists.
    """
    journal.reverse(order_ids)
