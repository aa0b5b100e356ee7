"""``manage.py signals``: signals and their receivers."""

from typing import Any

from django.core.management.base import BaseCommand

from celery_ledger.project import import_tasks
from core import wiring


class Command(BaseCommand):
    help = "List every signal with its receivers, and the task and queue of each."

    def handle(self, *args: Any, **options: Any) -> None:
        import_tasks()
        rows = [
            (each.signal + (f" of {each.sender}" if each.sender else ""), each.dispatch_uid, each.task, each.queue)
            for each in wiring.connections()
        ]
        heading = ("signal", "receiver", "task", "queue")
        widths = [max(len(row[column]) for row in (heading, *rows)) + 2 for column in range(len(heading))]
        for row in (heading, *rows):
            line = "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write(line.rstrip())
