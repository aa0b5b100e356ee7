"""The Django app of the ledger, the relay, and the worker's side."""

from typing import Any

from celery import _state
from django.apps import AppConfig
from django.db.models.signals import post_migrate


class LedgerConfig(AppConfig):
    name = "celery_ledger"
    verbose_name = "Ledger"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        for app in _state._get_active_apps():
            app.Task  # noqa: B018 - Making its class of tasks installs what that needs; see celery_ledger.install.
        from celery_ledger import (
            checks,  # noqa: F401 - Importing the checks registers them.
            promises,
        )
        from celery_ledger.desk import pruner
        from celery_ledger.relay import rounds, statistics
        from celery_ledger.rows import results
        from celery_ledger.watch import figures, lookout, stuck

        post_migrate.connect(_note_new_reactions, sender=self, dispatch_uid="celery_ledger.note_new_reactions")
        rounds.register("pruning", every=pruner.INTERVAL, make=pruner.prune_for_a_moment)
        rounds.register("recording figures", every=figures.INTERVAL, make=figures.take)
        rounds.register("keeping the planner's statistics", every=statistics.EVERY, make=statistics.keep)
        rounds.register("looking for workers", every=lookout.INTERVAL, make=lookout.for_workers)
        promises.register("No task is stuck: each has ended, is due later, or is in progress.", stuck.stuck_tasks)
        promises.register("Every dead letter has a reason.", stuck.dead_without_reason)
        if results.are_kept():
            promises.register("Every result matches the ledger.", results.untrue)


def _note_new_reactions(**kwargs: Any) -> None:
    """Record new receivers when the database is migrated, never in a probe."""
    from celery_ledger import reactions

    reactions.note_new(**kwargs)
