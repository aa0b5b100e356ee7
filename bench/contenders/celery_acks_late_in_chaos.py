"""Plain Celery that acknowledges late and takes messages of lost workers back, while its processes are killed."""

from dataclasses import replace

from bench.contenders.celery_in_chaos import CONTENDER as CALM

CONTENDER = replace(
    CALM,
    name="celery_acks_late_in_chaos",
    title="Celery, delay_on_commit, acks_late, reject_on_worker_lost",
    settings={**CALM.settings, "CELERY_TASK_ACKS_LATE": True, "CELERY_TASK_REJECT_ON_WORKER_LOST": True},
)
