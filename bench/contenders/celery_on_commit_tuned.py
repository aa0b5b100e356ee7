"""B with the one setting that matters: Celery keeps its database connections. The honest reference, Br."""

from dataclasses import replace

from bench.contenders.celery_on_commit import CONTENDER as DEFAULT

CONTENDER = replace(
    DEFAULT,
    name="celery_on_commit_tuned",
    title="Celery, delay_on_commit, CELERY_DB_REUSE_MAX (Br)",
    settings={**DEFAULT.settings, "CELERY_DB_REUSE_MAX": 1_000_000_000},
    backlog=2,
)
