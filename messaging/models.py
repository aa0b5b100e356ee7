"""Messages from one person to another, and blocked users."""

from typing import Any, Final

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

MAX_CONTENT_LENGTH: Final = 2_000  # characters
PREVIEW_LENGTH: Final = 50  # characters


class MessageQuerySet(models.QuerySet["Message"]):
    """Messages from the viewpoint of one user."""

    def inbox_of(self, user: Any) -> "MessageQuerySet":
        """Messages received by ``user``."""
        return self.filter(receiver=user)

    def sent_by(self, user: Any) -> "MessageQuerySet":
        """Messages sent by ``user``."""
        return self.filter(sender=user)


class Message(models.Model):
    """
    One message. Immutable except for ``read_at``, set when its receiver has read it.

    Before saving a new one, check that :func:`messaging.writing.may_write` allows it.
    """

    # The indexes begin with them.
    sender = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="sent_messages", db_index=False
    )
    receiver = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="received_messages", db_index=False
    )
    content = models.CharField(max_length=MAX_CONTENT_LENGTH)
    timestamp = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True, blank=True, help_text="The read receipt that the sender sees.")

    objects = MessageQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["receiver", "-id"], name="messages_received"),
            models.Index(fields=["sender", "-id"], name="messages_sent"),
        ]
        constraints = [
            models.CheckConstraint(condition=~Q(sender=F("receiver")), name="nobody_writes_to_oneself"),
        ]

    def __str__(self) -> str:
        return f"message {self.pk}"

    @property
    def preview(self) -> str:
        """The beginning of the text, at most ``PREVIEW_LENGTH`` characters."""
        text = " ".join(self.content.split())
        return text if len(text) <= PREVIEW_LENGTH else f"{text[: PREVIEW_LENGTH - 1]}…"

    def mark_as_read(self) -> None:
        """Set the read receipt, once: of concurrent calls, the first wins."""
        Message.objects.filter(pk=self.pk, read_at=None).update(read_at=timezone.now())
        self.refresh_from_db(fields=["read_at"])


class Block(models.Model):
    """A block of one user by another. Neither can then write to the other."""

    # The unique constraint's index begins with it.
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="blocks", db_index=False)
    blocked = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["user", "blocked"], name="one_block_a_pair"),
            models.CheckConstraint(condition=~Q(user=F("blocked")), name="nobody_blocks_oneself"),
        ]

    def __str__(self) -> str:
        return f"user {self.user_id} blocks user {self.blocked_id}"
