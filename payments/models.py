"""Payments for orders, and their state at the provider."""

import uuid
from dataclasses import dataclass
from decimal import Decimal

from django.db import models
from django.db.models import Q

from store.models import Order


def new_reference() -> uuid.UUID:
    """Return the reference of a charge: the provider charges once for it, however often it is asked."""
    return uuid.uuid4()


@dataclass(frozen=True)
class Charge:
    """An amount to charge, or to refund, under a reference."""

    reference: uuid.UUID
    amount: Decimal
    currency: str


class Payment(models.Model):
    """
    The payment of an order. An order placed without payment has none.

    Each try has a reference of its own, and only one try is under way at a time: see :class:`DeclinedCharge`. Code that
    changes the status locks this row first, and then the order's.
    """

    class Status(models.TextChoices):
        PENDING = "pending"
        PAID = "paid"
        #: Not paid in time, or declined too often. The order expires.
        FAILED = "failed"
        #: Paid when the order was closed: the money has to be refunded.
        REFUND_DUE = "refund_due"
        REFUNDED = "refunded"

    order = models.OneToOneField(Order, on_delete=models.PROTECT, related_name="payment")
    reference = models.UUIDField(default=new_reference, unique=True, editable=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    amount = models.DecimalField(max_digits=18, decimal_places=2)
    currency = models.CharField(max_length=3)
    created_at = models.DateTimeField(auto_now_add=True)
    asked_at = models.DateTimeField(null=True, blank=True, help_text="When the customer chose to pay.")
    declined_at = models.DateTimeField(
        null=True, blank=True, help_text="When the last attempt was declined, until the customer tries again."
    )
    expires_at = models.DateTimeField(help_text="The order's stock is reserved until then.")
    paid_at = models.DateTimeField(null=True, blank=True)
    refunded_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["expires_at"], condition=Q(status="pending"), name="payments_waited_for")]

    def __str__(self) -> str:
        return f"payment {self.pk}"

    @property
    def subject(self) -> str:
        """The subject of the task that waits for it: not the order, which is done when it is paid."""
        return f"{self._meta.label_lower}:{self.pk}"

    @property
    def charge(self) -> Charge:
        """The charge that the provider is currently asked for."""
        return Charge(self.reference, self.amount, self.currency)


class DeclinedCharge(models.Model):
    """A declined try that was followed by another. Its reference must never be charged again."""

    # Read for the number of tries; a payment has few.
    payment = models.ForeignKey(Payment, on_delete=models.CASCADE, related_name="declined")
    reference = models.UUIDField(unique=True, editable=False)
    declined_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"declined charge {self.pk} of payment {self.payment_id}"

    @property
    def charge(self) -> Charge:
        """The charge that the provider was asked for."""
        return Charge(self.reference, self.payment.amount, self.payment.currency)


class PaymentCallback(models.Model):
    """A processed message from the provider: a second one with its id has no effect."""

    message_id = models.CharField(max_length=100, unique=True)
    # A payment's callbacks are looked up only in the admin.
    payment = models.ForeignKey(Payment, on_delete=models.CASCADE, related_name="callbacks")
    result = models.CharField(max_length=10)
    taken_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"callback {self.pk} of payment {self.payment_id}"


def hold(payment_id: int) -> Payment:
    """Return a payment whose row is locked until the transaction ends."""
    return Payment.objects.select_for_update(of=("self",), no_key=True).get(pk=payment_id)
