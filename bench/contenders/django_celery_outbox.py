"""django-celery-outbox, tuned: the relay looks every 20 ms for 500 rows, and connections are kept."""

from bench.contender import MANAGE, PYTHON, Contender

CONTENDER = Contender(
    name="django_celery_outbox",
    title="django-celery-outbox (tuned)",
    jobs="bench.jobs.django_celery_outbox",
    workers=((PYTHON, "-m", "celery", "-A", "bench.jobs.django_celery_outbox", "worker", "-c", "2"),),
    relay=(*MANAGE, "celery_outbox_relay", "--idle-time", "0.02", "--batch-size", "500"),
    settings={
        "CELERY_OUTBOX_APP": "bench.jobs.django_celery_outbox.app",
        "CELERY_DB_REUSE_MAX": 1_000_000_000,
    },
    apps=("django_celery_outbox",),
    tables=("celery_outbox",),
    worker_ready="bench: the worker is ready",
    backlog=2,
)
