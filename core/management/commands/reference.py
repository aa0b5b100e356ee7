"""``manage.py reference``: generate the documentation pages that come from code."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from celery_ledger.project import import_tasks
from core import reference

FOLDER = Path("docs") / "reference"
README = Path("celery_ledger") / "README.md"


class Command(BaseCommand):
    help = "Generate the pages of docs/reference/ that come from the code: settings, commands, metrics, HTTP, signals."

    def handle(self, *args: Any, **options: Any) -> None:
        import_tasks()
        for name, write in reference.PAGES.items():
            try:
                page = write()
            except DatabaseError as error:
                raise CommandError(f"{name} needs a migrated database (`manage.py migrate`): {error}") from None
            (settings.BASE_DIR / FOLDER / name).write_text(page)
            self.stdout.write(f"{FOLDER / name} is written.")
        readme = settings.BASE_DIR / README
        readme.write_text(reference.with_ledger_settings(readme.read_text()))
        self.stdout.write(f"{README} has its table of settings.")
