"""Br with the database setting that this project has on by default: what of the difference is due to it."""

from dataclasses import replace

from bench.contenders.celery_on_commit_tuned import CONTENDER as TUNED

CONTENDER = replace(
    TUNED,
    name="celery_on_commit_prepared",
    title="Br with prepared statements",
    prepared=True,
)
