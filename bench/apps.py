"""The bench's tables."""

from django.apps import AppConfig, apps


class BenchConfig(AppConfig):
    name = "bench"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if apps.is_installed("worker"):
            from bench.effects import wrong_orders
            from worker import audit

            audit.register("Every order of the bench has each of its three effects exactly once.", wrong_orders)
