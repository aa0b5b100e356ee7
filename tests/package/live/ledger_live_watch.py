"""
Notes what a worker of a foreign project begins and ends, in a file; loaded by ``celery worker --include``.

While the file that ``LIVE_HOLD`` names is there, a call stays begun: something to be killed in the middle.
"""

import os
import time
from pathlib import Path

from celery import signals

BOOK, HOLD = Path(os.environ["LIVE_BOOK"]), Path(os.environ["LIVE_HOLD"])


def note(word, call):
    with BOOK.open("a") as book:
        book.write(f"{word} {call}\n")


@signals.worker_ready.connect(weak=False)
def ready(**_):
    note("ready", os.getpid())


@signals.task_prerun.connect(weak=False)
def begun(task_id=None, **_):
    note("begun", task_id)
    while HOLD.exists():
        time.sleep(0.05)


@signals.task_success.connect(weak=False)
def done(sender=None, **_):
    note("done", sender.request.id)


@signals.task_failure.connect(weak=False)
def failed(task_id=None, **_):
    note("failed", task_id)
