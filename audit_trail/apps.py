"""The audit trail: who did what, to what, and when."""

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save


class AuditTrailConfig(AppConfig):
    name = "audit_trail"
    verbose_name = "Audit trail"

    def ready(self) -> None:
        """
        Connect the receivers, and register the trail's promises.

        Receivers of durable signals keep names that are older than this app, because rows of the ledger contain them.
        """
        from django.contrib.admin.models import LogEntry

        from audit_trail import audit, promises, receivers
        from celery_ledger.promises import register
        from celery_ledger.signals import (
            process_told,
            queue_changed,
            rate_changed,
            schedule_changed,
            tasks_cancelled,
            tasks_discarded,
            tasks_hastened,
            tasks_replayed,
        )
        from store.signals import catalogue_changed, order_cancelled, order_created

        for model in audit.AUDITED:
            pre_save.connect(receivers.notice_old_values, sender=model, dispatch_uid="audit_trail.notice_old_values")
            post_save.connect(receivers.record_save, sender=model, dispatch_uid="audit_trail.record_save")
            pre_delete.connect(receivers.notice_deletion, sender=model, dispatch_uid="audit_trail.notice_deletion")
            post_delete.connect(receivers.record_deletion, sender=model, dispatch_uid="audit_trail.record_deletion")
        for gone in audit.DELETIONS_AUDITED:
            post_delete.connect(receivers.record_deletion, sender=gone, dispatch_uid="audit_trail.record_deletion")
        m2m_changed.connect(receivers.record_links, dispatch_uid="audit_trail.record_links")
        catalogue_changed.connect(receivers.record_bulk_changes, dispatch_uid="core.record_bulk_changes")
        order_created.connect(receivers.enqueue_placed_entry, dispatch_uid="core.enqueue_placed_entry")
        order_cancelled.connect(receivers.enqueue_cancelled_entry, dispatch_uid="core.enqueue_cancelled_entry")
        tasks_replayed.connect(receivers.record_replay, dispatch_uid="core.record_replay")
        tasks_discarded.connect(receivers.record_discard, dispatch_uid="core.record_discard")
        tasks_cancelled.connect(receivers.record_cancelling, dispatch_uid="core.record_cancelling")
        tasks_hastened.connect(receivers.record_hastening, dispatch_uid="core.record_hastening")
        queue_changed.connect(receivers.record_queue_change, dispatch_uid="core.record_queue_change")
        rate_changed.connect(receivers.record_rate_change, dispatch_uid="audit_trail.record_rate_change")
        process_told.connect(receivers.record_wish_of_process, dispatch_uid="audit_trail.record_wish_of_process")
        schedule_changed.connect(receivers.record_schedule_change, dispatch_uid="audit_trail.record_schedule_change")
        user_logged_in.connect(receivers.record_login, dispatch_uid="audit_trail.record_login")
        post_save.connect(
            receivers.record_admin_action, sender=LogEntry, dispatch_uid="audit_trail.record_admin_action"
        )
        register("Every order is recorded as placed.", promises.unrecorded_orders)
        register("Every cancelled order is recorded as cancelled.", promises.unrecorded_cancellations)
        register("No order is recorded twice.", promises.doubly_recorded_orders)
