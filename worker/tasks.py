"""
Old names of the ledger's own tasks, for rows and messages from before it was a package.

They stay, because a dead letter is kept until a person decides, and may be replayed years later.
"""

from celery import shared_task

from celery_ledger import tasks
from celery_ledger.tasks import CanaryTask

__all__ = ["carry_out", "prune", "redeliver", "run_mixed", "see_canary"]

run_mixed = shared_task(name="worker.tasks.run_mixed")(tasks.run_mixed.run)
see_canary = shared_task(name="worker.tasks.see_canary", base=CanaryTask, send_events=False)(tasks.see_canary.run)
redeliver = shared_task(name="worker.tasks.redeliver")(tasks.redeliver.run)
prune = shared_task(name="worker.tasks.prune", transactional=False)(tasks.prune.run)
carry_out = shared_task(name="worker.tasks.carry_out", transactional=False)(tasks.carry_out.run)
