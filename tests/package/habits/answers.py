"""Tasks whose results are read."""

import os
import signal
import time

from celery import shared_task
from demoapp.models import Widget
from django.db import transaction


class OutOfStockError(Exception):
    """An error of the project's own."""


@shared_task
def gives(value):
    return value


@shared_task(transactional=True)
def makes_widget(name):
    return Widget.objects.create(name=name).id


@shared_task(transactional=True)
def dies_when_committed(name):
    transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
    return Widget.objects.create(name=name).name


@shared_task
def has_none(what, number):
    raise OutOfStockError(what, number)


@shared_task(bind=True)
def comes_back_tomorrow(self):
    raise self.retry(countdown=86_400)


@shared_task(ignore_result=True)
def keeps_quiet():
    return "a secret"


@shared_task(ignore_result=True, store_errors_even_if_ignored=True)
def says_only_what_went_wrong():
    raise OutOfStockError("luck")


def go_on(task, path):
    """Say how far it is, until the reader of that makes a file; return whether it did."""
    task.update_state(state="PROGRESS", meta={"done": 1, "of": 3})
    deadline = time.monotonic() + 30
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.01)
    return os.path.exists(path)


@shared_task(bind=True, track_started=True)
def goes_on(self, path):
    return go_on(self, path)


@shared_task(bind=True, transactional=True)
def goes_on_inside(self, path):
    return go_on(self, path)


@shared_task(track_started=True)
def begins(path):
    deadline = time.monotonic() + 30
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.01)
