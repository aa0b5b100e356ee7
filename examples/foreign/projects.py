"""
Public projects with Django and Celery, each at one commit, and the edits that add the package to it.

Nothing of theirs is here. ``environment`` is what their tests need to find PostgreSQL and Redis, as their own
documentation says; ``{database}`` is a database's name and ``{redis}`` a URL.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from edits import Argument, From, Line


@dataclass(frozen=True)
class Project:
    """A project: where it is, and how it is tested."""

    repository: str
    commit: str
    edits: Sequence[Argument | From | Line]
    #: What pytest is given in any case, and which tests it runs; none: all.
    options: Sequence[str] = ()
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
        environment={
            "POSTGRES_DB": "{database}",
            "POSTGRES_HOST": "{host}",
            "PGPORT": "{port}",
            "POSTGRES_USER": "{user}",
            "POSTGRES_PASSWORD": "{password}",
            "REDIS_ACTIVITY_URL": "{redis}",
            "REDIS_BROKER_URL": "{redis}",
        },
    ),
    "defectdojo": Project(
        "https://github.com/DefectDojo/django-DefectDojo",
        "7cfa159a6767b0ac6e66f3b1597a997e607e7308",
        [
            Line("dojo/settings/settings.dist.py", 'INSTALLED_APPS += ("celery_ledger",)'),
            From("dojo/celery.py", "Task", "celery_ledger"),
        ],
        ["-c", "/dev/null", "--rootdir=.", "--ds=dojo.settings.settings"],
        [
            f"unittests/test_{name}.py"
            for name in (
                "celery_dispatch_force_async",
                "deduplication_logic",
                "duplication_loops",
                "false_positive_history_logic",
                "finding_model",
                "jira_helper",
                "no_pickle",
                "notifications",
                "product_grading",
                "tag_inheritance",
            )
        ],
        {
            "DD_DATABASE_URL": "postgres://{user}:{password}@{host}:{port}/{database}",
            "DD_CELERY_BROKER_URL": "{redis}",
            "DD_SECRET_KEY": "of a test",
            "DD_CREDENTIAL_AES_256_KEY": "of a test",
        },
    ),
    "saleor": Project(
        "https://github.com/saleor/saleor",
        "723cd4eba87dfc72822ade45dc08a3caa548428d",
        [
            Line("saleor/settings.py", 'INSTALLED_APPS += ["celery_ledger"]'),
            From("saleor/core/tasks.py", "Task", "celery_ledger"),
        ],
        ["-n0"],
        [
            *(
                f"saleor/{app}/tests"
                for app in ("core", "csv", "giftcard", "shipping", "warehouse", "discount", "app", "webhook")
            ),
            *(f"saleor/{app}/tests/test_tasks.py" for app in ("checkout", "order", "payment", "product")),
        ],
        {
            "DATABASE_URL": "postgres://{user}:{password}@{host}:{port}/{database}",
            "DATABASE_URL_REPLICA": "postgres://{user}:{password}@{host}:{port}/{database}",
            "CELERY_BROKER_URL": "{redis}",
            "SECRET_KEY": "of a test",
        },
    ),
}
