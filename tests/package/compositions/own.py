"""A Celery app with classes and boot steps of its own, of each kind that a project may name."""

from celery import Celery, bootsteps
from celery.app.control import Control
from celery.concurrency.prefork import TaskPool
from celery.worker.consumer import Consumer
from celery.worker.request import Request

import celery_ledger


def note(line):
    with open("own-notes", "a") as file:
        file.write(f"{line}\n")


class OwnRequest(Request):
    def on_accepted(self, pid, time_accepted):
        note(f"request {self.name}")
        super().on_accepted(pid, time_accepted)


class OwnTask(celery_ledger.Task):
    abstract = True
    Request = "compositions.own:OwnRequest"

    def before_start(self, task_id, args, kwargs):
        note(f"task {self.name}")


class OwnPool(TaskPool):
    def on_start(self):
        super().on_start()
        note("pool")


class OwnConsumer(Consumer):
    def on_ready(self):
        super().on_ready()
        note("consumer")


class OwnControl(Control):
    def greet(self):
        return "Good day."


class OwnWorkerStep(bootsteps.StartStopStep):
    requires = {"celery.worker.components:Pool"}

    def start(self, worker):
        note("worker step")


class OwnConsumerStep(bootsteps.StartStopStep):
    requires = {"celery.worker.consumer.tasks:Tasks"}

    def start(self, consumer):
        note("consumer step")


app = Celery("own", task_cls=OwnTask, control="compositions.own:OwnControl")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.worker_consumer = "compositions.own:OwnConsumer"
app.conf.worker_pool = "compositions.own:OwnPool"
app.conf.worker_prefetch_multiplier = 3
app.steps["worker"].add(OwnWorkerStep)
app.steps["consumer"].add(OwnConsumerStep)
app.autodiscover_tasks()


@app.task
def writes(path, lines=1):
    with open(path, "a") as file:
        file.write("done\n" * lines)


@app.task(queue="nobody_takes_it")
def waits():
    """Until it is revoked."""
