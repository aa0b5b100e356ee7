"""Celery apps of various projects; workers select one by its name."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
