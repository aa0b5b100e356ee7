"""
The shop's Celery app in a worker that notes what is done for events of tasks, a line each, in the file ``COUNTED``.

``celery -A tests.counted worker`` runs it.
"""

import os
from functools import wraps

from celery.events.dispatcher import EventDispatcher
from celery.signals import worker_init

from worker.celery import app

__all__ = ["app"]


def note(cls, name):
    """Note each call of this method; of the dispatcher's, those about tasks."""
    method = getattr(cls, name)

    @wraps(method)
    def noted(self, *args, **kwargs):
        if cls is not EventDispatcher or args[0].startswith("task-"):
            with open(os.environ["COUNTED"], "a") as file:
                file.write(f"{cls.__name__}.{name}\n")
        return method(self, *args, **kwargs)

    setattr(cls, name, noted)


@worker_init.connect(weak=False)
def note_all(**_):
    from celery_ledger.work.running import Outcomes
    from celery_ledger.work.telling import Telling

    note(EventDispatcher, "send")
    note(Telling, "_event_of")
    note(Outcomes, "events")
