"""What receivers are told: numbers of things and money, and nothing that is personal."""

from typing import Any

from store.models import Order, OrderItem, Product
from webhooks.models import Version


def of_order(order: Order, version: int) -> dict[str, Any]:
    """Return an order with its lines, as it is now."""
    return {
        "id": order.pk,
        "status": order.status,
        "customer": order.customer_id,
        "placed_at": order.placed_at.isoformat(),
        "total": str(order.total),
        "currency": order.currency,
        "items": [_of_line(line, version) for line in order.items.select_related("product")],
    }


def _of_line(line: OrderItem, version: int) -> dict[str, Any]:
    facts = {
        "product": line.product_id,
        "sku": line.product.sku,
        "quantity": line.quantity,
        "unit_price": str(line.unit_price),
    }
    if version >= Version.SECOND:
        facts |= {"title": line.product.title, "total": str(line.quantity * line.unit_price)}
    return facts


def subject_of(product: Product) -> str:
    """Return the name under which what happens to a product is kept in order."""
    return f"{product._meta.label_lower}:{product.pk}"


def of_product(product: Product) -> dict[str, Any]:
    """Return which product it is."""
    return {"product": product.pk, "sku": product.sku, "title": product.title}
