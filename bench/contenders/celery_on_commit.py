"""Plain Celery as documented: ``delay_on_commit``, every default. The reference, B."""

from bench.contender import PYTHON, Contender

WORKER = (PYTHON, "-m", "celery", "-A", "bench.jobs.plain_celery", "worker", "-c", "2")

CONTENDER = Contender(
    name="celery_on_commit",
    title="Celery, delay_on_commit (B)",
    jobs="bench.jobs.plain_celery",
    workers=(WORKER,),
    settings={"BENCH_ENQUEUE": "delay_on_commit"},
)
