"""B with the outcome of each task stored by django-celery-results."""

from dataclasses import replace

from bench.contenders.celery_on_commit import CONTENDER as DEFAULT

CONTENDER = replace(
    DEFAULT,
    name="celery_on_commit_results",
    title="Celery, delay_on_commit, django-celery-results",
    settings={**DEFAULT.settings, "CELERY_RESULT_BACKEND": "django-db"},
    apps=("django_celery_results",),
    tables=("django_celery_results_taskresult",),
)
