"""The ledger, the relay and the Celery app."""

from django.apps import AppConfig


class WorkerConfig(AppConfig):
    name = "worker"

    def ready(self) -> None:
        from worker import audit, checks, due_times, stuck  # noqa: F401 - importing the checks registers them

        audit.register("No task is stuck: each ended, or is due later, or is on its way.", stuck.stuck_tasks)
        audit.register("No schedule is late.", due_times.late_lines)
        audit.register("Every dead letter says why.", stuck.dead_without_reason)
