"""Where Celery, Huey and procrastinate look for an app's tasks: those of the contender at hand."""

from importlib import import_module

from django.conf import settings

import_module(settings.CONTENDER.jobs)
