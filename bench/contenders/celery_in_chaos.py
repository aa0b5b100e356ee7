"""Plain Celery as documented, while its processes are killed."""

from dataclasses import replace

from bench.contenders.celery_on_commit import CONTENDER as CALM

CONTENDER = replace(CALM, name="celery_in_chaos", jobs="bench.jobs.plain_celery_in_chaos")
