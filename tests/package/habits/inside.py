"""What happens to a body's writes if it fails, depending on its task's transactions and retries."""

from celery import shared_task
from demoapp.models import Widget
from django.db import connection
from habits import note

import celery_ledger


class LikeTheShop(celery_ledger.Task):
    """A project's own class: effects are in the database, and any error is retried."""

    abstract = True
    transactional = True
    retries = "brisk"
    retry_backoff = 0.1


def write_and_fail(path, name):
    Widget.objects.create(name=name)
    note(path, f"body in_transaction={connection.in_atomic_block}")
    raise OSError("It cannot be done.")


@shared_task
def outside(path, name):
    write_and_fail(path, name)


@shared_task(transactional=True)
def inside(path, name):
    write_and_fail(path, name)


@shared_task(base=LikeTheShop, max_retries=2)
def inside_and_retried(path, name):
    write_and_fail(path, name)


@shared_task(base=LikeTheShop)
def inside_and_permanent(path, name):
    Widget.objects.create(name=name)
    note(path, "body")
    raise celery_ledger.PermanentError("Nobody lives there.")
