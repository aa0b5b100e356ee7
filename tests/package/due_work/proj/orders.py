"""What a view would do: an order and its tasks, in one transaction."""

from django.db import transaction
from proj.models import Effect
from proj.tasks import record, record_djangos


@transaction.atomic
def place(order):
    Effect.objects.create(what=f"{order} placed")
    record.delay(f"{order} recorded")


@transaction.atomic
def place_djangos(order):
    Effect.objects.create(what=f"{order} placed")
    record_djangos.enqueue(f"{order} recorded")
