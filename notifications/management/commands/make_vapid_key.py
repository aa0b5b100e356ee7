"""``manage.py make_vapid_key``: a key for Web Push."""

from typing import Any

from django.core.management.base import BaseCommand

from notifications.vapid import generate


class Command(BaseCommand):
    help = "Print a new private key for VAPID_PRIVATE_KEY. Changing the key invalidates existing push subscriptions."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(generate())
