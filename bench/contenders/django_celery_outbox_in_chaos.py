"""django-celery-outbox, while its processes are killed."""

from dataclasses import replace

from bench.contenders.django_celery_outbox import CONTENDER as CALM

CONTENDER = replace(CALM, name="django_celery_outbox_in_chaos", jobs="bench.jobs.django_celery_outbox_in_chaos")
