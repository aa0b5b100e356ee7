"""What notifications announce. Each channel that leaves the shop listens, wherever it lives."""

from celery_ledger.signals import DurableSignal

deliveries_arranged = DurableSignal("notifications.deliveries_arranged")
"""
Sent when notifications were written whose readers want them by mail, push or SMS, inside the transaction
that writes them; once for each channel and each time at which they are due.

Arguments: ``channel``, a value of :class:`notifications.models.Channel`; ``deliveries``, the ids of
:class:`notifications.models.NotificationDelivery` rows; ``due_at``, when their readers' quiet hours are over,
in ISO 8601, or None: now.

Not sent for what is shown in the shop alone. Receivers must be repeatable, and enqueue one task for each.
"""
