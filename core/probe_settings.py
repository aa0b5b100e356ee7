"""
The settings of ``manage.py health``, which containers run every few seconds: all apps would take twice as long.

``manage.py`` chooses this module; everything else is as in :mod:`core.settings`.
"""

from core.settings import *  # noqa: F403 - Settings are names.

INSTALLED_APPS = ["worker", "celery_ledger", "celery_ledger.contrib.beat", "django_celery_beat"]
