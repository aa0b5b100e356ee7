"""The counts of a drill, by separate SQL on a separate connection, without any code of the shop."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import EmailMessage

import psycopg

from tests.faults.buyers import Buyers
from tests.processes import wait_until

OPEN = "SELECT count(*) FROM celery_ledger_durabletask WHERE status NOT IN ('succeeded', 'cancelled', 'dead')"
ORDERS_TASKS = """
    SELECT count(*) FILTER (WHERE tasks.found <> %s) FROM store_order
    LEFT JOIN (
        SELECT subject, count(DISTINCT name) AS found FROM celery_ledger_durabletask
        WHERE name = ANY(%s) GROUP BY subject
    ) AS tasks ON tasks.subject = 'store.order:' || store_order.id
"""
#: Reactions that every order has, each of which is one row.
REACTIONS = [
    "analytics_app.tasks.record_sale",
    "core.tasks.record_order_event",
    "email_app.tasks.send_order_confirmation",
    "notifications.tasks.announce_placed_order",
    "store.tasks.update_inventory",
]
#: Units that an order took, and units that the stock lacks, per product: equal, or an effect is lost or doubled.
STOCK = """
    SELECT count(*) FROM store_stock
    LEFT JOIN (SELECT product_id, sum(quantity) AS units FROM store_orderitem GROUP BY 1) AS sold USING (product_id)
    WHERE product_id = ANY(%s) AND (%s - on_hand <> coalesce(sold.units, 0) OR reserved <> 0)
"""
SALES = """
    SELECT count(*) FROM store_order LEFT JOIN analytics_app_salerecord AS sale ON order_id = store_order.id
    WHERE sale.id IS NULL
"""
ENTRIES = """
    SELECT count(*) FROM (
        SELECT subject FROM celery_ledger_durabletask WHERE name = ANY(%s) GROUP BY subject, name HAVING count(*) > 1
    ) AS twice
"""
LAGS = """
    SELECT percentile_disc(ARRAY[0.5, 0.99, 1.0]) WITHIN GROUP (ORDER BY extract(epoch FROM completed_at - created_at))
    FROM celery_ledger_durabletask WHERE status = 'succeeded' AND name = ANY(%s)
"""
PUBLICATIONS = "SELECT coalesce(sum(rows), 0) FROM celery_ledger_tally WHERE outcome = %s"


@dataclass(frozen=True)
class Count:
    """The counts after everything has settled; all except ``orders`` and ``lags`` should be 0."""

    orders: int
    missing: int
    open: int
    dead: int
    without_tasks: int
    without_sale: int
    wrong_stock: int
    doubled: int
    mails_missing: int
    mails_doubled: int
    lags: tuple[float, float, float]

    @property
    def is_clean(self) -> bool:
        return not any(
            (
                self.missing,
                self.open,
                self.dead,
                self.without_tasks,
                self.without_sale,
                self.wrong_stock,
                self.doubled,
                self.mails_missing,
                self.mails_doubled,
            )
        )

    def __str__(self) -> str:
        half, most, longest = self.lags
        lacking = self.without_sale + self.wrong_stock + self.mails_missing
        return (
            f"{self.orders} orders; acknowledged and missing {self.missing}; tasks open {self.open}, dead {self.dead}, "
            f"lacking {self.without_tasks}; effects lacking {lacking}, doubled {self.doubled}; "
            f"mails doubled {self.mails_doubled}; from commit to effect p50 {half:.2f} s, "
            f"p99 {most:.2f} s, longest {longest:.2f} s"
        )


def one(url: str, sql: str, *parameters: object) -> int:
    """Return the one number that ``sql`` answers."""
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as link:
        [answer] = link.execute(sql, parameters).fetchone() or [0]
        return int(answer)


def settle(url: str, *, seconds: float = 120) -> float:
    """Wait until no task is open, and return how many seconds that took."""
    return wait_until("no task is open", lambda: one(url, OPEN) == 0, seconds=seconds)


def count(url: str, buyers: Buyers, mails: Iterable[EmailMessage]) -> Count:
    """Count what is in the database at ``url`` against what the buyers were told, and which mails went out."""
    copies = Counter(mail["Message-ID"] for mail in mails)
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as link:

        def ask(sql: str, *parameters: object) -> int:
            [answer] = link.execute(sql, parameters).fetchone() or [0]
            return int(answer)

        there = {pk for (pk,) in link.execute("SELECT id FROM store_order")}
        [lags] = link.execute(LAGS, [REACTIONS]).fetchone() or [None]
        recorded = {id for (id,) in link.execute("SELECT message_id FROM email_app_emaildelivery")}
        return Count(
            orders=len(there),
            missing=sum(1 for order in buyers.told.values() if order not in there),
            open=ask(OPEN),
            dead=ask("SELECT count(*) FROM celery_ledger_durabletask WHERE status = 'dead'"),
            without_tasks=ask(ORDERS_TASKS, len(REACTIONS), REACTIONS),
            without_sale=ask(SALES),
            wrong_stock=ask(STOCK, [product.pk for product in buyers.products], buyers.stock),
            doubled=ask(ENTRIES, REACTIONS),
            mails_missing=len(recorded - copies.keys()),
            mails_doubled=sum(number - 1 for number in copies.values()),
            lags=tuple(map(float, lags or (0, 0, 0))),  # type: ignore[arg-type]
        )
