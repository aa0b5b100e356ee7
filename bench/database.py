"""The bench's database, independent of the contenders: created, emptied, counted."""

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from bench.size import EFFECTS_AN_ORDER, PRODUCTS


class Database:
    """The bench's own connection."""

    def __init__(self, url: str) -> None:
        """
        Connect to ``url``; create its database if it does not exist.

        Raises:
            SystemExit: its name lacks ``bench``; the bench empties its tables.
        """
        self.url = url
        self.name = urlsplit(url).path.lstrip("/")
        if "bench" not in self.name:
            raise SystemExit(f"The bench empties tables: name a database with 'bench' in its name, not {self.name!r}.")
        self._create()
        self.connection = psycopg.connect(url, autocommit=True)
        self.given_up = 0  # effects that are no longer awaited

    def _create(self) -> None:
        with psycopg.connect(urlunsplit(urlsplit(self.url)._replace(path="/postgres")), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.name)))

    def value(self, query: str, parameters: Sequence[Any] = ()) -> Any:
        """Return the first column of the first row."""
        row = self.connection.execute(query, parameters or None).fetchone()
        return row and row[0]

    def run(self, query: str, parameters: Sequence[Any] = ()) -> None:
        self.connection.execute(query, parameters or None)

    def fill_catalogue(self) -> None:
        """Create products with more stock than any run can sell, and effects with the time of writing."""
        self.run(
            "ALTER TABLE bench_effect ADD COLUMN IF NOT EXISTS "
            "written_at timestamptz NOT NULL DEFAULT statement_timestamp()"
        )
        self.run("TRUNCATE bench_product, bench_stock, bench_order, bench_orderline, bench_effect RESTART IDENTITY")
        self.run(
            "INSERT INTO bench_product (id, title, unit_price) "
            "SELECT n, 'Product ' || n, n %% 90 + 0.99 FROM generate_series(1, %s) AS n",
            [PRODUCTS],
        )
        self.run("INSERT INTO bench_stock (product_id, on_hand, reserved) SELECT id, 1000000000, 0 FROM bench_product")
        self.run("ANALYZE bench_product, bench_stock")

    def empty(self, tables: Sequence[str]) -> None:
        """Delete all orders and effects, and the rows of a contender's own ``tables``."""
        emptied = ", ".join(("bench_order", "bench_orderline", "bench_effect", *tables))
        self.run(f"TRUNCATE {emptied} RESTART IDENTITY CASCADE")
        self.given_up = 0
        self.run("UPDATE bench_stock SET reserved = 0")
        self.run("VACUUM ANALYZE bench_stock")
        self.run("CHECKPOINT")

    def wait_for_effects(self, patience: float, orders: int | None = None) -> bool:
        """
        Wait until all orders, or this many, have their effects, except those given up before.

        False if nothing happened for ``patience`` seconds: what is missing is then given up.
        """
        wanted = EFFECTS_AN_ORDER * (self.value("SELECT count(*) FROM bench_order") if orders is None else orders)
        wanted -= self.given_up
        seen, since = -1, time.monotonic()
        while time.monotonic() - since < patience:
            # The sequence is cheap to read, and no effect is there before its number is taken.
            handed_out = self.value("SELECT last_value FROM bench_effect_id_seq")
            if handed_out >= wanted and self.value("SELECT count(*) FROM bench_effect") >= wanted:
                return True
            if handed_out != seen:
                seen, since = handed_out, time.monotonic()
            time.sleep(0.02)
        self.given_up += wanted - self.value("SELECT count(*) FROM bench_effect")
        return False

    def sessions_of_others(self) -> int:
        """Count the sessions in other databases: if there are any, PostgreSQL's CPU time includes theirs."""
        return int(self.value("SELECT count(*) FROM pg_stat_activity WHERE datname <> current_database()"))

    def exactness(self) -> dict[str, int]:
        """Count the missing and the duplicate effects."""
        missing, doubled = self.connection.execute(
            """
            SELECT coalesce(sum(greatest(1 - n, 0)), 0), coalesce(sum(greatest(n - 1, 0)), 0) FROM (
                SELECT placed.id, wanted.kind, count(effect.id) AS n
                FROM bench_order AS placed
                CROSS JOIN (VALUES ('confirmation'), ('stock'), ('sale')) AS wanted(kind)
                LEFT JOIN bench_effect AS effect ON effect.order_id = placed.id AND effect.kind = wanted.kind
                GROUP BY placed.id, wanted.kind
            ) AS counted
            """
        ).fetchone() or (0, 0)
        orders = self.value("SELECT count(*) FROM bench_order")
        return {"orders": orders, "missing": int(missing), "doubled": int(doubled)}

    def drain_rate(self, first: int | None = None) -> float:
        """
        Return effects per second from the first statement that wrote any to the last, or of the ``first`` few.

        What the first statement itself wrote is not counted: its work was done before that moment.
        """
        count, seconds = self.connection.execute(
            """
            WITH earliest AS (SELECT written_at FROM bench_effect ORDER BY written_at LIMIT %s)
            SELECT count(*) FILTER (WHERE written_at > began), extract(epoch FROM max(written_at) - min(began))
            FROM earliest, (SELECT min(written_at) AS began FROM bench_effect) AS start
            """,
            [first],
        ).fetchone() or (0, 0)
        return count / float(seconds) if count and seconds else 0.0

    def last_effect_at(self) -> float:
        """Return when the last effect was written, in seconds since the epoch."""
        return float(self.value("SELECT extract(epoch FROM max(written_at)) FROM bench_effect") or 0)
