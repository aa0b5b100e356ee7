"""This project: durable tasks, its own relay, prefork workers, results on, settings as in production."""

from bench.contender import MANAGE, PYTHON, Contender

#: As the launcher starts them, but as quiet as every other contender's.
WORKER = (PYTHON, "-m", "celery", "-A", "worker", "worker", "--without-gossip", "--without-mingle", "-c", "2")

CONTENDER = Contender(
    name="shopwire",
    title="Shopwire",
    jobs="bench.jobs.shopwire",
    workers=(WORKER,),
    relay=(*MANAGE, "relay"),
    settings={"BENCH_BATCH_SIZE": 200},
    apps=("celery_ledger", "celery_ledger.contrib.beat", "django_celery_beat", "django_celery_results"),
    tables=("celery_ledger_durabletask", "django_celery_results_taskresult"),
    worker_ready="bench: the worker is ready",
    backlog=8,
    prepared=True,
    durable=True,
)
