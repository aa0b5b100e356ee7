"""
Public projects with Django and Celery, each at one commit, and the edits that add the package to it.

None of their code is here. ``environment`` is what their tests need to find PostgreSQL and Redis, as their own
documentation says; ``{database}`` is a database's name and ``{redis}`` a URL.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edits import Argument, From, Line


@dataclass(frozen=True)
class Live:
    """The calls of `make foreign-live`: two tasks by path, with arguments that do no harm in an empty database."""

    #: The module with the Celery app that its workers run.
    app: str
    tasks: Sequence[tuple[str, Sequence[Any]]]
    #: The queues that a worker consumes; none: the default one.
    queues: str = ""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Project:
    """A project: its location, and how it is tested."""

    repository: str
    commit: str
    edits: Sequence[Argument | From | Line]
    #: Arguments for every run of pytest, and the tests to run; none: all.
    options: Sequence[str] = ()
    tests: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    #: The folder with ``manage.py``, and the commands to run there first.
    folder: str = "."
    before: Sequence[str] = ()
    live: Live | None = None


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
            # Needed by its commands; for pytest, the project's own settings have them.
            "SECRET_KEY": "of a test",
            "DOMAIN": "localhost",
            "PORT": "4242",
            "FLOWER_PORT": "8888",
            "EMAIL_HOST": "localhost",
            "EMAIL_HOST_USER": "nobody",
            "EMAIL_HOST_PASSWORD": "of a test",
            "LANGUAGE_CODE": "en-US",
            "MEDIA_ROOT": "images/",
            "DEBUG": "true",
        },
        before=["python manage.py compile_themes", "python manage.py collectstatic --noinput"],
        live=Live(
            "celerywyrm",
            [("bookwyrm.models.antispam.automod_task", []), ("bookwyrm.activitystreams.remove_status_task", [[0]])],
            "misc,streams",
            {
                "DJANGO_SETTINGS_MODULE": "celerywyrm.settings",
                "ALLOWED_HOSTS": "localhost",
                "EMAIL_PORT": "587",
                "EMAIL_USE_TLS": "true",
                "ENABLE_PREVIEW_IMAGES": "false",
            },
        ),
    ),
    "defectdojo": Project(
        "https://github.com/DefectDojo/django-DefectDojo",
        "7cfa159a6767b0ac6e66f3b1597a997e607e7308",
        [
            Line("dojo/settings/settings.dist.py", 'INSTALLED_APPS += ("celery_ledger",)'),
            # Its tasks may take twelve hours: celery_ledger.E010.
            Line("dojo/settings/settings.dist.py", 'CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 86_400}'),
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
        live=Live(
            "dojo",
            [("dojo.tasks.clear_sessions", []), ("dojo.notifications.tasks.cleanup_alerts", [])],
            environment={"DJANGO_SETTINGS_MODULE": "dojo.settings.settings"},
        ),
    ),
    "pontoon": Project(
        "https://github.com/mozilla/pontoon",
        "eb868358ac2c585a0d22dfec9ae0776e86de2e20",
        [
            Line("pontoon/settings/base.py", 'INSTALLED_APPS += ("celery_ledger",)'),
            Line("pontoon/settings/base.py", 'CELERY_ACCEPT_CONTENT += ["json"]'),
            Argument("pontoon/base/celeryapp.py", "Celery", 'task_cls="celery_ledger:Task"'),
            From("pontoon/base/tasks.py", "Task", "celery_ledger"),
        ],
        tests=["pontoon"],
        environment={
            "DATABASE_URL": "postgres://{user}:{password}@{host}:{port}/{database}",
            "DATABASE_SSLMODE": "False",
            "RABBITMQ_URL": "{redis}",
            "SECRET_KEY": "of a test",
            "SITE_URL": "http://localhost:8000",
            "ALLOWED_HOSTS": "localhost",
            "DJANGO_DEV": "True",
            "DJANGO_DEBUG": "True",
            "ENABLE_INSIGHTS": "True",
            "SESSION_COOKIE_SECURE": "False",
            "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
            # Bundling scripts and styles takes Node; no test uses them.
            "TERSER_BINARY": "/usr/bin/true",
            "YUGLIFY_BINARY": "/usr/bin/true",
        },
        before=["mkdir -p translate/dist translate/public", "python manage.py collectstatic --noinput"],
        live=Live(
            "pontoon.base.celeryapp",
            [
                ("pontoon.checks.tasks.check_translations", [[]]),
                ("pontoon.administration.tasks.calculate_stats_task", []),
            ],
            environment={"DJANGO_SETTINGS_MODULE": "pontoon.settings", "CELERY_ALWAYS_EAGER": "False"},
        ),
    ),
    "paperless": Project(
        "https://github.com/paperless-ngx/paperless-ngx",
        "b0e0e8a35373a5d9d588a507cb63c79e50a23403",
        [
            Line("src/paperless/settings/__init__.py", 'INSTALLED_APPS += ["celery_ledger"]'),
            Argument("src/paperless/celery.py", "Celery", 'task_cls="celery_ledger:Task"'),
        ],
        ["-c", "/dev/null", "--rootdir=.", "--ds=paperless.settings", "-o", "python_files=test_*.py"],
        [
            *(
                f"documents/tests/test_{name}.py"
                for name in ("task_signals", "api_tasks", "workflows", "bulk_edit", "double_sided", "tasks")
            ),
            "paperless_mail/tests/test_mail.py",
        ],
        {
            "PAPERLESS_DBENGINE": "postgresql",
            "PAPERLESS_DBHOST": "{host}",
            "PAPERLESS_DBPORT": "{port}",
            "PAPERLESS_DBNAME": "{database}",
            "PAPERLESS_DBUSER": "{user}",
            "PAPERLESS_DBPASS": "{password}",
            "PAPERLESS_REDIS": "{redis}",
            "PAPERLESS_SECRET_KEY": "of a test",
        },
        folder="src",
        before=["mkdir -p ../data ../media ../consume"],
        live=Live(
            "paperless",
            [("documents.tasks.index_document", [0]), ("documents.tasks.check_scheduled_workflows", [])],
            environment={"DJANGO_SETTINGS_MODULE": "paperless.settings"},
        ),
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
