"""Canvases under real kills: each step and each body runs once, whatever is killed and whatever the broker loses."""

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress

import pytest
from celery import chain, chord

from celery_ledger.models import Chord, DurableTask
from store.models import Collection
from tests import probe
from tests.processes import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]
POINTS = [
    "canvas.before_next",
    "canvas.before_parts",
    "canvas.before_body",
    "consumer.before_commit",
    "consumer.after_commit",
]
#: Where a worker dies of tasks with effects outside, and whether the effect that it has just had is recorded by then.
OUTSIDE = {
    "consumer.after_effect:2": False,
    "canvas.before_next:2": False,
    "canvas.before_parts:2": False,
    "canvas.before_body": False,
    "consumer.after_record:2": True,
}
#: How many canvases there are under fire, the nested ones among them, the members of a chord, and a seed.
COUNT = int(os.environ.get("FIRE_COUNT", "5"))
NESTINGS = int(os.environ.get("FIRE_NESTINGS", str(COUNT)))
MEMBERS = int(os.environ.get("FIRE_MEMBERS", "6"))
SEED = int(os.environ.get("FIRE_SEED", "1"))
#: Processes that are killed at the most, and which of them how often: the others are slow to start.
VICTIMS = {"child": 8, "worker": 1, "relay": 1}
KILLS = int(os.environ.get("FIRE_KILLS", "6"))
#: Seconds from one kill to the next at the least.
PAUSE = float(os.environ.get("FIRE_PAUSE", "0.1"))


def a_chord(name, members=MEMBERS):
    header = [probe.make_collection.si(f"{name} member {number:03}") for number in range(members)]
    return chord(header, probe.gather_collections.s(f"{name} body"))


def a_chain(name, steps=10):
    return chain(probe.make_collection.si(f"{name} step {number:03}") for number in range(steps))


def a_nesting(name):
    inner = [chain(a_chord(f"{name} inner {number}", 3), probe.gather_twice.s()) for number in range(3)]
    return chord(inner, probe.gather_collections.s(f"{name} outer"))


def expected(chords, chains, nestings):
    """Return the title of every effect that there must be."""
    titles = set()
    for name in chords:
        titles |= {f"{name} member {number:03}" for number in range(MEMBERS)} | {f"{name} body of {MEMBERS}"}
    for name in chains:
        titles |= {f"{name} step {number:03}" for number in range(10)}
    for name in nestings:
        for inner in range(3):
            titles |= {f"{name} inner {inner} member {number:03}" for number in range(3)}
            titles |= {f"{name} inner {inner} body of 3", f"{name} inner {inner} body again"}
        titles.add(f"{name} outer of 3")
    return titles


def names_of_all():
    """Return the names of the canvases of each kind."""
    counts = {"chord": COUNT, "chain": COUNT, "nest": NESTINGS}
    return {kind: [f"{kind} {number:04}" for number in range(count)] for kind, count in counts.items()}


def kill_a_child(worker, chance):
    children = worker.children()
    if children:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(children), signal.SIGKILL)


@pytest.mark.slow_fault
@pytest.mark.fault("F170")
@pytest.mark.parametrize("point", POINTS)
def test_f170_a_worker_that_dies_before_any_statement_of_a_canvas_leaves_it_to_another(machine, point):
    machine.start_relay()
    worker = machine.start_worker(concurrency=1, FAULT=f"{point}:2")
    chain(a_chord("fire", 3), probe.make_collection.si("last")).delay()
    wait_until("a process was lost", lambda: worker.says("A process was lost"))
    worker.kill()
    machine.start_worker()
    wanted = {f"fire member {number:03}" for number in range(3)} | {"fire body of 3", "last"}
    wait_until("all is done", lambda: set(Collection.objects.values_list("title", flat=True)) >= wanted)
    assert sorted(Collection.objects.values_list("title", flat=True)) == sorted(wanted)


@pytest.mark.slow_fault
@pytest.mark.fault("F170")
@pytest.mark.parametrize("point", OUTSIDE)
def test_f170_a_canvas_with_effects_outside_goes_on_once_whatever_was_recorded(machine, tmp_path, point):
    """The effect happens twice where its record was missing; what follows from it is called once all the same."""
    marks = [tmp_path / name for name in ("one", "two", "three", "body", "last")]
    *members, body, last = [probe.leave_mark.si(str(mark), 0) for mark in marks]
    machine.start_relay(LEDGER_RUNNING_LEASE="2")
    worker = machine.start_worker(concurrency=1, FAULT=point, LEDGER_RUNNING_LEASE="2")
    chain(chord(members, body), last).delay()
    wait_until("a process was lost", lambda: worker.says("A process was lost"))
    worker.kill()
    machine.start_worker(LEDGER_RUNNING_LEASE="2")
    wait_until("all is done", lambda: marks[-1].exists() and not _open_rows().exists(), seconds=60)
    effects = [mark.read_text().count("mark") for mark in marks]
    assert min(effects) == 1
    assert sum(effects) == len(marks) + (not OUTSIDE[point])
    assert DurableTask.objects.filter(status="succeeded").count() == len(marks)


@pytest.mark.once
@pytest.mark.fault("F171")
def test_f171_canvases_go_on_under_kills_and_a_broker_that_forgets(machine):
    chance = random.Random(SEED)
    relay = machine.start_relay()
    worker = machine.start_worker()
    names = names_of_all()
    for name in names["chord"]:
        a_chord(name).delay()
    for name in names["chain"]:
        a_chain(name).delay()
    for name in names["nest"]:
        a_nesting(name).delay()
    wanted = expected(names["chord"], names["chain"], names["nest"])

    def made():
        return Collection.objects.count()

    began = time.monotonic()
    kills, flushes = Counter(), 0
    while (before := made()) < len(wanted):
        wait_until("there is another effect", lambda before=before: made() > before, seconds=120)
        if kills.total() < KILLS:
            [victim] = chance.choices(list(VICTIMS), VICTIMS.values())
            kills[victim] += 1
            if victim == "child":
                kill_a_child(worker, chance)
            elif victim == "worker":
                worker.kill()
                worker = machine.start_worker(wait=False)
            else:
                relay.kill()
                relay = machine.start_relay(wait=False)
        if made() > len(wanted) * (flushes + 1) / 4:
            machine.flush_broker()
            flushes += 1
        time.sleep(PAUSE)
    wait_until("every row has ended", lambda: not _open_rows().exists())
    assert kills.total() >= 3
    assert flushes  # Three, unless the last effects come all at once.
    assert set(Collection.objects.values_list("title", flat=True)) == wanted
    assert not DurableTask.objects.filter(status="dead").exists()
    assert not Chord.objects.exclude(missing=0).exists()
    print(
        f"{dict(kills)} killed, {flushes} times an empty broker: {len(wanted)} effects, each once,"
        f" in {time.monotonic() - began:.0f} s"
    )


def _open_rows():
    return DurableTask.objects.filter(status__in=["pending", "published", "running"])
