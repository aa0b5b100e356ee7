"""
The canvases of ``make canvas-fire`` by plain Celery on Redis, under the same kills: what it loses and what it doubles.

Set up as well as Celery can be: late acknowledgement, messages of lost children returned, and what a dead worker holds
delivered again after seconds. Its results are in a Redis database that is never emptied; an effect is a line in a file.
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import django
from celery import Celery, chain, chord

app = Celery("plain", broker=os.environ.get("PLAIN_BROKER"), backend=os.environ.get("PLAIN_RESULTS"))
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": 5},
)
#: Seconds without another effect after which none is to come.
PATIENCE = 30


def make(title):
    with Path(os.environ["PLAIN_EFFECTS"]).open("a") as file:
        file.write(f"{title}\n")
    return title


@app.task(name="plain.effect")
def effect(title):
    return make(title)


@app.task(name="plain.gather")
def gather(titles, title):
    return make(f"{title} of {len(titles)}")


@app.task(name="plain.again")
def again(title):
    return make(f"{title} again")


def a_chord(name, members):
    return chord([effect.si(f"{name} member {number:03}") for number in range(members)], gather.s(f"{name} body"))


def a_chain(name):
    return chain(effect.si(f"{name} step {number:03}") for number in range(10))


def a_nesting(name):
    inner = [chain(a_chord(f"{name} inner {number}", 3), again.s()) for number in range(3)]
    return chord(inner, gather.s(f"{name} outer"))


def main():
    """Call as many canvases of each kind as the environment says, kill and empty, and count."""
    environment = dict(os.environ)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    from tests.faults.test_canvas import MEMBERS, PAUSE, SEED, VICTIMS, expected, names_of_all
    from tests.package.conftest import Redis
    from tests.processes import Process, wait_until

    names = names_of_all()
    victims = {victim: weight for victim, weight in VICTIMS.items() if victim != "relay"}
    wanted = expected(names["chord"], names["chain"], names["nest"])
    chance = random.Random(SEED)
    with tempfile.TemporaryDirectory() as folder:
        broker, path = Redis(Path(folder)), Path(folder) / "effects"
        path.touch()
        results = broker.url.removesuffix("/0") + "/1"
        app.conf.update(broker_url=broker.url, result_backend=results)
        environment |= {"PLAIN_BROKER": broker.url, "PLAIN_RESULTS": results, "PLAIN_EFFECTS": str(path)}
        command = [sys.executable, "-m", "celery", "-A", "tests.plain_canvas", "worker", "-c", "2", "-l", "info"]
        worker = Process("worker", command, environment, Path(folder) / "worker.log")
        try:
            wait_until("the worker is ready", lambda: worker.says(" ready."))
            for name in names["chord"]:
                a_chord(name, MEMBERS).delay()
            for name in names["chain"]:
                a_chain(name).delay()
            for name in names["nest"]:
                a_nesting(name).delay()
            kills = flushes = seen = 0
            latest = time.monotonic()
            while time.monotonic() - latest < PATIENCE and not wanted <= set(path.read_text().splitlines()):
                if (done := len(path.read_text().splitlines())) > seen:
                    seen, latest = done, time.monotonic()
                    [victim] = chance.choices(list(victims), victims.values())
                    if victim == "worker":
                        worker.kill()
                        worker = Process("worker", command, environment, Path(folder) / f"worker-{kills}.log")
                        kills += 1
                    elif children := worker.children():
                        with suppress(ProcessLookupError):
                            os.kill(chance.choice(children), signal.SIGKILL)
                            kills += 1
                if flushes < 3 and done > len(wanted) * (flushes + 1) / 4:
                    broker.client.flushdb()
                    flushes += 1
                time.sleep(PAUSE)
        finally:
            worker.kill()
            broker.end()
        effects = Counter(path.read_text().splitlines())
    ends = {title for title in wanted if " member " not in title and (" step " not in title or title.endswith("009"))}
    print(
        f"Plain Celery, {kills} kills, {flushes} times an empty broker: of {len(wanted)} effects"
        f" {len(wanted - effects.keys())} are missing and {sum(effects[title] > 1 for title in wanted)} are there more"
        f" than once; of {len(ends)} bodies and last steps {len(ends - effects.keys())} are missing and"
        f" {sum(effects[title] > 1 for title in ends)} are there more than once."
    )


if __name__ == "__main__":
    main()
