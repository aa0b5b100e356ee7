"""The shop of the container tests: orders are placed over HTTP; the database and the mail catcher show the outcome."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import httpx
import psycopg
from pytest_docker_tools.wrappers import Container

from tests.containers.cluster import PASSWORD
from tests.containers.customer import Customer
from tests.processes import wait_until


def address(container: Container, port: int) -> str:
    """Return host and port under which this process reaches a container's port."""
    return ":".join(map(str, container.get_addr(f"{port}/tcp")))


class Shop:
    """A web process, its PostgreSQL and its mail catcher. Nothing else may order from it."""

    def __init__(self, web: Container, postgres: Container, mail: Container) -> None:
        self.web = web
        self.mails_url = f"http://{address(mail, 1080)}/email"
        self.database_url = f"postgres://shopwire:{PASSWORD}@{address(postgres, 5432)}/shopwire"
        self.customer = Customer(f"http://{address(web, 8000)}")
        self.database = psycopg.connect(self.database_url, autocommit=True)
        self.placed = 0
        self.on_hand = self._on_hand()

    def close(self) -> None:
        self.database.close()

    def place(self, count: int) -> list[int]:
        """Place orders one after the other, and return their numbers."""
        self.placed += count
        return [self.customer.order() for _ in range(count)]

    @contextmanager
    def stock_movements_locked(self) -> Iterator[None]:
        """Make every ``store.tasks.update_inventory`` wait in its transaction, while orders are still accepted."""
        with psycopg.connect(self.database_url) as connection:
            connection.execute("LOCK TABLE store_stockmovement IN SHARE MODE")
            yield

    def waiting_addresses(self) -> set[str]:
        """Return the addresses of the workers that wait for that lock."""
        rows = self.database.execute(
            "SELECT DISTINCT host(client_addr) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND query LIKE '%%INSERT INTO store_stockmovement%%'"
        )
        return {row[0] for row in rows}

    def open_tasks(self, orders: Iterable[int] | None = None, status: str | None = None) -> int:
        """Return how many tasks, of these orders and in this status if given, have not succeeded."""
        statement = "SELECT count(*) FROM celery_ledger_durabletask WHERE status <> 'succeeded'"
        parameters: list[Any] = []
        if orders is not None:
            statement += " AND subject = ANY(%s)"
            parameters.append([f"store.order:{order}" for order in orders])
        if status is not None:
            statement += " AND status = %s"
            parameters.append(status)
        return self.number(statement, *parameters)

    def relays_at_work(self) -> set[str]:
        """Return the host names of the relays that were heard of lately."""
        rows = self.database.execute(
            "SELECT process FROM celery_ledger_heartbeat WHERE kind = 'relay' AND beaten_at > now() - interval '10 s'"
        )
        return {row[0].rpartition(" at ")[2] for row in rows}

    def relays_heard_of(self) -> datetime:
        """Return when a relay said last that it is at work."""
        return self.number("SELECT max(beaten_at) FROM celery_ledger_heartbeat WHERE kind = 'relay'")

    def number(self, statement: str, *parameters: Any) -> Any:
        return self.database.execute(statement, parameters).fetchone()[0]

    def assert_done_once(self, orders: list[int]) -> None:
        """Wait until no task is open; then every effect of these orders has happened, and none a second time."""
        wait_until("no task is open", lambda: not self.open_tasks(), seconds=150)
        code, said = self.web.exec_run("python manage.py outbox verify")
        assert code == 0, said.decode()
        assert self.on_hand - self._on_hand() == self.placed
        subjects = [mail["subject"] for mail in httpx.get(self.mails_url, timeout=15, trust_env=False).json()]
        assert [subjects.count(f"Your Shopwire order {order}") for order in orders] == [1] * len(orders)

    def _on_hand(self) -> int:
        return self.number("SELECT on_hand FROM store_stock WHERE product_id = %s", self.customer.product)
