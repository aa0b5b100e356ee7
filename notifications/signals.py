"""Signals of notifications. Each external channel connects its own receiver."""

from celery_ledger.signals import DurableSignal

deliveries_arranged = DurableSignal("notifications.deliveries_arranged")
"""
Sent when notifications are written for users who chose mail, push or SMS, inside the transaction that writes them;
once per channel and due time.

Arguments: ``channel``, a value of :class:`notifications.models.Channel`; ``deliveries``, the ids of
:class:`notifications.models.NotificationDelivery` rows; ``due_at``, when the users' quiet hours end,
in ISO 8601, or None for now.

Not sent for notifications that are shown in the shop only. Receivers must be repeatable, and enqueue one task for each.
"""
