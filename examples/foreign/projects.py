"""
Public projects with Django and Celery, each at one commit, and the edits that add the package to it.

Nothing of theirs is here. ``environment`` is what their tests need to find PostgreSQL and Redis, as their own
documentation says; ``{database}`` is a database's name and ``{redis}`` a URL.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from edits import Argument, Line


@dataclass(frozen=True)
class Project:
    """A project: where it is, and how it is tested."""

    repository: str
    commit: str
    edits: Sequence[Argument | Line]
    #: What pytest is given.
    tests: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)


PROJECTS = {
    "bookwyrm": Project(
        "https://github.com/bookwyrm-social/bookwyrm",
        "db40a61c9eaa6872607ca499b91893914dc1c8cf",
        [
            Line("bookwyrm/settings.py", 'INSTALLED_APPS += ["celery_ledger"]'),
            Argument("bookwyrm/tasks.py", "Celery", 'task_cls="celery_ledger:Task"'),
            Argument("celerywyrm/celery.py", "Celery", 'task_cls="celery_ledger:Task"'),
        ],
        ["--no-cov", "-m", "not integration"],
        {
            "POSTGRES_DB": "{database}",
            "POSTGRES_HOST": "{host}",
            "PGPORT": "{port}",
            "POSTGRES_USER": "{user}",
            "POSTGRES_PASSWORD": "{password}",
            "REDIS_ACTIVITY_URL": "{redis}",
            "REDIS_BROKER_URL": "{redis}",
        },
    ),
}
