"""
A real shop's December, while workers, relays and the web process are killed and the broker is flushed.

Every order is paid over the API, to a provider that fails, answers late and calls back twice as well.

Needs the export: ``RETAIL_EXPORT=online-retail-2010-12.csv.gz pytest tests/faults/test_december.py``;
``RETAIL_LIMIT`` (invoices; all of them by default) and ``RETAIL_SEED`` shape the run.
"""

import itertools
import json
import os
import random
import threading
from urllib.parse import urlsplit

import pytest

from celery_ledger.models import DurableTask
from payments.fake import FakeProvider
from payments.models import Payment
from store.models import Order
from tests.processes import free_port, wait_until
from webhooks.signing import make_secret

EXPORT = os.environ.get("RETAIL_EXPORT", "")
LIMIT = os.environ.get("RETAIL_LIMIT", "1000000")
SEED = int(os.environ.get("RETAIL_SEED", "2010"))
SECONDS_BETWEEN_FAULTS = (4.0, 9.0)

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not EXPORT, reason="RETAIL_EXPORT names no shop export"),
]


@pytest.fixture
def provider(machine):
    """A provider in every mood, which calls back at the port of its ``callback_url``."""
    secret, chance = make_secret(), random.Random(SEED)
    server = FakeProvider(0, f"http://127.0.0.1:{free_port()}/api/payments/callback/", secret)
    server.moods = chance.choices(
        ["pay", "twice", "late", "fail", "fail after", "decline"], [60, 15, 10, 5, 5, 5], k=5000
    )
    machine.environment |= {"PAYMENT_URL": server.url, "PAYMENT_SECRET": secret}
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.fault("F178")
def test_f178_december_survives_every_kill_and_pays_for_its_orders(machine, provider):
    imported = machine.run_command("import_retail", EXPORT, "--limit", LIMIT)
    assert imported.returncode == 0, imported.stderr
    processes = {
        "web": machine.start_web(urlsplit(provider.callback_url).port),
        "relay": machine.start_relay(),
        "worker 1": machine.start_worker(concurrency=1),
        "worker 2": machine.start_worker(concurrency=1),
    }
    port = machine.web_port
    # A charge whose workers are killed again and again takes minutes: a lease each time, and a minute more.
    options = ["--url", f"http://127.0.0.1:{port}", "--concurrency", "4", "--patience", "600", "--json"]
    replay = machine.start_command("replay_retail", EXPORT, "--limit", LIMIT, *options)
    chance = random.Random(SEED)
    landed = dict.fromkeys(["web", "relay", "worker 1", "worker 2", "child", "flush"], 0)
    pause = threading.Event()
    for fault in itertools.cycle(landed):
        pause.wait(chance.uniform(*SECONDS_BETWEEN_FAULTS))
        if not replay.is_alive:
            break
        if fault == "flush":
            machine.flush_broker()
        elif fault == "child":
            for child in processes["worker 1"].children():
                os.kill(child, 9)
        else:
            processes[fault].kill()
            assert not processes[fault].is_alive
            if fault == "web":
                processes[fault] = machine.start_web(port)
            elif fault == "relay":
                processes[fault] = machine.start_relay()
            else:
                processes[fault] = machine.start_worker(concurrency=1)
        landed[fault] += 1
    print(f"seed {SEED}, faults that landed: {landed}")
    assert min(landed.values()) >= 1, "the run was over before every fault had landed"

    answer = replay.log.read_text()
    assert replay.popen.returncode == 0, answer
    open_tasks = DurableTask.objects.exclude(status__in=["succeeded", "dead", "cancelled"]).exclude(
        name="payments.tasks.expire"  # It waits for its time, and finds everything paid.
    )
    took = wait_until("every task has ended", lambda: not open_tasks.exists(), seconds=180)
    verdict = machine.run_command("outbox", "verify")
    print(f"{Order.objects.count()} orders; settled {took:.1f} s after the last; {verdict.stdout}")
    print(json.dumps(json.loads(answer[answer.index("{") : answer.rindex("}") + 1]), indent=1)[:3000])
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    assert not DurableTask.objects.filter(status="dead").exists()
    stand = {str(reference) for reference in Payment.objects.filter(status="paid").values_list("reference", flat=True)}
    kept = provider.captured - provider.refunded
    print(f"{len(stand)} orders paid, {provider.captured.total()} charges, {provider.refunded.total()} given back")
    assert set(kept) == stand
    assert set(provider.captured.values()) == {1}
    assert stand
