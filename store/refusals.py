"""The shop's refusals, as API errors."""

from rest_framework import status

from store.inventory import NotEnoughStock
from web.refusals import Refusal


class OutOfStock(Refusal):
    """Some products in the cart have too little stock."""

    problem = "out-of-stock"
    default_detail = "Not enough stock for this order. Nothing was ordered."

    def __init__(self, shortage: NotEnoughStock) -> None:
        super().__init__()
        self.errors = [
            {
                "pointer": "/cart_id",
                "detail": f"Product {short.product_id}: {short.asked} asked for, {short.available} available.",
                "product": short.product_id,
                "requested": short.asked,
                "available": short.available,
            }
            for short in shortage.shortages
        ]


class QuantityLimited(Refusal):
    """The customer would exceed the daily quantity limit of some products."""

    problem = "quantity-limited"
    default_detail = (
        "This exceeds the quantity of a product that one customer can order within a day. Nothing was ordered."
    )

    def __init__(self, products: dict[int, int]) -> None:
        super().__init__()
        self.errors = [
            {"pointer": "/cart_id", "detail": f"Product {id}: {left} more can be ordered today.", "product": id}
            for id, left in sorted(products.items())
        ]


class KeyInUse(Refusal):
    """Another request with this idempotency key is still being processed."""

    problem = "idempotency-key-in-use"
    default_detail = "A request with this Idempotency-Key is still in progress. Try again shortly."
    wait = 1  # seconds


class KeyReused(Refusal):
    """This idempotency key belongs to a different request of the same user."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    problem = "idempotency-key-reused"
    default_detail = "This Idempotency-Key was used with a different request body. Use a new key."


class NotCancellable(Refusal):
    """The order has already been shipped or cancelled."""

    problem = "not-cancellable"
    default_detail = "This order can no longer be cancelled."
