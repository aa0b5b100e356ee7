"""Receivers for changes of a customer's number, connected in apps.py; part of the save."""

import logging
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from django.db import transaction

from celery_ledger.models import Priority
from phones import tasks, verification
from phones.numbers import e164
from store.models import Customer

logger = logging.getLogger(__name__)


def notice_old_phone(
    sender: object, instance: Customer, raw: bool, update_fields: Collection[str] | None, **kwargs: Any
) -> None:
    """A profile is about to be saved: remember its number if that may change."""
    if raw or (update_fields is not None and "phone" not in update_fields):
        return
    old = None if instance._state.adding else Customer.objects.filter(pk=instance.pk).values_list("phone", flat=True)
    vars(instance)["_old_phone"] = (old.first() or "") if old is not None else ""


def enqueue_code(sender: object, instance: Customer, **kwargs: Any) -> None:
    """Send a verification code when a profile's number has changed."""
    old = vars(instance).pop("_old_phone", None)
    if old is None or not instance.phone or e164(old) == e164(instance.phone):
        return
    with transaction.atomic(), suppress(verification.NoPhone):  # An unserved number is kept too.
        try:
            code = verification.make_code(instance)
        except verification.TooManyCodes:
            logger.warning("Customer %d changed the number, but has requested too many codes.", instance.pk)
        else:
            tasks.send_code.apply_async((code.pk,), priority=Priority.HIGH)
