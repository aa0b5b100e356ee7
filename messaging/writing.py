"""Writing a message. Called by views.py."""

from typing import Any

from django.db import transaction
from django.db.models import Q

from messaging.models import Block, Message


class BlockedError(Exception):
    """One of the two users has blocked the other."""


def may_write(sender: Any, receiver: Any) -> bool:
    """Whether neither of the two blocks the other."""
    pair = Q(user=sender, blocked=receiver) | Q(user=receiver, blocked=sender)
    return not Block.objects.filter(pair).exists()


def write(sender: Any, receiver: Any, content: str) -> Message:
    """
    Write a message. A durable task, enqueued in the same transaction, notifies its receiver.

    Raises:
        BlockedError: one of the two blocks the other.
    """
    with transaction.atomic():
        if not may_write(sender, receiver):
            raise BlockedError
        return Message.objects.create(sender=sender, receiver=receiver, content=content)
