"""The package as a stranger has it: plain Celery's own tasks, whose effects are outside for all that it knows."""

from dataclasses import replace

from bench.contenders.shopwire_ordinary import CONTENDER as ORDINARY

CONTENDER = replace(
    ORDINARY,
    name="shopwire_outside",
    title="celery-ledger, ordinary tasks, package defaults",
    settings={"BENCH_TRANSACTIONAL": False},
    backlog=2,
)
