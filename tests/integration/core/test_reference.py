"""The generated pages of the documentation are up to date."""

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError

from celery_ledger.project import import_tasks
from core import reference
from core.management.commands.reference import FOLDER, README


@pytest.mark.django_db
@pytest.mark.parametrize("name", reference.PAGES)
def test_a_page_says_what_the_code_says(name):
    import_tasks()
    written = (settings.BASE_DIR / FOLDER / name).read_text()
    assert written == reference.PAGES[name](), "Run `python manage.py reference`."


def test_the_packages_readme_has_its_settings():
    written = (settings.BASE_DIR / README).read_text()
    assert reference.ledger_settings() in written
    assert written == reference.with_ledger_settings(written), "Run `python manage.py reference`."


def test_without_tables_the_command_says_what_to_do(monkeypatch):
    def page():
        raise DatabaseError("no such table: celery_ledger_tally")

    monkeypatch.setattr(reference, "PAGES", {"metrics.md": page})
    with pytest.raises(CommandError, match=r"metrics\.md needs a migrated database"):
        call_command("reference")
