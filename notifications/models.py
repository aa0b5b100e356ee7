"""Notifications, their deliveries, and users' preferences."""

from typing import Any, Final

from django.conf import settings
from django.db import models
from django.db.models import F, Q

#: Longest text of a notification, in characters.
MAX_MESSAGE_LENGTH: Final = 500
MAX_ENDPOINT_LENGTH: Final = 500  # characters


class Kind(models.TextChoices):
    """What a notification is about."""

    ORDER_PLACED = "order_placed"
    ORDER_CANCELLED = "order_cancelled"
    #: To managers: a customer placed the same lines twice.
    DUPLICATE_ORDER = "duplicate_order"
    #: To managers: a product's stock fell below its threshold.
    STOCK_LOW = "stock_low"
    #: To managers: a schedule ran late.
    SCHEDULE_LATE = "schedule_late"
    #: To managers: ``outbox verify`` found a broken promise.
    PROMISE_BROKEN = "promise_broken"
    #: To managers: new dead letters, gathered, at most once an hour.
    DEAD_LETTERS = "dead_letters"
    #: To managers: tasks that fail, and parts of the machinery that are silent or stuck; see notifications/trouble.py.
    TROUBLE = "trouble"
    #: To an endpoint's owner, or to managers: it has failed for days and is disabled.
    WEBHOOK_DISABLED = "webhook_disabled"
    #: Another user wrote to them.
    MESSAGE = "message"
    #: An announcement to all users, or to many.
    ANNOUNCEMENT = "announcement"


class Channel(models.TextChoices):
    """A channel for notifications."""

    #: The list on the website, and its live stream.
    IN_APP = "in_app"
    EMAIL = "email"
    PUSH = "push"
    SMS = "sms"


class NotificationQuerySet(models.QuerySet["Notification"]):
    """Notifications from their reader's viewpoint."""

    def shown_to(self, user: Any) -> "NotificationQuerySet":
        """Notifications that ``user`` wants to see in the shop."""
        return self.filter(user=user, in_app=True)

    def unread(self) -> "NotificationQuerySet":
        return self.filter(read=False)


class Notification(models.Model):
    """
    One notification for one user.

    Written only by :mod:`notifications.announce`, which makes ids grow in the order of the commits: a reader that has
    seen one has seen, or can see, every lower one.
    """

    # The indexes begin with it.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications", db_index=False
    )
    sender = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        help_text="The user who caused it, if any.",
    )
    kind = models.CharField(max_length=32, choices=Kind)
    message = models.CharField(max_length=MAX_MESSAGE_LENGTH)
    data = models.JSONField(default=dict, blank=True, help_text="Ids of the objects it is about, for programs.")
    key = models.CharField(  # noqa: DJ001 - null is not a key
        max_length=100,
        null=True,
        blank=True,
        help_text="Identifies its content; a second one with the same key is not written.",
    )
    created = models.DateTimeField(auto_now_add=True)
    read = models.BooleanField(default=False)
    in_app = models.BooleanField(
        default=True, help_text="Whether it is shown in the shop, by the user's preference when it was written."
    )

    objects = NotificationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["user", "-id"], name="notifications_of_a_user"),
            models.Index(fields=["user", "-id"], condition=Q(read=False, in_app=True), name="unread_shown"),
            # Deleting a user looks up what that user sent.
            models.Index(fields=["sender"], condition=Q(sender__isnull=False), name="notifications_by_a_person"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "key"], condition=Q(key__isnull=False), name="one_notification_a_user_and_key"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} notification {self.pk}"

    def mark_as_read(self) -> None:
        """Mark the notification as read."""
        self.read = True
        self.save(update_fields=["read"])


class NotificationPreference(models.Model):
    """Whether a user wants one kind of notification over one channel. Without a row, the shop's default applies."""

    # The unique constraint's index begins with it.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notification_preferences", db_index=False
    )
    kind = models.CharField(max_length=32, choices=Kind)
    channel = models.CharField(max_length=6, choices=Channel)
    enabled = models.BooleanField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "kind", "channel"], name="one_preference_a_kind_and_channel"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} by {self.channel} for user {self.user_id}: {'on' if self.enabled else 'off'}"


class QuietHours(models.Model):
    """
    When a user wants notifications only on the open page: mails, pushes and SMS wait until the end.

    They last from ``start`` to ``end`` in ``time_zone``, past midnight if ``end`` is earlier.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="quiet_hours"
    )
    start = models.TimeField()
    end = models.TimeField()
    time_zone = models.CharField(max_length=64, default="UTC", help_text="Such as Europe/London.")

    class Meta:
        verbose_name_plural = "quiet hours"
        constraints = [models.CheckConstraint(condition=~Q(start=F("end")), name="quiet_hours_have_a_length")]

    def __str__(self) -> str:
        return f"quiet hours of user {self.user_id}"


class NotificationDelivery(models.Model):
    """
    The outcome of one notification on one channel that leaves the shop: mail, push or SMS.

    On the website the notification is its own record: it exists, and says whether it was read. Only
    :mod:`notifications.deliveries` changes a status.
    """

    class Status(models.TextChoices):
        #: A durable task will send it, at once or after quiet hours; ``error`` says what went wrong so far.
        PENDING = "pending"
        SENT = "sent"
        #: It was not needed or not possible: it was read meanwhile, or there is no browser or verified number any more.
        SKIPPED = "skipped"
        #: Refused permanently.
        FAILED = "failed"

    # The unique constraint's index begins with it.
    notification = models.ForeignKey(Notification, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    channel = models.CharField(max_length=6, choices=Channel)
    status = models.CharField(max_length=7, choices=Status, default=Status.PENDING)
    error = models.CharField(max_length=200, blank=True)
    reached = models.JSONField(default=list, blank=True, help_text="Ids of the browsers that accepted the push.")
    created_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "notification deliveries"
        constraints = [
            models.UniqueConstraint(fields=["notification", "channel"], name="one_delivery_a_channel"),
        ]

    def __str__(self) -> str:
        return f"{self.channel} of notification {self.notification_id}"


class PushSubscription(models.Model):
    """A browser subscribed to a user's pushes, in the form of its Push API."""

    # The unique constraint's index begins with it.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="push_subscriptions", db_index=False
    )
    endpoint = models.CharField(max_length=MAX_ENDPOINT_LENGTH)
    p256dh = models.CharField(max_length=100)
    auth = models.CharField(max_length=32)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "endpoint"], name="one_subscription_a_browser")]
        # When another user signs in on a browser, it is found by its endpoint.
        indexes = [models.Index(fields=["endpoint"], name="subscriptions_by_endpoint")]

    def __str__(self) -> str:
        return f"push subscription {self.pk}"


class Announcement(models.Model):
    """An announcement to all active users. Saving a new one notifies them, a thousand at a time."""

    message = models.CharField(max_length=MAX_MESSAGE_LENGTH)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, editable=False, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    told_at = models.DateTimeField(null=True, editable=False, help_text="When the last user was notified.")

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"announcement {self.pk}"
