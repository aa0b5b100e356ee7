"""What the shop refuses, as a client hears it."""

from rest_framework import status

from store.inventory import NotEnoughStock
from web.refusals import Refusal


class OutOfStock(Refusal):
    """There is less of some products than the cart asks for."""

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
    """A customer would have more of some products than one customer may within a day."""

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
    """A request under this idempotency key is being answered at this moment."""

    problem = "idempotency-key-in-use"
    default_detail = "A request with this Idempotency-Key is still in progress. Try again shortly."
    wait = 1  # seconds


class KeyReused(Refusal):
    """This idempotency key belongs to another request of the same user."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    problem = "idempotency-key-reused"
    default_detail = "This Idempotency-Key was used with a different request body. Use a new key."


class NotCancellable(Refusal):
    """The order has been shipped or cancelled before."""

    problem = "not-cancellable"
    default_detail = "This order can no longer be cancelled."
