"""
Puts the ledger where Django's tests name one of Django's own backends.

``DummyBackend`` keeps calls and runs none of them: here the rows are what it has kept. ``ImmediateBackend`` has run a
call when ``enqueue`` returns: here the row is claimed and consumed, the way that a worker goes. That is all the two
have besides ``LedgerBackend``.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import call_command
from django.db import connection
from django.tasks.backends import dummy, immediate
from django.test import SimpleTestCase

from celery_ledger.contrib.django_tasks import LedgerBackend

# The tests of backends that keep nothing are given no database.
SimpleTestCase.databases = {"default"}


class Keeping(LedgerBackend):
    @property
    def results(self):
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._results()
        # Tests ask it in an event loop too, where Django refuses queries.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self._results_of_a_thread).result()

    def _results_of_a_thread(self):
        try:
            return self._results()
        finally:
            connection.close()

    def _results(self):
        from celery_ledger.models import DurableTask

        return [self.get_result(str(id)) for id in DurableTask.objects.order_by("id").values_list("id", flat=True)]

    def clear(self):
        from celery_ledger.models import DurableTask

        DurableTask.objects.all().delete()


class Running(LedgerBackend):
    def enqueue(self, task, args, kwargs):
        from celery_ledger.testing import drain

        called = super().enqueue(task, args, kwargs)
        drain()
        return self.get_result(called.id)


dummy.DummyBackend = Keeping
immediate.ImmediateBackend = Running


@pytest.fixture(autouse=True, scope="session")
def _tables(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        call_command("migrate", verbosity=0)
        yield


@pytest.fixture(autouse=True)
def _no_rows_of_others(_tables):
    from celery_ledger.models import DurableTask

    DurableTask.objects.all().delete()
