"""Flower as ``flowerconfig.py`` configures it: pages need a sign-in, tasks link to the ledger, state is kept."""

import re
import socket
import sys
from collections import Counter
from uuid import UUID

import httpx
import pytest
from django.db.models import F, Sum
from django.test import Client
from django.urls import reverse

from celery_ledger.models import Canary, DurableTask, FailedAttempt
from celery_ledger.rows.outbox import collecting
from tests import probe
from tests.processes import free_port, wait_until
from tests.shop import make_staff, make_user

pytestmark = [pytest.mark.processes, pytest.mark.once]
PASSWORD = ("operator", "s3cret")
#: What Flower's page of tasks asks for its table with.
DATATABLE = {"draw": 1, "start": 0, "length": 10, "order[0][column]": 0, "columns[0][data]": "name"}


@pytest.fixture
def start_flower(machine, tmp_path):
    def start(*options, **environment):
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "worker",
            "flower",
            f"--port={port}",
            *options,
            f"--db={tmp_path}/flower",
        ]
        flower = machine._start(
            "flower",
            command,
            {"FLOWER_BASIC_AUTH": ":".join(PASSWORD), "SITE_URL": "https://shop.example"} | environment,
        )
        wait_until("Flower answers", lambda: answers(port))
        flower.port = port
        return flower

    return start


