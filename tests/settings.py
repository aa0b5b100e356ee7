"""The project's settings, for test runs and for the processes that tests start."""

import os
from datetime import UTC, datetime, timedelta

from core.settings import *  # noqa: F403 - the same settings, and a little more

CELERY_IMPORTS = ("tests.probe", *os.environ.get("CELERY_IMPORTS", "").split())
# The shop has no tasks of Django's; tests of the package do.
TASKS = {
    "default": {
        "BACKEND": "celery_ledger.contrib.django_tasks.LedgerBackend",
        "QUEUES": ["default", "email", "strange"],
    },
    "brisk": {"BACKEND": "celery_ledger.contrib.django_tasks.LedgerBackend", "OPTIONS": {"max_retries": 1}},
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # Tests make many users.
WHITENOISE_AUTOREFRESH = True  # Or each new client would look through all files before its first request.
if not SERVES_HTTP:  # noqa: F405 - by the line above
    # A test that makes the web process's handler in its own process has that process watched from then on. A busy
    # machine answers late, and a connection that is cut fails the tests of others.
    DATABASE_PATIENCE = 150
if "CLOCK_OFF_BY" in os.environ:  # Seconds by which this process's clock is wrong.
    import time_machine  # Which brings pytest; most processes need neither.

    time_machine.travel(datetime.now(tz=UTC) + timedelta(seconds=float(os.environ["CLOCK_OFF_BY"]))).start()
