"""
Bodies that fail in the ways of Celery's documentation, each declared twice: as a durable task, and as one of Celery's.

What a body does and which signals are sent is noted in the file that it is given.
"""

from copy import deepcopy
from datetime import UTC, datetime, timedelta

from celery import shared_task, signals
from celery.exceptions import MaxRetriesExceededError
from habits import note

from celery_ledger import PermanentError

BODIES = []


def both(**options):
    """Declare a body twice, with the same options."""

    def declare(body):
        BODIES.append(body.__name__)
        for way in ("durable", "plain"):
            name = f"retrying.{body.__name__}.{way}"
            task = shared_task(name=name, bind=True, durable=way == "durable", **deepcopy(options))(body)
            globals()[f"{body.__name__}_{way}"] = task
        return body

    return declare


def tried(self, path):
    note(path, f"body retries={self.request.retries}")


@both()
def fails(self, path):
    tried(self, path)
    raise OSError("It cannot be done.")


@both(autoretry_for=(OSError,), retry_kwargs={"max_retries": 2, "countdown": 0})
def is_retried_by_itself(self, path):
    tried(self, path)
    raise OSError("It cannot be done.")


@both(autoretry_for=(OSError,), max_retries=1, retry_backoff=True, retry_jitter=False)
def is_retried_after_a_pause(self, path):
    tried(self, path)
    raise OSError("It cannot be done.")


@both(autoretry_for=(OSError,), max_retries=1, default_retry_delay=0)
def fails_otherwise(self, path):
    tried(self, path)
    raise KeyError("It is of no kind that is retried.")


@both(autoretry_for=(OSError,), dont_autoretry_for=(ConnectionError,), max_retries=1, default_retry_delay=0)
def is_an_exception_to_the_rule(self, path):
    tried(self, path)
    raise ConnectionResetError("It is an OSError, too.")


@both(max_retries=1)
def asks_with_a_countdown(self, path):
    tried(self, path)
    raise self.retry(countdown=0.1)


@both(max_retries=1)
def asks_with_a_time(self, path):
    tried(self, path)
    self.retry(eta=datetime.now(tz=UTC) + timedelta(seconds=0.2))


@both(max_retries=1, default_retry_delay=0)
def asks_and_says_why(self, path):
    tried(self, path)
    try:
        raise OSError("It cannot be done.")
    except OSError as error:
        self.retry(exc=error)


@both(default_retry_delay=0)
def asks_for_other_limits(self, path):
    tried(self, path)
    self.retry(max_retries=1)


@both(max_retries=1, default_retry_delay=0)
def gives_up_by_itself(self, path):
    tried(self, path)
    try:
        self.retry()
    except MaxRetriesExceededError:
        note(path, "gave up")


@both(max_retries=1, default_retry_delay=0)
def gives_up_by_its_own_word(self, path):
    tried(self, path)
    try:
        self.retry()
    except self.MaxRetriesExceededError:
        note(path, "gave up")
        raise ValueError("Nothing more can be tried.") from None


@both(max_retries=None, default_retry_delay=0)
def goes_on_for_long(self, path):
    tried(self, path)
    if self.request.retries < 5:
        self.retry()


@both(default_retry_delay=0)
def is_given_other_arguments(self, path, *, number=0):
    note(path, f"body number={number}")
    if number < 2:
        self.retry(kwargs={"number": number + 1})


@shared_task(autoretry_for=(Exception,), default_retry_delay=0)
def is_permanent(path):
    note(path, "body")
    raise PermanentError("Nobody lives there.")


def heard(name, arguments_of, words):
    def note_it(sender, **said):
        if sender.name.startswith("retrying."):
            note(arguments_of(sender, said)[0], f"{name} {words(said)}".strip())

    getattr(signals, name).connect(note_it, weak=False)


heard("task_prerun", lambda sender, said: said["args"], lambda said: "")
heard("task_postrun", lambda sender, said: said["args"], lambda said: said["state"])
heard("task_success", lambda sender, said: sender.request.args, lambda said: "")
heard("task_retry", lambda sender, said: said["request"].args, lambda said: "")
heard("task_failure", lambda sender, said: said["args"], lambda said: type(said["exception"]).__name__)
