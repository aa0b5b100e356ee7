"""
Django's settings in every process of a contender, which the environment names.

This project's settings without the web part. Other contenders get none of its Celery settings except the broker's URL,
and then those of their module.
"""

import os
from typing import Any

from bench import contenders
from core.settings import *  # noqa: F403
from core.settings import CELERY_BROKER_URL, REDIS_URL

CONTENDER = contenders.load(os.environ["BENCH_CONTENDER"])


def _fill(value: Any) -> Any:
    """Put the address of Redis into a contender's settings."""
    if isinstance(value, dict):
        return {key: _fill(entry) for key, entry in value.items()}
    return REDIS_URL if value == "{redis}" else value


if not CONTENDER.durable:
    for name in [name for name in globals() if name.startswith("CELERY_")]:
        del globals()[name]
    CELERY_BROKER_URL = REDIS_URL

INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", *CONTENDER.apps, "bench"]
AUTH_USER_MODEL = "auth.User"
ROOT_URLCONF = None
MIDDLEWARE: list[str] = []
#: Whether this process takes orders; see bench/jobs/failing.py.
BENCH_PLACES_ORDERS = "BENCH_PLACES_ORDERS" in os.environ
globals().update(_fill(dict(CONTENDER.settings)))
