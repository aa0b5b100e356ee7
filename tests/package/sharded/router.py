"""Effects go into the database of the task that has them."""

from typing import Any

from celery_ledger import databases


class Shards:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return databases.current() if model._meta.app_label == "sharded" else None

    db_for_read = db_for_write
