"""Endpoints, their deliveries, and the responses."""

from typing import Any, Final

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q

from webhooks.sealing import PREFIX, SealedField
from webhooks.signing import make_secret

MAX_URL_LENGTH: Final = 500
#: How many characters of an answer the log keeps; at most this many bytes are read.
MAX_ANSWER: Final = 1_024


class Event(models.TextChoices):
    """Events for subscription. The values are permanent: receivers know them."""

    ORDER_CREATED = "order.created", "order.created"
    ORDER_CANCELLED = "order.cancelled", "order.cancelled"
    ORDER_SETTLED = "order.settled", "order.settled"
    STOCK_LOW = "stock.low", "stock.low"
    PRICE_CHANGED = "product.price_changed", "product.price_changed"


class Version(models.IntegerChoices):
    """The format of messages. An endpoint keeps the version of its subscription until its owner changes it."""

    FIRST = 1, "1"
    #: ``version`` alongside ``type``; an order's lines have ``title`` and ``total``.
    SECOND = 2, "2"


#: What the test button sends, whatever the endpoint subscribed to.
TEST: Final = "webhook.test"


class WebhookEndpoint(models.Model):
    """A third party's URL, which receives its subscribed events, signed with its secret."""

    url = models.CharField(max_length=MAX_URL_LENGTH)
    description = models.CharField(max_length=200, blank=True)
    events = models.JSONField(default=list, help_text="The names of the events it receives.")
    ordered = models.BooleanField(
        default=False, help_text="Whether events about the same order or product are sent in order."
    )
    version = models.PositiveSmallIntegerField(
        choices=Version, default=Version.FIRST, db_default=Version.FIRST, help_text="The format of the messages."
    )
    active = models.BooleanField(default=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Who is notified when it is disabled; if empty, the managers.",
    )
    secret = SealedField(max_length=300, default=make_secret, editable=False)
    previous_secret = SealedField(max_length=300, blank=True, editable=False)
    previous_until = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="Until then, messages are also signed with the previous secret.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    disabled_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When it was disabled because deliveries kept failing."
    )

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"webhook endpoint {self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; a re-enabled endpoint starts without its earlier failures."""
        if self.active and self.disabled_at is not None:
            self.disabled_at = self.failing_since = None
            if kwargs.get("update_fields") is not None:
                kwargs["update_fields"] = {*kwargs["update_fields"], "disabled_at", "failing_since"}
        super().save(*args, **kwargs)

    @classmethod
    def seal_all(cls) -> None:
        """Encrypt the secrets that an earlier release stored in plain text."""
        with transaction.atomic():
            for endpoint in cls.objects.select_for_update(of=("self",), no_key=True).exclude(
                Q(secret__startswith=PREFIX), Q(previous_secret="") | Q(previous_secret__startswith=PREFIX)
            ):
                endpoint.save(update_fields=["secret", "previous_secret"])


class WebhookDelivery(models.Model):
    """
    One event for one endpoint, written with the event. Every attempt sends exactly the same body.

    Ids grow in the order of the events of one subject. ``waiting`` ones have no task; they get one
    when a place is free: see :mod:`webhooks.places`.
    """

    class Status(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    # The indexes begin with it.
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    message_id = models.CharField(
        max_length=64, unique=True, help_text="The webhook-id header, the same at every attempt."
    )
    event = models.CharField(max_length=64)
    subject = models.CharField(max_length=200, blank=True, help_text="What it is about, such as store.order:42.")
    body = models.TextField()
    status = models.CharField(max_length=9, choices=Status, default=Status.PENDING)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveIntegerField(default=0, help_text="Attempts since it was created or last redelivered.")
    error = models.CharField(max_length=200, blank=True)
    waiting = models.BooleanField(default=False)
    claimed_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "webhook deliveries"
        indexes = [
            models.Index(fields=["endpoint", "-id"], name="deliveries_of_an_endpoint"),
            models.Index(fields=["endpoint", "subject", "id"], condition=Q(status="pending"), name="open_deliveries"),
        ]

    def __str__(self) -> str:
        return f"webhook delivery {self.pk}"


class WebhookAttempt(models.Model):
    """One attempt of a delivery, and the response."""

    # The unique constraint's index begins with it.
    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    token = models.UUIDField(editable=False)
    at = models.DateTimeField(auto_now_add=True)
    status_code = models.PositiveSmallIntegerField(null=True, help_text="Empty if there was no response.")
    milliseconds = models.PositiveIntegerField()
    answer = models.TextField(blank=True, help_text="The first kilobyte of the response.")
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["delivery", "token"], name="one_record_an_attempt")]

    def __str__(self) -> str:
        return f"attempt {self.pk} of webhook delivery {self.delivery_id}"
