"""The entries of the audit trail."""

from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone


class AppendOnlyQuerySet(models.QuerySet["AuditEntry"]):
    """Rows that are written once."""

    def update(self, **kwargs: Any) -> int:
        """
        Refuse.

        Raises:
            TypeError: always.
        """
        raise TypeError("The audit trail is append-only.")

    def delete(self) -> tuple[int, dict[str, int]]:
        """
        Refuse.

        Raises:
            TypeError: always.
        """
        raise TypeError("The audit trail is append-only.")


class AuditEntry(models.Model):
    """
    One recorded action: who did what to what, with the values before and after.

    Append-only: the model refuses changes, and so does a trigger on PostgreSQL. Only entries older than
    ``AUDIT_RETENTION_DAYS``, if that is set, are deleted. Entries name users by id and outlive them.
    """

    class What(models.TextChoices):
        CREATED = "created"
        CHANGED = "changed"
        DELETED = "deleted"
        #: Related objects were added to, taken from or cleared from a many-to-many field.
        LINKED = "linked"
        UNLINKED = "unlinked"
        PLACED = "placed"
        CANCELLED = "cancelled"
        LOGGED_IN = "logged in"
        #: A failed login names no user: none was authenticated.
        LOGIN_FAILED = "login failed"
        #: A member of staff did something in the admin.
        ADMIN = "admin"

    at = models.DateTimeField(default=timezone.now, db_index=True)
    who = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        null=True,
        blank=True,
        related_name="+",
        help_text="Empty for the system itself, and for clients that are not signed in.",
    )
    what = models.CharField(max_length=16, choices=What)
    model = models.CharField(max_length=100, help_text="Such as store.product.")
    object_id = models.CharField(max_length=64, blank=True)
    before = models.JSONField(default=dict, blank=True)
    after = models.JSONField(default=dict, blank=True)
    request_id = models.CharField(max_length=64, blank=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        db_table = "core_auditentry"  # As it was called before the trail was an app.
        ordering = ["-id"]
        verbose_name_plural = "audit trail"
        indexes = [models.Index(fields=["model", "object_id"], name="audit_trail_of_an_object")]

    def __str__(self) -> str:
        return f"{self.model} {self.object_id} {self.what}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """
        Add the entry.

        Raises:
            TypeError: the entry already exists.
        """
        if not self._state.adding:
            raise TypeError("The audit trail is append-only.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """
        Refuse.

        Raises:
            TypeError: always.
        """
        raise TypeError("The audit trail is append-only.")
