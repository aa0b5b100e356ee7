"""All workers, or all relays, are gone: a remaining process notifies the managers by mail."""

import time

import pytest
from django.contrib.auth.models import Group

from celery_ledger.models import DurableTask, Heartbeat
from notifications.models import Notification, NotificationDelivery, NotificationPreference
from tests.processes import wait_until
from tests.shop import make_user

pytestmark = [pytest.mark.processes, pytest.mark.once]


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param("worker", marks=pytest.mark.fault("F212")),
        pytest.param("relay", marks=[pytest.mark.fault("F213"), pytest.mark.slow_fault]),
    ],
)
def test_f212_who_is_left_mails_the_managers_once(machine, gone):
    manager = make_user()
    manager.groups.add(Group.objects.get_or_create(name="managers")[0])
    NotificationPreference.objects.create(user=manager, kind="trouble", channel="email", enabled=True)
    start = {"worker": lambda: machine.start_worker(concurrency=1), "relay": machine.start_relay}
    processes = {kind: begin() for kind, begin in start.items()}
    wait_until("both are heard of", lambda: Heartbeat.objects.values("kind").distinct().count() == 2)

    def mails():
        texts = [path.read_text() for path in (machine.folder / "mail").glob("*.eml")]
        return [text for text in texts if f"To: {manager.email}" in text and f"no {gone} is running" in text]

    assert not mails()
    processes[gone].kill()
    took = wait_until("the manager is told", mails, seconds=75)
    print(f"told {took:.0f} s after the last {gone} was killed")
    wait_until("that is recorded", lambda: NotificationDelivery.objects.filter(status="sent").exists())
    task = DurableTask.objects.get(name="email_app.tasks.send_notification")
    assert task.status in {"pending", "published"}

    if gone == "worker":  # Who comes back and who was there know that it was told.
        processes["relay"].kill()
        start["relay"]()
    time.sleep(35)
    assert (len(mails()), Notification.objects.filter(kind="trouble").count()) == (1, 1)
    start[gone]()
    wait_until("its task has found it sent", lambda: DurableTask.objects.filter(pk=task.pk, status="succeeded"))
    assert len(mails()) == 1
