"""Tasks in their usual forms, for the project of these tests."""

from celery import Task, shared_task
from habits import answers, inside, note, retrying, telling  # noqa: F401 - a worker looks for tasks here


class OfALibrary(Task):
    """A base class that knows nothing of the ledger."""

    abstract = True

    def on_success(self, retval, task_id, args, kwargs):
        note(args[0], "on_success")


@shared_task(base=OfALibrary)
def of_a_library(path):
    note(path, "done")


@shared_task(durable=False)
def not_durable(path):
    note(path, "done")


@shared_task
def fails(path):
    note(path, "tried")
    raise OSError("It cannot be done.")


@shared_task(autoretry_for=(OSError,), max_retries=2, default_retry_delay=0)
def fails_and_is_retried(path):
    note(path, "tried")
    raise OSError("It cannot be done.")


@shared_task(bind=True, max_retries=3)
def asks_to_be_retried(self, path):
    note(path, f"retries {self.request.retries}")
    if self.request.retries < 2:
        raise self.retry(countdown=0)


@shared_task(transactional=True)
def hands_on(path):
    not_twice.delay(path)


@shared_task(acks_late=False)
def not_twice(path):
    with open(path, "w") as file:
        file.write("begun\n" * 20_000)


@shared_task(queue="reports")
def in_a_queue_of_its_own():
    """The queue is not declared."""
