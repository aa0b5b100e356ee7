"""The bench's tables."""

from django.apps import AppConfig, apps


class BenchConfig(AppConfig):
    name = "bench"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if apps.is_installed("celery_ledger"):
            from bench.effects import wrong_orders
            from celery_ledger import promises

            promises.register("Every order of the bench has each of its three effects exactly once.", wrong_orders)
