"""Tools that follow a request, set up as their users do: from the call over the ledger into the task."""

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

    def test_a_failure_is_one_of_its_span(self, spans, task):
        task.delay(0)
        drain()
        [ran] = [each for each in spans.get_finished_spans() if each.name == "run/tests.be_followed"]
        assert not ran.status.is_ok
        assert "division by zero" in ran.status.description


CALLS = """
import sentry_sdk
from tests import probe, sentry
with sentry_sdk.start_transaction(name="POST /api/orders/") as request:
    print(request.trace_id, probe.make_collection.delay("garden").id, probe.give_up.delay("permanent").id)
sentry_sdk.flush()
"""


class TestSentry:
    def test_a_trace_runs_into_the_task_and_a_failure_is_reported_once(self, machine, tmp_path):
        machine.environment["SENTRY"] = str(sent := tmp_path / "sent")
        machine.start_relay()
        command = [sys.executable, "-m", "celery", "-A", "tests.sentry", "worker", "-l", "info", "-c", "1"]
        worker = machine._start("worker", command)
        wait_until("the worker is ready", lambda: worker.says(" ready."))
        said = machine.run_command("shell", "-v0", "-c", CALLS)
        assert said.returncode == 0, said.stderr
        trace_id, done, failed = said.stdout.split()
        wait_until("both have ended", lambda: not DurableTask.objects.filter(pk__in=[done, failed], completed_at=None))
        worker.stop()
        found = [json.loads(line) for line in sent.read_text().splitlines()]
        transactions = {each["said"]["transaction"]: each["said"] for each in found if each["type"] == "transaction"}
        assert {each["contexts"]["trace"]["trace_id"] for each in transactions.values()} == {trace_id}
        submitted = {each["span_id"]: each["description"] for each in transactions.pop("POST /api/orders/")["spans"]}
        for name in ("tests.make_collection", "tests.give_up"):
            ran = transactions.pop(name)["contexts"]["trace"]
            assert (submitted[ran["parent_span_id"]], ran["op"]) == (name, "queue.task.celery")
        [error] = [each["said"] for each in found if each["type"] == "event"]
        assert (error["transaction"], error["tags"]["celery_task_id"]) == ("tests.give_up", failed)
        assert [each["type"] for each in error["exception"]["values"]] == ["PermanentError"]
