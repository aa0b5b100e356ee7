"""Plain Celery, ``.delay()`` inside the transaction: a task may run before its order is there, or without it."""

from dataclasses import replace

from bench.contenders.celery_on_commit import CONTENDER as DEFAULT

CONTENDER = replace(
    DEFAULT, name="celery_delay", title="Celery, .delay() in the transaction", settings={"BENCH_ENQUEUE": "delay"}
)
