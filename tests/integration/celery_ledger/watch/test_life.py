"""The sign of life of a process that serves several databases."""

import pytest

from celery_ledger import databases
from celery_ledger.watch import life


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(life.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(life, "_signs", {})
    return now


@pytest.fixture
def signed(tmp_path, settings, clock):
    """Give a sign for the loop of a database, and return whether it counted."""
    file = tmp_path / "alive"
    settings.LEDGER_ALIVE_FILE = str(file)

    def sign(alias, **how):
        file.unlink(missing_ok=True)
        with databases.using(alias):
            life.sign(**how)
        return file.exists()

    return sign


def test_all_loops_have_to_turn(signed, clock):
    assert signed("default")
    assert signed("east")
    clock[0] += life.SILENT_AFTER + 1
    assert not signed("default")  # The loop of east hangs.
    assert signed("east")


def test_a_loop_that_waits_for_its_database_does_not_count(signed, clock):
    assert signed("default")
    assert signed("east", is_away=True)
    clock[0] += life.SILENT_AFTER + 1
    assert signed("default")
    assert signed("east")
    clock[0] += life.SILENT_AFTER + 1
    assert not signed("default")


def test_one_loop_counts_for_itself(signed, clock):
    assert signed("default")
    clock[0] += life.SILENT_AFTER + 1
    assert signed("default")
