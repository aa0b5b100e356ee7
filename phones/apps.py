"""Phone numbers: a code by SMS verifies that a number is its customer's."""

from django.apps import AppConfig
from django.db.models.signals import post_save, pre_save


class PhonesConfig(AppConfig):
    """Connects the app's receivers."""

    name = "phones"

    def ready(self) -> None:
        """Connect the receivers."""
        from phones import receivers
        from store.models import Customer

        pre_save.connect(receivers.notice_old_phone, sender=Customer, dispatch_uid="phones.notice_old_phone")
        post_save.connect(receivers.enqueue_code, sender=Customer, dispatch_uid="phones.enqueue_code")
