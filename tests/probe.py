"""Tasks and a signal for tests of the machinery: their effect is a Collection, whose title is unique."""

import logging
import os
import signal
import time
import uuid
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from celery import shared_task
from django.db import connection, transaction
from django.db.models import F

from celery_ledger.context import about_item, current_request_id, current_subject
from celery_ledger.errors import PermanentError
from celery_ledger.signals import DurableSignal
from store.models import Collection
from worker.task import Task

logger = logging.getLogger(__name__)
#: Titles whose tasks fail, and how; tests fill and clear it.
failing: dict[str, Exception] = {}
#: What each body was given, in order.
seen: list[object] = []
collection_made = DurableSignal("tests.collection_made")


def make(title: str) -> None:
    Collection.objects.create(title=title)
    if title in failing:
        raise failing[title]


@shared_task(name="tests.make_collection")
def make_collection(title: str) -> str:
    seen.append(title)
    make(title)
    return title


@shared_task(name="tests.see_collections", bind=True)
def see_collections(self) -> None:
    seen.append((self.request.id, set(Collection.objects.values_list("title", flat=True))))


@shared_task(name="tests.debounced", unique_key=lambda title, **_: f"debounced:{title}", debounce=60)
def debounced(title: str, number: int = 0) -> None:
    seen.append((title, number))


@shared_task(name="tests.make_collections", batch_size=50)
def make_collections(titles: list[str]) -> None:
    seen.append(titles)
    Collection.objects.bulk_create(Collection(title=title) for title in titles)
    for title in titles:
        if title in failing:
            raise failing[title]


@shared_task(name="tests.make_other_collections", batch_size=50)
def make_other_collections(titles: list[str]) -> None:
    make_collections(titles)


@shared_task(name="tests.tell_retries", bind=True)
def tell_retries(self) -> None:
    seen.append(self.request.retries)
    raise RuntimeError("again")


@shared_task(name="tests.tell_key", bind=True, transactional=False)
def tell_key(self) -> None:
    seen.append(self.request.id)
    raise RuntimeError("again")


@shared_task(name="tests.leave_mark", transactional=False)
def leave_mark(path: str, seconds: float) -> None:
    """Leave a line each time: an effect that no database knows of."""
    logger.info("%s is under way", path)
    time.sleep(seconds)
    with Path(path).open("a") as file:
        file.write("mark\n")


@shared_task(name="tests.count_down")
def count_down(number: int) -> None:
    seen.append(number)
    if number:
        count_down(number - 1)


@shared_task(name="tests.enqueue_for_each", batch_size=50)
def enqueue_for_each(titles: list[str]) -> None:
    for title in titles:
        make_collection.delay(title)


@shared_task(name="tests.enqueue_about_each", batch_size=50)
def enqueue_about_each(titles: list[str]) -> None:
    for title in titles:
        with about_item(title):
            make_collection.delay(title)


@shared_task(name="tests.ring", transactional=False)
def ring(bell: str) -> None:
    assert not connection.in_atomic_block
    seen.append(bell)
    if bell in failing:
        raise failing[bell]


@shared_task(name="tests.come_back", bind=True)
def come_back(self, seconds: float) -> None:
    raise self.retry(countdown=seconds, exc=ValueError("not yet"))


@shared_task(name="tests.come_back_at", bind=True)
def come_back_at(self, moment: str) -> None:
    raise self.retry(eta=datetime.fromisoformat(moment))


@shared_task(name="tests.retry_as_told", bind=True, max_retries=2)
def retry_as_told(self, options: dict[str, object], round: int = 1) -> int:
    seen.append(round)
    if round < 3:
        raise self.retry(**options)
    return round


@shared_task(name="tests.pause_evenly", retry_kwargs={"max_retries": 4, "countdown": 30})
def pause_evenly() -> None:
    raise RuntimeError("again")


@shared_task(
    name="tests.retry_by_celery", autoretry_for=(RuntimeError,), retry_kwargs={"max_retries": 1, "countdown": 30}
)
def retry_by_celery() -> None:
    raise RuntimeError("again")


@shared_task(name="tests.go_last", priority=9, expires=3600)
def go_last(title: str) -> None:
    seen.append(title)


@shared_task(name="tests.give_up", dont_autoretry_for=(ZeroDivisionError,), max_retries=2)
def give_up(kind: str) -> None:
    raise {"permanent": PermanentError, "division": ZeroDivisionError, "other": RuntimeError}[kind](kind)


@shared_task(name="tests.enqueue_children")
def enqueue_children(titles: list[str]) -> None:
    for title in titles:
        make_collection.delay(title)


# --- Receivers -------------------------------------------------------------------------


def enqueues(sender, collection, **kwargs):
    make_collection.delay(f"because of {collection.title}")


def enqueues_then_breaks_sql(sender, collection, **kwargs):
    make_collection.delay("never")
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM no_such_table")


def breaks_a_constraint(sender, collection, **kwargs):
    Collection.objects.create(title="half done")
    Collection.objects.create(title=collection.title)


def breaks_a_constraint_in_its_own_block(sender, collection, **kwargs):
    with transaction.atomic():
        Collection.objects.create(title=collection.title)


def raises(sender, collection, **kwargs):
    raise RuntimeError("a receiver's mistake")


def writes(sender, collection, **kwargs):
    Collection.objects.get_or_create(title=f"beside {collection.title}")


# --- Tasks that real workers run under faults ---------------------------------------------


@shared_task(name="tests.make_slowly")
def make_slowly(title: str, seconds: float) -> None:
    Collection.objects.create(title=title)
    logger.info("%s is under way", title)
    time.sleep(seconds)


