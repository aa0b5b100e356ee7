"""A web process with all its threads taken."""

import statistics
import threading
import time

import httpx
import pytest
from django.db import connection, transaction

from tests.processes import best_of, wait_until

pytestmark = pytest.mark.processes


def hold_carts():
    """Have whoever makes a cart wait, until the transaction ends."""
    if connection.vendor == "postgresql":  # SQLite has one writer.
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE store_cart IN ACCESS EXCLUSIVE MODE")


def keep_asking(url, stop):
    with httpx.Client(timeout=60) as client:
        while not stop.is_set():
            client.post(url, json={})


def is_taken(url):
    try:
        httpx.get(url, timeout=1)
    except httpx.TimeoutException:
        return True
    return False


def seconds_for(client, url):
    began = time.perf_counter()
    assert client.get(url).status_code == 200
    return time.perf_counter() - began


@pytest.mark.fault("F107")
def test_f107_liveness_takes_no_thread_and_no_database(machine):
    machine.start_web(WEB_THREADS="4")
    stop, carts = threading.Event(), f"{machine.web_url}/api/carts/"
    clients = [threading.Thread(target=keep_asking, args=(carts, stop)) for _ in range(24)]
    with transaction.atomic():
        hold_carts()
        for client in clients:
            client.start()
        try:
            wait_until("every thread is taken", lambda: is_taken(f"{machine.web_url}/api/collections/"))
            with httpx.Client(timeout=30) as probe:

                def median_of_thirty() -> float:
                    return statistics.median(seconds_for(probe, f"{machine.web_url}/health/live/") for _ in range(30))

                live = best_of(median_of_thirty, below=0.05)
                ready = best_of(lambda: seconds_for(probe, f"{machine.web_url}/health/ready/"), below=3)
            assert is_taken(f"{machine.web_url}/api/collections/")
        finally:
            stop.set()
    for client in clients:
        client.join()

    print(f"alive: {live * 1000:.1f} ms; ready: {ready:.2f} s")
    assert live < 0.05
    assert ready < 3
    assert httpx.post(carts, json={}, timeout=30).status_code == 201