def answers(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthcheck").is_success
    except httpx.TransportError:
        return False


def own_address():
    """An address of this machine that is not loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = probe.getsockname()[0]
    return None if address.startswith("127.") else address


def test_every_page_needs_the_password_and_two_only_from_elsewhere(start_flower):
    base = f"http://127.0.0.1:{start_flower().port}"
    for page in ("/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks"):
        assert httpx.get(base + page).status_code == 401, page
        assert httpx.get(base + page, auth=("operator", "wrong")).status_code == 401, page
    assert httpx.get(f"{base}/workers", auth=PASSWORD).status_code == 200
    for page in ("/metrics", "/healthcheck"):
        assert httpx.get(base + page).status_code == 200
        assert httpx.get(base + page, headers={"X-Forwarded-For": "10.0.0.7"}).status_code == 401
        assert httpx.get(base + page, headers={"X-Forwarded-For": "10.0.0.7"}, auth=PASSWORD).status_code == 200


@pytest.mark.skipif(own_address() is None, reason="this machine has no other address than loopback")
def test_what_is_open_on_this_machine_is_closed_to_others(start_flower):
    port = start_flower("--address=0.0.0.0").port
    for page in ("/metrics", "/healthcheck"):
        assert httpx.get(f"http://{own_address()}:{port}{page}").status_code == 401
        assert httpx.get(f"http://127.0.0.1:{port}{page}").status_code == 200


def test_a_durable_task_leads_back_to_the_ledger(machine, start_flower):
    flower = start_flower()
    base = f"http://127.0.0.1:{flower.port}"
    machine.start_relay()
    worker = machine.start_worker("-E", concurrency=1)
    workers = f"{base}/api/workers?refresh=1"
    wait_until("Flower sees the worker", lambda: httpx.get(workers, auth=PASSWORD, timeout=20).json())
    handle = probe.make_collection.delay("shelf")
    wait_until("it is done", lambda: DurableTask.objects.filter(status="succeeded").exists())
    page = f"{base}/task/{handle.id}"
    wait_until("Flower knows the task by the ledger's id", lambda: httpx.get(page, auth=PASSWORD).status_code == 200)
    address = "https://shop.example" + reverse("admin:celery_ledger_durabletask_change", args=[handle.id])
    assert f'<a href="{address}">' in httpx.get(page, auth=PASSWORD).text
    with collecting():
        together = [probe.make_collections.delay(f"shelf {number}") for number in range(5)]
    wait_until("they are done", lambda: DurableTask.objects.filter(status="succeeded").count() == 6)
    wait_until(
        "Flower knows each by its own id",
        lambda: all(httpx.get(f"{base}/task/{task.id}", auth=PASSWORD).is_success for task in together),
    )
    wait_until("canaries were taken", lambda: Canary.objects.filter(seen_at__gt=F("sent_at")).exists(), seconds=60)
    known = httpx.get(f"{base}/api/tasks", auth=PASSWORD).json().values()
    assert {task["name"] for task in known} == {"tests.make_collection", "tests.make_collections"}
    assert worker.is_alive

    flower.stop()
    page = f"http://127.0.0.1:{start_flower().port}/task/{handle.id}"
    assert httpx.get(page, auth=PASSWORD).status_code == 200, "it has forgotten"


@pytest.mark.fault("F81")
def test_f81_flower_shows_failures_and_retries_as_such(machine, start_flower):
    base = f"http://127.0.0.1:{start_flower().port}"
    machine.start_relay()
    machine.start_worker("-E", concurrency=1)
    workers = f"{base}/api/workers?refresh=1"
    wait_until("Flower sees the worker", lambda: httpx.get(workers, auth=PASSWORD, timeout=20).json())
    states = {
        probe.make_collection.delay("shelf").id: "SUCCESS",
        probe.give_up.delay("permanent").id: "FAILURE",
        probe.come_back.delay(600).id: "RETRY",
    }

    def shown():
        known = httpx.get(f"{base}/api/tasks", auth=PASSWORD).json()
        return {id: known[id]["state"] for id in states if id in known}

    wait_until(f"Flower shows {states}", lambda: shown() == states, seconds=30)


@pytest.mark.fault("F81")
def test_f81_flower_counts_what_the_ledger_counts_and_its_buttons_do_what_they_say(machine, start_flower, tmp_path):
    base = f"http://127.0.0.1:{start_flower().port}"
    machine.start_relay()
    worker = machine.start_worker("-E", concurrency=2)
    workers = f"{base}/api/workers?refresh=1"
    wait_until("Flower sees the worker", lambda: httpx.get(workers, auth=PASSWORD, timeout=20).json())

    def known():
        return httpx.get(f"{base}/api/tasks", auth=PASSWORD).json()

    def press(call, **said):
        answer = httpx.post(f"{base}/api/task/revoke/{call.id}", auth=PASSWORD, data=said, timeout=30)
        assert answer.json() == {"message": f"Revoked '{call.id}'"}

    mark = tmp_path / "mark"
    slow = probe.leave_mark.delay(str(mark), 60)
    waits, later = probe.come_back.delay(600), probe.make_collection.apply_async(("later",), countdown=600)
    shown = probe.make_collection.apply_async(("alone 0",), argsrepr="('alone ...',)", kwargsrepr="{...}")
    for number in range(1, 4):
        probe.make_collection.delay(f"alone {number}")
    with collecting():
        for number in range(5):
            probe.make_collections.delay(f"together {number}")
    dead = [probe.give_up.delay("permanent"), probe.fail_twice.delay("once"), probe.fail_twice.delay("again")]
    rows = DurableTask.objects
    wait_until("the slow one runs", lambda: worker.says(f"{mark} is under way"))
    wait_until("Flower has the one that waits", lambda: known().get(waits.id, {}).get("state") == "RETRY")
    wait_until("three are dead", lambda: rows.filter(status="dead").count() == 3)
    wait_until("nine are done", lambda: rows.filter(status="succeeded").count() == 9)

    for call in (waits, later, slow):
        press(call, terminate="false")
    assert rows.get(pk=slow.id).status == "running", "Revoke has ended what runs"
    press(slow, terminate="true")
    expected = dict.fromkeys(map(str, rows.filter(status="succeeded").values_list("id", flat=True)), "SUCCESS")
    expected |= dict.fromkeys([call.id for call in dead], "FAILURE")
    expected |= dict.fromkeys([waits.id, later.id, slow.id], "REVOKED")
    wait_until(
        "Flower shows each as the ledger has it",
        lambda: {id: task["state"] for id, task in known().items()} == expected,
        seconds=20,
    )
    assert set(rows.filter(status="cancelled").values_list("id", flat=True)) == {
        UUID(call.id) for call in (waits, later, slow)
    }
    assert not mark.exists()
    names = {str(id): name for id, name in rows.values_list("id", "name")}
    for id, task in known().items():
        assert task["name"] == names[id]
        if id == shown.id:
            assert (task["args"], task["kwargs"]) == ("('alone ...',)", "{...}")
        else:
            assert task["args"] in (f"({id})", None if id == later.id else "")
        assert task["state"] != "SUCCESS" or 0 < task["runtime"] < 10
        assert task["worker"].startswith("worker-")
    counted = Counter()
    for line in httpx.get(f"{base}/metrics", auth=PASSWORD).text.splitlines():
        if line.startswith("flower_events_total{") and 'type="task-' in line:
            counted[re.search(r'type="task-(\w+)"', line)[1]] += int(float(line.rpartition(" ")[2]))
    # What a worker has in hand for seconds counts as lost and is published again: its message comes twice.
    again = rows.aggregate(lapses=Sum("lapses"))["lapses"]
    assert counted == {
        "received": rows.count()
        - 1
        + FailedAttempt.objects.filter(task__name="tests.fail_twice", number=1).count()
        + again,
        "started": counted["received"],
        "succeeded": 9,
        "failed": 3,
        "retried": FailedAttempt.objects.exclude(task__status="dead", number=F("task__attempts")).count(),
        "revoked": 3,
    }


def test_a_read_only_one_shows_and_does_nothing(machine, start_flower):
    base = f"http://127.0.0.1:{start_flower(FLOWER_READ_ONLY='1').port}"
    worker = machine.start_worker(concurrency=1)
    assert httpx.get(f"{base}/workers", auth=PASSWORD).status_code == 200
    refused = httpx.post(f"{base}/api/worker/shutdown/celery@nobody", auth=PASSWORD)
    assert refused.status_code == 403
    applied = httpx.post(f"{base}/api/task/async-apply/tests.make_collection", auth=PASSWORD, json={"args": ["x"]})
    assert applied.status_code == 403
    assert worker.is_alive


class TestSession:
    """Staff who are signed in to the shop need no password for Flower, in the same browser."""

    @pytest.fixture
    def base(self, machine, start_flower):
        return f"http://127.0.0.1:{start_flower().port}"

    def cookies(self, user):
        browser = Client()
        browser.force_login(user)
        return {name: morsel.value for name, morsel in browser.cookies.items()}

    def test_it_opens_flower_to_whom_the_admin_lets_in_until_they_sign_out(self, base):
        staff, customer, gone = make_staff(), make_user(), make_user(is_staff=True, is_active=False)
        assert httpx.get(base, cookies=self.cookies(customer)).status_code == 401
        assert httpx.get(base, cookies=self.cookies(gone)).status_code == 401
        assert httpx.get(base, cookies={"sessionid": "x" * 32}).status_code == 401
        signed_in = self.cookies(staff)
        for path in ("/", "/api/workers", "/metrics"):
            assert httpx.get(base + path, cookies=signed_in).status_code == 200
        table = httpx.post(f"{base}/tasks/datatable", cookies=signed_in, data=DATATABLE)
        assert table.json()["recordsTotal"] == 0
        assert httpx.get(base, cookies=signed_in, auth=("operator", "wrong")).status_code == 401
        staff.set_password("Another1!")
        staff.save()
        assert httpx.get(base, cookies=signed_in).status_code == 401
        assert httpx.get(base, auth=PASSWORD).status_code == 200

    def test_who_acts_needs_the_desks_permissions_and_a_page_of_flowers_own(self, machine, base):
        call = probe.make_collection.apply_async(("shelf",), countdown=600)
        address = f"{base}/api/task/revoke/{call.id}"
        looks, acts = self.cookies(make_staff()), self.cookies(make_staff("change_queueswitch", "cancel_durabletask"))
        own = {"Sec-Fetch-Site": "same-origin"}
        refused = [(looks, own), (acts, {}), (acts, {"Sec-Fetch-Site": "same-site"}), (acts, {"Origin": "https://a.b"})]
        for cookies, headers in refused:
            assert httpx.post(address, cookies=cookies, headers=headers).status_code in {401, 403}, headers
        machine.start_relay()
        worker = machine.start_worker("-E", concurrency=1)
        wait_until(
            "Flower sees the worker",
            lambda: httpx.get(f"{base}/api/workers?refresh=1", auth=PASSWORD, timeout=20).json(),
        )
        assert DurableTask.objects.get(pk=call.id).status == "pending"
        assert httpx.post(address, cookies=acts, headers=own, timeout=30).is_success
        wait_until("it is cancelled", lambda: DurableTask.objects.get(pk=call.id).status == "cancelled")
        assert worker.is_alive

    def test_with_a_second_factor_a_password_alone_does_not_open_it(self, start_flower):
        staff = make_staff()
        base = f"http://127.0.0.1:{start_flower(ADMIN_TWO_FACTOR='1').port}"
        assert httpx.get(base, cookies=self.cookies(staff)).status_code == 401

    @pytest.mark.fault("F214")
    def test_while_the_database_is_away_the_password_is_left(self, machine, database_proxy, start_flower):
        base = f"http://127.0.0.1:{start_flower(DATABASE_URL=database_proxy.url).port}"
        signed_in = self.cookies(make_staff())
        assert httpx.get(base, cookies=signed_in).status_code == 200
        database_proxy.refuse()
        assert httpx.get(base, cookies=signed_in, timeout=20).status_code == 401
        assert httpx.get(base, cookies=signed_in, auth=PASSWORD, timeout=20).status_code == 200
        database_proxy.let_through()
        wait_until("it is open again", lambda: httpx.get(base, cookies=signed_in, timeout=20).status_code == 200)
