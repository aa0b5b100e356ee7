"""Calls from wherever a project makes them: async views, threads, commands and migrations."""

import asyncio
import threading

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.core.management import BaseCommand, call_command
from django.db import connection, migrations, transaction
from django.db.migrations.state import ProjectState
from django.http import JsonResponse
from django.test import AsyncClient, override_settings
from django.urls import path

from celery_ledger import loops
from celery_ledger.testing import enqueued
from tests import probe

pytestmark = pytest.mark.django_db(transaction=True)


def delay_and_fail(title):
    with transaction.atomic():
        probe.make_collection.delay(title)
        raise ZeroDivisionError


async def view(request):
    one = await probe.make_collection.adelay("adelay")
    two = await probe.make_collection.aapply_async(("aapply_async",), countdown=60, unique_key="a")
    same = await probe.make_collection.aapply_async(("again",), unique_key="a")
    await sync_to_async(probe.make_collection.delay)("sync_to_async")
    with pytest.raises(ZeroDivisionError):
        await sync_to_async(delay_and_fail)("rolled back")
    probe.make_collection.delay("in the loop itself")
    return JsonResponse({"ids": [one.id, two.id, same.id]})


urlpatterns = [path("calls/", view)]


def titles():
    return sorted(task.args[0] for task in enqueued("tests.make_collection"))


@override_settings(ROOT_URLCONF=__name__)
def test_async_views_call_without_ado():
    one, two, same = async_to_sync(AsyncClient().get)("/calls/").json()["ids"]
    assert one != two == same
    assert titles() == ["aapply_async", "adelay", "in the loop itself", "sync_to_async"]


async def call_in_the_loop(title):
    return probe.make_collection.delay(title)


async def call_in_a_task_of_the_loop(title):
    return await asyncio.create_task(call_in_the_loop(title))


@pytest.mark.parametrize(
    "call",
    [
        async_to_sync(probe.make_collection.adelay),
        async_to_sync(call_in_the_loop),
        async_to_sync(call_in_a_task_of_the_loop),
        lambda title: asyncio.run(call_in_the_loop(title)),
        lambda title: asyncio.run(call_in_a_task_of_the_loop(title)),
    ],
    ids=["adelay", "above", "task_above", "own_loop", "task_of_own_loop"],
)
def test_async_code_that_runs_inside_a_transaction_is_a_part_of_it(call):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        call("garden")
        assert titles() == ["garden"]
        raise ZeroDivisionError
    assert titles() == []
    call("kept")
    assert titles() == ["kept"]


def test_a_loop_that_nobody_waits_for_has_its_call_committed_and_no_connection_left():
    said = []

    def serve():
        said.append(asyncio.run(call_in_the_loop("garden")))
        said.append(connection.connection)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert titles() == ["garden"]
    assert said[1] is None


def test_a_loop_that_is_waited_for_by_who_may_wait_for_it_is_told_to_await(monkeypatch):
    monkeypatch.setattr(loops, "PATIENCE", 0.2)
    has_begun, may_end = threading.Event(), threading.Event()

    def be_busy():
        has_begun.set()
        assert may_end.wait(20)

    async def call():
        busy = asyncio.create_task(sync_to_async(be_busy)())
        while not has_begun.is_set():
            await asyncio.sleep(0.001)
        try:
            with pytest.raises(SynchronousOnlyOperation, match="adelay"):
                probe.make_collection.delay("garden")
        finally:
            may_end.set()
        await busy

    async_to_sync(call)()
    assert titles() == []


def test_threads_and_commands_call_as_ever():
    class Command(BaseCommand):
        def handle(self, **_):
            probe.make_collection.delay("command")

    def call():
        probe.make_collection.delay("thread")
        connection.close()

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    call_command(Command())
    assert titles() == ["command", "thread"]


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_migration_calls_is_there_if_it_is_applied(fails):
    def call(apps, schema_editor):
        probe.make_collection.delay("garden")
        if fails:
            raise ZeroDivisionError

    migration = migrations.Migration("0002_call", "somebodys")
    migration.operations = [migrations.RunPython(call)]
    try:
        with connection.schema_editor(atomic=migration.atomic) as schema_editor:
            migration.apply(ProjectState(), schema_editor)
    except ZeroDivisionError:
        assert fails
    assert titles() == ([] if fails else ["garden"])
