"""``/metrics``: who may read it, and that its figures are correct."""

from datetime import timedelta

import httpx
import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from celery_ledger.desk import dead_letters, queues
from celery_ledger.models import DurableTask, Heartbeat
from celery_ledger.testing import drain
from celery_ledger.watch import heartbeats, samples
from tests import probe
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def read(**headers):
    response = Client(headers=headers).get("/metrics")
    assert response.status_code == 200, response.content
    return values(response.content.decode())


def values(text):
    """Return every sample as ``{(name, label values in the labels' order): value}``."""
    return {
        (sample.name, *(sample.labels[label] for label in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class TestReading:
    @pytest.mark.parametrize(
        ("address", "headers", "status"),
        [
            ("127.0.0.1", {}, 200),
            ("::1", {}, 200),
            ("10.0.0.7", {}, 403),
            ("", {}, 403),
            ("10.0.0.7", {"Authorization": "Bearer s3cret"}, 200),
            ("10.0.0.7", {"Authorization": "Bearer S3CRET"}, 403),
            ("10.0.0.7", {"Authorization": "Bearer "}, 403),
            ("10.0.0.7", {"Authorization": "Bearer \xe9"}, 403),
            ("127.0.0.1", {"X-Forwarded-For": "10.0.0.7"}, 403),
            ("127.0.0.1", {"Forwarded": "for=10.0.0.7"}, 403),
            ("127.0.0.1", {"X-Forwarded-For": "10.0.0.7", "Authorization": "Bearer s3cret"}, 200),
        ],
    )
    def test_it_takes_the_token_or_this_machine(self, settings, address, headers, status):
        settings.METRICS_TOKEN = "s3cret"
        assert Client(REMOTE_ADDR=address, headers=headers).get("/metrics").status_code == status

    def test_without_a_token_there_is_none_to_guess(self, settings):
        settings.METRICS_TOKEN = ""
        answer = Client(REMOTE_ADDR="10.0.0.7", headers={"Authorization": "Bearer "}).get("/metrics")
        assert answer.status_code == 403

    def test_behind_a_proxy_this_machine_is_everybody(self, settings):
        settings.BEHIND_PROXY = True
        assert Client().get("/metrics").status_code == 403

    def test_it_is_only_read(self):
        assert Client().post("/metrics").status_code == 405

    def test_a_database_that_is_away_is_said(self, monkeypatch):
        def fail(*args, **kwargs):
            raise OperationalError("connection refused")

        monkeypatch.setattr(connection, "cursor", fail)
        assert read()["celery_ledger_database_up",] == 0


class TestWhatItSays:
    def test_tasks_are_counted_through_their_lives(self):
        for title in "abc":
            probe.make_collection.delay(title)
        probe.give_up.delay("permanent")
        probe.failing["d"] = ValueError("d")
        probe.make_collection.delay("d")
        drain()
        probe.make_collection.delay("e")
        found = read()
        make, give_up = "tests.make_collection", "tests.give_up"
        assert found["celery_ledger_tasks_total", "succeeded", "default", make] == 3
        assert found["celery_ledger_tasks_total", "retried", "default", make] == 1
        assert found["celery_ledger_tasks_total", "dead", "default", give_up] == 1
        assert found["celery_ledger_tasks_now", "default", "pending", make] == 2
        assert found["celery_ledger_tasks_now", "default", "dead", give_up] == 1
        assert found["celery_ledger_tasks_enqueued_total", "default", make] == 5
        assert found["celery_ledger_task_lag_seconds_count", "default", make] == 3
        assert found["celery_ledger_oldest_due_seconds", "default"] > 0

        dead_letters.discard([DurableTask.objects.get(name=give_up).id], reason="a test")
        found = read()
        assert found["celery_ledger_tasks_enqueued_total", "default", give_up] == 1
        for name, *labels in list(found):
            if name.startswith("celery_ledger_") and "seconds" not in name:
                assert found[name.replace("celery_ledger_", "shopwire_"), *labels] == found[name, *labels], name
        assert ("celery_ledger_tasks_now", "default", "dead", give_up) not in found

    def test_a_histograms_buckets_add_up(self):
        probe.make_collection.delay("a")
        probe.make_collection.apply_async(("b",), eta=timezone.now() - timedelta(seconds=20))
        drain()
        found = read()
        name, task = "celery_ledger_task_lag_seconds_bucket", "tests.make_collection"
        assert found[name, "10.0", "default", task] == 1
        assert found[name, "30.0", "default", task] == 2
        assert found[name, "+Inf", "default", task] == 2
        assert 20 < found["celery_ledger_task_lag_seconds_sum", "default", task] < 40

    def test_pauses_processes_and_the_broker_are_seen(self):
        queues.pause("email")
        samples.take({"email": 7, "default": None})
        heartbeats.beat(Heartbeat.Kind.RELAY, "broker away")
        found = read()
        assert found["celery_ledger_queue_paused", "email"] == 1
        assert found["celery_ledger_queue_paused", "default"] == 0
        assert found["celery_ledger_broker_messages", "email"] == 7
        assert ("celery_ledger_broker_messages", "default") not in found
        assert found["celery_ledger_processes", "relay", "broker away"] == 1
        assert found["celery_ledger_processes", "worker", "ok"] == 0
        assert found["celery_ledger_sample_age_seconds",] < 20

    def test_requests_are_counted_by_route(self):
        key = ("shopwire_http_requests_total", "GET", "api/carts/<uuid:cart_id>/", "404")
        before = read().get(key, 0)
        Client().get("/api/carts/00000000-0000-4000-8000-000000000000/")
        Client().get("/nowhere/at/all")
        found = read()
        assert found[key] == before + 1
        assert found["shopwire_http_requests_total", "GET", "none", "404"] >= 1

    @pytest.mark.postgresql
    def test_nothing_reads_the_tasks_that_are_done(self):
        probe.make_collection.delay("a")
        drain()
        with CaptureQueriesContext(connection) as queries:
            read()
        plans = []
        with connection.cursor() as cursor:
            cursor.execute("SET enable_seqscan = off")
            try:
                for query in queries.captured_queries:
                    if "celery_ledger_durabletask" in query["sql"]:
                        cursor.execute("EXPLAIN " + query["sql"])
                        plans.append("\n".join(line for (line,) in cursor.fetchall()))
            finally:
                cursor.execute("RESET enable_seqscan")
        assert len(plans) == 5
        for plan in plans:
            assert "ledger_pending" in plan or "ledger_leased" in plan or "ledger_dead" in plan, plan
            assert "Seq Scan" not in plan, plan


@pytest.mark.processes
def test_two_web_processes_and_a_relay_say_the_same(machine):
    machine.environment["WEB_CONCURRENCY"] = "2"
    machine.start_web()
    machine.start_relay()
    worker = machine.start_worker()
    base = f"http://127.0.0.1:{machine.web_port}"
    for number in range(40):
        httpx.get(f"{base}/api/products/?page={number + 1}")
    for title in ("a", "b", "c"):
        probe.make_collections.delay(title)
    key = ("celery_ledger_tasks_total", "succeeded", "default", "tests.make_collections")
    wait_until("the tasks are counted", lambda: values(httpx.get(f"{base}/metrics").text).get(key) == 3)
    wait_until(
        "the relay is seen",
        lambda: values(httpx.get(f"{base}/metrics").text).get(("celery_ledger_processes", "relay", "ok")) == 1,
    )
    published = ("celery_ledger_tasks_total", "published", "default", "tests.make_collections")
    wait_until("publishing is counted", lambda: values(httpx.get(f"{base}/metrics").text).get(published) == 3)
    for _ in range(10):
        found = values(httpx.get(f"{base}/metrics").text)
        listed = [
            value
            for name, value in found.items()
            if name[0] == "shopwire_http_requests_total" and "products" in name[2]
        ]
        assert sum(listed) == 40, found
        assert found["celery_ledger_broker_messages", "default"] == 0
    assert worker.is_alive
