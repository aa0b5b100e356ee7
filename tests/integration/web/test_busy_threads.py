"""What the web process still answers when all its threads are taken."""

import asyncio
import threading
import time

import httpx
import pytest
from django.db import connections

from web import handler
from web.handler import ThreadedASGIHandler

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def busy(settings):
    """The application with its only thread taken, and one that frees it."""
    settings.WEB_THREADS, settings.REQUEST_PATIENCE = 1, 0.3
    application, free = ThreadedASGIHandler(), threading.Event()
    begun = threading.Event()
    application.threads.submit(lambda: (begun.set(), free.wait(60)))
    assert begun.wait(10)
    yield application, free
    free.set()
    for threads in (application.threads, application.probe_threads):
        close_connections(threads)
        threads.shutdown()


def close_connections(threads):
    """Close those of each thread: the second of two requests takes a new thread if the first one is just ending."""
    together = threading.Barrier(threads._max_workers)

    def close():
        together.wait(20)
        connections.close_all()

    for closing in [threads.submit(close) for _ in range(together.parties)]:
        closing.result(20)


async def ask(application, method, path, **headers):
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.request(method, path, headers=headers)


@pytest.fixture
def asked(busy):
    return lambda method, path, **headers: asyncio.run(ask(busy[0], method, path, **headers))


@pytest.mark.fault("F107")
def test_f107_a_request_that_no_thread_takes_is_a_503_and_told_to_come_back(asked):
    answer = asked("POST", "/api/carts/", **{"X-Request-ID": "mine"})

    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "2"
    assert answer.headers["X-Request-ID"] == "mine"
    assert "Nothing was done" in answer.json()["detail"]


@pytest.mark.fault("F161")
def test_f161_a_request_does_not_wait_for_a_thread_where_all_wait_for_a_database_that_confirms_nothing(
    busy, asked, settings, monkeypatch
):
    settings.REQUEST_PATIENCE = 60
    monkeypatch.setattr(handler, "waiting_for", lambda seconds: 1)
    began = time.monotonic()
    assert asked("POST", "/api/carts/").status_code == 503
    assert time.monotonic() - began < 30
    monkeypatch.setattr(handler, "waiting_for", lambda seconds: 0)
    threading.Timer(2 * handler.LOOK_EVERY, busy[1].set).start()
    assert asked("POST", "/api/carts/").status_code == 201


def test_a_thread_that_is_free_again_takes_the_next(busy, asked):
    assert asked("POST", "/api/carts/").status_code == 503
    busy[1].set()
    assert asked("POST", "/api/carts/").status_code == 201


@pytest.mark.fault("F107")
@pytest.mark.parametrize("path", ["/health/live/", "/health/ready/", "/metrics"])
def test_f107_probes_are_answered_while_all_threads_are_taken(asked, path):
    assert asked("GET", path).status_code == 200
    assert asked("HEAD", path).status_code == 200


def test_liveness_names_its_request_and_is_kept_by_nobody(asked):
    answer = asked("GET", "/health/live/", **{"X-Request-ID": "a probe's"})

    assert answer.json() == {"status": "ok"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Request-ID"] not in {"", "a probe's"}


def test_liveness_is_asked_for_and_not_told(busy, asked):
    busy[1].set()
    assert asked("OPTIONS", "/health/live/").status_code == 405
