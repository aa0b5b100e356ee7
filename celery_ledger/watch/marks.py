"""What people did and charts show with the figures: another release came, a queue was paused, resumed or limited."""

from collections.abc import Sequence
from datetime import datetime

from celery_ledger.models import Mark

LONGEST = 200


def release(name: str) -> None:
    """Mark that a process of this release has begun, unless the last one that began was of the same; "" is none."""
    latest = Mark.objects.filter(kind=Mark.Kind.RELEASE).order_by("-at").values_list("text", flat=True).first()
    if name and name != latest:
        Mark.objects.create(kind=Mark.Kind.RELEASE, text=name)


def queue(text: str) -> None:
    """Mark what an operator did to a queue, in the current transaction."""
    Mark.objects.create(kind=Mark.Kind.QUEUE, text=text[:LONGEST])


def since(start: datetime) -> Sequence[Mark]:
    """Return what was marked from ``start`` on, oldest first; a release that two processes marked at once, once."""
    found: list[Mark] = []
    for mark in Mark.objects.filter(at__gte=start).order_by("at", "pk"):
        releases = [each for each in found if each.kind == Mark.Kind.RELEASE]
        if mark.kind != Mark.Kind.RELEASE or not releases or releases[-1].text != mark.text:
            found.append(mark)
    return found
