"""Tracing tools, set up as usual: from the call through the ledger into the task."""

import json
import sys

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from celery_ledger.models import DurableTask
from celery_ledger.testing import drain
from tests.processes import wait_until
from worker.celery import app
from worker.task import Task

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=[True, False], ids=["inside", "outside"])
def task(request):
    @app.task(name="tests.be_followed", base=Task, transactional=request.param, max_retries=0)
    def be_followed(divisor):
        return 1 / divisor

    yield be_followed
    app.tasks.pop("tests.be_followed")


class TestOpenTelemetry:
    @pytest.fixture
    def spans(self):
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        instrumentor = CeleryInstrumentor()
        instrumentor.instrument(tracer_provider=provider)
        self.tracer = trace.get_tracer("tests", tracer_provider=provider)
        yield exporter
        instrumentor.uninstrument()

    def test_a_trace_runs_from_the_caller_into_the_task(self, spans, task):
        with self.tracer.start_as_current_span("POST /api/orders/") as request:
            call = task.delay(1)
        drain()
        sent, ran = (
            next(each for each in spans.get_finished_spans() if each.name == f"{what}/tests.be_followed")
            for what in ("apply_async", "run")
        )
        assert sent.parent.span_id == request.get_span_context().span_id
        assert ran.context.trace_id == request.get_span_context().trace_id
        assert ran.attributes["messaging.message.id"] == call.id
        assert ran.attributes["celery.state"] == "SUCCESS"

    @pytest.fixture
    def batched(self):
        @app.task(name="tests.be_followed_together", base=Task, batch_size=10, max_retries=0)
        def be_followed_together(divisors):
            with self.tracer.start_as_current_span("the body"):
                return [1 / divisor for divisor in divisors]

        yield be_followed_together
        app.tasks.pop("tests.be_followed_together")

    def test_a_batch_is_in_the_trace_of_each_caller_and_links_to_all(self, spans, batched):
        calls, requests = {}, {}
        for divisor in (1, 2, 4):
            with self.tracer.start_as_current_span("a request") as request:
                calls[divisor] = batched.delay(divisor).id
                requests[calls[divisor]] = request.get_span_context().trace_id
        drain()
        finished = spans.get_finished_spans()
        ran = {each.attributes["messaging.message.id"]: each for each in finished if each.name.startswith("run/")}
        assert {id: span.context.trace_id for id, span in ran.items()} == requests
        [body] = [each for each in finished if each.name == "the body"]
        [batch] = [each for each in ran.values() if each.context.span_id == body.parent.span_id]
        linked = {link.context.trace_id for link in batch.links}
        assert linked == set(requests.values()) - {batch.context.trace_id}
        for span in ran.values():
            assert span is batch or [link.context for link in span.links] == [batch.context]

    @pytest.mark.parametrize("fails", [False, True])
    def test_who_has_no_caller_is_in_nobody_s_trace_whoever_ran_before_or_beside(self, spans, batched, task, fails):
        with self.tracer.start_as_current_span("a request"):
            for divisor in (1, 0 if fails else 1):
                batched.delay(divisor)
                task.delay(divisor)
        DurableTask.objects.filter(name=task.name).update(options={})
        drain()
        assert not trace.get_current_span().get_span_context().is_valid
        ran = [each for each in spans.get_finished_spans() if each.name == "run/tests.be_followed"]
        assert [each.parent for each in ran] == [None, None]
        assert len({each.context.trace_id for each in ran}) == 2

    def test_a_failure_is_one_of_its_span(self, spans, task):
        task.delay(0)
        drain()
        [ran] = [each for each in spans.get_finished_spans() if each.name == "run/tests.be_followed"]
        assert not ran.status.is_ok
        assert "division by zero" in ran.status.description


CALLS = """
import sentry_sdk
from django.db import transaction
from tests import probe, sentry
with sentry_sdk.start_transaction(name="POST /api/orders/") as request:
    with transaction.atomic():
        batch = [probe.fail_among.delay(title).id for title in ("good", "bad", "fair")]
    calls = probe.make_collection.delay("garden"), probe.give_up.delay("permanent"), probe.fail_twice.delay("twice")
    print(request.trace_id, *(call.id for call in calls), *batch)
sentry_sdk.flush()
"""


class TestSentry:
    def test_a_trace_runs_into_the_task_and_a_failure_is_reported_once_when_it_is_final(self, machine, tmp_path):
        machine.environment["SENTRY"] = str(sent := tmp_path / "sent")
        machine.start_relay()
        command = [sys.executable, "-m", "celery", "-A", "tests.sentry", "worker", "-l", "info", "-c", "1"]
        worker = machine._start("worker", command)
        wait_until("the worker is ready", lambda: worker.says(" ready."))
        said = machine.run_command("shell", "-v0", "-c", CALLS)
        assert said.returncode == 0, said.stderr
        trace_id, *ids = said.stdout.split()
        wait_until("all have ended", lambda: not DurableTask.objects.filter(pk__in=ids, completed_at=None))
        worker.stop()
        found = [json.loads(line) for line in sent.read_text().splitlines()]
        transactions = {each["said"]["transaction"]: each["said"] for each in found if each["type"] == "transaction"}
        assert {each["contexts"]["trace"]["trace_id"] for each in transactions.values()} == {trace_id}
        submitted = {each["span_id"]: each["description"] for each in transactions.pop("POST /api/orders/")["spans"]}
        for name in ("tests.make_collection", "tests.give_up"):
            ran = transactions.pop(name)["contexts"]["trace"]
            assert (submitted[ran["parent_span_id"]], ran["op"]) == (name, "queue.task.celery")
        errors = [each["said"] for each in found if each["type"] == "event"]
        assert {each["contexts"]["trace"]["trace_id"] for each in errors} == {trace_id}
        reported = [
            (each["transaction"], each["tags"]["celery_task_id"], *(one["type"] for one in each["exception"]["values"]))
            for each in errors
        ]
        _, gave_up, twice, _, bad, _ = ids
        assert sorted(reported) == [
            ("tests.fail_among", bad, "OSError"),
            ("tests.fail_twice", twice, "OSError"),
            ("tests.give_up", gave_up, "PermanentError"),
        ]
        assert dict(DurableTask.objects.filter(pk__in=[bad, twice]).values_list("name", "attempts")) == {
            "tests.fail_among": 2,
            "tests.fail_twice": 2,
        }
