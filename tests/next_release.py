"""A task that only workers of the next release know: those whose IMPORTS name this module."""

from celery import shared_task

from tests import probe


@shared_task(name="tests.of_the_next_release")
def of_the_next_release(title: str) -> None:
    probe.make(title)
