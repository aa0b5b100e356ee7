"""The package in a project that only added it: plain Celery tasks, assumed to have effects outside the database."""

from dataclasses import replace

from bench.contenders.shopwire_ordinary import CONTENDER as ORDINARY

CONTENDER = replace(
    ORDINARY,
    name="shopwire_outside",
    title="celery-ledger, ordinary tasks, package defaults",
    settings={"BENCH_TRANSACTIONAL": False},
    backlog=2,
)
