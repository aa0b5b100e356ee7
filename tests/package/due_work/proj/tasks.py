from celery import shared_task
from proj import provider
from proj.models import Effect

try:
    from django.tasks import task
except ImportError:
    from django_tasks import task


# After a crash the next worker is to have it, and not the one that is about to end.
@shared_task(transactional=True, retry_backoff=6)
def record(what):
    Effect.objects.create(what=what)


@shared_task(retry_backoff=6)
def notify(what):
    provider.send(what)


@task(transactional=True)
def record_djangos(what):
    Effect.objects.create(what=what)


@task
def notify_djangos(what):
    provider.send(what)
