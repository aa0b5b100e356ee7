"""Customers' phone numbers and their verification."""

import secrets
from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.crypto import salted_hmac

from store.models import Customer

CODE_DIGITS = 6


def make_nonce() -> str:
    """Return a nonce that makes this row's code unique."""
    return secrets.token_hex(16)


def code_expiry() -> datetime:
    """Return the expiry of a code made now."""
    return timezone.now() + timedelta(minutes=settings.PHONE_CODE_MINUTES)


class PhoneVerification(models.Model):
    """
    One code for one number of one customer.

    The code is not stored, in clear or otherwise: it is computed from the row and ``SECRET_KEY``. So a
    retried task sends the same code, and reading the database reveals none.
    """

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="phone_verifications")
    phone = models.CharField(max_length=32, help_text="In E.164, such as +442079460000.")
    nonce = models.CharField(max_length=32, default=make_nonce, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(default=code_expiry)
    sent_at = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveSmallIntegerField(default=0, help_text="Codes entered so far.")
    verified_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["phone", "created_at"], name="codes_to_a_number")]

    def __str__(self) -> str:
        return f"phone verification {self.pk}"

    @property
    def code(self) -> str:
        """The code, as sent and entered."""
        digest = salted_hmac("phones.code", f"{self.pk} {self.nonce} {self.phone}", algorithm="sha256").digest()
        return str(int.from_bytes(digest) % 10**CODE_DIGITS).zfill(CODE_DIGITS)


class SmsGrant(models.Model):
    """
    A granted SMS, counted for two days; see :mod:`phones.budget`.

    ``client`` is the network address that requested it; for IPv6, the first half.
    """

    phone = models.CharField(max_length=32)
    client = models.CharField(max_length=64, blank=True)
    reference = models.CharField(
        max_length=64, unique=True, help_text="A message that is sent again keeps its reference."
    )
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        indexes = [
            models.Index(fields=["phone", "created_at"], name="sms_to_a_number"),
            models.Index(fields=["client", "created_at"], name="sms_by_an_address"),
        ]

    def __str__(self) -> str:
        return f"SMS grant {self.pk}"
