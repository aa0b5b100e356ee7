"""The wiring is documented."""

from io import StringIO

import pytest
from django.core.management import call_command

from celery_ledger.signals import durable_signals
from core import wiring

#: Apps whose receivers of durable signals have names from before they were apps: rows of the ledger have those names.
ONCE_OF_CORE = {"audit_trail"}
OURS = [signal for signal in durable_signals() if signal.name.partition(".")[0] in wiring.our_apps()]


@pytest.mark.parametrize("signal", OURS, ids=lambda signal: signal.name)
def test_every_signal_is_documented_where_it_is_born(signal):
    text = wiring.description(signal)
    assert "Arguments:" in text
    assert "Not sent" in text or "not for" in text
    assert "transaction" in text


def test_every_receiver_of_ours_has_a_dispatch_uid_and_is_a_module_level_function():
    assert wiring.unnamed() == []
    assert wiring.nested() == []
    for each in wiring.connections():
        place = each.dispatch_uid.partition(".")[0]
        assert place == each.app or (place == "core" and each.app in ONCE_OF_CORE), each


def test_every_receiver_says_what_it_does():
    assert [each.dispatch_uid for each in wiring.connections() if not each.says] == []


def test_the_command_lists_each_receiver_with_its_task_and_queue():
    out = StringIO()
    call_command("signals", stdout=out)
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert [
        "store.order_created",
        "store.enqueue_inventory_update",
        "store.tasks.update_inventory",
        "inventory",
    ] in lines
    assert ["pre_save", "of", "store.Order", "store.flag_duplicate"] in lines
