"""Br with the database setting that this project enables by default: shows its part of the difference."""

from dataclasses import replace

from bench.contenders.celery_on_commit_tuned import CONTENDER as TUNED

CONTENDER = replace(
    TUNED,
    name="celery_on_commit_prepared",
    title="Br with prepared statements",
    prepared=True,
)
