"""The contents of messages: ids and amounts, without personal data."""

from typing import Any

from store.models import Order, OrderItem, Product
from webhooks.models import Version


def of_order(order: Order, version: int) -> dict[str, Any]:
    """Return the current state of an order with its lines."""
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
    """Return the subject by which a product's events are ordered."""
    return f"{product._meta.label_lower}:{product.pk}"


def of_product(product: Product) -> dict[str, Any]:
    """Return a product's identification."""
    return {"product": product.pk, "sku": product.sku, "title": product.title}
