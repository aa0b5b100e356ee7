"""
Promises about orders and stock, checked by ``manage.py outbox verify``.

Each function yields a line for each thing that breaks its promise. The promises hold at rest: while a task has yet to
run, its order is reported as unsettled, with the task's status.
"""

from collections.abc import Iterator
from decimal import Decimal

from django.db.models import CharField, DecimalField, Exists, F, OuterRef, Q, QuerySet, Sum, Value
from django.db.models.functions import Cast, Coalesce, Concat

from celery_ledger.models import DurableTask, Forgone
from celery_ledger.walking import walk
from store.models import Order, OrderItem, Stock, StockMovement

SALE, CANCEL = StockMovement.Reason.SALE, StockMovement.Reason.CANCEL
#: The task that records it.
SETTLEMENT = "store.tasks.record_settlement"
CENT = Decimal("0.01")
#: How many open tasks are looked up at once.
CHUNK = 500


def uncovered_stock() -> Iterator[str]:
    """Find stock with more reserved than on hand, or with a negative reservation."""
    broken = Stock.objects.filter(Q(reserved__lt=0) | Q(on_hand__lt=F("reserved"))).order_by("product_id")
    for stock in walk(broken):
        yield f"product {stock.product_id}: {stock.on_hand} on hand, {stock.reserved} reserved"


def stray_reservations() -> Iterator[str]:
    """Find products whose reservations differ from the sum of their unsettled lines."""
    waiting: dict[int, int] = dict(
        _unsettled().order_by().values("product_id").annotate(n=Sum("quantity")).values_list("product_id", "n")
    )
    for stock in walk(Stock.objects.only("reserved")):
        product_id, reserved = stock.product_id, stock.reserved
        wanted = waiting.pop(product_id, 0)
        if reserved != wanted:
            yield f"product {product_id}: {reserved} reserved, but unsettled orders need {wanted}"
    for product_id, wanted in sorted(waiting.items()):
        yield f"product {product_id}: no stock row, but unsettled orders need {wanted}"


def unsettled_lines() -> Iterator[str]:
    """
    Find lines of valid orders without a stock movement, or with one of a different quantity.

    An order whose settlement was given up permanently is skipped: its goods stay reserved.
    """
    unsettled: dict[int, list[int]] = {}
    for order_id, product_id in _due().values_list("order_id", "product_id"):
        unsettled.setdefault(order_id, []).append(product_id)
    statuses = _statuses_of_settling(list(unsettled))
    for order_id, products in unsettled.items():
        if statuses.get(order_id) == DurableTask.Status.CANCELLED:
            continue
        yield (
            f"order {order_id} is unsettled: no sale of {'product' if len(products) == 1 else 'products'} "
            f"{', '.join(map(str, products))}; its task is {statuses.get(order_id, 'not in the ledger')}"
        )
    sales = StockMovement.objects.filter(reason=SALE).order_by("id")
    line = OrderItem.objects.filter(
        order_id=OuterRef("order_id"), product_id=OuterRef("product_id"), quantity=-1 * OuterRef("quantity")
    )
    for sale in walk(sales.filter(~Exists(line))):
        yield f"order {sale.order_id}: {-sale.quantity} of product {sale.product_id} deducted, but its lines differ"


def wrong_settlements() -> Iterator[str]:
    """
    Find orders that should be recorded as settled but are not, and orders recorded too early.

    An order is skipped while one of its tasks has yet to run, or if one was given up. Orders placed before settlements
    were recorded have tasks that belong to no chord.
    """
    subject = Concat(Value(f"{Order._meta.label_lower}:"), Cast(OuterRef("pk"), CharField()))
    tasks = DurableTask.objects.filter(subject=subject)
    forgone = Forgone.objects.filter(subject=subject)
    members = tasks.filter(canvas__isnull=False)
    done = DurableTask.Status.SUCCEEDED
    unrecorded = Order.objects.filter(
        Exists(members), ~Exists(tasks.exclude(status=done)), ~Exists(forgone), settled_at=None
    )
    for order in walk(unrecorded.only("id")):
        yield f"order {order.pk}: all of its tasks are done, but it is not recorded as settled"
    late = members.filter(created_at__lte=OuterRef("settled_at")).exclude(
        status=done, completed_at__lte=OuterRef("settled_at")
    )
    for order in walk(Order.objects.exclude(settled_at=None).filter(Exists(late.exclude(name=SETTLEMENT))).only("id")):
        yield f"order {order.pk}: it was recorded as settled before all of its tasks were done"


def unreturned_lines() -> Iterator[str]:
    """Find goods of cancelled orders that did not come back, and returned goods that never left."""
    movements = StockMovement.objects.order_by("id")
    counterpart = StockMovement.objects.filter(
        order_id=OuterRef("order_id"), product_id=OuterRef("product_id"), quantity=-1 * OuterRef("quantity")
    )
    out = movements.filter(reason=SALE, order__status=Order.Status.CANCELLED)
    for sale in walk(out.filter(~Exists(counterpart.filter(reason=CANCEL)))):
        yield f"order {sale.order_id} is cancelled: {-sale.quantity} of product {sale.product_id} were not returned"
    back = movements.filter(reason=CANCEL)
    for movement in walk(
        back.filter(~Exists(counterpart.filter(reason=SALE)) | ~Q(order__status=Order.Status.CANCELLED))
    ):
        yield f"order {movement.order_id}: {movement.quantity} of product {movement.product_id} were returned wrongly"


def wrong_totals() -> Iterator[str]:
    """Find orders whose total differs from the sum of their lines, or that have no lines."""
    line_sum = Coalesce(
        Sum(F("items__quantity") * F("items__unit_price"), output_field=DecimalField(max_digits=18, decimal_places=2)),
        Value(0),
        output_field=DecimalField(max_digits=18, decimal_places=2),
    )
    orders = Order.objects.only("total").annotate(line_sum=line_sum)
    # Compared here and to the cent: SQLite adds decimals as floating point numbers.
    for order in walk(orders):
        lines = order.line_sum.quantize(CENT)  # type: ignore[attr-defined]
        if order.total != lines:
            yield f"order {order.pk}: total {order.total}, sum of lines {lines}"


def _unsettled() -> QuerySet[OrderItem]:
    """Return the lines whose goods are reserved: neither shipped nor released."""
    sale = StockMovement.objects.filter(order_id=OuterRef("order_id"), product_id=OuterRef("product_id"), reason=SALE)
    return OrderItem.objects.filter(~Exists(sale)).exclude(
        order__status__in=[Order.Status.CANCELLED, Order.Status.EXPIRED]
    )


def _due() -> QuerySet[OrderItem]:
    return _unsettled().exclude(order__status=Order.Status.UNPAID).order_by("order_id", "id")


def _statuses_of_settling(order_ids: list[int]) -> dict[int, str]:
    statuses: dict[int, str] = {}
    for start in range(0, len(order_ids), CHUNK):
        subjects = {f"{Order._meta.label_lower}:{id}": id for id in order_ids[start : start + CHUNK]}
        tasks = DurableTask.objects.filter(subject__in=subjects, name="store.tasks.update_inventory").order_by("id")
        forgone = Forgone.objects.filter(subject__in=subjects, name="store.tasks.update_inventory")
        statuses |= {
            subjects[subject]: DurableTask.Status.CANCELLED for subject in forgone.values_list("subject", flat=True)
        }
        for subject, status in tasks.values_list("subject", "status"):
            statuses[subjects[str(subject)]] = status
    return statuses
