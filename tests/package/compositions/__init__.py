"""Celery apps that a project may have, each of which is given to a worker by its name."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "proj.settings")
