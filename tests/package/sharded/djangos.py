"""A task of Django's own kind."""

from celery_ledger.contrib.django_tasks.framework import NAME

if NAME == "django_tasks":
    from django_tasks import task
else:
    from django.tasks import task


@task()
def double(number: int) -> int:
    return 2 * number
