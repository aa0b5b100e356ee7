"""The module in which Celery, Huey and procrastinate look for an app's tasks: those of the current contender."""

from importlib import import_module

from django.conf import settings

import_module(settings.CONTENDER.jobs)
