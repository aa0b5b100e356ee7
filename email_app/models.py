"""Mails: each is a row that exists before the first attempt and records the outcome."""

import secrets

from django.conf import settings
from django.db import models
from django.utils import timezone

from store.models import Order


def make_nonce() -> str:
    """Return a nonce that makes the links of a claim unique."""
    return secrets.token_hex(16)


class AddressClaim(models.Model):
    """
    An address to be verified: of a new account, or the new address that a user requested.

    A user without a claim has a verified address, or one entered by staff. Mailed links contain only the claim's id and
    nonce, and so reveal nothing about the user; see :mod:`email_app.addresses`.
    """

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="address_claim")
    email = models.EmailField(db_index=True)
    nonce = models.CharField(max_length=32, default=make_nonce, editable=False)
    made_at = models.DateTimeField(default=timezone.now)
    shown_at = models.DateTimeField(null=True, blank=True, help_text="When the link sent to it was followed.")
    allowed_at = models.DateTimeField(
        null=True, blank=True, help_text="When the link sent to the previous address was followed."
    )
    asked = models.PositiveSmallIntegerField(default=0, help_text="Mails requested in the current hour.")
    asked_since = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"address claim {self.pk}"


class EmailDelivery(models.Model):
    """
    One mail to one person.

    ``message_id`` is generated once and kept, so that a second copy of the mail, which a lost SMTP reply can cause, is
    recognisable. Only :mod:`email_app.delivery` changes a status.
    """

    class Kind(models.TextChoices):
        """What a mail is about; also the name of its templates."""

        ORDER_CONFIRMATION = "order_confirmation"
        ORDER_CANCELLATION = "order_cancellation"
        ORDER_SHIPPED = "order_shipped"
        ORDER_DELIVERED = "order_delivered"
        WELCOME = "welcome"
        #: To managers: a customer placed the same lines twice.
        DUPLICATE_ORDER = "duplicate_order"
        #: To managers, and to staff who request one.
        SALES_REPORT = "sales_report"
        #: A notification, for users who chose e-mail.
        NOTIFICATION = "notification"
        #: To an address that has not been verified.
        ADDRESS_CHECK = "address_check"
        #: To the address that a user wants to replace.
        ADDRESS_CHANGE = "address_change"
        #: To users who request a new password.
        PASSWORD_RESET = "password_reset"  # noqa: S105 - The name of a mail.
        #: To users whose password has changed.
        PASSWORD_CHANGED = "password_changed"  # noqa: S105 - As above.

    class Status(models.TextChoices):
        PENDING = "pending"
        SENT = "sent"
        HELD = "held", "held: the address is not verified"
        FAILED = "failed", "failed: the server rejected it permanently"

    kind = models.CharField(max_length=32, choices=Kind)
    recipient = models.EmailField()
    order = models.ForeignKey(Order, on_delete=models.PROTECT, null=True, blank=True, related_name="emails")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        help_text="The recipient, if it is not the customer of the order.",
    )
    reference = models.CharField(
        max_length=64, blank=True, help_text="Distinguishes it from others of its kind, such as the day of a report."
    )
    status = models.CharField(max_length=7, choices=Status, default=Status.PENDING)
    message_id = models.CharField(max_length=255, unique=True)
    error = models.CharField(max_length=500, blank=True)
    stand_in = models.BooleanField(
        default=False,
        help_text="A request to confirm the address was sent instead; the mail follows once it is confirmed.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "email deliveries"
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "order"],
                condition=models.Q(order__isnull=False, user__isnull=True),
                name="one_mail_a_kind_and_order",
            ),
            models.UniqueConstraint(
                fields=["kind", "user", "reference"],
                condition=models.Q(user__isnull=False, order__isnull=True),
                name="one_mail_a_kind_and_user",
            ),
            models.UniqueConstraint(
                fields=["kind", "order", "user"],
                condition=models.Q(user__isnull=False, order__isnull=False),
                name="one_mail_a_kind_order_and_user",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} mail {self.pk}"