@shared_task(name="tests.make_slowly_together", batch_size=50)
def make_slowly_together(items: list[list[object]]) -> None:
    """Make what each item names, ``[title, seconds]``, one after the other, in one transaction."""
    for title, seconds in items:
        make_slowly(title, seconds)


class Told(Task):
    """A task that says what it is told of its failures."""

    abstract = True

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        logger.info("%s was told that %s of %s failed", self.name, task_id, args)


@shared_task(name="tests.heed_nothing", base=Told, max_retries=0)
def heed_nothing(seconds: float) -> None:
    """Go on whatever is raised, and keep the transaction busy: the database does not end it for being idle."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(Exception), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            time.sleep(0.1)  # The body under test takes its time; nothing is waited for.


@shared_task(name="tests.make_anew")
def make_anew(title: str) -> None:
    """Leave something each time: a second run shows."""
    Collection.objects.create(title=f"{title} {uuid.uuid4()}")


@shared_task(name="tests.fail_twice", max_retries=1, retry_backoff=0.1)
def fail_twice(title: str) -> None:
    raise OSError(title)


@shared_task(name="tests.fail_among", batch_size=50, max_retries=1, retry_backoff=0.1)
def fail_among(titles: list[str]) -> None:
    if "bad" in titles:
        raise OSError(str(titles))


@shared_task(name="tests.poison", max_retries=2, retry_backoff=0.1)
def poison() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(name="tests.ring_slowly", transactional=False)
def ring_slowly(title: str, seconds: float) -> None:
    logger.info("%s is under way", title)
    time.sleep(seconds)
    Collection.objects.create(title=f"{title} {os.getpid()}")


@shared_task(
    name="tests.ask_provider",
    transactional=False,
    concurrency_per_key=2,
    limit_key=lambda provider, *_: provider,
)
def ask_provider(provider: str, path: str, seconds: float = 0.2) -> None:
    """Write down when it begins and ends, with its provider."""
    for what in ("begins", "ends"):
        with Path(path).open("a") as file:
            file.write(f"{provider} {what}\n")
        time.sleep(seconds if what == "begins" else 0)


@shared_task(name="tests.pay_provider", concurrency_per_key=1)
def pay_provider(number: int) -> int:
    return number


@shared_task(name="tests.hoard", transactional=False)
def hoard(megabytes: int) -> None:
    seen.append(bytearray(megabytes * 1024 * 1024))


@shared_task(name="tests.name_process")
def name_process(place: int) -> int:
    return os.getpid()


class Framed(Task):
    """A class as projects have it, that does something around each body."""

    abstract = True

    def __call__(self, *args, **kwargs):
        seen.append("before")
        return super().__call__(*args, **kwargs)


@shared_task(name="tests.tell_frame", base=Framed, bind=True)
def tell_frame(self) -> None:
    seen.append((self.request.id, self.request.called_directly, self.request.delivery_info["priority"]))


@shared_task(name="tests.expect", throws=(LookupError,), max_retries=0)
def expect() -> None:
    raise KeyError("as may be")


# --- Ordinary tasks that ride together ----------------------------------------------------


class Aware(Task):
    """A task whose hooks say what they are told, beside what its bodies see."""

    abstract = True

    def before_start(self, task_id, args, kwargs):
        seen.append(("before", task_id, args[0]))

    def on_success(self, retval, task_id, args, kwargs):
        seen.append(("success", task_id, retval))

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        seen.append(("after", task_id, status))


@shared_task(name="tests.ride_aware", base=Aware, bind=True)
def ride_aware(self, title: str) -> str:
    told = (self.request.args, self.request.retries, self.request.delivery_info["priority"])
    seen.append(("body", self.request.id, title, told, current_request_id(), current_subject()))
    Collection.objects.create(title=title)
    return f"{title} made"


@shared_task(name="tests.ride_and_call", bind=True)
def ride_and_call(self, title: str) -> None:
    """Enqueue, leave something for after the commit, and fail if that is asked for."""
    make_collection.delay(f"because of {title}")
    transaction.on_commit(lambda: seen.append(("committed", title)))
    make(title)


@shared_task(name="tests.ride_repeatably", repeatable=True)
def ride_repeatably(title: str) -> None:
    seen.append(title)
    make(title)


@shared_task(name="tests.ride_slowly")
def ride_slowly(title: str, seconds: float) -> None:
    Collection.objects.create(title=title)
    time.sleep(seconds)


@shared_task(name="tests.ride_within_limits", soft_time_limit=0.2)
def ride_within_limits(title: str, seconds: float) -> None:
    ride_slowly(title, seconds)


@shared_task(name="tests.ride_swallowing")
def ride_swallowing(title: str) -> None:
    Collection.objects.create(title=title)
    with suppress(Exception), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM no_such_table")


@shared_task(name="tests.ride_alone", rides=False)
def ride_alone(title: str) -> None:
    make(title)


@shared_task(name="tests.heat")
def heat(titles: list[str]) -> None:
    """Change rows one after the other, as those do that everybody wants at once."""
    for title in titles:
        seen.append(title)
        Collection.objects.filter(title=title).update(title=F("title"))


@shared_task(name="tests.take_time", max_retries=0, soft_time_limit=0.5, time_limit=1)
def take_time(seconds: float) -> None:
    """Take longer than the task has, as some calls ask for."""
    time.sleep(seconds)


@shared_task(name="tests.gather_collections")
def gather_collections(titles: list[str], title: str) -> str:
    """Make a collection once, of what the members of a chord returned; its title tells their number and order."""
    is_ordered = titles == sorted(titles)
    make(f"{title} of {len(titles)}{'' if is_ordered else ', in disorder'}")
    return title


@shared_task(name="tests.gather_twice")
def gather_twice(title: str) -> str:
    """Make another collection beside the one of a chord's body, and return its title."""
    make(f"{title} again")
    return title
