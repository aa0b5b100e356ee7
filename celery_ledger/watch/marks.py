"""Events that charts show with the figures: a new release, or a queue that was paused, resumed or limited."""

from collections.abc import Sequence
from datetime import datetime

from celery_ledger.models import Mark

LONGEST = 200


def release(name: str) -> None:
    """Mark the start of a process of this release, unless the latest mark is for the same release; ignore ""."""
    latest = Mark.objects.filter(kind=Mark.Kind.RELEASE).order_by("-at").values_list("text", flat=True).first()
    if name and name != latest:
        Mark.objects.create(kind=Mark.Kind.RELEASE, text=name)


def queue(text: str) -> None:
    """Mark an operator's action on a queue, in the current transaction."""
    Mark.objects.create(kind=Mark.Kind.QUEUE, text=text[:LONGEST])


def since(start: datetime) -> Sequence[Mark]:
    """Return the marks from ``start`` on, oldest first; drop a duplicate if two processes marked a release at once."""
    found: list[Mark] = []
    for mark in Mark.objects.filter(at__gte=start).order_by("at", "pk"):
        releases = [each for each in found if each.kind == Mark.Kind.RELEASE]
        if mark.kind != Mark.Kind.RELEASE or not releases or releases[-1].text != mark.text:
            found.append(mark)
    return found
