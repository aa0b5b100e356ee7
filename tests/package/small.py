"""A small independent project on SQLite, set up in the calling process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def set_up(folder: Path, *, apps: Sequence[str], **settings: Any) -> None:
    """Configure Django and Celery as such a project has them, and make its tables in ``folder``."""
    import django
    from celery import Celery
    from django.conf import settings as known

    known.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "db.sqlite3"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "celery_ledger", *apps],
        USE_TZ=True,
        CELERY_BROKER_URL="memory://",
        **settings,
    )
    app = Celery("small", task_cls="celery_ledger:Task")
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.set_default()
    django.setup()

    from django.core.management import call_command

    call_command("migrate", verbosity=0)
