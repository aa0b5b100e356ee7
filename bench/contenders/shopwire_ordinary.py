"""The package under plain Celery's own tasks, one item each: ``transactional=True``, and no other options."""

from bench.contender import MANAGE, PYTHON, Contender

WORKER = (PYTHON, "-m", "celery", "-A", "bench.jobs.ordinary", "worker", "-c", "2")

CONTENDER = Contender(
    name="shopwire_ordinary",
    title="celery-ledger, ordinary tasks, transactional",
    jobs="bench.jobs.ordinary",
    workers=(WORKER,),
    relay=(*MANAGE, "relay"),
    settings={"BENCH_TRANSACTIONAL": True},
    apps=("celery_ledger",),
    tables=("celery_ledger_durabletask", "celery_ledger_result", "celery_ledger_tally", "celery_ledger_pace"),
    worker_ready="bench: the worker is ready",
    backlog=4,
    prepared=True,
)
